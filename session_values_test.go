// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
	"weak"

	"sslctx"
	"sslctx/internal/ossltest"
)

type valueKey struct{}

// TestExData: values are the session's and not the handle's, a copy begins with those of the original, and nothing
// is left of what is gone.
func TestExData(t *testing.T) {
	noQueue(t)
	base := sslctx.LiveValues()
	wantValues := func(want int) {
		t.Helper()
		if got := ossltest.Settle(sslctx.LiveValues, base+want); got != base+want {
			t.Errorf("%d sessions have values, want %d", got-base, want)
		}
	}
	s := newSession(t, "id")
	if v := s.ExData(valueKey{}); v != nil {
		t.Errorf("a new session has %v", v)
	}
	must(t, s.SetExData(valueKey{}, nil)) // nothing to remove, nothing to keep
	wantValues(0)
	must(t, s.SetExData(valueKey{}, "mine"))
	must(t, s.SetExData("key", 1))
	must(t, s.SetExData("key", 2))
	if s.ExData(valueKey{}) != "mine" || s.ExData("key") != 2 || s.ExData("no") != nil || s.ExData(nil) != nil ||
		s.ExData([]int{}) != nil {
		t.Errorf("values are %v, %v", s.ExData(valueKey{}), s.ExData("key"))
	}
	wantValues(1)

	d, err := s.Dup()
	must(t, err)
	wantValues(2)
	must(t, d.SetExData("key", 3))
	must(t, d.SetExData(valueKey{}, nil))
	if s.ExData("key") != 2 || s.ExData(valueKey{}) != "mine" || d.ExData("key") != 3 || d.ExData(valueKey{}) != nil {
		t.Error("a copy shares what was set later")
	}
	must(t, d.Close())
	wantValues(1)

	// In the cache, without a handle, and found again.
	c := newContext(t, sslctx.TLSMethod)
	add(t, c, s)
	must(t, s.SetExData("key", 4)) // a published session can be given one
	must(t, s.Close())
	wantValues(1)
	found, err := c.Sessions()
	must(t, err)
	if len(found) != 1 || found[0].ExData("key") != 4 {
		t.Errorf("found %v", found)
	}
	must(t, found[0].Close())
	must(t, c.FlushSessions(time.Time{}))
	wantValues(0)

	// A call without memory leaves no values. tests/faults makes all calls fail, and cannot see this.
	s = newSession(t, "id")
	for nth := 1; ; nth++ {
		stop := ossltest.Failing{Nth: nth}.Fail()
		err := s.SetExData(valueKey{}, 1)
		stop()
		if err == nil {
			break
		}
		wantValues(0)
	}
	wantValues(1)
	must(t, s.Close())
	wantValues(0)
}

// TestExDataOfReplacedSession: libssl frees what is replaced under the lock of its cache.
func TestExDataOfReplacedSession(t *testing.T) {
	base := sslctx.LiveValues()
	c := newContext(t, sslctx.TLSMethod)
	_, err := c.SetCacheSize(3)
	must(t, err)
	for i := range 20 {
		s := newSession(t, fmt.Sprint("id", i/2)) // each is replaced once, then evicted
		must(t, s.SetExData(valueKey{}, i))
		add(t, c, s)
		must(t, s.Close())
	}
	if n := sslctx.LiveValues() - base; n < 2 || n > 3 {
		t.Errorf("%d sessions have values", n)
	}
	must(t, c.Close())
	if n := sslctx.LiveValues() - base; n != 0 {
		t.Errorf("%d sessions have values after the end", n)
	}
}

// TestExDataFollowsCopies that libssl makes by itself, and those that the binding makes in place of an object.
func TestExDataFollowsCopies(t *testing.T) {
	noQueue(t)
	base := sslctx.LiveValues()
	t.Cleanup(func() {
		if n := ossltest.Settle(sslctx.LiveValues, base); n != base {
			t.Errorf("%d sessions have values after the end", n-base)
		}
	})
	e := newEnds(t, sslctx.VersionTLS13)
	_, client := e.connect(t, nil)
	s := sessionOf(t, client)
	must(t, s.SetExData(valueKey{}, "mine"))
	_, client = e.connect(t, s)
	if next := sessionOf(t, client); next.Same(s) || next.ExData(valueKey{}) != "mine" {
		t.Errorf("the next session has %v", next.ExData(valueKey{}))
	}

	// Offered to another context: a copy.
	other := newEnds(t, sslctx.VersionTLS13)
	end, _ := tcpPair(t)
	c, err := sslctx.Client(end, other.client)
	must(t, err)
	must(t, c.AcceptAnyName())
	defer c.Close()
	must(t, c.SetSession(s))
	if offered := sessionOf(t, c); offered.Same(s) || offered.ExData(valueKey{}) != "mine" {
		t.Errorf("the offered copy has %v", offered.ExData(valueKey{}))
	}

	// A ticket and no ID: a copy by DER.
	d, err := s.Dup()
	must(t, err)
	defer d.Close()
	must(t, d.SetID(nil))
	must(t, c.SetSession(d))
	if offered := sessionOf(t, c); offered.Same(d) || offered.ExData(valueKey{}) != "mine" {
		t.Errorf("the copy by DER has %v", offered.ExData(valueKey{}))
	}
}

type linked struct {
	M map[string][]*struct{ C chan *sslctx.Conn }
}

type recursive struct {
	Next *recursive
	All  map[int]recursive
}

type behind struct{ Any any }

// TestExDataRefusesCycles: a type that leads to a handle would keep the session alive for ever.
func TestExDataRefusesCycles(t *testing.T) {
	noQueue(t)
	s := newSession(t, "id")
	for _, v := range []any{s, *new(*sslctx.Session), &s, []*sslctx.Session{s}, newContext(t, sslctx.TLSMethod), linked{}, &linked{},
		sslctx.Dialer{}, func() any { return map[*sslctx.Conn]int{} }()} {
		wantArgument(t, s.SetExData(valueKey{}, v), "value")
	}
	wantArgument(t, s.SetExData(s, 1), "key")
	wantArgument(t, s.SetExData(nil, 1), "key")
	wantArgument(t, s.SetExData([]int{}, 1), "key")
	wantArgument(t, s.SetExData(behind{[]int{}}, 1), "key")
	for _, v := range []any{1, "text", []byte{1}, &recursive{}, map[string]any{}, t, error(nil), behind{}, sslctx.Secret{}} {
		must(t, s.SetExData(valueKey{}, v))
	}
	if n := sslctx.LiveValues(); n == 0 {
		t.Error("no session has values")
	}
}

// TestExDataHoldsNoHandle: a session with a value is collected when it is dropped, and then the value is; and a
// cycle behind an interface ends with Close.
func TestExDataHoldsNoHandle(t *testing.T) {
	base, sessions := sslctx.LiveValues(), ossltest.LiveSessions()
	value := func() weak.Pointer[[100]byte] {
		s, err := sslctx.NewSession()
		must(t, err)
		v := new([100]byte)
		must(t, s.SetExData(valueKey{}, v))
		return weak.Make(v)
	}()
	if n := ossltest.Settle(sslctx.LiveValues, base); n != base || ossltest.LiveSessions() > sessions {
		t.Errorf("%d sessions, %d with values are alive", ossltest.LiveSessions()-sessions, n-base)
	}
	runtime.GC()
	if value.Value() != nil {
		t.Error("the value is alive")
	}

	s, err := sslctx.NewSession()
	must(t, err)
	b := &behind{s}
	must(t, s.SetExData(valueKey{}, b))
	cycle := weak.Make(b)
	must(t, s.Close())
	s, b = nil, nil
	runtime.GC()
	if n := sslctx.LiveValues(); n != base || cycle.Value() != nil {
		t.Errorf("%d sessions with values after Close", n-base)
	}
}

// TestExDataAtOnce: values, copies and connections from many goroutines; the same session is offered to two
// contexts, of which one has a copy. TestMain counts what is left.
func TestExDataAtOnce(t *testing.T) {
	e, other := newEnds(t, sslctx.VersionTLS13), newEnds(t, sslctx.VersionTLS13)
	_, client := e.connect(t, nil)
	s := sessionOf(t, client)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 100 {
				if err := s.SetExData(g, i); err != nil || s.ExData(g) != i {
					t.Errorf("%v, %v", s.ExData(g), err)
				}
				d, err := s.Dup()
				must(t, err)
				if d.ExData(g) != i {
					t.Errorf("the copy has %v", d.ExData(g))
				}
				must(t, d.Close())
			}
		})
		wg.Go(func() {
			for range 50 {
				end, far := tcpPair(t)
				c, err := sslctx.Client(end, other.client)
				must(t, err)
				must(t, c.AcceptAnyName())
				must(t, c.SetSession(s))
				_, _ = c.Abort(), far.Close()
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			e.connect(t, s)
		}
	})
	wg.Wait()
}
