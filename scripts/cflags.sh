#!/bin/sh
# SPDX-License-Identifier: Apache-2.0

# Prints the CGO_CFLAGS to build with: Go's own flags, the arguments, and a hash of the libssl that
# pkg-config names. The hash covers its place, its headers and its archives. The script fails if
# pkg-config finds no libssl.
#
# The hash is needed because the go command does not look into system headers, and does not ask
# pkg-config again. After an upgrade of libssl, or with another PKG_CONFIG_PATH, its cache would
# return objects that were compiled with the old libssl and link to it. The hash covers the archives
# because an update may change them and no header: the go command would not link again.
set -eu

{ read -r cc && read -r flags; } <<EOF
$(go env CC CGO_CFLAGS)
EOF

# The environment may have the output of an earlier run already.
flags=$(echo "$flags" | sed 's/ *-DSSLCTX_BUILD_ID=[0-9]*//')

# The go command accepts quotes around a whole word, and no backslashes.
for word; do
	case $word in
	*\'*) word="\"$word\"" ;;
	*[[:space:]\"]*) word="'$word'" ;;
	esac
	flags="$flags $word"
done

pkg-config --print-errors --exists libssl libcrypto
libdir=$(pkg-config --variable=libdir libssl)
places=$(pkg-config --cflags --libs libssl libcrypto)

# xargs removes the quotes of the flags and the backslashes of pkg-config. cc may have several
# words.
# shellcheck disable=SC2086
headers=$({ echo "$flags" && pkg-config --cflags libssl; } |
	xargs $cc -include openssl/opensslv.h -include openssl/ssl.h -E -dD -x c /dev/null)

id=$({
	pkg-config --modversion libssl
	printf '%s\n' "$libdir" "$places" "$headers"
	cat "$libdir/libssl.a" "$libdir/libcrypto.a" 2>/dev/null || true
} | cksum | cut -d' ' -f1)

echo "$flags -DSSLCTX_BUILD_ID=$id"
