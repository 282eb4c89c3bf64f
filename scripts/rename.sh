#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Gives the module a path: in go.mod, in every import, script and document, and in the modules bench
# and tools.
#
#	scripts/rename.sh example.org/people/sslctx
#
# The package keeps its name. The script changes the files that git knows, and prints a summary.
set -euo pipefail
cd "$(dirname "$0")/.."

new=${1:-}
old=$(awk '$1 == "module" { print $2; exit }' go.mod)

usage() {
	echo "rename: $1" >&2
	echo 'usage: make rename MODULE=host/owner/name   such as example.org/people/sslctx' >&2
	exit 2
}

[ -n "$new" ] || usage 'MODULE is missing'
[ "$new" != "$old" ] || usage "the module is $old already"
[[ $new =~ ^[a-z0-9-]+(\.[a-z0-9-]+)+(/[A-Za-z0-9._~-]+)+$ ]] || usage "$new is no module path: a path begins with a host in lower-case letters"
git diff --quiet HEAD -- || usage 'commit your changes first: then git diff shows the renamed lines'

# The old path appears in four forms: as an import, alone in quotes; before the name of a package;
# in go.mod; and in the lines of go.mod that README shows.
o=${old//./\\.}
mapfile -t files < <(git ls-files -z | xargs -0 grep -lIE "(^|[^A-Za-z0-9._~-])$o" -- | grep -v '^CHANGELOG\.md$')
sed -Ei \
	-e "s#^(import )?([[:space:]]*([A-Za-z0-9_]+|\.) )?([[:space:]]*)\"$o\"\$#\1\2\4\"$new\"#" \
	-e "s#(^|[^A-Za-z0-9._~/-]|vendor/)$o/([a-z])#\1$new/\2#g" \
	-e "s#^(([[:space:]]*require|[[:space:]]*replace|module)?[[:space:]]+)$o( v0| =>|\$)#\1$new\3#" \
	-e "s#(require|replace) $o( v0| =>)#\1 $new\2#g" \
	"${files[@]}"
gofmt -l -s -w ./*.go ./*/ >/dev/null # imports are sorted by path
git diff --stat | tail -1
echo "the module is $new now"
