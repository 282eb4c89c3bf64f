// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"testing"
)

func results() []*result {
	r := &result{Row: row{Group: "Group", Title: "work"}, ID: "work", Times: 10, Sides: map[string]*series{
		"C":    {Samples: []sample{{"wall": 1e-6, "cpu": 1e-6}, {"wall": 2e-6, "cpu": 1e-6}, {"wall": 1e-6, "cpu": 1e-6}}},
		"ours": {Samples: []sample{{"wall": 2e-6, "cpu": 3e-6, "calls": 2}, {"wall": 3e-6, "cpu": 3e-6, "calls": 2}, {"wall": 1e-6, "cpu": 3e-6, "calls": 2}}},
	}}
	r.sum()
	return []*result{r}
}

// TestRatios: a ratio compares two samples of one round, not two medians.
func TestRatios(t *testing.T) {
	ours := results()[0].Sides["ours"]
	if *ours.Ratios != (spread{1, 1.5, 2}) || *ours.CPU != (spread{3, 3, 3}) || ours.Median["wall"] != 2e-6 {
		t.Errorf("%+v %+v %+v", *ours.Ratios, *ours.CPU, ours.Median)
	}
}

func TestTables(t *testing.T) {
	rep := &report{Results: results(), Instructions: []*instructionCount{
		{Row: row{Title: "work"}, Sides: map[string]float64{"C": 1000, "sslctx": 1500}},
	}}
	var out bytes.Buffer
	rep.writeTables(&out, []string{"C", "ours", "other"})
	for _, want := range []string{
		"| | C | ours | ours, CPU time | ours, calls of C |\n|---|---|---|---|---|\n", // there is no column of other
		"| work | 1 µs | **1.50** (1.00–2.00) | 3.00 | 2.0 |\n",
		"| work | 1000 | 1500 | 1.500 |\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q in\n%s", want, out.String())
		}
	}
}

func TestBenchmarkFormat(t *testing.T) {
	var out bytes.Buffer
	(&report{Results: results()}).writeBenchmarks(&out, "ours")
	if want := "Benchmarkwork\t10\t3000.00 ns/op\t2.000 cgo-calls/op\n"; !strings.Contains(out.String(), want) {
		t.Errorf("want %q in\n%s", want, out.String())
	}
}

// TestForeign: other processes used the time that the machine was busy, less the time of this run.
func TestForeign(t *testing.T) {
	p := &place{}
	g := &program{cmd: p.command(&side{file: "c"}, &row{Work: "stats"})}
	g.cmd.Process = self(t)
	before := p.watch(g)
	after := before
	after.at = before.at.Add(1e9)
	after.busy += 500 * 1e6
	after.own += 200 * 1e6
	if got := after.foreign(before) * float64(runtime.NumCPU()); got < 0.299 || got > 0.301 {
		t.Errorf("%v of a processor, want 0.3", got)
	}
	if before.busy <= 0 {
		t.Errorf("%+v", before)
	}
}

// TestRows: benchstat compares rows by name, and the harness requests them by name.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range allRows() {
		if id := r.ID(); seen[id] || strings.ContainsAny(id, " \t") {
			t.Errorf("%q: not alone, or with a blank", id)
		} else {
			seen[id] = true
		}
	}
	if n := len(instructionRows(allRows())); n != 6 {
		t.Errorf("instructions of %d rows", n)
	}
}

func TestFormats(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{count(1), "1"}, {count(1000), "1,000"}, {count(1_000_000), "1,000,000"},
		{seconds(5e-9), "5 ns"}, {seconds(1.234e-5), "12.3 µs"}, {seconds(0.25), "250 ms"},
		{number(2), "2.0"}, {number(35.4), "35"}, {bytesOf(64), "64 B"}, {bytesOf(1 << 20), "1 MiB"},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}

func self(t *testing.T) *os.Process {
	t.Helper()
	p, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return p
}
