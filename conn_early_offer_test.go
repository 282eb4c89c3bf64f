// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"crypto"
	"errors"
	"io"
	"testing"
	"time"

	"sslctx"
)

// SSL_OP_NO_TLSv1_3 and SSL_OP_NO_TLSv1_2, which have no name of the binding's.
const (
	opNoTLS13 sslctx.Option = 1 << 29
	opNoTLS12 sslctx.Option = 1 << 27
)

// offered is a client that offers a session for early data.
type offered struct {
	e    ends
	s    *sslctx.Session // of a connection with "h2", as a copy that nobody else has
	psk  *sslctx.Session // what the hook gives, or nil
	conn func(t *testing.T, client *sslctx.Conn)
}

// earlyMismatches is each thing that has libssl refuse early data when it is too late, or send what no server can read. It
// says whether the session is resumed all the same; "alone" is without a handshake, for which the server has no answer.
var earlyMismatches = map[string]struct {
	set    func(t *testing.T, o *offered)
	resume string // "yes", "no", or "alone"
}{
	"another protocol":        {func(t *testing.T, o *offered) { must(t, o.e.client.SetALPNProtos("http/1.1")) }, "yes"},
	"no protocol":             {func(t *testing.T, o *offered) { must(t, o.e.client.SetALPNProtos()) }, "yes"},
	"a protocol of its own":   {func(t *testing.T, o *offered) { must(t, o.s.SetALPNSelected("h")) }, "yes"},
	"another name":            {named("a.example", "b.example"), "yes"},
	"a name in other letters": {named("a.example", "A.example"), "yes"},
	"an address for a name":   {named("a.example", "127.0.0.1"), "yes"},
	"no name":                 {named("a.example", ""), "yes"},
	"no room":                 {func(t *testing.T, o *offered) { must(t, o.s.SetMaxEarlyData(0)) }, "yes"},
	"a marked session": {func(t *testing.T, o *offered) {
		_, err := o.e.client.RemoveSession(o.s)
		must(t, err)
	}, "no"},
	"an old ticket":                {aged(8000 * time.Second), "no"},
	"a very old ticket":            {aged(50 * 24 * time.Hour), "no"},
	"a ticket of tomorrow":         {aged(-24 * time.Hour), "alone"}, // versions differ: 3.5 offers it
	"a cipher that is not offered": {func(t *testing.T, o *offered) { must(t, o.e.client.SetCiphersuites("TLS_AES_128_GCM_SHA256")) }, "no"},
	"another cipher of the hash": {func(t *testing.T, o *offered) {
		must(t, o.e.client.SetCiphersuites("TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"))
		must(t, o.s.SetCipher(sslctx.Cipher{ID: 0x1301}))
	}, "no"},
	"an older cipher":  {func(t *testing.T, o *offered) { must(t, o.s.SetCipher(sslctx.Cipher{ID: 0xc030})) }, "alone"},
	"an older version": {func(t *testing.T, o *offered) { must(t, o.s.SetProtocolVersion(sslctx.VersionTLS12)) }, "alone"},
	"no TLS 1.3": {func(t *testing.T, o *offered) {
		must(t, o.e.client.SetMinProtoVersion(sslctx.VersionTLS12))
		_, err := o.e.client.SetOptions(opNoTLS13)
		must(t, err)
	}, "alone"},
	"a hole below TLS 1.3": {func(t *testing.T, o *offered) { // libssl goes down to what is under the hole
		must(t, o.e.client.SetCipherList("DEFAULT@SECLEVEL=0"))
		must(t, o.e.client.SetMinProtoVersion(sslctx.VersionTLS10))
		_, err := o.e.client.SetOptions(opNoTLS12)
		must(t, err)
	}, "alone"},
	"a ticket of the caller's": {func(t *testing.T, o *offered) {
		o.conn = func(t *testing.T, client *sslctx.Conn) { must(t, client.SetSessionTicketExt([]byte("ticket"))) }
	}, "alone"},
	"no ticket": {func(t *testing.T, o *offered) {
		s, err := sslctx.NewSession()
		must(t, err)
		t.Cleanup(func() { _ = s.Close() })
		must(t, errors.Join(s.SetProtocolVersion(sslctx.VersionTLS13), s.SetCipher(sslctx.Cipher{ID: 0x1302}),
			s.SetID([]byte("it has an ID")), s.SetMasterKey(make([]byte, 48)), s.SetMaxEarlyData(100)))
		o.s = s
	}, "no"},
	"a key behind a ticket": {func(t *testing.T, o *offered) {
		must(t, o.s.SetMaxEarlyData(0))
		o.psk = pskSession(t, 100)
	}, "yes"},
	"a key of another name": {func(t *testing.T, o *offered) {
		o.s, o.psk = nil, pskSession(t, 100)
		must(t, o.psk.SetHostname("a.example"))
	}, "yes"},
	"a key of another protocol": {func(t *testing.T, o *offered) {
		o.s, o.psk = nil, pskSession(t, 100)
		must(t, o.psk.SetALPNSelected("http/1.1"))
	}, "yes"},
	"a key without room": {func(t *testing.T, o *offered) { o.s, o.psk = nil, pskSession(t, 0) }, "yes"},
}

func named(session, conn string) func(*testing.T, *offered) {
	return func(t *testing.T, o *offered) {
		must(t, o.s.SetHostname(session))
		o.conn = func(t *testing.T, client *sslctx.Conn) {
			if conn != "" {
				must(t, client.SetServerName(conn))
			}
		}
	}
}

func aged(age time.Duration) func(*testing.T, *offered) {
	return func(t *testing.T, o *offered) { must(t, o.s.SetTime(time.Now().Add(-age))) }
}

// offerEarly is a client whose session suits: a case spoils it.
func offerEarly(t *testing.T) *offered {
	t.Helper()
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.client.SetVerify(sslctx.VerifyNone)) // the names are not the certificate's
	must(t, e.server.SetMaxEarlyData(100))
	must(t, e.server.SetALPNProtos("h2", "http/1.1"))
	must(t, e.client.SetALPNProtos("h2"))
	s, err := e.session(t).Dup()
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return &offered{e: e, s: s, conn: func(*testing.T, *sslctx.Conn) {}}
}

// hear sets the hooks for the pre-shared key, and returns how often the client's was asked.
func (o *offered) hear(t *testing.T) (asked *int) {
	t.Helper()
	asked = new(int)
	if o.psk == nil {
		return asked
	}
	must(t, o.e.server.SetPSKFindSessionCallback(func(_ context.Context, _ *sslctx.Conn, id []byte) *sslctx.Session {
		if string(id) != "me" {
			return nil
		}
		return o.psk
	}))
	must(t, o.e.client.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) {
		*asked++
		return []byte("me"), o.psk
	}))
	if o.s == nil {
		must(t, o.e.server.SetCiphersuites("TLS_AES_128_GCM_SHA256")) // the key's hash
	}
	return asked
}

// TestEarlyDataRefused: what does not suit early data is found out before anything is sent, nothing is marked, and the
// data goes after the handshake.
func TestEarlyDataRefused(t *testing.T) {
	noQueue(t)
	for name, c := range earlyMismatches {
		t.Run(name, func(t *testing.T) {
			o := offerEarly(t)
			c.set(t, o)
			asked := o.hear(t)
			marked := o.s != nil && !o.s.IsResumable()
			server, client := o.e.join(t, o.s)
			o.conn(t, client)
			if n, err := client.WriteEarlyData([]byte("hello")); n != 0 || !errors.Is(err, sslctx.ErrNoEarlyData) {
				t.Fatalf("WriteEarlyData is %d, %v", n, err)
			}
			if o.s != nil && o.s.IsResumable() == marked {
				t.Error("the session is marked")
			}
			if c.resume == "alone" {
				return
			}
			must(t, client.SetSession(o.s)) // nothing has begun
			got := reading(server)
			must(t, client.HandshakeWithEarlyData(context.Background(), []byte("hello")))
			if read := <-got; read.err != nil || len(read.data) != 0 {
				t.Errorf("the server read %q early, %v", read.data, read.err)
			}
			buf := make([]byte, 5)
			if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "hello" {
				t.Errorf("the server read %q, %v", buf, err)
			}
			wantStatus(t, server, client, sslctx.EarlyDataNotSent)
			if client.SessionReused() != (c.resume == "yes") {
				t.Errorf("resumed is %v", client.SessionReused())
			}
			if o.s != nil && o.s.IsResumable() == marked {
				t.Error("the session is marked after the handshake")
			}
			if o.psk != nil && *asked != 1 {
				t.Errorf("the hook was asked %d times", *asked)
			}
			exchange(t, server, client)
		})
	}
}

// TestEarlyDataSuits: a session with a name and a protocol goes where both are asked for, and a key without a ticket.
func TestEarlyDataSuits(t *testing.T) {
	noQueue(t)
	for name, set := range map[string]func(t *testing.T, o *offered){
		"name and protocol": func(t *testing.T, o *offered) {
			must(t, o.e.client.SetALPNProtos("http/1.1", "x", "h2"))
			must(t, o.e.server.SetALPNProtos("h2"))
			named("a.example", "a.example")(t, o)
		},
		"a list that is changed behind": func(t *testing.T, o *offered) {
			o.conn = func(t *testing.T, _ *sslctx.Conn) { must(t, o.e.client.SetALPNProtos("http/1.1")) }
		},
		"a key": func(t *testing.T, o *offered) {
			o.s, o.psk = nil, pskSession(t, 100)
			must(t, o.psk.SetALPNSelected("h2")) // it has to suit the server, too
		},
		"a key beside a marked session": func(t *testing.T, o *offered) {
			_, err := o.e.client.RemoveSession(o.s)
			must(t, err)
			o.psk = pskSession(t, 100)
			must(t, o.psk.SetALPNSelected("h2"))
			must(t, o.e.server.SetCiphersuites("TLS_AES_128_GCM_SHA256"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := offerEarly(t)
			set(t, o)
			asked := o.hear(t)
			server, client := o.e.join(t, o.s)
			o.conn(t, client)
			got := reading(server)
			must(t, client.HandshakeWithEarlyData(context.Background(), []byte("hello")))
			if read := <-got; read.err != nil || string(read.data) != "hello" {
				t.Errorf("the server read %q, %v", read.data, read.err)
			}
			wantStatus(t, server, client, sslctx.EarlyDataAccepted)
			if o.psk != nil && *asked != 1 {
				t.Errorf("the hook was asked %d times", *asked)
			}
		})
	}
}

// TestEarlyDataAskedOnce: an answer that did not suit early data is the one that the handshake uses, and an answer that is none
// fails as in a handshake.
func TestEarlyDataAskedOnce(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	asked := 0
	must(t, e.client.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) {
		asked++
		return nil, nil
	}))
	_, client := e.join(t, nil)
	for range 2 {
		if _, err := client.WriteEarlyData([]byte("x")); !errors.Is(err, sslctx.ErrNoEarlyData) {
			t.Errorf("WriteEarlyData is %v", err)
		}
	}
	if asked != 1 { // for the one ClientHello that there will be
		t.Errorf("the hook was asked %d times", asked)
	}
	must(t, client.Close()) // with an answer that nobody took

	must(t, e.client.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) {
		return nil, pskSession(t, 100) // no identity
	}))
	_, client = e.join(t, nil)
	_, err := client.WriteEarlyData([]byte("x"))
	if arg := (*sslctx.ArgumentError)(nil); !errors.As(err, &arg) {
		t.Errorf("WriteEarlyData is %v", err)
	}
	if again := client.Handshake(); again != err {
		t.Errorf("then Handshake is %v", again)
	}
}
