#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Runs all tests twice at the same time, plain and with the race detector:
#
#	scripts/test.sh [arguments of go test]
#
# Both runs are needed: the race detector changes the allocator and hides some leaks. Most tests
# wait, and so the two together take little longer than one. The output of the second run follows
# that of the first.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'trap - INT TERM; kill -TERM 0; exit 130' INT TERM # a background process ignores Ctrl-C

status=0
scripts/gotest.sh -race "$@" ./... >"$log" 2>&1 &
scripts/gotest.sh "$@" ./... || status=1
wait $! || status=1
cat "$log"
exit $status
