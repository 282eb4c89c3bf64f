// SPDX-License-Identifier: Apache-2.0

// Package scripts has tests of the scripts beside it.
package scripts

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// runBash runs a script in the root of the module, and returns what it prints and its status.
func runBash(t *testing.T, script string, env ...string) (out string, status int) {
	t.Helper()
	cmd := exec.Command("bash", "-c", "set -uo pipefail\n"+script)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), env...)
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return buf.String(), cmd.ProcessState.ExitCode()
}

// soon leaves 3 s. The function spare would begin no leg then.
const soon = "legs_began=$((SECONDS - 57)); "

const counted = "'7 passed, 0 failed, 1 skipped'"

// TestLegs: a run is green if all that must pass has passed, and if nothing that was begun has failed. What was not done is
// named and is not called passed.
func TestLegs(t *testing.T) {
	for name, tc := range map[string]struct {
		limit  string
		legs   string
		env    []string
		status int
		want   []string // in the last lines
		not    []string
	}{
		"all pass": {"60", "leg one true; leg test-two echo " + counted, nil, 0,
			[]string{"passed: one, test-two", "all 2 legs passed", "7 passed, 0 failed, 1 skipped"}, []string{"FAILED", "not done"}},
		"one fails, the next still runs": {"60", "leg one false; leg two true", nil, 1,
			[]string{"passed: two", "FAILED: one (status 1)", "## FAILED after"}, []string{"all 2 legs passed"}},
		"a leg says 124 by itself": {"60", "leg one true; spare two sh -c 'exit 124'", nil, 1,
			[]string{"FAILED: two (status 124)"}, []string{"legs passed"}},
		"a leg that must pass has no time to": {"1", "leg one sleep 60; leg two true", nil, 1,
			[]string{"FAILED: one (out of time", "two (out of time"}, []string{"legs passed", "passed: "}},
		"the same, and the environment says spare": {"1", "leg one sleep 60", []string{"spare=yes", "kind=may"}, 1,
			[]string{"FAILED: one (out of time"}, []string{"legs passed"}},
		"a spare leg has no time": {"60", "leg one true; " + soon + "legs_run may two sleep 60", nil, 0,
			[]string{"passed: one", "not done: two", "no leg failed, and 1 were not done"}, []string{"legs passed", "FAILED"}},
		"a spare leg has no time, and has failed before": {"60", "leg one true; " + soon + "legs_run may two sh -c 'echo \"--- FAIL: x TestX (1.00s)\"; sleep 60'", nil, 1,
			[]string{"passed: one", "FAILED: two (out of time"}, []string{"not done"}},
		"a spare leg has a data race, and no time": {"60", "leg one true; " + soon + "legs_run may two sh -c 'echo WARNING: DATA RACE; sleep 60'", nil, 1,
			[]string{"FAILED: two (out of time"}, []string{"not done"}},
		"a spare leg has counted a failure, and no time": {"60", "leg one true; " + soon + "legs_run may two sh -c 'echo 11 passed, 1 failed, 0 skipped; sleep 60'", nil, 1,
			[]string{"FAILED: two (out of time"}, []string{"not done"}},
		"a spare leg fails": {"60", "leg one true; spare two false", nil, 1,
			[]string{"FAILED: two (status 1)"}, []string{"not done"}},
		"a spare leg comes too late": {"60", "legs_began=$((SECONDS - 50)); leg one true; spare two true", nil, 0,
			[]string{"not done: two", "passed: one", "no leg failed, and 1 were not done"}, []string{"legs passed", "passed: one, two"}},
		"no test runs": {"60", "leg one true; leg test-two echo 0 passed, 0 failed, 0 skipped", nil, 1,
			[]string{"FAILED: test-two (no test has passed)"}, []string{"legs passed"}},
		"a leg of tests prints nothing": {"60", "leg test-two true", nil, 1,
			[]string{"FAILED: test-two (no test has passed)"}, []string{"legs passed"}},
		"a leg ignores that its time is over": {"60", soon + "legs_run may two sh -c 'trap : TERM; sleep 60; echo \"--- FAIL: x\"'; leg one true", nil, 1,
			[]string{"FAILED: two", "one (out of time"}, []string{"legs passed"}},
		"no leg at all":               {"60", "", nil, 1, []string{"## FAILED"}, []string{"legs passed"}},
		"a command that is not there": {"60", "leg one no-such-command", nil, 1, []string{"FAILED: one (status 127)"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, status := runBash(t, ". scripts/legs.sh; begin_legs "+tc.limit+"\n"+tc.legs+"\necho LAST; end_legs", tc.env...)
			_, last, _ := strings.Cut(out, "LAST\n")
			if status != tc.status {
				t.Errorf("the status is %d, want %d", status, tc.status)
			}
			for _, want := range tc.want {
				if !strings.Contains(last, want) {
					t.Errorf("the last lines do not say %q", want)
				}
			}
			for _, not := range tc.not {
				if strings.Contains(last, not) {
					t.Errorf("the last lines say %q", not)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

var (
	selected = regexp.MustCompile(`(?:-run|valgrind_tests\+?=|valgrind_skips\+?=)[ ']*([A-Za-z0-9_|]+)'`)
	testName = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

// TestPatterns: each word by which a script selects tests is part of a test's name. A word that is not would leave a part of
// a leg out, and nobody would see it.
func TestPatterns(t *testing.T) {
	var names string
	var files []string
	for _, pattern := range []string{"../*_test.go", "../internal/*/*_test.go", "../tests/*/*_test.go"} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, matches...)
	}
	if len(files) < 20 {
		t.Fatal(files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testName.FindAllSubmatch(text, -1) {
			names += string(m[1]) + "\n"
		}
	}
	words := 0
	for _, script := range []string{"../.ci/run", "deep.sh"} {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range selected.FindAllSubmatch(text, -1) {
			for word := range strings.SplitSeq(strings.Trim(string(m[1]), "|"), "|") {
				words++
				if !strings.Contains(names, word) {
					t.Errorf("%s selects %q: no test has that in its name", script, word)
				}
			}
		}
	}
	if words < 20 {
		t.Errorf("%d words were found: the expression is wrong", words)
	}
}
