// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// A side is a program that speaks the protocol of package side, and how to run it.
type side struct {
	name string // in tables
	file string
	args []string
	env  []string
}

// A program is a side that has prepared a row.
type program struct {
	side *side
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	errs strings.Builder
	used bool // it has done some work
}

// Time limits for a program to be ready, and for a request.
const patience = 5 * time.Minute

var errNone = errors.New("the program has no such row")

// command returns the command that runs a side for a row, under another command (valgrind) if there
// is one.
func (p *place) command(s *side, r *row, under ...string) *exec.Cmd {
	words := append(under, filepath.Join(p.programs, s.file), r.Work, "dir="+p.dir, "redis="+p.redisPort)
	words = append(append(words, r.Args...), s.args...)
	env := append(os.Environ(), "OPENSSL_CONF="+p.openSSLConf(r))
	if r.Cores > 0 {
		// Not on the first processors: these handle the machine's interrupts.
		cpus := runtime.NumCPU()
		words = append([]string{"taskset", "-c", fmt.Sprintf("%d-%d", max(cpus-r.Cores, 0), cpus-1)}, words...)
		env = append(env, fmt.Sprintf("GOMAXPROCS=%d", r.Cores))
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(env, s.env...)
	return cmd
}

// start runs a side for a row, until it is ready. It returns errNone when the side has no such row.
func (p *place) start(s *side, r *row, under ...string) (*program, error) {
	g := &program{side: s, cmd: p.command(s, r, under...)}
	in, err := g.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	g.cmd.Stderr = &g.errs
	g.in, g.out = in, bufio.NewScanner(out)
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	defer time.AfterFunc(patience, g.kill).Stop()
	if g.out.Scan() && g.out.Text() == "ready" {
		return g, nil
	}
	if g.out.Text() == "none" {
		_ = g.stop()
		return nil, errNone
	}
	return nil, g.failure()
}

func (g *program) failure() error {
	err := g.stop()
	return fmt.Errorf("%s: %v: %s", strings.Join(g.cmd.Args, " "), err, g.errs.String())
}

// stop ends a program by the end of its input, once.
func (g *program) stop() error {
	if g.cmd.ProcessState != nil {
		return nil
	}
	_ = g.in.Close()
	return g.cmd.Wait()
}

func (g *program) kill() { _ = g.cmd.Process.Kill() }

// run does the operation n times.
func (g *program) run(n int) (sample, error) {
	g.used = true
	defer time.AfterFunc(patience, g.kill).Stop()
	if _, err := fmt.Fprintln(g.in, n); err != nil {
		return nil, g.failure()
	}
	if !g.out.Scan() {
		return nil, g.failure()
	}
	s := sample{}
	for _, field := range strings.Fields(g.out.Text()) {
		name, value, _ := strings.Cut(field, "=")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %q", g.side.name, g.out.Text())
		}
		s[name] = v
	}
	for _, name := range []string{"wall", "cpu"} {
		s[name] /= float64(n)
	}
	return s, nil
}

// A sample has a program's values for one request: seconds of an operation (wall, cpu) and of
// connections (p50, p99), bytes, and numbers for each operation (calls of C, mallocs in Go).
type sample map[string]float64
