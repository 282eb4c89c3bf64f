#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Runs a command with a libssl that is built with the address sanitizer. PKG_CONFIG_PATH names it:
#
#	CC=gcc scripts/asan-libssl.sh scripts/gotest.sh -asan ./...
#
# With the libssl of a distribution the sanitizer sees allocations and frees. With this one it sees
# each read and write: a read of freed memory, and a write beyond the end of an object.
#
# The script builds libssl once, in 3 minutes or more, from the source package of Debian or Ubuntu
# with the distribution's patches. It takes the newest source that the machine's own apt finds. It
# needs no root. CACHE (.matrix) keeps the result, in a folder with the name of the source version;
# without the folder the script builds again. If two runs begin at the same moment, one builds, and
# the other waits.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${CACHE:-$PWD/.matrix}/asan

fail() {
	echo "asan-libssl: $*" >&2
	exit 1
}

# sources prints the archives whose packages the machine's apt knows, as deb-src lines.
sources() {
	local key=/usr/share/keyrings/debian-archive-keyring.gpg
	[ -e "$key" ] && key="[signed-by=$key]" || key=
	# shellcheck disable=SC2016 # these are fields of apt
	apt-get indextargets --format '$(ORIGIN) $(CREATED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)' |
		awk -v key="$key" '$1 ~ /^(Debian|Ubuntu)$/ && $2 == "Packages" {
			print "deb-src", $1 == "Debian" ? key : "", $3, $4, $5 }' | sort -u
}

# build makes the folder of the newest source. The folder gets its name when it is complete.
build() {
	command -v apt-get dpkg-source gcc perl make >/dev/null || fail 'Debian or Ubuntu is needed, and dpkg-dev, gcc, perl, make'
	local apt=$cache/apt version flags
	rm -rf "$apt"
	mkdir -p "$apt/lists/partial" "$apt/archives/partial"
	sources >"$apt/sources.list"
	[ -s "$apt/sources.list" ] || fail 'apt has no index of Debian or Ubuntu: apt-get update'
	: >"$apt/status"
	# apt verifies signatures, but not the age of an index. The last index of a suite whose updates
	# have ended is no longer valid, and a mirror may be behind.
	local options=(-qq -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt"
		-o APT::Sandbox::User= -o Acquire::Check-Valid-Until=false)
	apt-get "${options[@]}" update
	# An index may name a version that its mirror has no longer, or not yet.
	for version in $(apt-cache "${options[@]}" showsrc --only-source openssl | sed -n 's/^Version: //p' | sort -rV); do
		rm -f "$apt"/openssl*
		(cd "$apt" && apt-get "${options[@]}" source --download-only "openssl=$version") && break
	done
	[ -e "$(echo "$apt"/*.dsc)" ] || fail 'apt found no source of openssl'
	# Not in the cache: the makefiles of OpenSSL accept no folder with a blank in its name. The variable
	# is not local, because the trap still reads it when the function is over.
	new=$(mktemp -d)
	trap 'rm -rf "$new"' EXIT
	mkdir -p "$new/build"
	# The key of the maintainer who signed the .dsc is not here, which is no error. apt has verified
	# the .dsc by the signed index, and dpkg-source verifies the other files by the .dsc.
	dpkg-source -x "$apt"/*.dsc "$new/source" >"$new/log" 2>&1 || { cat "$new/log" >&2 && fail "cannot unpack $version"; }

	echo "asan-libssl: building $version" >&2
	# Without the parts that no test needs, the build takes a third of the time.
	flags="no-tests no-legacy no-engine no-cmp no-cms no-ct no-ts no-aria no-camellia no-idea no-seed no-whirlpool
		no-rmd160 no-bf no-cast no-gost no-sm2 no-sm3 no-sm4 no-ec2m no-siphash"
	# shellcheck disable=SC2086 # a list of words
	(cd "$new/build" && ../source/config enable-asan $flags --prefix=/sslctx-asan --libdir=lib \
		-O1 -g -fno-omit-frame-pointer && make -s -j"$(nproc)" build_libs && make -s install_dev DESTDIR="$new/out") \
		>>"$new/log" 2>&1 || { tail -n 30 "$new/log" >&2 && fail "cannot build $version"; }

	# The programs that the tests build have no flags of their own. They get the sanitizer and the
	# folder from here.
	# shellcheck disable=SC2016 # this is a variable of pkg-config
	sed -i -e 's|^prefix=.*|prefix=${pcfiledir}/../..|' -e 's|^\(Libs:.*\)$|\1 -Wl,-rpath,${libdir} -fsanitize=address|' "$new"/out/sslctx-asan/lib/pkgconfig/*.pc
	rm -rf "$cache/$version.new" "$apt"
	mv "$new/out/sslctx-asan" "$cache/$version.new" # in two steps, because this may be another file system
	mv "$cache/$version.new" "$cache/$version"
}

newest() { find "$cache" -mindepth 1 -maxdepth 1 -name '[0-9]*' ! -name '*.new' 2>/dev/null | sort -V | tail -n 1; }

mkdir -p "$cache"
(
	flock 9
	[ -n "$(newest)" ] || build
) 9>"$cache/lock"
PKG_CONFIG_PATH=$(newest)/lib/pkgconfig
export PKG_CONFIG_PATH
CGO_CFLAGS=$(scripts/cflags.sh) # for these headers, which it finds by PKG_CONFIG_PATH
LSAN_OPTIONS="suppressions='$PWD/scripts/lsan.supp':print_suppressions=0${LSAN_OPTIONS:+:$LSAN_OPTIONS}"
export CGO_CFLAGS LSAN_OPTIONS
exec "$@"
