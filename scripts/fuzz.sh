#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Runs a fuzz target, or prints what the targets reach.
#
#   scripts/fuzz.sh run NAME TIME       runs a target for a time, such as 30m
#   scripts/fuzz.sh coverage [NAME...]  runs each target with its seeds and its files in testdata,
#                                       and prints how many lines of each C function, and how many
#                                       statements of each Go function, it executed. Functions that
#                                       it did not enter are left out. It needs gcov
set -euo pipefail
cd "$(dirname "$0")/.."

targets() { grep -ho '^func Fuzz[A-Za-z0-9]*' -- *_test.go | cut -d' ' -f2 | sort; }

run() {
	file=$(grep -rl --include='*_test.go' "^func $1(" . | head -1 || true)
	[ -n "$file" ] || { echo "there is no $1" >&2; exit 1; }
	# Minimize a new input for one second only: the default is a minute for each.
	go test -run '^$' -fuzz "^$1\$" -fuzztime "$2" -fuzzminimizetime 1s "$(dirname "$file")"
}

coverage() {
	dir=$(mktemp -d)
	trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
	# A macro with a new name makes the go command compile again: gcov needs the files that the
	# compiler leaves in WORK. -fno-inline: gcov would add the lines of an inline function of a header
	# to those of each caller.
	GOTMPDIR=$dir CGO_CFLAGS="$(scripts/cflags.sh -O1 -fno-inline --coverage -fprofile-update=atomic "-DSSLCTX_GCOV=${dir##*.}")" \
		CGO_LDFLAGS='--coverage -Wl,-u,__gcov_dump' go test -c -work -cover -o "$dir/test" . >/dev/null
	# There must be one file of notes for each C file of the binding.
	mapfile -t sources < <(ls cgo_shim.c shim_*.c)
	notes=()
	for source in "${sources[@]}"; do
		mapfile -t -O "${#notes[@]}" notes < <(grep -laF "$source" "$dir"/go-build*/*/_x*.gcno)
	done
	[ ${#notes[@]} = ${#sources[@]} ] || { echo "gcov has notes for ${#notes[@]} C files, and not for ${#sources[@]}: ${notes[*]}" >&2; exit 1; }
	# Functions of a header would appear once for each file that includes it.
	inline=$(sed -n 's/^static inline .*[ *]\([A-Za-z0-9_]*\)(.*/\1/p' shim_*.h)
	for name in "$@"; do
		find "$dir" -name '*.gcda' -delete
		"$dir/test" -test.run "^$name\$" -test.coverprofile="$dir/go" >"$dir/log" || { cat "$dir/log"; exit 1; }
		echo "== $name: C, lines"
		for note in "${notes[@]}"; do
			gcov -n -f "${note%.gcno}.gcda" 2>/dev/null | inline=$inline awk -F "[':% ]+" '
				BEGIN { split(ENVIRON["inline"], names, "\n"); for (i in names) skip[names[i]] = 1 }
				$1 == "File" { exit }
				$1 == "Function" { name = $2 }
				$1 == "Lines" && $3 > 0 && !(name in skip) && name !~ /^(_cgo|sk_|ossl_|ERR_)/ { printf "%-45s %5.1f%% of %d\n", name, $3, $5 }'
		done
		echo "== $name: Go, statements"
		go tool cover -func="$dir/go" | awk '$3 != "0.0%" && $1 != "total:" { sub(".*/", "", $1); printf "%-30s %-32s %s\n", $1, $2, $3 }'
	done
}

case "${1:-}" in
run) run "$2" "${3:-30m}" ;;
coverage)
	shift
	if [ $# = 0 ]; then
		mapfile -t names < <(targets)
		set -- "${names[@]}"
	fi
	coverage "$@"
	;;
*)
	sed -n '4,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'
	exit 2
	;;
esac
