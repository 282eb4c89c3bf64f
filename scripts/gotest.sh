#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Runs `go test -count=1` with the arguments and ends with the line "N passed, N failed, N skipped". DIR is the module.
set -euo pipefail
cd "$(dirname "$0")/.."

# Not `go run`: it would add a line of its own when tests fail.
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -buildvcs=false -o "$bin/testcount" ./internal/cmd/testcount

echo "== go test -count=1 $*"
go -C "${DIR:-.}" test -json -count=1 "$@" | "$bin/testcount"
