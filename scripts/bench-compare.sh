#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Measures the binding of the work tree and of a revision, in turns. benchstat compares the two:
#
#	scripts/bench-compare.sh revision [-- flags of bench]
#
# bench/bin has the programs. Both are built from the same bench/ours, so it must use only names
# that the revision has.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] && [ "$1" != -- ] || { echo "bench-compare: which revision? make bench-compare BASE=main" >&2 && exit 2; }
base=$(git rev-parse --verify "$1^{commit}")
shift 1
[ $# -eq 0 ] || shift 1

tmp=$(mktemp -d)
trap 'git worktree remove --force "$tmp/base" 2>/dev/null || :; rm -rf "$tmp"' EXIT
git worktree add --quiet --detach "$tmp/base" "$base"

cp bench/go.mod "$tmp/bench.mod"
cp bench/go.sum "$tmp/bench.sum"
go mod edit -replace "sslctx=$tmp/base" "$tmp/bench.mod"
CGO_CFLAGS=$("$PWD/scripts/cflags.sh")
export CGO_CFLAGS
(cd bench && go build -modfile="$tmp/bench.mod" -o bin/base ./ours)

(cd bench && bin/bench -base base -text "$tmp" "$@" >/dev/null)
go tool -modfile=tools/go.mod benchstat "$(git rev-parse --short "$base")=$tmp/base.txt" "now=$tmp/ours.txt"
