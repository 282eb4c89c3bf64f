#!/bin/sh
# SPDX-License-Identifier: Apache-2.0

# Copies a program into a new root, with the files of this Debian system that it needs and no more:
# the shared libraries, their loader and libssl's configuration.
#
#	scripts/imageroot.sh /usr/bin/program /new/root
#
# It also copies the records of the packages to var/lib/dpkg/status.d, where scanners of images look
# for them, and the licenses of the packages.
set -eu

program=$1
root=$2

copy() {
	mkdir -p "$root$(dirname "$1")"
	cp -L "$1" "$root$1"
}

copy "$program"
copy "$(openssl version -d | cut -d'"' -f2)/openssl.cnf"

# ldd prints "name => /path (address)", and "/path (address)" for the loader.
libraries=$(ldd "$program" | grep -o '/[^ ]*')
packages=
for library in $libraries; do
	copy "$library"
	# Search by the last part of the path: dpkg may have it below /usr/lib, and ldd below /lib.
	owner=$(dpkg-query -S "*/${library##*/}")
	packages="$packages ${owner%%:*}"
done

mkdir -p "$root/var/lib/dpkg/status.d"
# shellcheck disable=SC2086 # a list of words
for package in $(printf '%s\n' $packages | sort -u); do
	dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
	copy "/usr/share/doc/$package/copyright"
done
