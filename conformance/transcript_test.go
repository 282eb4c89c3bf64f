// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// transcript has libssl's results and states while a script ran.
type transcript struct {
	release    string // of libssl
	deviations int    // lines that only libssl ran, or that the binding refused
	undefined  bool   // libssl's further results are undefined
	Steps      []recorded
}

// release has the transcripts of one release of libssl for all scripts.
type release struct {
	Version    string
	Deviations int
	Scripts    map[string]transcript
}

// recorded is an operation and what was visible after it: "result", "callbacks", and the keys of
// the state, as "c0 number".
type recorded struct {
	Line      int
	Op        string
	Sometimes bool // the line is only for some versions
	Seen      map[string]string
}

// note keeps a step, and prints it in verbose tests. It skips checks and steps that libssl did not
// run.
func (t *transcript) note(tb testing.TB, s step, o observation) {
	t.deviations += toInt(s.by == libssl || s.refusal != "")
	if s.op == "" || s.refusal != "" || s.by == ours || s.op == "trace" && s.by == both { // a trace repeats known events
		return
	}
	seen := map[string]string{"result": o.result}
	if strings.HasPrefix(s.op, "peer ") && len(o.result) > 1 {
		seen["result"] = "a certificate" // made for this run
	}
	if o.events != "" {
		seen["callbacks"] = o.events
	}
	for _, line := range o.state {
		words := strings.Fields(line)
		if words[0] == "live" {
			seen["live"] = words[1]
			continue
		}
		seen[words[1]] = "is there"
		for _, w := range words[2:] {
			key, value, _ := strings.Cut(w, "=")
			seen[words[1]+" "+key] = value
		}
	}
	r := recorded{Line: s.line, Op: s.op, Sometimes: s.conditions != "", Seen: seen}
	if testing.Verbose() {
		tb.Log(r.after(t.Steps))
	}
	if t.undefined = t.undefined || s.result == undefined; t.undefined {
		r.Seen = map[string]string{"result": "undefined"}
	}
	t.Steps = append(t.Steps, r)
}

// after prints a step and its changes.
func (r recorded) after(steps []recorded) string {
	var before map[string]string
	if len(steps) > 0 {
		before = steps[len(steps)-1].Seen
	}
	var b strings.Builder
	fmt.Fprintf(&b, "line %d: %s => %s", r.Line, shorten(r.Op), r.Seen["result"])
	for _, key := range slices.Sorted(maps.Keys(r.Seen)) {
		name, _, _ := strings.Cut(key, " ")
		if key == "callbacks" || key != "result" && before[key] != r.Seen[key] && (name == key || before[name] != "") {
			fmt.Fprintf(&b, "; %s: %s", key, r.Seen[key])
		}
	}
	return b.String()
}

// transcriptBook has the transcripts of this process, by script.
type transcriptBook struct {
	mu       sync.Mutex
	byScript map[string]transcript
}

var transcripts transcriptBook

func (b *transcriptBook) keep(script string, t transcript) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byScript == nil {
		b.byScript = make(map[string]transcript)
	}
	b.byScript[script] = t
}

// of returns the transcript of a script. It runs the script if it has not run yet.
func (b *transcriptBook) of(t *testing.T, script string) transcript {
	b.mu.Lock()
	kept, ok := b.byScript[script]
	b.mu.Unlock()
	if ok {
		return kept
	}
	text, err := os.ReadFile(scriptFile(script))
	must(t, err)
	t.Run(script, func(t *testing.T) { runScript(t, script, string(text)) })
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byScript[script]
}

// transcriptsVariable is the variable for the folder with each version's transcripts, which
// TestVersions reads.
const transcriptsVariable = "SSLCTX_TRANSCRIPTS"

// write saves the transcripts in a file with the name of libssl's release.
func (b *transcriptBook) write(dir string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := release{Scripts: b.byScript}
	for _, one := range b.byScript {
		all.Version = one.release
		all.Deviations += one.deviations
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, all.Version+".json"), text, 0o644)
}

func scriptFile(name string) string { return filepath.Join("script", name+".txt") }
