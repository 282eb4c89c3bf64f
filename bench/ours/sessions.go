// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"sslctx"
	"sslctx/bench/side"
)

// cache has contexts, and the sessions that each goroutine adds to them.
type cache struct {
	contexts []*sslctx.Context
	sessions [][]*sslctx.Session
	batch    int
	next     int // for evict
	hears    bool
	heard    int
}

func newCache(a side.Args) (*cache, error) {
	c := &cache{batch: a.Int("batch", 1), hears: a.Int("hear", 0) > 0}
	for range a.Int("contexts", 1) {
		ctx, err := newContext()
		if err != nil {
			return nil, err
		}
		if c.hears {
			if err := ctx.SetRemoveSessionCallback(c.hear); err != nil {
				return nil, err
			}
		}
		c.contexts = append(c.contexts, ctx)
	}
	n := a.Int("N", 1)
	for i := range a.Int("threads", 1) {
		sessions, err := newSessions(i*n, n)
		if err != nil {
			return nil, err
		}
		c.sessions = append(c.sessions, sessions)
	}
	return c, nil
}

func newContext() (*sslctx.Context, error) {
	ctx, err := sslctx.NewContext(sslctx.TLSMethod)
	if err != nil {
		return nil, err
	}
	_, err = ctx.SetCacheSize(0)
	return ctx, err
}

func newSessions(first, n int) ([]*sslctx.Session, error) {
	sessions := make([]*sslctx.Session, n)
	for i := range sessions {
		var err error
		if sessions[i], err = newSession(first + i); err != nil {
			return nil, err
		}
	}
	return sessions, nil
}

func newSession(i int) (*sslctx.Session, error) {
	s, err := sslctx.NewSession()
	if err != nil {
		return nil, err
	}
	return s, s.SetID(binary.NativeEndian.AppendUint64(nil, uint64(i)))
}

// hear is the hook for a removed session.
func (c *cache) hear(s *sslctx.Session) {
	if !s.IsResumable() {
		c.heard++
	}
	_ = s.Close()
}

// addRemove makes n pairs: each goroutine adds all its sessions and removes them, several times.
func addRemove(a side.Args) (side.Work, error) {
	c, err := newCache(a)
	if err != nil {
		return nil, err
	}
	return func(n int, _ *side.Sample) error {
		times := n / len(c.sessions[0])
		if len(c.sessions) == 1 {
			heard := c.heard
			if err := c.pairs(0, times); err != nil || !c.hears || c.heard == heard+n {
				return err
			}
			return fmt.Errorf("heard of %d sessions of %d", c.heard-heard, n)
		}
		return side.Together(len(c.sessions), func(i int) error { return c.pairs(i, times) })
	}, nil
}

func (c *cache) pairs(i, times int) error {
	ctx, sessions := c.contexts[i%len(c.contexts)], c.sessions[i]
	done := 0
	for range times {
		if c.batch > 1 {
			done += c.inBatches(ctx.AddSessions, sessions) + c.inBatches(ctx.RemoveSessions, sessions)
			continue
		}
		for _, s := range sessions {
			if added, _ := ctx.AddSession(s); added {
				done++
			}
		}
		for _, s := range sessions {
			if removed, _ := ctx.RemoveSession(s); removed {
				done++
			}
		}
	}
	if want := 2 * times * len(sessions); done != want {
		return fmt.Errorf("%d calls of %d returned true", done, want)
	}
	return nil
}

func (c *cache) inBatches(call func([]*sslctx.Session) ([]bool, error), sessions []*sslctx.Session) (done int) {
	for part := range slices.Chunk(sessions, c.batch) {
		results, _ := call(part)
		for _, ok := range results {
			if ok {
				done++
			}
		}
	}
	return done
}

// evict adds to a full cache, which holds half of the sessions: each addition evicts the oldest.
func evict(a side.Args) (side.Work, error) {
	c, err := newCache(a)
	if err != nil {
		return nil, err
	}
	ctx, sessions := c.contexts[0], c.sessions[0]
	if _, err := ctx.SetCacheSize(len(sessions) / 2); err != nil {
		return nil, err
	}
	return func(n int, _ *side.Sample) error {
		for range n {
			if added, err := ctx.AddSession(sessions[c.next]); !added {
				return fmt.Errorf("not added: %w", err)
			}
			c.next = (c.next + 1) % len(sessions)
		}
		return nil
	}, nil
}

// flush flushes a cache with all sessions. The clock does not run while it adds them.
func flush(a side.Args) (side.Work, error) {
	c, err := newCache(a)
	if err != nil {
		return nil, err
	}
	ctx, sessions := c.contexts[0], c.sessions[0]
	return func(n int, s *side.Sample) error {
		for range n / len(sessions) {
			s.Off()
			if _, err := ctx.AddSessions(sessions); err != nil {
				return err
			}
			s.On()
			if err := ctx.FlushSessions(time.Unix(1<<33, 0)); err != nil {
				return err
			}
			if left := ctx.CacheStats().Number; left != 0 {
				return fmt.Errorf("%d are left", left)
			}
		}
		return nil
	}, nil
}

func stats(a side.Args) (side.Work, error) {
	c, err := newCache(a)
	if err != nil {
		return nil, err
	}
	return func(n int, _ *side.Sample) error {
		for range n {
			if stats := c.contexts[0].CacheStats(); stats.Number != 0 {
				return fmt.Errorf("%+v", stats)
			}
		}
		return nil
	}, nil
}

func newClose(side.Args) (side.Work, error) {
	return func(n int, _ *side.Sample) error {
		for range n {
			s, err := sslctx.NewSession()
			if err != nil {
				return err
			}
			_ = s.Close()
		}
		return nil
	}, nil
}

func parse(a side.Args) ([]byte, *sslctx.Session, error) {
	der := a.File(a.Get("of", "server") + ".der")
	s, err := sslctx.ParseSession(der)
	return der, s, err
}

func timeout(a side.Args) (side.Work, error) {
	_, s, err := parse(a)
	return func(n int, _ *side.Sample) error {
		for range n {
			if s.Timeout() <= 0 {
				return fmt.Errorf("%v", s.Timeout())
			}
		}
		return nil
	}, err
}

func derWrite(a side.Args) (side.Work, error) {
	_, s, err := parse(a)
	return func(n int, _ *side.Sample) error {
		for range n {
			if _, err := s.Bytes(); err != nil {
				return err
			}
		}
		return nil
	}, err
}

func derRead(a side.Args) (side.Work, error) {
	der, _, err := parse(a)
	return func(n int, _ *side.Sample) error {
		for range n {
			s, err := sslctx.ParseSession(der)
			if err != nil {
				return err
			}
			_ = s.Close()
		}
		return nil
	}, err
}

// memory leaves n sessions in a cache, without other references, and reports the memory of each:
// bytes in all, and Go's heap.
func memory(side.Args) (side.Work, error) {
	return func(n int, s *side.Sample) error {
		ctx, err := newContext()
		if err != nil {
			return err
		}
		s.Off()
		before, heapBefore := resident(), heap()
		s.On()
		key := make([]byte, 48)
		for i := range n {
			s, err := newSession(i)
			if err != nil {
				return err
			}
			if err := s.SetMasterKey(key); err != nil {
				return err
			}
			if added, err := ctx.AddSession(s); !added {
				return err
			}
			_ = s.Close()
		}
		s.Off()
		s.Set("heap", (heap()-heapBefore)/float64(n))
		s.Set("bytes", (resident()-before)/float64(n))
		s.On()
		return ctx.Close()
	}, nil
}

// heap returns the size of Go's heap after a collection.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func resident() float64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	var size, pages float64
	if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
		panic(err)
	}
	return pages * float64(os.Getpagesize())
}

// handles measures n collections while N handles are alive, and reports the memory of each with its
// C session.
func handles(a side.Args) (side.Work, error) {
	count := a.Int("N", 1)
	before, heapBefore := resident(), heap()
	sessions, err := newSessions(0, count)
	if err != nil {
		return nil, err
	}
	bytes, goBytes := (resident()-before)/float64(max(count, 1)), (heap()-heapBefore)/float64(max(count, 1))
	return func(n int, s *side.Sample) error {
		var from, to runtime.MemStats
		runtime.ReadMemStats(&from)
		for range n {
			runtime.GC()
		}
		runtime.ReadMemStats(&to)
		if count > 0 {
			s.Set("heap", goBytes)
			s.Set("bytes", bytes)
		}
		s.Set("pause", float64(to.PauseTotalNs-from.PauseTotalNs)/1e9/float64(n))
		runtime.KeepAlive(sessions)
		return nil
	}, nil
}
