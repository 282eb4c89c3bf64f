// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sslctx/internal/testcert"
)

// TestScripts runs each script through libssl alone and through the binding.
//
// A script is a list of operations, one a line: OP, or OP => RESULT. "check NAME KEY=VALUE .."
// checks the state. "refused ERROR OP" is an operation that the binding must refuse. libssl runs it
// only in a separate process, where it must do harm. "alone OP" is an operation that only libssl
// runs, and that changes no state. After a line "alone" only libssl runs the following lines, which
// may crash it ("dies", "hangs"). After a line "ours" only the binding runs them. "memcheck TEXT"
// expects that valgrind finds the text in libssl's part. A result of "?" is undefined, and so are
// all later results of that part. Conditions on the version can precede a line, as "[>=3.0 <4.0]".
// Lines between "repeat N" and "end" run N times.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	if dir := os.Getenv(transcriptsVariable); dir != "" {
		defer func() { must(t, transcripts.write(dir)) }()
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			runScript(t, strings.TrimSuffix(filepath.Base(file), ".txt"), string(text))
		})
	}
}

// undefined is a result that depends on the content of libssl's memory.
const undefined = "?"

// step is a line of a script.
type step struct {
	line       int
	op         string
	result     string // expected, if has
	has        bool
	check      []string // a check: name and expectations
	refusal    string   // the error of a refused operation
	by         runner
	apart      bool   // only one of the two runs this part
	memcheck   string // the text that valgrind finds
	conditions string
}

// runner says which side runs an operation.
type runner int

const (
	both   runner = iota
	libssl        // alone
	ours          // the binding alone
)

var runners = map[string]runner{"alone": libssl, "ours": ours}

func parseScript(text string) ([]step, error) {
	var steps, body []step
	times, who := 0, both
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if by, ok := runners[line]; ok {
			who = by
			continue
		}
		s := step{line: i + 1, by: who, apart: who != both}
		if line[0] == '[' {
			var ok bool
			if s.conditions, line, ok = strings.Cut(line[1:], "]"); !ok {
				return nil, fmt.Errorf("line %d: no ]", i+1)
			}
			line = strings.TrimSpace(line)
		}
		if op, ok := strings.CutPrefix(line, "alone "); ok {
			s.by, line = libssl, op
		}
		words := strings.Fields(line)
		switch words[0] {
		case "check":
			s.check = words[1:]
		case "refused":
			s.refusal = words[1]
			s.op = strings.Join(words[2:], " ")
		case "memcheck":
			s.memcheck = strings.TrimPrefix(line, "memcheck ")
		case "repeat":
			times, _ = strconv.Atoi(words[1])
			body, steps = steps, nil
			continue
		case "end":
			for range times {
				body = append(body, steps...)
			}
			steps, times = body, 0
			continue
		default:
			s.op, s.result, s.has = strings.Cut(line, " => ")
		}
		steps = append(steps, s)
	}
	if times != 0 {
		return nil, fmt.Errorf("repeat without end")
	}
	return steps, nil
}

// applies reports whether all conditions hold for a version: "<3.0", ">=3.6.4".
func applies(conditions string, version uint64) bool {
	at := []int{int(version >> 28), int(version >> 20 & 0xff), int(version >> 4 & 0xff)}
	if at[0] < 3 {
		at[2] = int(version >> 12 & 0xff) // 0x1010117f is 1.1.1w
	}
	for _, c := range strings.Fields(conditions) {
		op := strings.TrimRight(c, "0123456789.")
		order := slices.Compare(at, numbers(c[len(op):]))
		if op == "<" && order >= 0 || op == ">=" && order < 0 {
			return false
		}
	}
	return true
}

// numbers reads "3.5" or "1.1.1w".
func numbers(release string) (n []int) {
	for _, part := range strings.Split(strings.TrimRight(release, "abcdefghijklmnopqrstuvwxyz"), ".") {
		i, _ := strconv.Atoi(part)
		n = append(n, i)
	}
	return n
}

// judge runs operations on both sides.
type judge struct {
	oracle   *oracle
	binding  *binding
	ofOracle *normalizer
	ofGo     *normalizer
	last     [2]observation // oracle, binding
	events   []string       // callbacks since the last trace operation, the same on both sides
}

func newComparer(t testing.TB, o *oracle) *judge {
	if o == nil {
		o = startOracle(t)
	}
	return &judge{oracle: o, binding: newBinding(t), ofOracle: newNormalizer(), ofGo: newNormalizer()}
}

// apart runs an operation on one side only.
func (j *judge) apart(op string, run func(string) (observation, error), n *normalizer) error {
	raw, err := run(op)
	if err != nil {
		return err
	}
	o := n.normalize(op, raw)
	j.last = [2]observation{o, o}
	return nil
}

// do runs an operation on both sides, and compares their results and the order of callbacks.
func (j *judge) do(op string) error {
	if op == "trace" {
		result := "-"
		if len(j.events) > 0 {
			result = strings.Join(j.events, " ")
		}
		j.events = nil
		j.last[0].result, j.last[1].result = result, result
		return nil
	}
	if err := j.run(op); err != nil {
		return err
	}
	result := j.last
	defer func() { j.last = result }()
	if err := j.run("trace"); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if events := j.last[0].result; events != "-" {
		j.events = append(j.events, strings.Fields(events)...)
		result[0].events = events
	}
	return nil
}

// run runs an operation on the binding and, unless it is refused there, on libssl, and compares.
func (j *judge) run(op string) error {
	got, err := j.binding.do(op)
	if err != nil {
		return err
	}
	got = j.ofGo.normalize(op, got)
	want := j.last[0]
	if strings.HasPrefix(got.result, "refused ") {
		want.result = got.result // nothing changed on either side
	} else {
		raw, err := j.oracle.do(op)
		if err != nil {
			return err
		}
		want = j.ofOracle.normalize(op, raw)
	}
	j.last = [2]observation{want, got}
	if d := diff(want, got); d != "" {
		return fmt.Errorf("libssl and the binding disagree after\n  %s\n%s", op, d)
	}
	return nil
}

func runScript(t *testing.T, name, text string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	steps, err := parseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	j := newComparer(t, nil)
	files := strings.NewReplacer(certFiles(t)...)
	asserted := 0
	kept := transcript{release: j.oracle.release}
	defer func() { transcripts.keep(name, kept) }()
	for _, s := range steps {
		if !applies(s.conditions, j.oracle.version) {
			continue
		}
		if err := j.step(s, files.Replace(s.op)); err != nil {
			t.Fatalf("line %d: %v", s.line, err)
		}
		kept.note(t, s, j.last[0])
		asserted += toInt(s.has) + toInt(s.check != nil) + toInt(s.refusal != "")
	}
	if asserted == 0 {
		t.Fatal("the script expects nothing")
	}
	if err := j.end(steps); err != nil {
		t.Fatalf("at the end: %v", err)
	}
	if live, _ := j.last[1].value("live", ""); live != "0" {
		t.Fatalf("%s sessions are alive at the end", live)
	}
	memcheck(t, steps, files)
}

// end frees everything. If the two sides ran different operations, it frees only the binding's
// objects.
func (j *judge) end(steps []step) (err error) {
	if !slices.ContainsFunc(steps, func(s step) bool { return s.apart }) {
		return j.do("reset")
	}
	j.oracle.kill() // how it would end does not matter
	j.last[1], err = j.binding.do("reset")
	return err
}

// memcheck runs libssl's part of a script under valgrind, if it is installed, and looks for the
// expected text.
func memcheck(t *testing.T, steps []step, files *strings.Replacer) {
	if !slices.ContainsFunc(steps, func(s step) bool { return s.memcheck != "" }) {
		return
	}
	t.Run("memcheck", func(t *testing.T) {
		valgrind, err := exec.LookPath("valgrind")
		if err != nil {
			t.Skip("valgrind is not installed")
		}
		if libs, _ := exec.Command("pkg-config", "--libs", "libssl").Output(); strings.Contains(string(libs), "-fsanitize") {
			t.Skip("this libssl has a sanitizer, which valgrind cannot run: it has stopped the oracle itself")
		}
		log, version := filepath.Join(t.TempDir(), "log"), uint64(0)
		t.Run("run", func(t *testing.T) { // its cleanup ends the oracle
			o := startOracle(t, valgrind, "--quiet", "--log-file="+log, "--leak-check=full", "--show-leak-kinds=definite")
			version = o.version
			for _, s := range steps {
				if s.op == "" || s.by == ours || s.refusal != "" || !applies(s.conditions, o.version) {
					continue
				}
				if _, err := o.endure(files.Replace(s.op)); err != nil {
					t.Fatal(err)
				}
				if o.ended != "" {
					break
				}
			}
		})
		found, err := os.ReadFile(log)
		must(t, err)
		for _, s := range steps {
			if applies(s.conditions, version) && !strings.Contains(string(found), s.memcheck) {
				t.Errorf("line %d: valgrind does not find %q, but\n%s", s.line, s.memcheck, found)
			}
		}
	})
}

func (j *judge) step(s step, op string) error {
	if s.check != nil {
		return j.check(s.check)
	}
	if s.memcheck != "" {
		return nil // memcheck does it
	}
	var err error
	switch s.by {
	case both:
		err = j.do(op)
	case libssl:
		err = j.apart(op, j.oracle.endure, j.ofOracle)
	case ours:
		err = j.apart(op, j.binding.do, j.ofGo)
	}
	if err != nil {
		return err
	}
	result := j.last[0].result
	switch {
	case s.refusal != "" && result != "refused "+s.refusal:
		return fmt.Errorf("%s: result is %q, not refused as %s", op, result, s.refusal)
	case s.refusal != "" && s.by == both && harmless[refusalKind(op, result)] == "":
		return j.harms(op)
	case s.refusal == "" && strings.HasPrefix(result, "refused "):
		return fmt.Errorf("%s: %s", op, result)
	case s.has && result != s.result && s.result != undefined:
		return fmt.Errorf("%s: result is %q, the script expects %q", op, result, s.result)
	}
	return nil
}

// check compares the state with a script's expectations. Both sides have the same state.
func (j *judge) check(words []string) error {
	name, expected := words[0], words[1:]
	if strings.HasPrefix(name, "live=") {
		name, expected = "live", words
	}
	for _, e := range expected {
		key, want, _ := strings.Cut(e, "=")
		got, ok := j.last[0].value(name, key)
		if !ok {
			return fmt.Errorf("check %s: there is no %s", name, key)
		}
		if got != want {
			return fmt.Errorf("check %s: %s is %s, the script expects %s", name, key, got, want)
		}
	}
	return nil
}

// certFiles returns the words of scripts that stand for files, and the files.
func certFiles(t testing.TB) []string {
	pair, err := testcert.New()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := os.WriteFile(cert, pair.Cert, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, pair.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{" CERT", " " + cert, " KEY", " " + key}
}
