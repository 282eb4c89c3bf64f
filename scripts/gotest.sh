#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Runs `go test -count=1` with the arguments, in the module in DIR. The last line is
# "N passed, N failed, N skipped". SLOW=20 also prints the 20 slowest tests.
set -euo pipefail
cd "$(dirname "$0")/.."

# Tests that run in parallel wait for limits of some seconds, and compute little.
set -- -parallel=16 "$@"

# Not `go run`: it would add a line when tests fail.
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -buildvcs=false -o "$bin/testcount" ./internal/cmd/testcount

echo "== go test -count=1 $*"
go -C "${DIR:-.}" test -json -count=1 "$@" | "$bin/testcount" -slow "${SLOW:-0}"
