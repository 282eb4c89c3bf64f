// SPDX-License-Identifier: Apache-2.0

// Package side has the common code of the measured programs.
//
//	program row key=value ...
//
// prints "ready" when it has prepared the row, or "none" when it has no such row. Then each line of
// standard input is a number of operations. The program answers with their cost: "wall=seconds
// cpu=seconds ...". It ends with its input.
package side

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Args are a row's key=value.
type Args map[string]string

// Get returns the value of a key, or a default.
func (a Args) Get(key, otherwise string) string {
	if v, ok := a[key]; ok {
		return v
	}
	return otherwise
}

// Int is Get for a number.
func (a Args) Int(key string, otherwise int) int {
	n, err := strconv.Atoi(a.Get(key, strconv.Itoa(otherwise)))
	if err != nil {
		panic(err)
	}
	return n
}

// File reads a file of the folder that the harness prepared.
func (a Args) File(name string) []byte {
	data, err := os.ReadFile(a.Get("dir", ".") + "/" + name)
	if err != nil {
		panic(err)
	}
	return data
}

// Work does an operation n times.
type Work func(n int, s *Sample) error

// Rows has a function for each row, which prepares its work. If it returns nil, the program does
// not have the row.
type Rows map[string]func(Args) (Work, error)

// A Sample has the cost of work. The clock runs from the request to the answer, unless the work
// stops it.
type Sample struct {
	wall, cpu      time.Duration
	calls, mallocs float64
	from           mark
	values         strings.Builder
}

type mark struct {
	wall           time.Time
	cpu            time.Duration
	calls, mallocs float64
}

// count reads the values that take time: ReadMemStats stops the world.
func (m *mark) count() {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	m.calls, m.mallocs = float64(runtime.NumCgoCall()), float64(stats.Mallocs)
}

func (m *mark) time() {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	m.wall, m.cpu = time.Now(), time.Duration(used.Utime.Nano()+used.Stime.Nano())
}

// On starts the clock.
func (s *Sample) On() {
	s.from.count()
	s.from.time()
}

// Off stops it.
func (s *Sample) Off() {
	var to mark
	to.time()
	to.count()
	s.wall += to.wall.Sub(s.from.wall)
	s.cpu += to.cpu - s.from.cpu
	s.calls += to.calls - s.from.calls
	s.mallocs += to.mallocs - s.from.mallocs
}

// Set adds a value to the answer.
func (s *Sample) Set(name string, value float64) { fmt.Fprintf(&s.values, "%s=%g ", name, value) }

// Main runs the program.
func Main(rows Rows) {
	work, args, err := prepare(rows)
	if err != nil {
		fail(err)
	}
	if work == nil {
		fmt.Println("none")
		return
	}
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		n, err := strconv.Atoi(in.Text())
		if err != nil {
			fail(err)
		}
		settle(args.Get("sysmon", ""))
		var s Sample
		s.On()
		if err := work(n, &s); err != nil {
			fail(err)
		}
		s.Off()
		fmt.Printf("%swall=%.9f cpu=%.9f calls=%g mallocs=%g\n", s.values.String(), s.wall.Seconds(), s.cpu.Seconds(),
			s.calls/float64(n), s.mallocs/float64(n))
	}
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", strings.Join(os.Args, " "), err)
	os.Exit(1)
}

func prepare(rows Rows) (Work, Args, error) {
	args := Args{}
	for _, a := range os.Args[min(2, len(os.Args)):] {
		key, value, _ := strings.Cut(a, "=")
		args[key] = value
	}
	if len(os.Args) < 2 || rows[os.Args[1]] == nil {
		return nil, args, nil
	}
	work, err := rows[os.Args[1]](args)
	return work, args, err
}

// settle brings Go's sysmon into one of its two states. Sysmon looks for goroutines that are in C
// for long. In the relaxed state it looks every 10 ms. In the active state it looks every 20 µs,
// and then takes their processors away. It relaxes when nothing is in C for a while, and wakes up
// after the process has slept. Without settle the state in a measurement would depend on the
// measurements before.
func settle(state string) {
	switch state {
	case "relaxed":
		done := make(chan struct{})
		for range runtime.GOMAXPROCS(0) {
			go func() {
				for end := time.Now().Add(60 * time.Millisecond); time.Now().Before(end); {
				}
				done <- struct{}{}
			}()
		}
		for range runtime.GOMAXPROCS(0) {
			<-done
		}
	case "active":
		time.Sleep(30 * time.Millisecond)
	}
}
