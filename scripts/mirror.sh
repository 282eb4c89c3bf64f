# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# To be sourced.

# mirror prints the archive of this machine's apt whose release matches a pattern.
mirror() {
	# shellcheck disable=SC2016 # these are fields of apt
	apt-get indextargets --format '$(REPO_URI) $(RELEASE)' | awk -v release="$1" '$2 ~ release { print $1; exit }'
}
