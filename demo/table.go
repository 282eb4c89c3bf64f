// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strconv"
	"time"
)

// values are the numbers that a row checks.
type values struct {
	ret     int // libssl's return value, none for void functions and connections
	cached  int
	hits    int
	misses  int
	evicted int
	reused  string
}

const none = -1

// The values of reused.
const (
	yes  = "yes"
	no   = "no"
	dash = "-" // no connection
)

const (
	green = "\x1b[32m"
	red   = "\x1b[31m"
	plain = "\x1b[0m"

	// rowFormat leaves six of 100 columns for the mark.
	rowFormat = "%2v  %-35s  %5s  %6v  %4v  %6v  %7v  %6s  %6s"
)

// A table prints rows as they come, and counts them.
type table struct {
	w      io.Writer
	colour bool

	rows, failed int
	number       int // of the last row under the head
}

// head begins a table.
func (t *table) head(title string, about ...string) {
	if t.rows > 0 {
		fmt.Fprintln(t.w)
	}
	t.number = 0
	fmt.Fprintln(t.w, title)
	for _, text := range about {
		fmt.Fprintln(t.w, text)
	}
	fmt.Fprintln(t.w)
	fmt.Fprintf(t.w, rowFormat+"\n", "", "step", "ret", "cached", "hits", "misses", "evicted", "reused", "time")
}

// row prints one row, and the values that differ from the expected ones. took is 0 if there was no
// handshake.
func (t *table) row(call string, got, want values, took time.Duration) {
	t.rows++
	t.number++
	mark := t.paint(green, "ok")
	if got != want {
		t.failed++
		mark = t.paint(red, "FAIL")
	}
	fmt.Fprintf(t.w, rowFormat+"  %s\n", t.number, call, number(got.ret), got.cached, got.hits, got.misses,
		got.evicted, got.reused, milliseconds(took), mark)
	t.differ("ret", number(want.ret), number(got.ret))
	t.differ("cached", number(want.cached), number(got.cached))
	t.differ("hits", number(want.hits), number(got.hits))
	t.differ("misses", number(want.misses), number(got.misses))
	t.differ("evicted", number(want.evicted), number(got.evicted))
	t.differ("reused", want.reused, got.reused)
}

func (t *table) differ(name, want, got string) {
	if want != got {
		fmt.Fprintf(t.w, "    %s\n", t.paint(red, fmt.Sprintf("%s: expected %s, got %s", name, want, got)))
	}
}

// sum prints the last line, and reports whether all rows were as expected.
func (t *table) sum() bool {
	if t.failed == 0 {
		fmt.Fprintf(t.w, "\n%d rows, %s\n", t.rows, t.paint(green, "all as expected"))
		return true
	}
	fmt.Fprintf(t.w, "\n%d rows, %s\n", t.rows, t.paint(red, fmt.Sprintf("%d not as expected", t.failed)))
	return false
}

func (t *table) paint(colour, text string) string {
	if !t.colour {
		return text
	}
	return colour + text + plain
}

func number(n int) string {
	if n == none {
		return "-"
	}
	return strconv.Itoa(n)
}

func milliseconds(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	ms := d.Seconds() * 1000
	if ms < 99.95 {
		return fmt.Sprintf("%.1fms", ms)
	}
	return fmt.Sprintf("%.0fms", ms)
}
