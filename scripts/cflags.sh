#!/bin/sh
# SPDX-License-Identifier: Apache-2.0

# Prints the CGO_CFLAGS to build with: Go's own, the arguments, and a hash of the installed libssl headers and archives.
# The hash is there because the go command does not look into system headers: after an upgrade of libssl its
# cache would go on serving objects that were compiled with the old ones. The archives are in it for static linking:
# an update may change them and no header, and the go command would not link again.
set -eu

{ read -r cc && read -r flags; } <<EOF
$(go env CC CGO_CFLAGS)
EOF

# What this script has printed may be in the environment already.
flags=$(echo "$flags" | sed 's/ *-DSSLCTX_BUILD_ID=[0-9]*//')

libdir=$(pkg-config --variable=libdir libssl)

# Both variables hold words separated by blanks, as do pkg-config's answers.
# shellcheck disable=SC2046,SC2086
id=$({
	pkg-config --modversion libssl
	cat "$libdir/libssl.a" "$libdir/libcrypto.a" 2>/dev/null || true
	printf '#include <openssl/opensslv.h>\n#include <openssl/ssl.h>\n' |
		$cc $flags $(pkg-config --cflags libssl) -E -dD -x c -
} | cksum | cut -d' ' -f1)

echo "$flags $* -DSSLCTX_BUILD_ID=$id"
