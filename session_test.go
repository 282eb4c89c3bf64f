// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

func TestNewSession(t *testing.T) {
	noQueue(t)
	s, err := sslctx.NewSession()
	must(t, err)
	defer s.Close()
	if d := time.Since(s.Time()); d < 0 || d > time.Minute {
		t.Errorf("Time is %v ago", d)
	}
	if s.Timeout() != 304*time.Second || s.ProtocolVersion() != sslctx.VersionAny || s.IsResumable() ||
		s.HasTicket() || len(s.ID()) != 0 || len(s.IDContext()) != 0 || s.Cipher() != (sslctx.Cipher{}) ||
		s.TicketLifetimeHint() != 0 {
		t.Errorf("a new session is %v", s)
	}
}

func TestSessionSetters(t *testing.T) {
	noQueue(t)
	s := newSession(t, "")
	for n := range sslctx.MaxIDLength + 1 {
		id := bytes.Repeat([]byte{byte(n)}, n)
		must(t, s.SetID(id))
		must(t, s.SetIDContext(id))
		if !bytes.Equal(s.ID(), id) || !bytes.Equal(s.IDContext(), id) {
			t.Errorf("ID %x, ID context %x; want %x", s.ID(), s.IDContext(), id)
		}
	}
	at := time.Unix(1_000_000_000, 999_999_999)
	must(t, s.SetTime(at))
	if got := s.Time(); !got.Equal(at.Truncate(time.Second)) {
		t.Errorf("Time is %v", got)
	}
	must(t, s.SetTime(time.Unix(0, 0)))
	must(t, s.SetTimeout(1999*time.Millisecond))
	if got := s.Timeout(); got != time.Second {
		t.Errorf("Timeout is %v", got)
	}
	must(t, s.SetTimeout(1<<63-1))
	if got := s.Timeout(); got != 9223372036*time.Second {
		t.Errorf("the longest Timeout is %v", got)
	}
	must(t, s.SetProtocolVersion(sslctx.VersionTLS12))
	if got := s.ProtocolVersion(); got != sslctx.VersionTLS12 {
		t.Errorf("ProtocolVersion is %v", got)
	}
}

func TestSessionSettersRefuseBadArguments(t *testing.T) {
	noQueue(t)
	s := newSession(t, "id")
	long := make([]byte, sslctx.MaxIDLength+1)
	wantArgument(t, s.SetID(long), "id")
	wantArgument(t, s.SetIDContext(long), "id")
	wantArgument(t, s.SetTime(time.Unix(-1, 0)), "t")
	wantArgument(t, s.SetTime(time.Unix(18446744074, 0)), "t")
	wantArgument(t, s.SetTimeout(-1), "d")
	wantArgument(t, s.SetTimeout(1), "d") // 0 would be another timeout
	wantArgument(t, s.SetTimeout(time.Second-1), "d")
	wantArgument(t, s.SetProtocolVersion(1<<40), "v")
	if string(s.ID()) != "id" {
		t.Errorf("ID is %q after refused arguments", s.ID())
	}
}

// TestPublishedSession: if libssl has a session, its key cannot change, but its time and timeout
// can.
func TestPublishedSession(t *testing.T) {
	for name, publish := range map[string]func(*sslctx.Context, *sslctx.Session){
		"added": func(c *sslctx.Context, s *sslctx.Session) { add(t, c, s) },
		"removed, and heard of": func(c *sslctx.Context, s *sslctx.Session) {
			must(t, c.SetRemoveSessionCallback(func(s *sslctx.Session) { must(t, s.Close()) }))
			remove(t, c, s)
		},
		"batch added": func(c *sslctx.Context, s *sslctx.Session) {
			_, err := c.AddSessions([]*sslctx.Session{s})
			must(t, err)
		},
		"batch removed, and heard of": func(c *sslctx.Context, s *sslctx.Session) {
			must(t, c.SetRemoveSessionCallback(func(s *sslctx.Session) { must(t, s.Close()) }))
			_, err := c.RemoveSessions([]*sslctx.Session{s})
			must(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			noQueue(t)
			c, s := newContext(t, sslctx.TLSMethod), newSession(t, "id")
			publish(c, s)
			for what, err := range map[string]error{
				"SetID": s.SetID([]byte("x")), "SetIDContext": s.SetIDContext(nil),
				"SetProtocolVersion": s.SetProtocolVersion(sslctx.VersionTLS12),
			} {
				if !errors.Is(err, sslctx.ErrPublished) {
					t.Errorf("%s returns %v", what, err)
				}
			}
			must(t, s.SetTime(time.Unix(1000, 0)))
			must(t, s.SetTimeout(time.Minute))
			d, err := s.Dup()
			must(t, err)
			defer d.Close()
			must(t, d.SetID([]byte("x"))) // a copy is not published
			if d.Same(s) || string(s.ID()) != "id" {
				t.Error("the copy is the session")
			}
		})
	}
}

// established returns a client session of a real TLS 1.2 connection, and its master key as Print
// writes it.
func established(t *testing.T) (s *sslctx.Session, masterKey string) {
	t.Helper()
	s = clientSession(t, sslctx.VersionTLS12)
	var text bytes.Buffer
	must(t, s.Print(&text))
	_, rest, ok := strings.Cut(text.String(), "Master-Key: ")
	key, _, ok2 := strings.Cut(rest, "\n")
	if !ok || !ok2 || len(key) != 96 {
		t.Fatalf("Print has no master key:\n%s", &text)
	}
	return s, key
}

func TestCodecs(t *testing.T) {
	noQueue(t)
	s, _ := established(t)
	der, err := s.Bytes()
	must(t, err)
	again, err := sslctx.ParseSession(der)
	must(t, err)
	defer again.Close()
	der2, err := again.Bytes()
	must(t, err)
	if !bytes.Equal(der, der2) {
		t.Error("DER changes on its way through ParseSession and Bytes")
	}
	text, err := s.PEM()
	must(t, err)
	ofText, err := sslctx.ParseSessionPEM(append([]byte("anything before\n"), append(text, "\n \n"...)...))
	must(t, err)
	defer ofText.Close()
	if got, _ := ofText.Bytes(); !bytes.Equal(der, got) {
		t.Error("PEM changes the session")
	}
	block, _ := pem.Decode(text)
	if block.Type != "SSL SESSION PARAMETERS" || !bytes.Equal(block.Bytes, der) {
		t.Errorf("PEM is of type %q", block.Type)
	}
}

func TestCodecsRefuse(t *testing.T) {
	noQueue(t)
	s, _ := established(t)
	der, err := s.Bytes()
	must(t, err)
	text, err := s.PEM()
	must(t, err)

	for n := range len(der) {
		if got, err := sslctx.ParseSession(der[:n]); err == nil {
			t.Fatalf("%d of %d bytes are read as %v", n, len(der), got)
		}
	}
	_, err = sslctx.ParseSession(nil)
	wantArgument(t, err, "der")
	_, err = sslctx.ParseSession(append(bytes.Clone(der), 0))
	wantArgument(t, err, "der")
	_, err = sslctx.ParseSession(make([]byte, sslctx.MaxSessionSize+1))
	wantArgument(t, err, "der")

	longer := pem.EncodeToMemory(&pem.Block{Type: "SSL SESSION PARAMETERS", Bytes: append(bytes.Clone(der), 0)})
	for what, refused := range map[string][]byte{
		"empty": nil, "too long": append(bytes.Repeat([]byte{'\n'}, sslctx.MaxSessionSize), text...),
		"text after": append(bytes.Clone(text), "more"...), "two": append(bytes.Clone(text), text...), "longer": longer,
	} {
		_, err := sslctx.ParseSessionPEM(refused)
		t.Run(what, func(t *testing.T) { wantArgument(t, err, "text") })
	}
	_, err = sslctx.ParseSessionPEM([]byte("no PEM"))
	wantReason(t, err, sslctx.ReasonNoStartLine)
	_, err = sslctx.ParseSessionPEM([]byte("0 is how DER begins"))
	wantReason(t, err, sslctx.ReasonNoStartLine)
	encrypted := bytes.Replace(text, []byte("-----\n"),
		[]byte("-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n"), 1)
	_, err = sslctx.ParseSessionPEM(encrypted)
	wantNobodyAsked(t, err)
	empty := newSession(t, "id")
	if _, err := empty.Bytes(); err == nil {
		t.Error("a session without cipher is written")
	}
}

// TestWrongParser: if a program passes one form to the parser of the other, the error names the
// right parser.
func TestWrongParser(t *testing.T) {
	noQueue(t)
	s, _ := established(t)
	der, err := s.Bytes()
	must(t, err)
	text, err := s.PEM()
	must(t, err)
	for want, read := range map[string]func() (*sslctx.Session, error){
		"der is PEM, which ParseSessionPEM reads": func() (*sslctx.Session, error) {
			return sslctx.ParseSession(append([]byte("a comment\n"), text...))
		},
		"text is DER, which ParseSession reads": func() (*sslctx.Session, error) { return sslctx.ParseSessionPEM(der) },
	} {
		got, err := read()
		var a *sslctx.ArgumentError
		if got != nil || !errors.As(err, &a) || a.Arg+" "+a.Problem != want {
			t.Errorf("%v, %v; want: %s", got, err, want)
		}
	}
}

// TestOpenSSLReadsOurs: the openssl command reads our PEM and prints it, and we read its DER.
func TestOpenSSLReadsOurs(t *testing.T) {
	s, key := established(t)
	text, err := s.PEM()
	must(t, err)
	printed := openssl(t, text, "sess_id", "-noout", "-text")
	var ours bytes.Buffer
	must(t, s.Print(&ours))
	if !bytes.Contains(printed, []byte(key)) || strings.TrimSpace(string(printed)) != strings.TrimSpace(ours.String()) {
		t.Errorf("openssl sess_id prints\n%s\nwe print\n%s", printed, &ours)
	}
	der := openssl(t, text, "sess_id", "-outform", "DER")
	again, err := sslctx.ParseSession(der)
	must(t, err)
	defer again.Close()
	if !bytes.Equal(again.ID(), s.ID()) {
		t.Errorf("ID %x, want %x", again.ID(), s.ID())
	}
}

func openssl(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %v: %v", args, err)
	}
	return out
}

func TestStringOfClosedSession(t *testing.T) {
	s := newSession(t, "id")
	must(t, s.Close())
	if got := fmt.Sprint(s, (*sslctx.Session)(nil)); got != "Session(closed=true) Session(closed=true)" {
		t.Errorf("closed sessions print as %q", got)
	}
	slog.New(slog.NewTextHandler(io.Discard, nil)).Info("closed", "s", s)
}

func TestSame(t *testing.T) {
	a, b := newSession(t, "id"), newSession(t, "id")
	if !a.Same(a) || a.Same(b) || a.Same(nil) || (*sslctx.Session)(nil).Same(a) {
		t.Error("Same compares something other than objects")
	}
	must(t, b.Close())
	if a.Same(b) || b.Same(b) {
		t.Error("a closed session is the same as something")
	}
}

// TestHostileTimes: the author of a stored session chooses its time and timeout. The getters return
// libssl's values, as far as Go can express them, and no log breaks.
func TestHostileTimes(t *testing.T) {
	noQueue(t)
	wraps := ossltest.CompiledVersion() >= 0x30200000 // there libssl counts unsigned nanoseconds
	for _, n := range []int64{1, 9223372036, 9223372037, math.MaxInt64, -1, -9223372036, -9223372037, math.MinInt64} {
		der, err := asn1.Marshal(struct {
			Format, Version int
			Cipher, ID, Key []byte
			Time            int64 `asn1:"explicit,tag:1"`
			Timeout         int64 `asn1:"explicit,tag:2"`
		}{1, 0x0303, []byte{0xc0, 0x2f}, []byte("id"), make([]byte, 48), n, n})
		must(t, err)
		s, err := sslctx.ParseSession(der)
		must(t, err)
		has := n
		if wraps {
			has = int64(uint64(n) * 1e9 / 1e9)
		}
		want := time.Duration(has) * time.Second
		if has > math.MaxInt64/int64(time.Second) {
			want = math.MaxInt64
		} else if has < math.MinInt64/int64(time.Second) {
			want = math.MinInt64
		}
		if s.Timeout() != want {
			t.Errorf("timeout %d reads as %v, want %v", n, s.Timeout(), want)
		}
		const year1 = -62135596800 // a time.Time counts from there
		if at, want := s.Time(), min(max(has, math.MinInt64-year1), math.MaxInt64+year1); at.Unix() != want || at.Before(time.Unix(0, 0)) != (has < 0) {
			t.Errorf("time %d reads as %v, %d seconds; want %d", n, at, at.Unix(), want)
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "s", s)
		if !json.Valid(log.Bytes()) || strings.Contains(log.String(), "ERROR") {
			t.Errorf("time %d logs as %s", n, log.String())
		}
		if _, err := json.Marshal(s); err != nil {
			t.Errorf("time %d: %v", n, err)
		}
		must(t, s.Close())
	}
}

// TestFlushAtTheStart: the time 0 flushes all sessions. A fraction of a second does not count as 0.
func TestFlushAtTheStart(t *testing.T) {
	noQueue(t)
	c := newContext(t, sslctx.TLSMethod)
	add(t, c, newSession(t, "id"))
	wantArgument(t, c.FlushSessions(time.Unix(0, 1)), "at")
	if n := c.CacheStats().Number; n != 1 {
		t.Errorf("%d sessions are cached", n)
	}
	must(t, c.FlushSessions(time.Unix(0, 0)))
	if n := c.CacheStats().Number; n != 0 {
		t.Errorf("%d sessions are cached", n)
	}
}

// refused checks that c cannot add s while another cache holds it.
func refused(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
	t.Helper()
	if ok, err := c.AddSession(s); ok || !errors.Is(err, sslctx.ErrForeignContext) {
		t.Errorf("AddSession returns %v, %v", ok, err)
	}
	if all, err := c.AddSessions([]*sslctx.Session{s}); all != nil || !errors.Is(err, sslctx.ErrForeignContext) {
		t.Errorf("AddSessions returns %v, %v", all, err)
	}
}

// TestSessionMoves: a session may go into any cache while no other cache holds it, in whatever way
// it left that one.
func TestSessionMoves(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, c *sslctx.Context, s *sslctx.Session){
		"removed": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) { remove(t, c, s) },
		"flushed": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) { must(t, c.FlushSessions(time.Time{})) },
		"expired": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
			must(t, c.FlushSessions(time.Now().Add(time.Hour)))
		},
		"replaced": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) { add(t, c, newSession(t, string(s.ID()))) },
		"evicted": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
			_, err := c.SetCacheSize(1)
			must(t, err)
			add(t, c, newSession(t, "another"))
		},
		"closed": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) { must(t, c.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			noQueue(t)
			first, second := newContext(t, sslctx.TLSMethod), newContext(t, sslctx.TLSMethod)
			s := newSession(t, "id")
			add(t, first, s)
			other := inCache(t, first, "id") // another handle of the same session
			refused(t, second, s)
			refused(t, second, other)
			leave(t, first, s)
			if !add(t, second, s) || second.CacheStats().Number != 1 {
				t.Fatal("it is not added")
			}
			if add(t, second, other) {
				t.Error("the other handle does not know that it is there")
			}
			must(t, other.SetTimeout(time.Hour))
			must(t, s.SetExData(t, 1))
			if got := other.ExData(t); got != 1 || other.Timeout() != time.Hour {
				t.Errorf("the other handle has %v, %v", got, other.Timeout())
			}
			if name != "closed" {
				refused(t, first, s)
				refused(t, first, other)
				remove(t, second, other)
				if !add(t, first, s) {
					t.Error("it does not come back")
				}
				refused(t, second, other)
			}
		})
	}
}

// inCache returns a handle of the session in the cache that has the ID.
func inCache(t *testing.T, c *sslctx.Context, id string) *sslctx.Session {
	t.Helper()
	all, err := c.Sessions()
	must(t, err)
	var found *sslctx.Session
	for _, s := range all {
		t.Cleanup(func() { _ = s.Close() })
		if string(s.ID()) == id {
			found = s
		}
	}
	if found == nil {
		t.Fatalf("no session %q is cached", id)
	}
	return found
}

// TestSessionMovesOften: a session moves through many contexts that end, like those of a server
// that is often configured again. Nothing is left behind.
func TestSessionMovesOften(t *testing.T) {
	noQueue(t)
	s := newSession(t, "id")
	contexts, sessions := ossltest.LiveContexts(), ossltest.LiveSessions()
	for range 200 {
		c, err := sslctx.NewContext(sslctx.TLSMethod)
		must(t, err)
		if !add(t, c, s) {
			t.Fatal("it is not added")
		}
		must(t, s.SetTimeout(time.Hour))
		must(t, c.Close())
	}
	if n := ossltest.LiveContexts(); n > contexts {
		t.Errorf("%d contexts are alive, %d before", n, contexts)
	}
	if n := ossltest.LiveSessions(); n > sessions {
		t.Errorf("%d sessions are alive, %d before", n, sessions)
	}
	if n := sslctx.PlacementCount(s); n != 1 {
		t.Errorf("%d homes are remembered", n)
	}
	before := sslctx.MovedSessions()
	must(t, s.Close())
	if n := sslctx.MovedSessions(); n != before-1 {
		t.Errorf("%d sessions are remembered when one of %d is gone", n, before)
	}
}

// TestBatchMoves: one call adds sessions of several contexts to one context, or adds none of them.
func TestBatchMoves(t *testing.T) {
	noQueue(t)
	a, b, c := newContext(t, sslctx.TLSMethod), newContext(t, sslctx.TLSMethod), newContext(t, sslctx.TLSMethod)
	ofA, ofB, stays, fresh := newSession(t, "a"), newSession(t, "b"), newSession(t, "stays"), newSession(t, "fresh")
	add(t, a, ofA)
	add(t, b, ofB)
	add(t, b, stays)
	remove(t, a, ofA)
	remove(t, b, ofB)
	_, err := c.AddSessions([]*sslctx.Session{fresh, ofA, stays, ofB})
	if !errors.Is(err, sslctx.ErrForeignContext) || err.Error() != "AddSessions: sessions[2]: "+sslctx.ErrForeignContext.Error() {
		t.Errorf("AddSessions returns %v", err)
	}
	must(t, fresh.SetID([]byte("still")))
	if c.CacheStats().Number != 0 || !add(t, a, ofA) || !remove(t, a, ofA) {
		t.Error("the refused call changed something")
	}
	added, err := c.AddSessions([]*sslctx.Session{fresh, ofA, ofB, ofA})
	must(t, err)
	if n := c.CacheStats().Number; n != 3 || !added[0] || !added[1] || !added[2] || added[3] {
		t.Errorf("added %v, %d are cached", added, n)
	}
	noCipher := newSession(t, "n")
	must(t, noCipher.SetProtocolVersion(sslctx.VersionTLS12))
	remove(t, c, ofA)
	if _, err := a.AddSessions([]*sslctx.Session{ofA, noCipher}); !errors.Is(err, sslctx.ErrNoCipher) {
		t.Errorf("AddSessions returns %v", err)
	}
	must(t, noCipher.SetID([]byte("N")))
	if add(t, c, ofA); c.CacheStats().Number != 3 {
		t.Error("it does not come back")
	}
}

// TestRemoveLeavesFresh: the removal of a session that is in no cache only marks it. libssl keeps
// nothing of it.
func TestRemoveLeavesFresh(t *testing.T) {
	noQueue(t)
	first, second := newContext(t, sslctx.TLSMethod), newContext(t, sslctx.TLSMethod)
	s, other := newSession(t, "s"), newSession(t, "o")
	if remove(t, first, s) || s.IsResumable() {
		t.Error("RemoveSession found it, or did not mark it")
	}
	removed, err := first.RemoveSessions([]*sslctx.Session{s, other, s})
	must(t, err)
	if removed[0] || removed[1] || removed[2] || other.IsResumable() {
		t.Errorf("RemoveSessions returns %v", removed)
	}
	must(t, s.SetID([]byte("S")))
	must(t, other.SetHostname("a.example"))
	if !add(t, second, s) || !add(t, first, other) {
		t.Error("they are not added")
	}
	// A hook has a handle of its own.
	heard := newSession(t, "h")
	must(t, first.SetRemoveSessionCallback(func(s *sslctx.Session) { must(t, s.Close()) }))
	remove(t, first, heard)
	if err := heard.SetID([]byte("H")); !errors.Is(err, sslctx.ErrPublished) {
		t.Errorf("SetID returns %v", err)
	}
	if !add(t, second, heard) {
		t.Error("it is not added")
	}
}

// TestSessionOfSibling: a server with several names has full control over its caches. One context
// stores nothing, and another caches its sessions. The connection that made the session may still
// run, and end with an error.
func TestSessionOfSibling(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		must(t, e.server.SetIDContext([]byte("siblings")))
		_, err := e.server.SetOptions(sslctx.OpNoTicket)
		must(t, err)
		_, err = e.server.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternalStore)
		must(t, err)
		sibling := newContext(t, sslctx.TLSMethod)
		server, client := e.connect(t, nil)
		s := sessionOf(t, server)
		if !add(t, sibling, s) || sibling.CacheStats().Number != 1 {
			t.Fatal("it is not added")
		}
		refused(t, e.server, s)
		must(t, s.SetTimeout(time.Hour))
		must(t, server.Abort())
		must(t, client.Close())
		if s.IsResumable() || sibling.CacheStats().Number != 1 {
			t.Error("the end of the connection did not mark it, or removed it elsewhere")
		}
		again := inCache(t, sibling, string(s.ID()))
		if !again.Same(s) || add(t, sibling, again) {
			t.Error("the sibling has another")
		}
		must(t, sibling.FlushSessions(time.Time{}))
	})
}

// TestSessionMovesAtOnce: contexts compete for sessions, while connections, setters and removals
// use the same sessions.
func TestSessionMovesAtOnce(t *testing.T) {
	defer tlstest.Watchdog(time.Minute)()
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	contexts := []*sslctx.Context{e.server, newContext(t, sslctx.TLSMethod), newContext(t, sslctx.TLSMethod)}
	var sessions []*sslctx.Session
	for i := range 6 {
		s := newSession(t, string(rune('a'+i)))
		sessions = append(sessions, s)
	}
	for range 2 {
		server, client := e.connect(t, nil)
		sessions = append(sessions, sessionOf(t, server), sessionOf(t, server))
		defer client.Close()
		defer server.Abort()
	}
	for _, c := range contexts {
		_, err := c.SetCacheSize(3)
		must(t, err)
	}
	end := time.Now().Add(time.Second)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for time.Now().Before(end) {
				c, s := contexts[rand.IntN(3)], sessions[rand.IntN(len(sessions))]
				var err error
				switch rand.IntN(8) {
				case 0, 1, 2:
					_, err = c.AddSession(s)
				case 3:
					_, err = c.AddSessions([]*sslctx.Session{s, sessions[rand.IntN(len(sessions))]})
				case 4, 5:
					_, err = c.RemoveSession(s)
				case 6:
					err = s.SetTimeout(time.Duration(1+rand.IntN(1000)) * time.Second)
				case 7:
					err = s.SetExData(t, s.ID())
				}
				if err != nil && !errors.Is(err, sslctx.ErrForeignContext) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, c := range contexts {
		must(t, c.FlushSessions(time.Time{}))
		if n := c.CacheStats().Number; n != 0 {
			t.Errorf("%d sessions are cached after a flush", n)
		}
	}
}

// TestForeignKeepsSession: a session of a context of other code cannot move while that context
// exists, because its cache cannot be read.
func TestForeignKeepsSession(t *testing.T) {
	noQueue(t)
	theirs := ossltest.NewCtx()
	ours, err := sslctx.ContextFromPointer(theirs.Pointer(), nil)
	must(t, err)
	c := newContext(t, sslctx.TLSMethod)
	s := newSession(t, "id")
	add(t, ours, s)
	remove(t, ours, s)
	refused(t, c, s)
	must(t, ours.Close())
	refused(t, c, s)
	theirs.Free()
	if !add(t, c, s) {
		t.Error("it is not added when the context is gone")
	}
}

// TestConnKeepsContext: if only a connection holds a context, the context's cache still counts.
func TestConnKeepsContext(t *testing.T) {
	noQueue(t)
	c, other := newContext(t, sslctx.TLSMethod), newContext(t, sslctx.TLSMethod)
	end, peer := net.Pipe()
	defer peer.Close()
	conn, err := sslctx.Server(end, c)
	must(t, err)
	s := newSession(t, "id")
	add(t, c, s)
	must(t, c.Close())
	refused(t, other, s)
	must(t, conn.Close())
	if !add(t, other, s) {
		t.Error("it is not added when the context is gone")
	}
}

// TestStaleErrors: errors that other code left on the queue are not reported as the reason for a
// plain "no".
func TestStaleErrors(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := newContext(t, sslctx.TLSMethod)
	s, other := newSession(t, "id"), newSession(t, "other")
	add(t, c, s)
	ids := []*sslctx.Session{other, other}
	for name, call := range map[string]func() error{
		"AddSession":     func() error { _, err := c.AddSession(s); return err },
		"AddSessions":    func() error { _, err := c.AddSessions([]*sslctx.Session{s, s}); return err },
		"RemoveSession":  func() error { _, err := c.RemoveSession(other); return err },
		"RemoveSessions": func() error { _, err := c.RemoveSessions(ids); return err },
		"FlushSessions":  func() error { return c.FlushSessions(time.Unix(1, 0)) },
	} {
		ossltest.PutError()
		if err := call(); err != nil {
			t.Errorf("%s returns %v", name, err)
		}
		if code := ossltest.PeekError(); code != 0 {
			t.Errorf("%s leaves %#x on the queue", name, code)
		}
	}
}
