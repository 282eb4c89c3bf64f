// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// A row is an operation that all sides do.
type row struct {
	Group string   `json:"group"`
	Title string   `json:"title"`
	Work  string   `json:"work"` // its name in the programs
	Args  []string `json:"args"`

	// Cores is the number of processors that the programs may use; 0 means all.
	Cores int `json:"cores,omitempty"`

	// Times is a fixed number of operations. A program does them once, because they measure its
	// memory. Otherwise the number is a multiple of Of.
	Times int `json:"-"`
	Of    int `json:"-"`
}

// ID is the name of a row in Go's benchmark format.
func (r *row) ID() string {
	id := strings.Join(append([]string{r.Work}, r.Args...), "/")
	if r.Cores > 0 {
		id += fmt.Sprintf("/cores=%d", r.Cores)
	}
	return id
}

// allRows are in the order of the table.
func allRows() (rows []row) {
	rows = append(rows, cacheRows()...)
	rows = append(rows, sessionRows()...)
	rows = append(rows, handshakeRows()...)
	rows = append(rows, storeRows()...)
	return append(rows, streamRows()...)
}

func cacheRows() (rows []row) {
	const group = "Cache"
	for _, batch := range []int{1, 64} {
		for _, n := range []int{1, 1000, 20_000, 1_000_000} {
			if batch > n {
				continue
			}
			rows = append(rows, row{Group: group, Title: fmt.Sprintf("add and remove, %s cached%s", count(n), batches(batch)),
				Work: "add-remove", Args: args("N", n, "batch", batch), Cores: 1, Of: n})
		}
	}
	for _, contexts := range []int{1, 2} {
		for _, batch := range []int{1, 64} {
			rows = append(rows, row{Group: group,
				Title: fmt.Sprintf("add and remove, 1,000 cached, 2 threads on %s%s", plural(contexts, "context"), batches(batch)),
				Work:  "add-remove", Args: args("N", 1000, "batch", batch, "threads", 2, "contexts", contexts), Of: 1000})
		}
	}
	return append(rows,
		row{Group: group, Title: "add and remove, 1,000 cached, a callback hears of each removal", Work: "add-remove",
			Args: args("N", 1000, "hear", 1), Cores: 1, Of: 1000},
		row{Group: group, Title: "add to a full cache of 10,000, which evicts", Work: "evict", Args: args("N", 20_000), Cores: 1},
		row{Group: group, Title: "flush 100,000 (time of one)", Work: "flush", Args: args("N", 100_000), Cores: 1, Of: 100_000},
		row{Group: group, Title: "all twelve counters", Work: "stats", Cores: 1},
	)
}

func sessionRows() []row {
	const group = "Sessions"
	return []row{
		{Group: group, Title: "make and close", Work: "new-close", Cores: 1},
		{Group: group, Title: "read an attribute (timeout)", Work: "timeout", Cores: 1},
		{Group: group, Title: "write DER, a server's", Work: "der-write", Args: args("of", "server"), Cores: 1},
		{Group: group, Title: "write DER, a client's", Work: "der-write", Args: args("of", "client"), Cores: 1},
		{Group: group, Title: "read DER, a server's", Work: "der-read", Args: args("of", "server"), Cores: 1},
		{Group: group, Title: "read DER, a client's (certificate)", Work: "der-read", Args: args("of", "client"), Cores: 1},
		{Group: group, Title: "make, add and forget, 1,000,000", Work: "memory", Times: 1_000_000},
		{Group: group, Title: "collect garbage, no handle alive", Work: "handles", Args: args("N", 0), Times: 5},
		{Group: group, Title: "collect garbage, 1,000,000 handles alive (memory: with their C sessions)", Work: "handles", Args: args("N", 1_000_000), Times: 5},
	}
}

func handshakeRows() (rows []row) {
	for _, key := range []string{"ecdsa", "rsa"} {
		for _, kind := range []struct{ version, resume, title string }{
			{"1.2", "full", "full"}, {"1.2", "id", "resumed by ID"}, {"1.2", "ticket", "resumed by ticket"},
			{"1.3", "full", "full"}, {"1.3", "ticket", "resumed"},
		} {
			for _, at := range []struct {
				workers, cores int
				title          string
			}{{1, 0, "1 client"}, {4, 1, "4 clients, 1 core"}, {4, 0, "4 clients"}} {
				rows = append(rows, row{Group: "Handshakes",
					Title: fmt.Sprintf("TLS %s, %s, %s, %s", kind.version, strings.ToUpper(key), kind.title, at.title),
					Work:  "handshake", Args: args("version", kind.version, "key", key, "resume", kind.resume, "workers", at.workers),
					Cores: at.cores})
			}
		}
	}
	return rows
}

func storeRows() []row {
	const group = "Hooks and stores"
	handshake := func(title string, a ...any) row {
		return row{Group: group, Title: title, Work: "handshake", Args: append(args("version", "1.2", "key", "ecdsa"), args(a...)...)}
	}
	return []row{
		handshake("TLS 1.2, full, a callback hears of each session", "resume", "full", "hear", 1),
		handshake("TLS 1.2, resumed from memory, get callback", "resume", "memory", "by", "callback"),
		handshake("TLS 1.2, resumed from memory, lookup; in C the get callback", "resume", "memory", "by", "lookup"),
		handshake("TLS 1.2, resumed from Redis, get callback", "resume", "redis", "by", "callback"),
		handshake("TLS 1.2, resumed from Redis, lookup; in C the get callback", "resume", "redis", "by", "lookup"),
		handshake("TLS 1.2, resumed from Redis, lookup, 4 clients; in C the get callback", "resume", "redis", "by", "lookup", "workers", 4),
	}
}

func streamRows() (rows []row) {
	for _, cores := range []int{1, 0} {
		where := map[int]string{1: ", 1 core"}[cores]
		for _, size := range []int{64, 1 << 10, 16 << 10, 1 << 20} {
			rows = append(rows, row{Group: "Data", Title: fmt.Sprintf("TLS 1.3, write %s%s", bytesOf(size), where), Work: "stream",
				Args: args("version", "1.3", "size", size), Cores: cores})
		}
		rows = append(rows, row{Group: "Data", Title: "TLS 1.3, a byte there and one back" + where, Work: "ping-pong",
			Args: args("version", "1.3"), Cores: cores})
	}
	return rows
}

func args(pairs ...any) (a []string) {
	for i := 0; i < len(pairs); i += 2 {
		a = append(a, fmt.Sprintf("%v=%v", pairs[i], pairs[i+1]))
	}
	return a
}

func batches(n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf(", batches of %d", n)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// count writes 20000 as 20,000.
func count(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func bytesOf(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}
