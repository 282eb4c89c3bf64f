#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Runs a command with OpenSSL 1.1.1 in a separate folder. PKG_CONFIG_PATH, LD_LIBRARY_PATH and PATH
# name the folder:
#
#	scripts/prefix.sh make test
#
# The script makes the folder once, from Debian's packages, without root. CACHE (.matrix) keeps it.
# If two runs begin at the same moment, one makes it, and the other waits. The mirrors are those of
# this machine's own apt; DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR name others.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/mirror.sh

CACHE=${CACHE:-$PWD/.matrix}
prefix=$CACHE/prefix/1.1.1

fail() {
	echo "prefix: $*" >&2
	exit 1
}

# make_prefix unpacks the packages. The folder gets its name when it is complete.
make_prefix() {
	command -v apt-get dpkg-deb >/dev/null || fail 'Debian or Ubuntu is needed'
	local new=$prefix.new apt=$CACHE/prefix/apt archive security key=/usr/share/keyrings/debian-archive-keyring.gpg
	archive=${DEBIAN_MIRROR:-$(mirror '^(bullseye|bookworm|trixie|sid)$')}
	security=${DEBIAN_SECURITY_MIRROR:-$(mirror '-security$')}
	[ -n "$archive" ] && [ -n "$security" ] || fail 'apt knows no mirror: set DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR'
	rm -rf "$new" "$apt"
	mkdir -p "$new" "$apt/lists/partial" "$apt/archives/partial"
	[ -e "$key" ] && key="[signed-by=$key]" || key=
	printf 'deb %s %s\n' "$key" "$archive bullseye main" "$key" "$security bullseye-security main" >"$apt/sources.list"
	: >"$apt/status"

	# A separate apt does not know which packages are installed here. It verifies signatures, but not
	# the age of an index: the updates of bullseye have ended, and their last index is no longer valid.
	local options=(-qq -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt"
		-o APT::Sandbox::User= -o Acquire::Check-Valid-Until=false)
	apt-get "${options[@]}" update # both archives: 1.1.1w without its security updates fails TestHooksTorture
	(cd "$apt" && apt-get "${options[@]}" download libssl1.1 libssl-dev openssl)
	for package in "$apt"/*.deb; do
		dpkg-deb -x "$package" "$new"
	done

	# Debian keeps the headers of the architecture in another folder, and the files of pkg-config name
	# /usr.
	mv "$new"/usr/include/*/openssl/*.h "$new/usr/include/openssl/"
	# shellcheck disable=SC2016 # this is a variable of pkg-config
	sed -i 's|^prefix=.*|prefix=${pcfiledir}/../../..|' "$new"/usr/lib/*/pkgconfig/*.pc
	rm -rf "$apt"
	mv "$new" "$prefix"
}

mkdir -p "$CACHE/prefix"
(
	flock 9
	[ -d "$prefix" ] || make_prefix
) 9>"$CACHE/prefix/lock"
PKG_CONFIG_PATH=$(echo "$prefix"/usr/lib/*/pkgconfig)
LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
PATH=$prefix/usr/bin:$PATH # the tests run openssl, and expect the same version
export PKG_CONFIG_PATH LD_LIBRARY_PATH PATH
case $(pkg-config --modversion libssl) in
1.1.1*) ;;
*) fail "pkg-config does not find OpenSSL 1.1.1 in $prefix" ;;
esac
exec "$@"
