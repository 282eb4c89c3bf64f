// SPDX-License-Identifier: Apache-2.0

// Command bench measures the binding beside a C program on libssl alone and beside other TLS
// packages of Go. Each side is a separate program. All do the same work in turns, and the report
// compares the ratios of the rounds.
//
//	make bench
//	make bench ARGS='-only "handshake.*1.3" -rounds 21'
//	make bench-compare BASE=main
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	programs, json, text, base, sysmon, update string
	only                                       *regexp.Regexp
	instructions                               bool
	plan                                       plan
}

func parseOptions() (o options, err error) {
	flag.StringVar(&o.programs, "programs", "bin", "folder with the programs to measure")
	only := flag.String("only", "", "regular expression of the rows to measure, such as add-remove/N=1000/batch=1")
	flag.StringVar(&o.json, "json", "", "file for all samples")
	flag.StringVar(&o.text, "text", "", "folder for files in Go's benchmark format, one for each side")
	flag.StringVar(&o.update, "update", "", "document to write the tables into, from the line \"## Results\" on")
	flag.StringVar(&o.base, "base", "", "another build of ours in the folder: compare only these two")
	flag.StringVar(&o.sysmon, "sysmon", "", "relaxed or active: the state of Go's sysmon before each measurement (see package side)")
	flag.BoolVar(&o.instructions, "instructions", false, "count instructions with callgrind, after the rows")
	flag.IntVar(&o.plan.rounds, "rounds", 11, "rounds of each row")
	flag.DurationVar(&o.plan.round, "round", 100*time.Millisecond, "how long the slowest side takes in a round")
	flag.Float64Var(&o.plan.noise, "noise", 0.06, "share of the machine that other processes may use during a measurement")
	flag.Parse()
	o.only, err = regexp.Compile(*only)
	if o.base != "" && o.instructions {
		err = errors.New("-instructions compares with C, and -base without")
	}
	return o, err
}

// sides are the programs to compare. The other packages run without the check of Go pointers,
// because their DialSession would panic.
func (o *options) sides() []*side {
	inGo := []string{"sysmon=" + o.sysmon}
	ours := &side{name: "sslctx", file: "ours", args: inGo}
	if o.base != "" {
		return []*side{{name: "base", file: o.base, args: inGo}, ours}
	}
	forks := []string{"GODEBUG=cgocheck=0"}
	return []*side{
		{name: "C", file: "c"},
		ours,
		{name: "crypto/tls", file: "stdlib", args: inGo},
		{name: "spacemonkeygo", file: "spacemonkey", args: inGo, env: forks},
		{name: "libp2p", file: "libp2p", args: inGo, env: forks},
	}
}

func run() error {
	o, err := parseOptions()
	if err != nil {
		return err
	}
	p, err := newPlace(o.programs)
	if err != nil {
		return err
	}
	defer p.close()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-interrupted
		p.close()
		os.Exit(1)
	}()
	rep, err := o.measureAll(p)
	if err != nil {
		return err
	}
	return o.write(rep)
}

func (o *options) measureAll(p *place) (*report, error) {
	rep := &report{Machine: thisMachine()}
	start := time.Now()
	rows := allRows()
	for i := range rows {
		r := &rows[i]
		if !o.only.MatchString(r.ID()) {
			continue
		}
		plan := o.plan
		if r.Times > 0 {
			plan.rounds = min(plan.rounds, 3) // they take seconds
		}
		res, err := p.measure(r, o.sides(), plan)
		if errors.Is(err, errNone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		rep.Results = append(rep.Results, res)
		fmt.Fprintf(os.Stderr, "%4.0f s  %s%s\n", time.Since(start).Seconds(), res.ID, res.line())
	}
	if o.instructions {
		for _, r := range instructionRows(rows) {
			if !o.only.MatchString(r.ID()) {
				continue
			}
			count, err := p.instructions(r, o.sides()[:2])
			if err != nil {
				return nil, err
			}
			rep.Instructions = append(rep.Instructions, count)
			fmt.Fprintf(os.Stderr, "%4.0f s  instructions %s %v\n", time.Since(start).Seconds(), count.ID, count.Sides)
		}
	}
	return rep, nil
}

// line prints progress.
func (res *result) line() (line string) {
	for _, name := range res.names {
		line += fmt.Sprintf("  %s %s", name, seconds(res.Sides[name].Median["wall"]))
	}
	if res.Noisy > 0 {
		line += fmt.Sprintf("  (%d noisy)", res.Noisy)
	}
	return line
}

func (o *options) write(rep *report) error {
	var names []string
	for _, s := range o.sides() {
		names = append(names, s.name)
	}
	var tables bytes.Buffer
	rep.writeTables(&tables, names)
	fmt.Print(tables.String())
	if o.update != "" {
		if err := update(o.update, tables.Bytes()); err != nil {
			return err
		}
	}
	if o.json != "" {
		if err := writeFile(o.json, rep.writeJSON); err != nil {
			return err
		}
	}
	if o.text == "" {
		return nil
	}
	for _, s := range o.sides() {
		err := writeFile(o.text+"/"+s.file+".txt", func(w io.Writer) error { rep.writeBenchmarks(w, s.name); return nil })
		if err != nil {
			return err
		}
	}
	return nil
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
