# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# To be sourced. Runs the legs of a run one after another within one time limit, and reports at the
# end how each went. Every leg runs, also after a leg that failed. At the end a leg is passed,
# FAILED or not done. A leg that was not done never counts as passed.
#
#	begin_legs 1200            # seconds for all legs
#	leg name command...        # must pass
#	spare name command...      # runs while there is time
#	end_legs                   # prints the last lines, and returns the status
#
# A leg whose name begins with test must have run tests: its output has a line "N passed, 0 failed,
# N skipped" in which N passed is not 0. Variables of the environment change nothing here.

begin_legs() {
	legs_limit=$1
	legs_began=$SECONDS
	legs_logs=$(mktemp -d)
	trap 'rm -rf "$legs_logs"' EXIT
	legs_passed=()
	legs_failed=()
	legs_undone=()
}

legs_spent() { echo $((SECONDS - legs_began)); }

# Lines that a run prints when something is wrong, long before it ends.
legs_complaint='^ *--- FAIL|^FAIL|^panic: |^fatal error: |^SIG[A-Z]+: |WARNING: DATA RACE|ERROR: [A-Za-z]+Sanitizer'
legs_complaint+='|(^|[^0-9])[1-9][0-9]* failed'

# legs_verdict prints what is wrong with a leg that has ended, or nothing.
legs_verdict() { # name status
	if [ "$2" -ne 0 ]; then
		echo "status $2"
	elif [[ $1 == test* ]] && ! grep -qE '^[1-9][0-9]* passed, 0 failed, [0-9]+ skipped$' "$legs_logs/$1"; then
		echo "no test has passed"
	fi
}

legs_run() { # must|may name command...
	local kind=$1 name=$2 start=$SECONDS status=0 left wrong
	shift 2
	left=$((legs_limit - (SECONDS - legs_began)))
	printf '\n## %s: %s\n' "$name" "$*"
	: >"$legs_logs/$name"
	if [ "$left" -gt 0 ]; then
		# The processes of the leg have 20 s to end.
		timeout --kill-after=20 "$left" "$@" 2>&1 </dev/null | tee "$legs_logs/$name" || status=$?
	else
		status=124
	fi
	wrong=$(legs_verdict "$name" "$status")
	# timeout returns 124, but a command may also return it. The clock decides which it was.
	if [ -n "$wrong" ] && [ $((SECONDS - start)) -ge "$left" ]; then
		wrong="out of time after $((SECONDS - start)) s"
		if [ "$kind" = may ] && ! grep -qE "$legs_complaint" "$legs_logs/$name"; then
			legs_undone+=("$name")
			printf '## %s: not done: %s\n' "$name" "$wrong"
			return
		fi
	fi
	if [ -n "$wrong" ]; then
		legs_failed+=("$name ($wrong)")
		printf '## %s: FAILED (%s)\n' "$name" "$wrong"
	else
		legs_passed+=("$name")
		printf '## %s: passed after %d s\n' "$name" $((SECONDS - start))
	fi
}

leg() { legs_run must "$@"; }

# spare begins no leg when 6 tenths of the time are spent, because it would hardly end in time.
spare() {
	if [ "$(legs_spent)" -lt $((legs_limit * 6 / 10)) ]; then
		legs_run may "$@"
	else
		legs_undone+=("$1")
		printf '\n## %s: not done: %d s are spent\n' "$1" "$(legs_spent)"
	fi
}

legs_list() { # title name...
	local title=$1
	shift
	[ $# -eq 0 ] || printf '## %s: %s\n' "$title" "$(printf '%s, ' "$@" | sed 's/, $//')"
}

end_legs() {
	printf '\n'
	awk '/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { passed += $1; failed += $3; skipped += $5 }
		END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$legs_logs"/* /dev/null
	legs_list passed "${legs_passed[@]}"
	legs_list 'not done' "${legs_undone[@]}"
	legs_list FAILED "${legs_failed[@]}"
	if [ ${#legs_failed[@]} -gt 0 ] || [ ${#legs_passed[@]} -eq 0 ]; then
		printf '## FAILED after %d s\n' "$(legs_spent)"
		return 1
	elif [ ${#legs_undone[@]} -gt 0 ]; then
		printf '## no leg failed, and %d were not done, after %d s\n' ${#legs_undone[@]} "$(legs_spent)"
	else
		printf '## all %d legs passed after %d s\n' ${#legs_passed[@]} "$(legs_spent)"
	fi
}
