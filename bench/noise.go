// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// The kernel counts time in these units, on every Linux that Go supports.
const tick = time.Second / 100

// A watch has the time that the machine's processors were busy so far, and the time for this run.
type watch struct {
	at        time.Time
	busy, own time.Duration
}

func (p *place) watch(g *program) watch {
	pids := []int{os.Getpid(), g.cmd.Process.Pid}
	if p.redis != nil {
		pids = append(pids, p.redis.Process.Pid)
	}
	w := watch{at: time.Now(), busy: machineBusy()}
	for _, pid := range pids {
		w.own += processBusy(pid)
	}
	return w
}

// foreign returns the share of the machine that other processes used since an earlier watch.
func (w watch) foreign(before watch) float64 {
	others := (w.busy - before.busy) - (w.own - before.own)
	return others.Seconds() / (w.at.Sub(before.at).Seconds() * float64(runtime.NumCPU()))
}

// machineBusy is user, nice, system, irq, softirq and steal of /proc/stat.
func machineBusy() (busy time.Duration) {
	data, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(data), "\n")
	for i, field := range strings.Fields(line) {
		switch i {
		case 1, 2, 3, 6, 7, 8:
			busy += ticks(field)
		}
	}
	return busy
}

// processBusy is utime and stime of /proc/pid/stat, which follow the name in brackets.
func processBusy(pid int) time.Duration {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	return ticks(fields[11]) + ticks(fields[12])
}

func ticks(s string) time.Duration {
	var n int64
	_, _ = fmt.Sscan(s, &n)
	return time.Duration(n) * tick
}
