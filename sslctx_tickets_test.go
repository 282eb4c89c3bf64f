// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

// ticketOf reads the ticket from a session's DER: it is the field [10].
func ticketOf(t testing.TB, s *sslctx.Session) []byte {
	t.Helper()
	der, err := s.Bytes()
	must(t, err)
	var outer asn1.RawValue
	_, err = asn1.Unmarshal(der, &outer)
	must(t, err)
	for rest := outer.Bytes; len(rest) > 0; {
		var field asn1.RawValue
		rest, err = asn1.Unmarshal(rest, &field)
		must(t, err)
		if field.Class == asn1.ClassContextSpecific && field.Tag == 10 {
			var ticket []byte
			_, err = asn1.Unmarshal(field.Bytes, &ticket)
			must(t, err)
			return ticket
		}
	}
	return nil
}

// sameTrust makes another server with the same certificate.
func (e ends) sameTrust(t *testing.T, v sslctx.Version) ends {
	t.Helper()
	pair := testPair(t)
	other := newEnds(t, v)
	for _, c := range []*sslctx.Context{e.server, other.server} {
		must(t, c.UseKeyPair(pair.Cert, pair.Key))
	}
	must(t, e.client.TrustCertificates(pair.Cert))
	return ends{other.server, e.client}
}

// offer connects with a session, which may be nil, ends the connection without error, and returns
// the client's session.
func (e ends) offer(t *testing.T, offer *sslctx.Session) (got *sslctx.Session, reused bool) {
	t.Helper()
	server, client := e.connect(t, offer)
	got = sessionOf(t, client)
	if server.SessionReused() != client.SessionReused() {
		t.Error("the ends disagree")
	}
	reused = client.SessionReused()
	must(t, errors.Join(client.Close(), server.Close()))
	return got, reused
}

func ringOf(current sslctx.TicketKey, next, old []sslctx.TicketKey) *sslctx.TicketKeyRing {
	return &sslctx.TicketKeyRing{Current: current, Next: next, Old: old}
}

// TestTicketKeyRing changes keys as a fleet does.
func TestTicketKeyRing(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		other := e.sameTrust(t, v)
		a, b := sslctx.NewTicketKey(), sslctx.NewTicketKey()
		set := func(r *sslctx.TicketKeyRing) {
			t.Helper()
			must(t, errors.Join(e.server.SetTicketKeyRing(r), other.server.SetTicketKeyRing(r)))
		}
		want := func(when string, key sslctx.TicketKey, s *sslctx.Session) {
			t.Helper()
			if ticket := ticketOf(t, s); !bytes.HasPrefix(ticket, key.Name()) {
				t.Errorf("%s: the key of the ticket is %x, want %v", when, ticket[:16], key)
			}
		}
		resume := func(when string, e ends, offer *sslctx.Session, wantReused, renews bool) *sslctx.Session {
			t.Helper()
			if v == sslctx.VersionTLS13 { // here clients use a ticket once, and always get another
				offer, renews = dupOf(t, offer), true
			}
			got, reused := e.offer(t, offer)
			if reused != wantReused {
				t.Errorf("%s: resumed is %v", when, reused)
			}
			if renewed := !bytes.Equal(ticketOf(t, got), ticketOf(t, offer)); renewed != renews {
				t.Errorf("%s: the ticket is renewed: %v", when, renewed)
			}
			return got
		}
		set(ringOf(a, nil, nil))
		first, _ := e.offer(t, nil)
		want("a alone", a, first)
		resume("at the same server", e, first, true, false)
		resume("at another server", other, first, true, false)

		must(t, other.server.SetTicketKeyRing(ringOf(b, nil, []sslctx.TicketKey{a})))
		must(t, e.server.SetTicketKeyRing(ringOf(a, []sslctx.TicketKey{b}, nil)))
		early, _ := other.offer(t, nil)
		want("by the server that changed first", b, early)
		resume("a key that is not current yet", e, early, true, false)
		renewed := resume("an old key", other, first, true, true)
		want("an old ticket renewed", b, renewed)
		resume("what was renewed", other, renewed, true, false)

		set(ringOf(b, nil, nil))
		late := resume("a key that is gone", e, first, false, true)
		want("after a full handshake", b, late)
		set(nil)
		resume("a ring that is gone", e, late, false, true)
	})
}

func dupOf(t *testing.T, s *sslctx.Session) *sslctx.Session {
	t.Helper()
	d, err := s.Dup()
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// TestTicketKeyNames: all 16 bytes of a key's name count.
func TestTicketKeyNames(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS12)
	first := sslctx.NewTicketKey()
	b := sslctx.NewTicketKey().Bytes()
	copy(b, first.Name())
	b[sslctx.TicketKeyNameSize-1] ^= 1
	second, err := sslctx.ParseTicketKey(b)
	must(t, err)
	must(t, e.server.SetTicketKeyRing(ringOf(first, nil, []sslctx.TicketKey{second})))
	ofFirst, _ := e.offer(t, nil)
	must(t, e.server.SetTicketKeyRing(ringOf(second, nil, []sslctx.TicketKey{first})))
	ofSecond, _ := e.offer(t, nil)
	for _, ticket := range []*sslctx.Session{ofFirst, ofSecond} {
		if _, reused := e.offer(t, ticket); !reused {
			t.Error("a ticket of a key whose name differs in the last byte is not read")
		}
	}
}

// TestTicketKeysAreLibssls reads tickets of libssl's own keys by a ring, and the other way round.
func TestTicketKeysAreLibssls(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		other := e.sameTrust(t, v)
		key, err := e.server.TicketKeys()
		must(t, err)
		if raw := key.Bytes(); len(raw) != sslctx.TicketKeySize || bytes.Equal(raw, make([]byte, len(raw))) {
			t.Fatalf("the key has %d bytes", len(raw))
		}
		s, _ := e.offer(t, nil)
		if _, reused := other.offer(t, dupOf(t, s)); reused {
			t.Fatal("a context reads the tickets of another")
		}
		must(t, other.server.SetTicketKeyRing(ringOf(key, nil, nil)))
		s, reused := other.offer(t, dupOf(t, s))
		if !reused {
			t.Error("a ring does not read libssl's tickets")
		}
		if _, reused := e.offer(t, dupOf(t, s)); !reused {
			t.Error("libssl does not read the tickets of a ring")
		}
		third := e.sameTrust(t, v)
		must(t, third.server.SetTicketKeys(key))
		if again, err := third.server.TicketKeys(); err != nil || !bytes.Equal(again.Bytes(), key.Bytes()) {
			t.Errorf("the keys that were set are others: %v", err)
		}
		if _, reused := third.offer(t, dupOf(t, s)); !reused {
			t.Error("keys that were set do not read tickets")
		}
	})
}

func TestTicketKeyArguments(t *testing.T) {
	noQueue(t)
	c := newContext(t, sslctx.TLSMethod)
	a, b := sslctx.NewTicketKey(), sslctx.NewTicketKey()
	twin := b.Bytes()
	copy(twin, a.Name())
	sameName, err := sslctx.ParseTicketKey(twin)
	must(t, err)
	_, short := sslctx.ParseTicketKey(make([]byte, 79))
	for what, err := range map[string]error{
		"none":  c.SetTicketKeys(sslctx.TicketKey{}),
		"short": short,
		"zero":  c.SetTicketKeyRing(&sslctx.TicketKeyRing{}),
		"zero2": c.SetTicketKeyRing(ringOf(a, []sslctx.TicketKey{{}}, nil)),
		"twins": c.SetTicketKeyRing(ringOf(a, nil, []sslctx.TicketKey{b, sameName})),
		"n":     c.SetNumTickets(-1),
	} {
		if arg := (*sslctx.ArgumentError)(nil); !errors.As(err, &arg) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestTicketIVs collects the IVs of very many tickets: no IV occurs twice. (With a repeated IV,
// clients could see which of their tickets begin with the same bytes.)
func TestTicketIVs(t *testing.T) {
	n, each := 40_000, 5000
	if testing.Short() {
		n = 20_000
	}
	e := newEnds(t, sslctx.VersionTLS13)
	key := sslctx.NewTicketKey()
	must(t, e.server.SetTicketKeyRing(ringOf(key, nil, []sslctx.TicketKey{sslctx.NewTicketKey()})))
	must(t, e.server.SetNumTickets(each))
	_, err := e.client.SetSessionCacheMode(sslctx.SessCacheClient | sslctx.SessCacheNoInternal)
	must(t, err)
	var mu sync.Mutex
	seen, bits := make(map[string]bool, n), [128]int{}
	must(t, e.client.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		ticket := ticketOf(t, s)
		_ = s.Close()
		iv := ticket[16:32]
		mu.Lock()
		defer mu.Unlock()
		if !bytes.HasPrefix(ticket, key.Name()) || seen[string(iv)] {
			t.Errorf("ticket of %x with the IV %x", ticket[:16], iv)
		}
		seen[string(iv)] = true
		for i := range bits {
			bits[i] += int(iv[i/8]>>(i%8)) & 1
		}
	}))
	for len(seen) < n {
		server, client := e.connect(t, nil)
		must(t, errors.Join(client.Abort(), server.Abort()))
	}
	for i, ones := range bits { // 8 standard deviations
		if d := ones - len(seen)/2; d*d*4 > 64*len(seen) {
			t.Errorf("bit %d of %d IVs is set in %d", i, len(seen), ones)
		}
	}
	t.Logf("%d tickets, %d IVs", n, len(seen))
}

// TestTicketRandomFails: if random bytes fail, no ticket is made, and none with the IV of another
// ticket.
func TestTicketRandomFails(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		must(t, e.server.SetTicketKeyRing(ringOf(sslctx.NewTicketKey(), nil, nil)))
		e.connect(t, nil)
		restore := ossltest.FailRandom(16) // in these handshakes only an IV has this length
		defer restore()
		_, _, serverErr, clientErr := e.shake(t, nil)
		if !errors.Is(serverErr, sslctx.Reason{Library: sslctx.LibSSL, Code: 234}) || clientErr == nil { // callback failed
			t.Errorf("server %v, client %v", serverErr, clientErr)
		}
	})
}

// TestTicketKeyRingReplaced replaces the ring while clients connect. They resume as long as their
// key is in the ring.
func TestTicketKeyRingReplaced(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		keys := []sslctx.TicketKey{sslctx.NewTicketKey(), sslctx.NewTicketKey(), sslctx.NewTicketKey()}
		must(t, e.server.SetTicketKeyRing(ringOf(keys[0], keys[1:], nil)))
		stop := tlstest.Repeat(t, func(i int) {
			k := []sslctx.TicketKey{keys[i%3], keys[(i+1)%3], keys[(i+2)%3]}
			must(t, e.server.SetTicketKeyRing(ringOf(k[0], k[1:2], k[2:])))
		})
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				server, client := e.connect(t, nil)
				s := sessionOf(t, client)
				must(t, errors.Join(client.Close(), server.Close()))
				for range 20 {
					if !e.inMemory(t, dupOf(t, s)) {
						t.Error("not resumed")
					}
				}
			})
		}
		clients.Wait()
		stop()
	})
}

func TestNumTickets(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		if n := e.server.NumTickets(); n != 2 {
			t.Errorf("the default is %d", n)
		}
		tickets := 0
		_, err := e.client.SetSessionCacheMode(sslctx.SessCacheClient | sslctx.SessCacheNoInternal)
		must(t, err)
		must(t, e.client.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
			tickets += toInt(s.HasTicket())
			_ = s.Close()
		}))
		for _, n := range []int{0, 1, 3, 100} {
			for _, own := range []bool{false, true} {
				must(t, e.server.SetNumTickets(n+toInt(own)))
				tickets = 0
				server, client, serverErr, clientErr := e.shake(t, func(server, _ *sslctx.Conn) {
					if own {
						must(t, server.SetNumTickets(n))
					}
				})
				must(t, errors.Join(serverErr, clientErr))
				if got, err := server.NumTickets(); got != n || err != nil {
					t.Errorf("the number is %d, %v, want %d", got, err, n)
				}
				want := map[sslctx.Version]int{sslctx.VersionTLS12: 1, sslctx.VersionTLS13: n}[v]
				if tickets != want {
					t.Errorf("%d tickets with the number %d", tickets, n)
				}
				offer := sessionOf(t, client)
				must(t, errors.Join(client.Close(), server.Close()))
				tickets = 0
				e.connect(t, offer)
				if want := min(n, 1) * toInt(v == sslctx.VersionTLS13); tickets != want && n > 0 {
					t.Errorf("%d tickets after a resumed handshake with the number %d", tickets, n)
				}
			}
		}
	})
}

func toInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestTicketAppData puts data into tickets, and gets it when the tickets come back.
func TestTicketAppData(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		must(t, e.server.SetTicketKeyRing(ringOf(sslctx.NewTicketKey(), nil, nil)))
		// The ring renews tickets of TLS 1.3.
		success := map[sslctx.Version]sslctx.TicketStatus{sslctx.VersionTLS12: sslctx.TicketSuccess, sslctx.VersionTLS13: sslctx.TicketSuccessRenew}[v]
		var j journal
		data := "first"
		must(t, e.server.SetSessionTicketCallback(func(_ context.Context, k sslctx.SessionTicket) ([]byte, error) {
			j.add("generate %s %v", brief(k.AppData), k.Conn != nil && k.Session.Cipher().Name != "")
			must(t, k.Session.SetID([]byte("it is a copy")))
			must(t, k.Session.Close())
			return []byte(data), nil
		}, func(_ context.Context, k sslctx.SessionTicket) sslctx.TicketReturn {
			j.add("decrypt %d %s %d %v", k.Status, brief(k.AppData), len(k.KeyName), k.Session != nil)
			if k.Conn == nil {
				t.Error("the hook does not see the connection")
			}
			if k.Session != nil {
				must(t, k.Session.SetID([]byte("it is a copy")))
				must(t, k.Session.Close())
				return sslctx.TicketUseRenew
			}
			return sslctx.TicketIgnoreRenew
		}))
		s, _ := e.offer(t, nil)
		made := []string{`generate "" true`, `generate "first" true`}
		if v == sslctx.VersionTLS12 {
			made = []string{`decrypt 3 "" 0 false`, `generate "" true`}
		}
		j.want(t, "a full handshake", made...)
		data = strings.Repeat("second", 1000)
		s, reused := e.offer(t, s)
		j.want(t, "a resumed one", fmt.Sprintf(`decrypt %d "first" 16 true`, success), `generate "first" true`)
		if !reused {
			t.Error("not resumed")
		}
		data = ""
		s, _ = e.offer(t, s)
		j.want(t, "one with much data", fmt.Sprintf(`decrypt %d 6000 16 true`, success), `generate 6000 true`)
		must(t, e.server.SetTicketKeyRing(nil))
		data = "x"
		if _, reused = e.offer(t, s); reused {
			t.Error("resumed without the key")
		}
		want := []string{`decrypt 4 "" 16 false`, `generate "" true`}
		if v == sslctx.VersionTLS13 {
			want = append(want, `generate "x" true`)
		}
		j.want(t, "one with a key that is gone", want...)
		must(t, e.server.SetSessionTicketCallback(nil, nil))
		e.offer(t, nil)
		j.want(t, "no hooks")
	})
}

// brief returns data for a journal, or its length if it is long.
func brief(data []byte) string {
	if len(data) > 100 {
		return fmt.Sprint(len(data))
	}
	return fmt.Sprintf("%q", data)
}

// TestTicketAnswers tests each answer for each status.
func TestTicketAnswers(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		for answer := sslctx.TicketDefault - 1; answer <= sslctx.TicketUseRenew+1; answer++ {
			for _, readable := range []bool{true, false} {
				live := ossltest.LiveSessions()
				e := newEnds(t, v)
				server, client := e.connect(t, nil)
				s, err := client.Session()
				must(t, err)
				must(t, errors.Join(client.Close(), server.Close()))
				if !readable {
					must(t, e.server.SetTicketKeys(sslctx.NewTicketKey()))
				}
				must(t, e.server.SetSessionTicketCallback(nil, func(_ context.Context, k sslctx.SessionTicket) sslctx.TicketReturn {
					if k.Status == sslctx.TicketEmpty {
						return sslctx.TicketIgnoreRenew
					}
					_ = k.Session.Close()
					return answer
				}))
				server, client, serverErr, clientErr := e.shake(t, func(_, client *sslctx.Conn) { must(t, client.SetSession(s)) })
				works := answer == sslctx.TicketDefault || answer == sslctx.TicketIgnore || answer == sslctx.TicketIgnoreRenew ||
					readable && (answer == sslctx.TicketUse || answer == sslctx.TicketUseRenew)
				if works != (errors.Join(serverErr, clientErr) == nil) {
					t.Errorf("answer %d, readable %v: %v, %v", answer, readable, serverErr, clientErr)
				}
				if !works {
					if !errors.Is(clientErr, sslctx.Reason{Library: sslctx.LibSSL, Code: 1080}) { // alert internal_error
						t.Errorf("the client hears %v", clientErr)
					}
					if !strings.Contains(fmt.Sprint(serverErr), "TicketAbort") {
						t.Errorf("the server's error is %v", serverErr)
					}
				} else if reused := answer >= sslctx.TicketUse || answer == sslctx.TicketDefault && readable; server.SessionReused() != reused {
					t.Errorf("answer %d: resumed is %v", answer, !reused)
				}
				must(t, errors.Join(s.Close(), client.Close(), server.Close(), e.server.Close(), e.client.Close()))
				if n := ossltest.CollectUntil(ossltest.LiveSessions, live); n > live {
					t.Errorf("answer %d, readable %v: %d sessions are left of %d", answer, readable, n, live)
				}
			}
		}
	})
}

// TestTicketGenerateFails: the handshake returns the hook's error.
func TestTicketGenerateFails(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		must(t, e.server.SetSessionTicketCallback(func(context.Context, sslctx.SessionTicket) ([]byte, error) { return nil, errOfHook }, nil))
		if _, _, serverErr, clientErr := e.shake(t, nil); !errors.Is(serverErr, errOfHook) || clientErr == nil {
			t.Errorf("%v, %v", serverErr, clientErr)
		}
	})
}

// TestTicketOfSharedSession: many connections can share a session that TLS 1.2 resumes from the
// cache. libssl makes a ticket of it for a client without one. The generate hook must not change
// the data of the shared session.
func TestTicketOfSharedSession(t *testing.T) {
	e := withIDs(t, sslctx.VersionTLS12)
	s, _ := e.offer(t, nil)
	_, err := e.server.ClearOptions(sslctx.OpNoTicket)
	must(t, err)
	must(t, e.server.SetSessionTicketCallback(func(context.Context, sslctx.SessionTicket) ([]byte, error) {
		t.Error("asked to change a session of the cache")
		return []byte("x"), nil
	}, nil))
	got, reused := e.offer(t, s)
	if !reused || !got.HasTicket() {
		t.Fatalf("resumed %v, a ticket %v: the test is about neither", reused, got.HasTicket())
	}
}

// TestTicketHooksWithCache: a TLS 1.3 ticket that is the ID of a cached session has data, too. The
// generate hook sets it, and the decrypt hook is never called.
func TestTicketHooksWithCache(t *testing.T) {
	e := withIDs(t, sslctx.VersionTLS13)
	var j journal
	must(t, e.server.SetSessionTicketCallback(func(_ context.Context, k sslctx.SessionTicket) ([]byte, error) {
		j.add("generate %s", brief(k.AppData))
		return []byte("x"), nil
	}, func(context.Context, sslctx.SessionTicket) sslctx.TicketReturn {
		j.add("decrypt")
		return sslctx.TicketUse
	}))
	s, _ := e.offer(t, nil)
	j.want(t, "a full handshake", `generate ""`, `generate "x"`)
	if _, reused := e.offer(t, s); !reused {
		t.Error("not resumed")
	}
	j.want(t, "a resumed one", `generate "x"`)
}

// TestSessionTicketExt sends a ticket that the application made.
func TestSessionTicketExt(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS12)
	must(t, e.client.SetVerify(sslctx.VerifyNone))
	id := ends{withIDs(t, sslctx.VersionTLS12).server, e.client}
	for _, offers := range []*sslctx.Session{nil, func() *sslctx.Session { s, _ := id.offer(t, nil); return s }()} {
		for _, first := range []bool{false, true} {
			var heard [][]byte
			var ofClient int
			server, _, serverErr, clientErr := e.shake(t, func(server, client *sslctx.Conn) {
				if first {
					must(t, client.SetSession(offers))
				}
				must(t, client.SetSessionTicketExt([]byte("not this")))
				must(t, client.SetSessionTicketExt([]byte("PAC")))
				if !first {
					must(t, client.SetSession(offers))
				}
				must(t, server.SetSessionTicketExtCallback(func(_ context.Context, data []byte) error { heard = append(heard, data); return nil }))
				must(t, client.SetSessionTicketExtCallback(func(_ context.Context, data []byte) error { ofClient++; return nil }))
			})
			must(t, errors.Join(serverErr, clientErr))
			if len(heard) != 1 || string(heard[0]) != "PAC" || ofClient != 1 {
				t.Errorf("heard %q, the client %d times", heard, ofClient)
			}
			if offers != nil && offers.HasTicket() {
				t.Error("the ticket is in the session that was offered")
			}
			if err := server.SetSessionTicketExt(nil); !errors.Is(err, sslctx.ErrHandshakeStarted) {
				t.Error(err)
			}
		}
	}
	_, _, serverErr, clientErr := e.shake(t, func(server, client *sslctx.Conn) {
		must(t, client.SetSessionTicketExt([]byte("PAC")))
		must(t, server.SetSessionTicketExtCallback(func(context.Context, []byte) error { return errOfHook }))
	})
	if !errors.Is(serverErr, errOfHook) || clientErr == nil {
		t.Errorf("%v, %v", serverErr, clientErr)
	}
	fresh, err := sslctx.Client(&wireEnd{}, e.client)
	must(t, err)
	must(t, fresh.AcceptAnyName())
	var arg *sslctx.ArgumentError
	if err := fresh.SetSessionTicketExt(make([]byte, 1<<16)); !errors.As(err, &arg) {
		t.Error(err)
	}
	must(t, fresh.SetSessionTicketExtCallback(nil))
	must(t, fresh.SetSessionTicketExt(nil))
}

// TestTicketKeyIsSecret prints a key in all formats.
func TestTicketKeyIsSecret(t *testing.T) {
	raw := append(bytes.Repeat([]byte{0xaa}, 16), bytes.Repeat([]byte("hush"), 16)...)
	key, err := sslctx.ParseTicketKey(raw)
	must(t, err)
	raw[20]++
	if !bytes.Contains(key.Bytes(), []byte("hushhush")) || key.Bytes()[20] == raw[20] || !bytes.Equal(key.Name(), raw[:16]) {
		t.Error("the key is not what was read")
	}
	type holder struct {
		Key    sslctx.TicketKey
		hidden sslctx.TicketKey
	}
	var out bytes.Buffer
	for _, v := range []any{key, &key, holder{key, key}, &holder{key, key}, []sslctx.TicketKey{key}, ringOf(key, []sslctx.TicketKey{key}, nil)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%U", "%t", "%e"} {
			fmt.Fprintf(&out, verb, v)
		}
		text, err := json.Marshal(v)
		must(t, err)
		out.Write(text)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", v)
	}
	for _, secret := range []string{"hush", "68757368", "6875", "104 117", "h u s h", "'h'", "aHVzaA", "U+0068"} {
		if strings.Contains(strings.ToLower(out.String()), strings.ToLower(secret)) {
			t.Errorf("%q is printed", secret)
		}
	}
	if key.String() != "TicketKey("+strings.Repeat("aa", 16)+")" {
		t.Error(key)
	}
	zero := sslctx.TicketKey{}
	if zero.String() != "TicketKey()" || zero.Bytes() != nil || zero.Name() != nil {
		t.Error(zero)
	}
}

// TestTicketsAreAuthenticated: a changed ticket, or one of a different key, is ignored, wherever
// the difference is.
func TestTicketsAreAuthenticated(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		key := sslctx.NewTicketKey()
		must(t, e.server.SetTicketKeyRing(ringOf(key, nil, nil)))
		good, _ := e.offer(t, nil)
		der, err := good.Bytes()
		must(t, err)
		ticket := ticketOf(t, good)
		at := bytes.Index(der, ticket)
		for i := 0; i < len(ticket); i += 7 {
			changed := bytes.Clone(der)
			changed[at+i] ^= 1
			s, err := sslctx.ParseSession(changed)
			must(t, err)
			if _, reused := e.offer(t, s); reused {
				t.Errorf("byte %d of %d is changed, and the ticket is taken", i, len(ticket))
			}
			must(t, s.Close())
		}
		for i := 0; i < 48; i += 7 { // the name, and the key of the HMAC
			raw := key.Bytes()
			raw[i] ^= 1
			other, err := sslctx.ParseTicketKey(raw)
			must(t, err)
			must(t, e.server.SetTicketKeyRing(ringOf(other, nil, nil)))
			if _, reused := e.offer(t, dupOf(t, good)); reused {
				t.Errorf("byte %d of the key differs, and the ticket is taken", i)
			}
		}
		must(t, e.server.SetTicketKeyRing(ringOf(key, nil, nil)))
		if _, reused := e.offer(t, dupOf(t, good)); !reused {
			t.Error("as it was, the ticket is not taken")
		}
	})
}

// TestTicketKeyClear: a ring keeps its copy of a key that is cleared, and no ring takes it any
// more.
func TestTicketKeyClear(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	key := sslctx.NewTicketKey()
	name := key.Name()
	must(t, e.server.SetTicketKeyRing(ringOf(key, nil, nil)))
	key.Clear()
	if !bytes.Equal(key.Bytes(), make([]byte, sslctx.TicketKeySize)) || bytes.Equal(key.Name(), name) {
		t.Error("the key is there after Clear")
	}
	offer, _ := e.offer(t, nil)
	if !bytes.HasPrefix(ticketOf(t, offer), name) {
		t.Error("the ring has lost its key")
	}
	if _, reused := e.offer(t, offer); !reused {
		t.Error("a ticket of the ring does not resume")
	}
	for _, ring := range []*sslctx.TicketKeyRing{
		ringOf(key, nil, nil),
		ringOf(sslctx.NewTicketKey(), []sslctx.TicketKey{key}, nil),
		ringOf(sslctx.NewTicketKey(), nil, []sslctx.TicketKey{key}),
	} {
		wantArgument(t, e.server.SetTicketKeyRing(ring), "ring")
	}
}

// TestTicketLifetimeHint: a server of TLS 1.2 tells its timeout.
func TestTicketLifetimeHint(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetTimeout(1234 * time.Second)
	must(t, err)
	if hint := e.session(t).TicketLifetimeHint(); hint != 1234*time.Second {
		t.Errorf("the hint is %v", hint)
	}
}

// A session's hook waits for no other call of the connection: here for one that waits for the ID of
// its ticket.
func TestNewSessionHookWaitsForNoCall(t *testing.T) {
	if ossltest.LinkedVersion() < 0x30000000 {
		t.Skip("SSL_new_session_ticket came with 3.0")
	}
	e := withIDs(t, sslctx.VersionTLS13)
	server, client := e.connect(t, nil)
	defer client.Abort()
	defer server.Abort()
	_, err := e.server.SetCacheSize(1)
	must(t, err)
	removed, asked, told := make(chan struct{}), make(chan struct{}), make(chan struct{})
	goOn := make(chan struct{})
	var once, first sync.Once
	must(t, e.server.SetRemoveSessionCallback(func(*sslctx.Session) {
		once.Do(func() {
			close(removed)
			<-asked
		})
	}))
	must(t, e.server.SetNewSessionCallback(func(*sslctx.Conn, *sslctx.Session) { first.Do(func() { close(told) }) }))
	ended := make(chan error, 2)
	go func() { ended <- server.NewSessionTicket() }()
	<-removed
	must(t, server.SetSessionIDGenerator(func(ctx context.Context, _ *sslctx.Conn, n int) ([]byte, error) {
		close(asked)
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return make([]byte, n), nil
	}))
	go func() { ended <- server.NewSessionTicket() }()
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Error("the hook waits for the other call")
	}
	close(goOn)
	must(t, <-ended)
	must(t, <-ended)
}
