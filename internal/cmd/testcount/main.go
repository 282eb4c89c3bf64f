// SPDX-License-Identifier: Apache-2.0

// Command testcount reads the events of "go test -json" on standard input and prints a summary: one
// line a package, the output of each failing test, the output of all tests of a package that failed
// without a failing test, the reasons for skipped tests, and a last line "N passed, N failed, N
// skipped" that counts tests and subtests. It exits with 1 if anything failed, and if no test
// passed: a pattern that no longer matches a test is no success. With -slow N it also prints the N
// tests that took longest, without subtests.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	slow := flag.Int("slow", 0, "how many of the slowest tests to print")
	flag.Parse()
	c := newCounter(os.Stdout)
	if err := c.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testcount:", err)
		os.Exit(1)
	}
	c.printSlowest(*slow)
	if !c.close() {
		os.Exit(1)
	}
}

// event has the fields that testcount needs of the events in "go doc test2json" and "go help
// buildjson".
type event struct {
	Action  string
	Package string
	Test    string // empty in an event about the whole package
	Elapsed float64
	Output  string
}

type test struct{ pkg, name string }

type counter struct {
	out                     io.Writer
	passed, failed, skipped int
	logs                    map[test][]byte // output of running tests; the name is empty for a package
	blamed                  map[string]bool // packages with a failed test

	// Output of passing tests, by package. A memory checker may report during a test that passes,
	// and make the package fail after all tests passed.
	passing map[string][]byte

	times []timed
}

// A timed test has run.
type timed struct {
	test
	seconds float64
}

func newCounter(out io.Writer) *counter {
	return &counter{out: out, logs: map[test][]byte{}, blamed: map[string]bool{}, passing: map[string][]byte{}}
}

func (c *counter) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			// The go command itself complains in plain text.
			fmt.Fprintln(c.out, lines.Text())
			continue
		}
		c.add(e)
	}
	return lines.Err()
}

func (c *counter) add(e event) {
	switch t := (test{e.Package, e.Test}); e.Action {
	case "start", "run", "output":
		c.logs[t] = append(c.logs[t], e.Output...)
	case "build-output":
		fmt.Fprint(c.out, e.Output)
	case "pass", "fail", "skip":
		if t.name == "" {
			c.endPackage(t.pkg, e.Action)
		} else {
			c.endTest(t, e.Action, e.Elapsed)
		}
	case "bench":
		delete(c.logs, t)
	}
}

// frame matches the lines that "go test -v" prints around the output of a test.
var frame = regexp.MustCompile(`(?m)^ *(=== (RUN|PAUSE|CONT|NAME|ATTR) |--- (PASS|FAIL|SKIP|BENCH): ).*\n`)

func (c *counter) endTest(t test, action string, seconds float64) {
	log := frame.ReplaceAll(c.logs[t], nil)
	delete(c.logs, t)
	if !strings.Contains(t.name, "/") {
		c.times = append(c.times, timed{t, seconds})
	}
	line := fmt.Sprintf("--- %s: %s %s (%.2fs)\n", strings.ToUpper(action), t.pkg, t.name, seconds)
	switch action {
	case "pass":
		c.passed++
		if len(log) > 0 {
			c.passing[t.pkg] = append(append(c.passing[t.pkg], line...), log...)
		}
		return
	case "fail":
		c.failed++
		c.blamed[t.pkg] = true
	case "skip":
		c.skipped++
	}
	fmt.Fprintf(c.out, "%s%s", line, log)
}

func (c *counter) endPackage(pkg, action string) {
	// After a crash the package ends, but not the tests that were running.
	var running []string
	for t := range c.logs {
		if t.pkg == pkg && t.name != "" {
			running = append(running, t.name)
		}
	}
	slices.Sort(running)
	for _, name := range running {
		c.endTest(test{pkg, name}, "fail", 0)
	}

	if action == "fail" && !c.blamed[pkg] {
		fmt.Fprintf(c.out, "%s", c.passing[pkg])
	}
	delete(c.passing, pkg)

	log := c.logs[test{pkg, ""}]
	delete(c.logs, test{pkg, ""})
	if action != "fail" {
		// The last line comes from the go command: its verdict on the package.
		log = log[bytes.LastIndexByte(bytes.TrimSuffix(log, []byte("\n")), '\n')+1:]
	} else if !c.blamed[pkg] {
		// It did not build, or failed outside any test: the last line must not say "0 failed".
		c.failed++
	}
	fmt.Fprintf(c.out, "%s", log)
}

// printSlowest prints the n tests that took longest.
func (c *counter) printSlowest(n int) {
	slices.SortStableFunc(c.times, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, t := range c.times[:min(n, len(c.times))] {
		fmt.Fprintf(c.out, "%7.2f s  %s %s\n", t.seconds, t.pkg, t.name)
	}
}

// close prints the last line, and reports whether all passed.
func (c *counter) close() bool {
	for t := range c.logs {
		if t.name == "" {
			fmt.Fprintln(c.out, "the events end in the middle of", t.pkg)
			c.endPackage(t.pkg, "fail")
		}
	}
	if c.passed == 0 && c.failed == 0 {
		fmt.Fprintln(c.out, "no test has passed: this is no success")
	}
	fmt.Fprintf(c.out, "%d passed, %d failed, %d skipped\n", c.passed, c.failed, c.skipped)
	return c.failed == 0 && c.passed > 0
}
