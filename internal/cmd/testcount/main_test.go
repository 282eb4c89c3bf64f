// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"
)

// The .json files are output of "go test -json" of Go 1.26, without the times of day. The .txt
// files have the expected summaries.
func TestCounter(t *testing.T) {
	for _, tc := range []struct {
		recording string
		ok        bool
	}{
		{"mixed", false},   // passing, failing and skipped tests, with subtests
		{"broken", false},  // does not compile
		{"crash", false},   // a signal ends the process in the middle of a test
		{"atexit", false},  // fails after all its tests have passed, as a leak check does
		{"report", false},  // a memory checker reports in a test that passes, and at the end
		{"cut", false},     // the go command itself prints an error and exits
		{"none", false},    // a package without tests
		{"renamed", false}, // -run matches nothing
		{"skipped", false}, // all tests are skipped
		{"passing", true},  // all is well
	} {
		t.Run(tc.recording, func(t *testing.T) {
			events, err := os.Open("testdata/" + tc.recording + ".json")
			if err != nil {
				t.Fatal(err)
			}
			defer events.Close()
			want, err := os.ReadFile("testdata/" + tc.recording + ".txt")
			if err != nil {
				t.Fatal(err)
			}

			var got strings.Builder
			c := newCounter(&got)
			if err := c.read(events); err != nil {
				t.Fatal(err)
			}
			if ok := c.close(); ok != tc.ok {
				t.Errorf("close() = %v, want %v", ok, tc.ok)
			}
			if got.String() != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
			}
		})
	}
}

func TestNoEventsIsNoSuccess(t *testing.T) {
	var got strings.Builder
	if newCounter(&got).close() {
		t.Error("close() = true without a single package")
	}
	if want := "no test has passed: this is no success\n0 passed, 0 failed, 0 skipped\n"; got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
}

// TestSlowest: the slowest tests come first, without subtests, and not more than were asked for.
func TestSlowest(t *testing.T) {
	var out strings.Builder
	c := newCounter(&out)
	for name, seconds := range map[string]float64{"TestA": 1, "TestB": 3, "TestB/sub": 9, "TestC": 2} {
		c.add(event{Action: "pass", Package: "p", Test: name, Elapsed: seconds})
	}
	c.printSlowest(2)
	if want := "   3.00 s  p TestB\n   2.00 s  p TestC\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	c.printSlowest(9) // there are three
}
