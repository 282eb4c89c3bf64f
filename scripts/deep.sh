#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Runs the tests in ways that see what a plain run does not, and ends with a table:
#
#	scripts/deep.sh leg ... [-- arguments of go test]
#
# Every leg runs even when one before it failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

# What each leg is: what must be installed, then what go test is run with. What is in the environment of the tests alone,
# and not in that of the go command, is given by -exec.
leg() {
	local flags=() packages=(./...) around=()
	case $1 in
	# Go's own accesses to memory, from different goroutines.
	race) flags=(-race) ;;

	# What C allocates, frees twice, and leaks. gcc: clang's leak check misses references that are left on the C stack.
	asan) export CC=gcc && flags=(-asan) ;;

	# The same, and every read and write of libssl's.
	asan-libssl) export CC=gcc && flags=(-asan -timeout 30m) && around=(scripts/asan-libssl.sh) ;;

	# Go pointers in C memory.
	cgocheck) export GOEXPERIMENT=cgocheck2 ;;

	# Cleanups that lead back to their object, and objects too small for one. Without tests that make 100,000 cleanups, or
	# compare what the go command says, which this mode adds to.
	checkfinalizers) flags=(-exec 'env GODEBUG=checkfinalizers=1' -skip '^(TestDropped|TestWithoutCgo)$') ;;

	# The collector all the time, and what it frees is overwritten.
	gc) flags=(-exec 'env GOGC=1 GODEBUG=clobberfree=1') ;;

	# What is done with unsafe.Pointer.
	checkptr) flags=(-gcflags=all=-d=checkptr -count=5 -timeout 30m) ;;

	# Handles that are freed too early: every crossing collects in the tests that are about that, every 64th in others.
	forcegc) flags=(-tags forcegc -exec 'env SSLCTX_FORCEGC=64' -timeout 30m) ;;

	# What is read and written after it was freed, and what decides something before it was written, by libssl and the
	# shim. Not what is lost: valgrind takes blocks of Go's heap for overlapping at the end, and gives up now and then.
	# env comes first, for valgrind does not follow an exec; preemption writes below the stack, which looks like an error;
	# and go test would take away the names that reports are read by (-s), while valgrind cannot read the rest (-w).
	valgrind)
		scripts/setup.sh valgrind >/dev/null || return
		flags=(-tags valgrind -timeout 30m -ldflags '-s=false -w'
			-exec 'env GODEBUG=asyncpreemptoff=1 valgrind --quiet --error-exitcode=99 --leak-check=no --suppressions=scripts/valgrind.supp'
			-run "$valgrind_tests" -skip "$valgrind_skips")
		packages=(.)
		;;
	*) echo "deep: $1 is no leg" >&2 && return 2 ;;
	esac
	"${around[@]}" scripts/gotest.sh "${flags[@]}" "${testflags[@]}" "${packages[@]}"
}

# What makes, shares, publishes and ends handles. Valgrind takes a processor for itself and is 20 to 50 times slower: tests
# of many peers, of long streams and of other programs are for the other legs.
valgrind_tests='TestSession|Codecs|ExData|Published|Foreign|GetSession|Lookup|AfterClose|CloseWhileInUse|Endings|Forgotten'
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
