// SPDX-License-Identifier: Apache-2.0

// Command mutants builds the module with the faults of the tables in this folder, and runs for each
// fault the test that must see it. It fails if a fault goes unseen.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// slow is how long a test may take to see a fault before the report says so.
const slow = 15 * time.Second

// runLimit bounds the test of one fault. A test that a fault makes wait for ever sees the fault.
const runLimit = 30 * time.Second

func main() {
	var o options
	flag.StringVar(&o.only, "only", "", "run the faults whose name matches this regular expression")
	flag.BoolVar(&o.verbose, "v", false, "print what the tests of the faults print")
	flag.StringVar(&o.dir, "dir", "", "build in this folder and keep it, so that the next build is quick")
	flag.Parse()
	if err := o.run(); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

type options struct {
	only, dir string
	verbose   bool
}

func (o options) run() error {
	faults, err := readTables("tests/mutants")
	if err != nil {
		return err
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return err
	}
	faults = slices.DeleteFunc(faults, func(f *fault) bool { return !only.MatchString(f.name()) })
	dir := o.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "mutants"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	t, err := makeTree(".", dir, faults)
	if err != nil {
		return err
	}
	fmt.Printf("compiling %d faults\n", len(faults))
	programs, err := t.buildAll()
	if err != nil {
		return err
	}
	outcomes := t.runAll(programs, o.verbose)
	return report(os.Stdout, outcomes, len(t.faults)-len(outcomes))
}

// buildAll compiles the tests of all packages that the faults name.
func (t *tree) buildAll() (programs map[string]string, err error) {
	programs = map[string]string{}
	for _, f := range t.faults {
		if programs[f.pkg] != "" || f.leg != "" {
			continue
		}
		if programs[f.pkg], err = t.build(f.pkg); err != nil {
			return nil, err
		}
	}
	return programs, nil
}

// An outcome is what a test made of a fault.
type outcome struct {
	*fault
	seen   bool
	broken error // why the test says nothing: it fails without the fault, too
	out    string
	took   time.Duration
}

// runAll runs the test of each fault, as many at once as there are processors.
func (t *tree) runAll(programs map[string]string, verbose bool) (outcomes []outcome) {
	var runners sync.WaitGroup
	jobs, done := make(chan numbered), make(chan outcome)
	control := controls{tree: t, of: map[string]func() error{}}
	for range runtime.GOMAXPROCS(0) {
		runners.Go(func() {
			for f := range jobs {
				done <- t.judge(&control, programs[f.pkg], f)
			}
		})
	}
	go func() {
		for _, f := range t.faults {
			if f.leg == "" {
				jobs <- f
			}
		}
		close(jobs)
		runners.Wait()
		close(done)
	}()
	for o := range done {
		if verbose {
			fmt.Printf("---- %s: seen: %v, %v\n%s", o.name(), o.seen, o.took.Round(time.Millisecond), o.out)
		}
		outcomes = append(outcomes, o)
	}
	return outcomes
}

func (t *tree) judge(control *controls, program string, f numbered) outcome {
	o := outcome{fault: f.fault, broken: control.run(program, f.fault)}
	if o.broken != nil {
		return o
	}
	start := time.Now()
	out, err := t.runTest(program, f.fault, f.number)
	o.seen, o.out, o.took = err != nil, out, time.Since(start)
	return o
}

// controls runs each test once without a fault. A test that fails then sees nothing.
type controls struct {
	tree *tree
	mu   sync.Mutex
	of   map[string]func() error
}

func (c *controls) run(program string, f *fault) error {
	key := program + " " + strings.Join(f.flags, " ")
	c.mu.Lock()
	once := c.of[key]
	if once == nil {
		once = sync.OnceValue(func() error {
			out, err := c.tree.runTest(program, f, 0)
			if err == nil && !strings.Contains(out, "--- PASS: ") {
				err = errors.New("no test ran")
			}
			if err != nil {
				return fmt.Errorf("%w\n%s", err, out)
			}
			return nil
		})
		c.of[key] = once
	}
	c.mu.Unlock()
	return once()
}

// runTest runs the test of a fault with a fault switched on, or with none.
func (t *tree) runTest(program string, f *fault, number int) (out string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), runLimit+10*time.Second)
	defer cancel()
	flags := append([]string{"-test.v", "-test.timeout=" + runLimit.String()}, f.flags...)
	cmd := exec.CommandContext(ctx, program, flags...)
	cmd.Dir = filepath.Join(t.dir, filepath.FromSlash(f.pkg))
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", variable, number))
	cmd.WaitDelay = time.Second // a process that the test started may hold the pipe
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// report prints what was seen and what not. It returns an error if a fault went unseen.
func report(w io.Writer, outcomes []outcome, forLegs int) error {
	slices.SortFunc(outcomes, func(a, b outcome) int { return strings.Compare(a.table, b.table) })
	seen, unseen, broken := 0, 0, 0
	for _, o := range outcomes {
		switch {
		case o.broken != nil:
			broken++
			fmt.Fprintf(w, "%s\n\tthe test fails without the fault: %v\n", o.name(), o.broken)
		case !o.seen:
			unseen++
			fmt.Fprintf(w, "%s\n\tunseen by %s %s\n", o.name(), o.pkg, strings.Join(o.flags, " "))
		default:
			seen++
			if o.took > slow {
				fmt.Fprintf(w, "%s\n\tseen after %v: a test that fails sooner is better\n", o.name(), o.took.Round(time.Second))
			}
		}
	}
	fmt.Fprintf(w, "%d faults seen, %d unseen, %d with a test that fails without them, %d for slow legs\n", seen, unseen, broken, forLegs)
	if unseen+broken > 0 {
		return errors.New("there are faults that no test sees")
	}
	return nil
}
