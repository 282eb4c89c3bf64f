// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"syscall"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/cwork"
)

// compare runs the same work of n operations in C and in Go in turns, and reports the median of the
// ratios of their times as x/C: other load on the machine meets both. cpu-x/C is the same of the CPU time
// of the process: with two ends at work they differ by how much of it is done at the same time.
func compare(b *testing.B, n int, inC, inGo func()) {
	b.Helper()
	b.ReportAllocs()
	inC() // the first round of each finds cold caches
	inGo()
	var ratios, cpuRatios, ns []float64
	for b.Loop() {
		start, cpuStart := time.Now(), cpuTime(b)
		inC()
		middle, cpuMiddle := time.Now(), cpuTime(b)
		inGo()
		end, cpuEnd := time.Now(), cpuTime(b)
		cpuRatios = append(cpuRatios, float64(cpuEnd-cpuMiddle)/float64(max(cpuMiddle-cpuStart, 1)))
		ratios = append(ratios, float64(end.Sub(middle))/float64(middle.Sub(start)))
		ns = append(ns, float64(end.Sub(middle))/float64(n))
	}
	b.ReportMetric(median(ratios), "x/C")
	b.ReportMetric(median(cpuRatios), "cpu-x/C")
	b.ReportMetric(median(ns), "go-ns")
	b.ReportMetric(0, "ns/op") // of a whole round: it says nothing
}

// cpuTime returns what all threads have used so far.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func benchSessions(b *testing.B, n int) (*sslctx.Context, []*sslctx.Session) {
	c := newContext(b, sslctx.TLSMethod)
	_, err := c.SetCacheSize(0)
	must(b, err)
	sessions := make([]*sslctx.Session, n)
	for i := range sessions {
		sessions[i], err = sslctx.NewSession()
		must(b, err)
		must(b, sessions[i].SetID(binary.NativeEndian.AppendUint64(nil, uint64(i))))
	}
	b.Cleanup(func() {
		for _, s := range sessions {
			_ = s.Close()
		}
	})
	return c, sessions
}

// BenchmarkAddRemove fills a cache with N sessions and empties it: x/C is of a pair of calls.
func BenchmarkAddRemove(b *testing.B) {
	for _, n := range []int{1, 1000, 20_000} {
		repeat := max(1, 1000/n) // a round is long enough to time
		for name, inGo := range map[string]func(c *sslctx.Context, s []*sslctx.Session){
			"one": func(c *sslctx.Context, sessions []*sslctx.Session) {
				for _, s := range sessions {
					_, _ = c.AddSession(s)
				}
				for _, s := range sessions {
					_, _ = c.RemoveSession(s)
				}
			},
			"batch64": func(c *sslctx.Context, sessions []*sslctx.Session) {
				for part := range slices.Chunk(sessions, 64) {
					_, _ = c.AddSessions(part)
				}
				for part := range slices.Chunk(sessions, 64) {
					_, _ = c.RemoveSessions(part)
				}
			},
		} {
			b.Run(fmt.Sprintf("%s/N=%d", name, n), func(b *testing.B) {
				c, sessions := benchSessions(b, n)
				w := cwork.New(n)
				defer w.Close()
				compare(b, n*repeat, func() {
					for range repeat {
						if got := w.AddRemove(); got != 2*n {
							b.Fatalf("%d of %d calls returned 1", got, 2*n)
						}
					}
				}, func() {
					for range repeat {
						inGo(c, sessions)
					}
				})
				if n := c.CacheStats().Number; n != 0 {
					b.Fatalf("%d sessions are left in the cache", n)
				}
			})
		}
	}
}

// BenchmarkRemoveHook fills and empties a cache whose removals a hook hears of, and looks at.
func BenchmarkRemoveHook(b *testing.B) {
	const n = 1000
	c, sessions := benchSessions(b, n)
	heard := 0
	must(b, c.SetRemoveSessionCallback(func(s *sslctx.Session) {
		if s.IsResumable() {
			b.Error("a removed session is resumable")
		}
		_ = s.Close()
		heard++
	}))
	w := cwork.New(n)
	defer w.Close()
	w.Hear()
	compare(b, n, func() { w.AddRemove() }, func() {
		for _, s := range sessions {
			_, _ = c.AddSession(s)
		}
		for _, s := range sessions {
			_, _ = c.RemoveSession(s)
		}
	})
	if heard == 0 {
		b.Error("nothing was heard of")
	}
}

// BenchmarkSession measures calls on a session that is nobody else's.
func BenchmarkSession(b *testing.B) {
	const n = 1000
	w := cwork.New(1)
	defer w.Close()
	fresh := newSession(b, "id")
	c := newContext(b, sslctx.TLSMethod)
	b.Run("NewClose", func(b *testing.B) {
		compare(b, n, func() { w.NewFree(n) }, func() {
			for range n {
				s, _ := sslctx.NewSession()
				_ = s.Close()
			}
		})
	})
	b.Run("Timeout", func(b *testing.B) {
		compare(b, n, func() { w.Timeout(n) }, func() {
			for range n {
				_ = fresh.Timeout()
			}
		})
	})
	b.Run("CacheStats", func(b *testing.B) {
		compare(b, n, func() { w.Stats(n) }, func() {
			for range n {
				_ = c.CacheStats()
			}
		})
	})
}

// BenchmarkDER writes and reads a server's session, and a client's, which has the server's certificate.
func BenchmarkDER(b *testing.B) {
	const n = 200
	w := cwork.New(1)
	defer w.Close()
	server, client := newEnds(b, sslctx.VersionTLS12).connect(b, nil)
	for name, conn := range map[string]*sslctx.Conn{"server": server, "client": client} {
		s := sessionOf(b, conn)
		der, err := s.Bytes()
		must(b, err)
		b.Run(name+"/Bytes", func(b *testing.B) {
			compare(b, n, func() { w.Write(der, n) }, func() {
				for range n {
					_, _ = s.Bytes()
				}
			})
		})
		b.Run(name+"/ParseSession", func(b *testing.B) {
			compare(b, n, func() { w.Parse(der, n) }, func() {
				for range n {
					s, _ := sslctx.ParseSession(der)
					_ = s.Close()
				}
			})
		})
	}
}

// BenchmarkEcho sends blocks there and back over loopback.
func BenchmarkEcho(b *testing.B) {
	for _, size := range []int{1, 1 << 10, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			server, client := newEnds(b, sslctx.VersionTLS13).connect(b, nil)
			go func() { _, _ = io.Copy(server, server) }()
			out, in := make([]byte, size), make([]byte, size)
			b.SetBytes(2 * int64(size))
			b.ReportAllocs()
			for b.Loop() {
				go func() { _, _ = client.Write(out) }()
				if _, err := io.ReadFull(client, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
