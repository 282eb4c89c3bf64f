// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
)

// An instructionCount is the number of instructions of an operation, from callgrind. Noise does not
// change it.
type instructionCount struct {
	Row   row                `json:"row"`
	ID    string             `json:"id"`
	Sides map[string]float64 `json:"sides"`
}

// instructions counts them on one processor, as the difference of two runs: so the start and the
// end of a run do not count.
func (p *place) instructions(r row, sides []*side) (*instructionCount, error) {
	r.Cores = 1
	count := &instructionCount{Row: r, ID: r.ID(), Sides: map[string]float64{}}
	few, many := 200, 1200
	if r.Of > 0 {
		few, many = 2*r.Of, 12*r.Of
	}
	for _, s := range sides {
		a, err := p.callgrind(s, &r, few)
		if errors.Is(err, errNone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		b, err := p.callgrind(s, &r, many)
		if err != nil {
			return nil, err
		}
		count.Sides[s.name] = (b - a) / float64(many-few)
	}
	return count, nil
}

var collected = regexp.MustCompile(`Collected : (\d+)`)

func (p *place) callgrind(s *side, r *row, n int) (float64, error) {
	file := filepath.Join(p.dir, fmt.Sprintf("callgrind.%s.%d", s.file, n))
	quiet := *s // without Go's signals for preemption: their number depends on time
	quiet.env = append([]string{"GODEBUG=asyncpreemptoff=1"}, s.env...)
	g, err := p.start(&quiet, r, "valgrind", "--tool=callgrind", "--callgrind-out-file="+file)
	if err != nil {
		return 0, err
	}
	if _, err := g.run(n); err != nil {
		return 0, err
	}
	if err := g.stop(); err != nil {
		return 0, err
	}
	m := collected.FindStringSubmatch(g.errs.String())
	if m == nil {
		return 0, fmt.Errorf("callgrind: %s", g.errs.String())
	}
	return strconv.ParseFloat(m[1], 64)
}

func (r *report) writeInstructions(w io.Writer) {
	if len(r.Instructions) == 0 {
		return
	}
	fmt.Fprint(w, "\n### Instructions\n\n| both ends, by callgrind | C | sslctx | ratio |\n|---|---|---|---|\n")
	for _, i := range r.Instructions {
		fmt.Fprintf(w, "| %s | %.0f | %.0f | %.3f |\n", i.Row.Title, i.Sides["C"], i.Sides["sslctx"], i.Sides["sslctx"]/i.Sides["C"])
	}
}

// instructionRows are the rows to count.
func instructionRows(rows []row) (chosen []row) {
	want := map[string]bool{
		"add-remove/N=1000/batch=1/cores=1":                       true,
		"add-remove/N=1000/batch=64/cores=1":                      true,
		"handshake/version=1.2/key=ecdsa/resume=id/workers=1":     true,
		"handshake/version=1.2/key=ecdsa/resume=ticket/workers=1": true,
		"handshake/version=1.3/key=ecdsa/resume=ticket/workers=1": true,
		"handshake/version=1.3/key=ecdsa/resume=full/workers=1":   true,
	}
	for _, r := range rows {
		if want[r.ID()] {
			chosen = append(chosen, r)
		}
	}
	return chosen
}
