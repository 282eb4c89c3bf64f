// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// A result has the measurements of all sides for a row.
type result struct {
	Row    row                `json:"row"`
	ID     string             `json:"id"`
	Times  int                `json:"times"`  // operations in a round
	Noisy  int                `json:"noisy"`  // measurements that other processes disturbed
	Rounds int                `json:"rounds"` // of each side
	Sides  map[string]*series `json:"sides"`

	names []string // in the order of the run
}

// A series is a side's samples, one of each round, and their medians.
type series struct {
	Median  sample   `json:"median"`
	Ratios  *spread  `json:"ratio_to_c,omitempty"` // of wall, round by round
	CPU     *spread  `json:"cpu_ratio_to_c,omitempty"`
	Samples []sample `json:"samples"`
}

// A spread is a median, and its quartiles.
type spread struct {
	P25    float64 `json:"p25"`
	Median float64 `json:"median"`
	P75    float64 `json:"p75"`
}

type plan struct {
	rounds int
	round  time.Duration // of the slowest side
	noise  float64       // share of the machine's time that others may use in a measurement
}

// measure runs a row on all sides in turns. Each round begins with another side, so that other load
// on the machine affects all sides. It repeats a measurement that other processes disturbed, a few
// times.
func (p *place) measure(r *row, sides []*side, plan plan) (*result, error) {
	programs, err := p.startAll(r, sides)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, g := range programs {
			_ = g.stop()
		}
	}()
	if len(programs) == 0 {
		return nil, errNone
	}
	n, err := r.calibrate(programs, plan.round)
	if err != nil {
		return nil, err
	}
	res := &result{Row: *r, ID: r.ID(), Times: n, Rounds: plan.rounds, Sides: map[string]*series{}}
	for _, g := range programs {
		res.names = append(res.names, g.side.name)
		res.Sides[g.side.name] = new(series)
		if r.Times == 0 { // the first round of each finds cold caches
			if _, err := g.run(n); err != nil {
				return nil, err
			}
		}
	}
	for round := range plan.rounds {
		for i := range programs {
			at := (i + round) % len(programs)
			s, err := p.quiet(res, programs, at, plan.noise)
			if err != nil {
				return nil, err
			}
			one := res.Sides[programs[at].side.name]
			one.Samples = append(one.Samples, s)
		}
	}
	res.sum()
	return res, nil
}

func (p *place) startAll(r *row, sides []*side) (programs []*program, err error) {
	for _, s := range sides {
		g, err := p.start(s, r)
		if errors.Is(err, errNone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		programs = append(programs, g)
	}
	return programs, nil
}

// restart replaces a program that has done its work by a new one.
func (p *place) restart(programs []*program, at int, r *row) error {
	if err := programs[at].stop(); err != nil {
		return err
	}
	g, err := p.start(programs[at].side, r)
	if err == nil {
		programs[at] = g
	}
	return err
}

// calibrate finds the number of operations that takes the slowest side one round.
func (r *row) calibrate(programs []*program, round time.Duration) (times int, err error) {
	if r.Times > 0 {
		return r.Times, nil
	}
	of := max(r.Of, 1)
	for i, g := range programs {
		n, err := g.calibrate(of, round.Seconds())
		if err != nil {
			return 0, err
		}
		if i == 0 || n < times {
			times = n
		}
	}
	return max(times/of, 1) * of, nil
}

func (g *program) calibrate(of int, round float64) (int, error) {
	for n := of; n < 1<<32; n *= 2 {
		s, err := g.run(n)
		if err != nil {
			return 0, err
		}
		if s["wall"]*float64(n) > round/4 {
			return int(round / s["wall"]), nil
		}
	}
	return 0, fmt.Errorf("%s does nothing", g.side.name)
}

// quiet measures until no other process disturbs it. After four times it takes the measurement with
// the least disturbance, and counts it as noisy.
func (p *place) quiet(res *result, programs []*program, at int, limit float64) (best sample, err error) {
	least := math.Inf(1)
	for range 4 {
		if res.Row.Times > 0 && programs[at].used { // earlier work would count as memory
			if err := p.restart(programs, at, &res.Row); err != nil {
				return nil, err
			}
		}
		before := p.watch(programs[at])
		s, err := programs[at].run(res.Times)
		if err != nil {
			return nil, err
		}
		noise := p.watch(programs[at]).foreign(before)
		if noise < least {
			best, least = s, noise
		}
		if noise <= limit {
			return best, nil
		}
	}
	res.Noisy++
	return best, nil
}

func (res *result) sum() {
	for _, one := range res.Sides {
		one.Median = sample{}
		for name := range one.Samples[0] {
			one.Median[name] = spreadOf(one.Samples, func(_ int, s sample) float64 { return s[name] }).Median
		}
		if c := res.Sides["C"]; c != nil {
			one.Ratios = spreadOf(one.Samples, func(i int, s sample) float64 { return s["wall"] / c.Samples[i]["wall"] })
			one.CPU = spreadOf(one.Samples, func(i int, s sample) float64 { return s["cpu"] / c.Samples[i]["cpu"] })
		}
	}
}

func spreadOf(samples []sample, f func(round int, s sample) float64) *spread {
	var v []float64
	for i, s := range samples {
		v = append(v, f(i, s))
	}
	slices.Sort(v)
	return &spread{v[len(v)/4], v[len(v)/2], v[len(v)*3/4]}
}
