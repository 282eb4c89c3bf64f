// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"sslctx"
)

// A report has all results of a run.
type report struct {
	Machine      machine             `json:"machine"`
	Results      []*result           `json:"results"`
	Instructions []*instructionCount `json:"instructions,omitempty"`
}

type machine struct {
	Date     string            `json:"date"`
	CPU      string            `json:"cpu"`
	CPUs     int               `json:"cpus"`
	Kernel   string            `json:"kernel"`
	Go       string            `json:"go"`
	Compiler string            `json:"compiler"`
	OpenSSL  string            `json:"openssl"`
	Revision string            `json:"revision"`
	Modules  map[string]string `json:"modules"`
}

func thisMachine() machine {
	linked, _ := sslctx.LibraryVersions()
	m := machine{
		Date: time.Now().UTC().Format(time.DateOnly), CPUs: runtime.NumCPU(), Go: runtime.Version(),
		CPU:      cpuModel(),
		Kernel:   output("uname", "-sr"),
		Compiler: output("cc", "--version"),
		OpenSSL:  linked.Text,
		Revision: output("git", "describe", "--always", "--dirty"),
		Modules:  map[string]string{},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			m.Modules[d.Path] = d.Version
		}
	}
	return m
}

// output returns the first line that a command prints.
func output(name string, args ...string) string {
	out, _ := exec.Command(name, args...).Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(r)
}

// A column has a cell for each row of a table. A table leaves out a column without any text.
type column struct {
	head string
	cell func(*result) string
}

// columns are the time of C, the ratios of the other sides to it, and further values of C and of
// ours.
func columns(names []string) (all []column) {
	for _, name := range names {
		all = append(all, column{name, func(res *result) string { return res.time(name) }})
	}
	ours := names[1]
	all = append(all, column{ours + ", CPU time", func(res *result) string {
		if one := res.Sides[ours]; one != nil && one.CPU != nil {
			return fmt.Sprintf("%.2f", one.CPU.Median)
		}
		return ""
	}})
	for _, name := range names[:2] {
		all = append(all, column{"p50 / p99 of " + name, func(res *result) string {
			if v := res.value(name, "p99", seconds); v != "" {
				return res.value(name, "p50", seconds) + " / " + v
			}
			return ""
		}})
	}
	for _, name := range names[:2] {
		all = append(all, column{"memory, " + name, func(res *result) string { return res.value(name, "bytes", wholeBytes) }})
	}
	return append(all,
		column{"of Go's heap", func(res *result) string { return res.value(ours, "heap", wholeBytes) }},
		column{"pauses", func(res *result) string { return res.value(ours, "pause", seconds) }},
		column{ours + ", calls of C", func(res *result) string { return res.value(ours, "calls", number) }},
		column{ours + ", mallocs", func(res *result) string { return res.value(ours, "mallocs", number) }},
	)
}

// time is in seconds for the first side, and a ratio to that with its quartiles for the others.
func (res *result) time(name string) string {
	one := res.Sides[name]
	switch {
	case one == nil:
		return ""
	case one.Ratios == nil || name == "C":
		return seconds(one.Median["wall"])
	}
	return fmt.Sprintf("**%.2f** (%.2f–%.2f)", one.Ratios.Median, one.Ratios.P25, one.Ratios.P75)
}

func (res *result) value(name, key string, format func(float64) string) string {
	one := res.Sides[name]
	if one == nil {
		return ""
	}
	v, ok := one.Median[key]
	if !ok {
		return ""
	}
	return format(v)
}

// writeTables writes Markdown, with one table for each group.
func (r *report) writeTables(w io.Writer, names []string) {
	m := r.Machine
	noisy, all := r.noise()
	fmt.Fprintf(w, "%s. %s, %d processors, %s; %s, %s, %s; revision %s. Of %d measurements others disturbed %d.\n", m.Date, m.CPU,
		m.CPUs, m.Kernel, m.OpenSSL, m.Go, m.Compiler, m.Revision, all, noisy)
	for rest := r.Results; len(rest) > 0; {
		n := slices.IndexFunc(rest, func(res *result) bool { return res.Row.Group != rest[0].Row.Group })
		if n < 0 {
			n = len(rest)
		}
		writeTable(w, rest[:n], columns(names))
		rest = rest[n:]
	}
	r.writeInstructions(w)
}

// noise returns how many of all measurements were noisy.
func (r *report) noise() (noisy, all int) {
	for _, res := range r.Results {
		noisy += res.Noisy
		all += res.Rounds * len(res.Sides)
	}
	return noisy, all
}

// update writes the tables into a document, after its line for the results.
func update(name string, tables []byte) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	const line = "\n## Results\n"
	before, _, found := bytes.Cut(text, []byte(line))
	if !found {
		return fmt.Errorf("%s has no line %q", name, line[1:len(line)-1])
	}
	return os.WriteFile(name, slices.Concat(before, []byte(line+"\n"), tables), 0o666)
}

func writeTable(w io.Writer, results []*result, all []column) {
	kept := slices.DeleteFunc(slices.Clone(all), func(c column) bool {
		return !slices.ContainsFunc(results, func(res *result) bool { return c.cell(res) != "" })
	})
	fmt.Fprintf(w, "\n### %s\n\n| |", results[0].Row.Group)
	for _, c := range kept {
		fmt.Fprintf(w, " %s |", c.head)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", len(kept)))
	for _, res := range results {
		fmt.Fprintf(w, "| %s |", res.Row.Title)
		for _, c := range kept {
			fmt.Fprintf(w, " %s |", c.cell(res))
		}
		fmt.Fprintln(w)
	}
}

func wholeBytes(v float64) string { return fmt.Sprintf("%.0f B", max(v, 0)) }

func number(v float64) string {
	if v < 9.95 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func seconds(v float64) string {
	switch {
	case v < 1e-6:
		return fmt.Sprintf("%.3g ns", v*1e9)
	case v < 1e-3:
		return fmt.Sprintf("%.3g µs", v*1e6)
	}
	return fmt.Sprintf("%.3g ms", v*1e3)
}

// writeBenchmarks writes a side's samples as Go's benchmarks do, for benchstat.
func (r *report) writeBenchmarks(w io.Writer, name string) {
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\ncpu: %s\n", runtime.GOOS, runtime.GOARCH, r.Machine.CPU)
	for _, res := range r.Results {
		one := res.Sides[name]
		if one == nil {
			continue
		}
		for _, s := range one.Samples {
			fmt.Fprintf(w, "Benchmark%s\t%d\t%.2f ns/op", res.ID, res.Times, s["wall"]*1e9)
			for _, value := range []struct{ key, unit string }{{"mallocs", "allocs/op"}, {"calls", "cgo-calls/op"}} {
				if v, ok := s[value.key]; ok {
					fmt.Fprintf(w, "\t%.3f %s", v, value.unit)
				}
			}
			if v, ok := s["p99"]; ok {
				fmt.Fprintf(w, "\t%.0f p99-ns", v*1e9)
			}
			fmt.Fprintln(w)
		}
	}
}
