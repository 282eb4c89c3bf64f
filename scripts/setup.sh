#!/bin/sh
# SPDX-License-Identifier: Apache-2.0

# Checks for what the module needs: Go, a C compiler, pkg-config, libssl's headers, and the programs
# that the tests run, openssl and curl. It installs what is missing, if it can.
# STATIC=1 also checks for libssl.a and libcrypto.a, which static linking needs.
# The arguments are further commands to check for. Each is in the package of the same name:
# scripts/setup.sh clang-format
# The script prints one line, and another one before it installs something. It shows the output of
# apt-get only if that fails.
set -u

log=$(mktemp)
program=$(mktemp)
trap 'rm -f "$log" "$program"' EXIT

fail() {
	printf 'setup: %s\n' "$@" >&2
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

go_is_recent() {
	version=${go_version#*go}
	major=${version%%.*}
	minor=${version#*.}
	minor=${minor%%[!0-9]*}
	[ "$major" -gt 1 ] || { [ "$major" -eq 1 ] && [ "$minor" -ge 25 ]; }
} 2>/dev/null

# have_libc checks for the C library's headers. They are often missing: gcc only recommends
# libc6-dev.
have_libc() { echo '#include <stdlib.h>' | $cc -E - >/dev/null 2>&1; }

have_libssl() { have pkg-config && pkg-config --exists libssl libcrypto; }

# missing prints the Debian package of each missing thing.
missing() {
	have "${cc%% *}" || echo gcc
	have_libc || echo libc6-dev
	have pkg-config || echo pkg-config
	have_libssl || echo libssl-dev
	for command in openssl curl "$@"; do
		have "$command" || echo "$command"
	done
}

have go || fail 'Go 1.25 or later is needed: https://go.dev/dl'
{ read -r go_version && read -r cc; } <<EOF
$(go env GOVERSION CC)
EOF
go_is_recent || fail "Go 1.25 or later is needed, this is ${go_version:-unknown}: https://go.dev/dl"

packages=$(missing "$@" | xargs)
if [ -n "$packages" ]; then
	have apt-get || fail "missing (by their Debian names): $packages" \
		'Fedora:  dnf install openssl-devel openssl curl pkgconf gcc make' \
		'Alpine:  apk add openssl-dev openssl curl pkgconf gcc musl-dev make bash' \
		'macOS:   brew install openssl@3 pkg-config'

	# --no-upgrade: installed packages stay as they are.
	install="apt-get install -y --no-install-recommends --no-upgrade $packages"
	if [ "$(id -u)" -eq 0 ]; then
		sudo=
	elif have sudo && sudo -n true 2>/dev/null; then
		sudo='sudo -n'
	else
		fail "missing: $packages" "run: sudo apt-get install -y $packages"
	fi
	echo "setup: installing $packages, which takes a minute or two"
	# shellcheck disable=SC2086 # lists of words
	{ $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive $install -qq; } </dev/null >"$log" 2>&1 || {
		cat "$log" >&2
		fail "could not install: $packages"
	}

	packages=$(missing "$@" | xargs)
	[ -z "$packages" ] || fail "still not usable after the installation: $packages"
fi

ssl=$(pkg-config --modversion libssl)
libdir=$(pkg-config --variable=libdir libssl)
pkg-config --atleast-version=1.1.1 libssl || fail "OpenSSL 1.1.1 or later is needed, this is $ssl"
if [ -n "${STATIC:-}" ]; then
	# Check the folder that pkg-config names, not other folders of the linker.
	for archive in libssl.a libcrypto.a; do
		[ -e "$libdir/$archive" ] || fail "static linking needs $archive, which is not in $libdir" \
			'Debian:  apt-get install libssl-dev' \
			'Alpine:  apk add openssl-libs-static'
	done
	# shellcheck disable=SC2046 # lists of words
	echo 'int main(void) { return 0; }' | $cc -x c -o "$program" - $(pkg-config --static --libs libssl libcrypto) ||
		fail "static linking needs the libraries of libcrypto: $(pkg-config --static --libs libcrypto)" \
			'Debian from 13 on:  apt-get install zlib1g-dev libzstd-dev'
fi
echo "setup: $go_version, $cc $($cc -dumpversion), OpenSSL $ssl in $libdir"
