#!/bin/sh
# SPDX-License-Identifier: Apache-2.0

# Copies a program into a new root, with what it needs of this Debian system and no more: the shared libraries, their
# loader and libssl's configuration.
#
#	scripts/imageroot.sh /usr/bin/program /new/root
#
# The records of the packages come along in var/lib/dpkg/status.d, where scanners of images look for them, and their
# licenses.
set -eu

program=$1
root=$2

copy() {
	mkdir -p "$root$(dirname "$1")"
	cp -L "$1" "$root$1"
}

copy "$program"
copy "$(openssl version -d | cut -d'"' -f2)/openssl.cnf"

# ldd prints "name => /path (address)", and "/path (address)" of the loader.
libraries=$(ldd "$program" | grep -o '/[^ ]*')
packages=
for library in $libraries; do
	copy "$library"
	# By the last part of its name: dpkg may know it below /usr/lib and ldd below /lib.
	owner=$(dpkg-query -S "*/${library##*/}")
	packages="$packages ${owner%%:*}"
done

mkdir -p "$root/var/lib/dpkg/status.d"
# shellcheck disable=SC2086 # a list of words
for package in $(printf '%s\n' $packages | sort -u); do
	dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
	copy "/usr/share/doc/$package/copyright"
done
