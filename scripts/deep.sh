#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Runs the tests under tools that find what a plain run does not, and ends with a table:
#
#	scripts/deep.sh leg ... [-- arguments of go test]
#
# Every leg runs, also after a leg that failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

# leg runs one leg: it installs what is missing, and then runs go test with its flags. -exec sets
# variables for the tests that the go command must not see.
leg() {
	local flags=() packages=(./...) around=()
	case $1 in
	# Finds unsynchronized accesses in Go, from different goroutines.
	race) flags=(-race) ;;

	# Finds double frees and leaks in C. It needs gcc: clang's leak check misses a leaked reference
	# if a pointer to it is left on the C stack.
	asan) export CC=gcc && flags=(-asan) ;;

	# Finds the same, and wrong reads and writes inside libssl.
	asan-libssl) export CC=gcc && flags=(-asan -timeout 30m) && around=(scripts/asan-libssl.sh) ;;

	# Finds Go pointers in C memory.
	cgocheck) export GOEXPERIMENT=cgocheck2 ;;

	# Finds cleanups that lead back to their object, and objects that are too small for a cleanup.
	# Two tests are skipped: one makes 100,000 cleanups, and the other compares the output of the go
	# command, to which this mode adds lines.
	checkfinalizers) flags=(-exec 'env GODEBUG=checkfinalizers=1' -skip '^(TestDropped|TestWithoutCgo)$') ;;

	# Collects all the time, and overwrites freed memory.
	gc) flags=(-exec 'env GOGC=1 GODEBUG=clobberfree=1') ;;

	# Finds wrong uses of unsafe.Pointer.
	checkptr) flags=(-gcflags=all=-d=checkptr -count=5 -timeout 30m) ;;

	# Finds handles that are freed too early. Every call into libssl collects garbage in the tests
	# about that, and every 64th call in the other tests.
	forcegc) flags=(-tags forcegc -exec 'env SSLCTX_FORCEGC=64' -timeout 30m) ;;

	# Finds uses of freed memory, and decisions on memory that was never written, in libssl and the
	# shim. It does not look for leaks: valgrind takes blocks of Go's heap for overlapping at the
	# end, and sometimes gives up.
	# - env comes first, because valgrind does not follow an exec.
	# - asyncpreemptoff: preemption writes below the stack, which looks like an error.
	# - -s=false: go test would strip the names that make reports readable.
	# - -w: valgrind cannot read Go's DWARF.
	valgrind)
		scripts/setup.sh valgrind >/dev/null || return
		flags=(-tags valgrind -timeout 30m -ldflags '-s=false -w'
			-exec 'env GODEBUG=asyncpreemptoff=1 valgrind --quiet --error-exitcode=99 --leak-check=no --suppressions=scripts/valgrind.supp'
			-run "$valgrind_tests" -skip "$valgrind_skips")
		packages=(.)
		;;
	*) echo "deep: there is no leg $1" >&2 && return 2 ;;
	esac
	"${around[@]}" scripts/gotest.sh "${flags[@]}" "${testflags[@]}" "${packages[@]}"
}

# The tests that make, share, publish and end handles. valgrind uses one processor and is 20 to 50
# times slower. So the other legs run the tests of many peers, of long streams and of other
# programs.
valgrind_tests='TestSession|Codecs|ExData|Published|Foreign|GetSession|Lookup|AfterClose|CloseWhileInUse|Endings|Collected'
valgrind_tests+='|TicketWithoutID|TicketAppData|Batches|NothingIsDecoded|TestSame|MasterKey|SetCipher|PeerCertificate|PSK13|Resumption'
valgrind_skips='Torture|Many|OpenSSL|HooksWait'

legs=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
	legs+=("$1")
	shift
done
testflags=("${@:2}")

log=$(mktemp)
trap 'rm -f "$log"' EXIT
table=
failed=0
for name in "${legs[@]}"; do
	printf '\n## %s\n' "$name"
	start=$SECONDS status=passed
	(leg "$name") 2>&1 | tee "$log" || status=FAILED failed=1
	table+=$(awk -v name="$name" -v status="$status" -v seconds=$((SECONDS - start)) '
		/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5 }
		END { printf "%-16s %6d %6d %7d %7d  %s", name, p, f, s, seconds, status }' "$log")$'\n'
done
printf '\n%-16s %6s %6s %7s %7s\n%s' leg passed failed skipped seconds "$table"
exit "$failed"
