// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// TestCloseBoundsTickets: a server that reads slowly, and sends tickets without end, while its client closes.
func TestCloseBoundsTickets(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.client.SetCiphersuites("TLS_AES_128_GCM_SHA256"))
	_, err := e.client.SetSessionCacheMode(sslctx.SessCacheClient | sslctx.SessCacheNoInternal)
	must(t, err)
	must(t, e.client.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { s.Close() }))
	pair := testPair(t)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	must(t, err)
	must(t, e.client.TrustCertificates(pair.Cert))
	a, b := tcpPair(t)
	must(t, a.(*net.TCPConn).SetReadBuffer(4096))
	c, err := sslctx.Client(b, e.client)
	must(t, err)
	must(t, c.AcceptAnyName())
	var keyLog strings.Builder
	peer := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true, KeyLogWriter: &keyLog})
	errs := make(chan error)
	go func() { errs <- peer.Handshake() }()
	must(t, c.Handshake())
	must(t, <-errs)
	f := newForger(t, keyLog.String(), "SERVER_TRAFFIC_SECRET_0")
	var tickets []byte // 700 of them in one record
	for i := range 700 {
		nst := []byte{4, 0, 0, 18, 0, 0, 14, 0, 0, 0, 0, 0, 1, byte(i), 0, 4}
		tickets = append(binary.BigEndian.AppendUint32(append(tickets, nst...), uint32(i)), 0, 0)
	}
	_, err = c.Write(make([]byte, 1_500_000))
	must(t, err)
	go func() { // it reads slowly: some of what the client wrote stays unacknowledged
		for range time.Tick(20 * time.Millisecond) {
			if _, err := a.Read(make([]byte, 2000)); err != nil {
				return
			}
		}
	}()
	sent := make(chan bool)
	go func() {
		for {
			if _, err := io.WriteString(a, f.seal(22, string(tickets), 0)); err != nil {
				close(sent)
				return
			}
		}
	}()
	before, worst := ossltest.LiveSessions(), 0
	done := make(chan error)
	go func() { done <- c.Close() }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		case <-time.After(10 * time.Millisecond):
		}
		worst = max(worst, ossltest.LiveSessions())
	}
	a.Close()
	<-sent
	if worst > before+10_000 {
		t.Error("Close has no bound for what it keeps of the peer's tickets")
	}
}

// TestManyIdentities: hooks are asked about few of the identities of a ClientHello.
func TestManyIdentities(t *testing.T) {
	noQueue(t)
	for _, test := range []struct{ identities, asked int }{{1, 2}, {5, 10}, {9000, 16}} {
		server, asked := newEnds(t, sslctx.VersionTLS13).server, 0
		must(t, server.SetPSKFindSessionCallback(func(context.Context, *sslctx.Conn, []byte) *sslctx.Session {
			asked++
			return nil
		}))
		must(t, server.SetSessionTicketCallback(nil, func(context.Context, sslctx.SessionTicket) sslctx.TicketReturn {
			asked++
			return sslctx.TicketDefault
		}))
		s, err := sslctx.Server(&recorder{arrived: bytes.NewReader(manyIdentities(test.identities))}, server)
		must(t, err)
		if err := s.Handshake(); err == nil {
			t.Error("the handshake ends well")
		}
		if asked > 16 || asked < min(test.asked, 16) {
			t.Errorf("of %d identities hooks are asked %d times", test.identities, asked)
		}
		must(t, s.Close())
	}
}

// manyIdentities is a ClientHello with n identities of one byte.
func manyIdentities(n int) []byte {
	ids := vector(2, slices.Repeat(identity([]byte("x")), n))
	sup := extension(10, vector(2, []byte{0, 23}))
	sig := extension(13, vector(2, []byte{4, 3, 8, 4}))
	ks := extension(51, vector(2, []byte{0, 23}, vector(2, p256point)))
	body := slices.Concat([]byte{3, 3}, make([]byte, 32), vector(1), vector(2, []byte{0x13, 1}), vector(1, []byte{0}),
		vector(2, sup, sig, ks, offersTLS13, kexModes, extension(extensionPSK, ids, vector(2, vector(1, make([]byte, 32))))))
	msg := slices.Concat([]byte{1}, vector(3, body))
	var out []byte
	for len(msg) > 0 {
		k := min(len(msg), 16384)
		out = slices.Concat(out, []byte{22, 3, 1}, vector(2, msg[:k]))
		msg = msg[k:]
	}
	return out
}

var p256point = func() []byte {
	k, _ := ecdh.P256().GenerateKey(rand.Reader)
	return k.PublicKey().Bytes()
}()
