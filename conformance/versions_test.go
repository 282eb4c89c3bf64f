// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var updateVersions = flag.Bool("update", false, "write docs/versions.md and "+versionsData+" anew, from the transcripts in $"+transcriptsVariable)

const (
	versionsData = "testdata/versions.json"
	versionsFile = "../docs/versions.md"
)

// versions are the differences between releases of libssl that the scripts show.
type versions struct {
	Releases    []string // oldest first
	Differences []difference
}

// difference is an operation of a script whose results are not the same in all releases.
type difference struct {
	Script string
	Line   int
	Op     string
	Nth    int                 // this is the Nth such operation of the script, from 1
	Keys   []string            // the keys that differ: "result", "callbacks", "live", "c0 number" ..
	Values map[string][]string // by release, in the order of Keys
}

// TestVersions compares docs/versions.md with the linked libssl, if that is one of its releases,
// and with the data that it was made from.
func TestVersions(t *testing.T) {
	if *updateVersions {
		update(t, os.Getenv(transcriptsVariable))
	}
	text, err := os.ReadFile(versionsData)
	must(t, err)
	var v versions
	must(t, json.Unmarshal(text, &v))
	document, err := os.ReadFile(versionsFile)
	must(t, err)
	if string(document) != v.markdown(t) {
		t.Errorf("%s is not made of %s: run make versions", versionsFile, versionsData)
	}
	o := startOracle(t)
	if !slices.Contains(v.Releases, o.release) {
		t.Skipf("%s tells of OpenSSL %s; this is %s", versionsFile, strings.Join(v.Releases, ", "), o.release)
	}
	for _, d := range v.Differences {
		if got := d.seenIn(transcripts.of(t, d.Script)); !slices.Equal(got, d.Values[o.release]) {
			t.Errorf("%s, line %d, %s: %v is %q, not %q: run make versions", d.Script, d.Line, d.Op, d.Keys, got, d.Values[o.release])
		}
	}
}

// update makes the data and the document from the transcripts that make test-matrix saved in a
// folder.
func update(t *testing.T, dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || dir == "" || len(files) < 2 {
		t.Fatalf("no transcripts of several versions in %q: run make versions", dir)
	}
	var all []release
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		var r release
		must(t, json.Unmarshal(text, &r))
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b release) int { return slices.Compare(numbers(a.Version), numbers(b.Version)) })
	v := compare(all)
	text, err := json.MarshalIndent(v, "", "\t")
	must(t, err)
	must(t, os.WriteFile(versionsData, append(text, '\n'), 0o644))
	must(t, os.WriteFile(versionsFile, []byte(v.markdown(t)), 0o644))
}

func compare(all []release) versions {
	var v versions
	for _, r := range all {
		v.Releases = append(v.Releases, r.Version)
	}
	for _, script := range slices.Sorted(maps.Keys(all[0].Scripts)) {
		c := comparison{script: script, releases: v.Releases, known: make(map[string]bool), ran: make(map[string]int)}
		for _, r := range all {
			c.steps = append(c.steps, r.Scripts[script].Steps)
		}
		c.run()
		v.Differences = append(v.Differences, c.found...)
	}
	return v
}

// comparison reads the transcripts of one script side by side.
type comparison struct {
	script   string
	releases []string
	steps    [][]recorded    // the remaining steps of each release
	known    map[string]bool // reported differences: the key, and which releases agree
	ran      map[string]int  // how often an operation ran
	found    []difference
}

// run reads the steps of all releases together. Before a step that is in all of them it reads the
// steps that are not.
func (c *comparison) run() {
	for {
		some := c.cut(func(steps []recorded) int {
			if i := slices.IndexFunc(steps, func(s recorded) bool { return !s.Sometimes }); i >= 0 {
				return i
			}
			return len(steps)
		})
		if sameOps(some) {
			c.tell(some)
		} else {
			c.expect(some) // the script itself differs
		}
		if len(c.steps[0]) == 0 {
			return
		}
		c.tell(c.cut(func([]recorded) int { return 1 }))
	}
}

// cut takes the next steps, as many as count says.
func (c *comparison) cut(count func([]recorded) int) [][]recorded {
	taken := make([][]recorded, len(c.steps))
	for i, steps := range c.steps {
		n := count(steps)
		taken[i], c.steps[i] = steps[:n], steps[n:]
	}
	return taken
}

func sameOps(steps [][]recorded) bool {
	return !slices.ContainsFunc(steps[1:], func(other []recorded) bool {
		return !slices.EqualFunc(steps[0], other, func(a, b recorded) bool { return a.Op == b.Op })
	})
}

// tell records the differences after each operation. The operations are the same in all releases.
func (c *comparison) tell(steps [][]recorded) {
	for i := range steps[0] {
		at := make([]recorded, len(steps))
		for r := range steps {
			at[r] = steps[r][i]
		}
		c.ran[at[0].Op]++
		d := difference{Script: c.script, Line: at[0].Line, Op: at[0].Op, Nth: c.ran[at[0].Op], Values: make(map[string][]string)}
		keys := differing(at)
		for _, key := range keys {
			pattern := alike(key, at)
			if !c.known[pattern] && !follows(key, keys) {
				d.Keys = append(d.Keys, key)
			}
			// A result or a callback is of this operation only. The state continues.
			c.known[pattern] = key != "result" && key != "callbacks"
		}
		if len(d.Keys) == 0 {
			continue
		}
		for r, name := range c.releases {
			d.Values[name] = d.seen(at[r])
		}
		c.found = append(c.found, d)
	}
}

// expect accepts the differences after operations that are not the same: they follow from the
// operations.
func (c *comparison) expect(steps [][]recorded) {
	var at []recorded
	for _, s := range steps {
		if len(s) == 0 {
			return // not all releases have a state to compare
		}
		at = append(at, s[len(s)-1])
	}
	for _, key := range differing(at) {
		c.known[alike(key, at)] = true
	}
}

// differing returns the keys whose values are not equal in all releases.
func differing(at []recorded) []string {
	keys := make(map[string]bool)
	for _, one := range at {
		for _, seen := range []map[string]string{one.Seen, at[0].Seen} {
			for key := range seen {
				keys[key] = keys[key] || one.Seen[key] != at[0].Seen[key]
			}
		}
	}
	ended := slices.ContainsFunc(at, func(r recorded) bool { return r.Seen["live"] == "" }) // there is no state then
	maps.DeleteFunc(keys, func(key string, differs bool) bool { return !differs || ended && key != "result" })
	return slices.Sorted(maps.Keys(keys))
}

// follows reports whether a difference follows from others. Counts of callbacks follow from the
// callbacks, and the attributes of a session from its absence.
func follows(key string, others []string) bool {
	name, what, _ := strings.Cut(key, " ")
	counts := slices.Contains([]string{"new", "get", "remove"}, what)
	return counts && slices.Contains(others, "callbacks") || what != "" && slices.Contains(others, name)
}

// alike says for a key which releases agree, as "c0 number 00111".
func alike(key string, at []recorded) string {
	var b strings.Builder
	b.WriteString(key + " ")
	for i, one := range at {
		first := slices.IndexFunc(at[:i], func(other recorded) bool { return other.Seen[key] == one.Seen[key] })
		if first < 0 {
			first = i
		}
		fmt.Fprint(&b, first)
	}
	return b.String()
}

// seen returns the values of a step in the order of the difference's keys. It replaces a long value
// by its length and a hash.
func (d *difference) seen(s recorded) []string {
	values := make([]string, len(d.Keys))
	for i, key := range d.Keys {
		value, ok := s.Seen[key]
		switch {
		case !ok:
			value = "none"
		case key == "callbacks":
			value = countWords(value)
		case len(value) > 100:
			value = fmt.Sprintf("%d bytes, %.4x..", len(value)/2, sha256.Sum256([]byte(value)))
		}
		values[i] = value
	}
	return values
}

// countWords replaces repeated words by a word and its count: "c0.new 2 c0.remove".
func countWords(list string) string {
	var b strings.Builder
	for words := strings.Fields(list); len(words) > 0; {
		n := slices.IndexFunc(words, func(w string) bool { return w != words[0] })
		if n < 0 {
			n = len(words)
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if n > 1 {
			fmt.Fprintf(&b, "%d ", n)
		}
		b.WriteString(words[0])
		words = words[n:]
	}
	return b.String()
}

// seenIn finds the difference's step in a transcript.
func (d *difference) seenIn(t transcript) []string {
	nth := 0
	for _, s := range t.Steps {
		if s.Op == d.Op {
			nth++
		}
		if nth == d.Nth {
			return d.seen(s)
		}
	}
	return nil
}
