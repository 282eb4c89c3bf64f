// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"sslctx"
)

// TestTicketKeyIsSecret prints a key in all ways.
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

// TestTicketsAreAuthenticated: a ticket that was changed, or that is of a key which differs, is passed over, wherever the
// difference is.
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
