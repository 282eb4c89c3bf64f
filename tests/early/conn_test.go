// SPDX-License-Identifier: Apache-2.0

package early_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/tlstest"
)

// newEnds makes ends whose server accepts early data, with "one" as their protocol.
func newEnds(t *testing.T) tlstest.Ends {
	t.Helper()
	e := tlstest.NewEnds(t, sslctx.VersionTLS13)
	tlstest.Must(t, errors.Join(e.Server.SetMaxEarlyData(1000), e.Server.SetALPNProtos("one"), e.Client.SetALPNProtos("one")))
	return e
}

// TestWriteBesideRead: a server's ReadEarlyData waits for the client. Another goroutine writes meanwhile, and the
// client has the answer before the server has the end of the early data. The state says what is known.
func TestWriteBesideRead(t *testing.T) {
	e := newEnds(t)
	offer := e.Session(t)
	s, c := tlstest.TCPPair(t)
	server, client := e.Over(t, s, c, offer)
	tlstest.Must(t, client.SetServerName("localhost"))
	_, err := client.WriteEarlyData([]byte("question"))
	tlstest.Must(t, err)
	buf := make([]byte, 100)
	n, err := server.ReadEarlyData(buf)
	if string(buf[:n]) != "question" || err != nil {
		t.Fatalf("ReadEarlyData returns %q, %v", buf[:n], err)
	}
	state := server.ConnectionState()
	if state.HandshakeComplete || !state.DidResume || state.Version != uint16(sslctx.VersionTLS13) || state.NegotiatedProtocol != "one" ||
		state.ServerName != "localhost" || state.CipherSuite == 0 || len(state.PeerCertificates) > 0 {
		t.Errorf("%+v", state)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := server.ReadEarlyData(make([]byte, 100))
		ended <- err
	}()
	for range 100 { // some of them while it waits
		_, err = server.WriteEarlyData([]byte("."))
		tlstest.Must(t, err)
	}
	select {
	case err := <-ended:
		t.Fatalf("ReadEarlyData does not wait: %v", err)
	default:
	}
	answer := make([]byte, 100)
	go func() { _, _ = client.Read(answer[:1]) }() // carries the handshake on
	if err := <-ended; err != io.EOF {
		t.Fatalf("ReadEarlyData returns %v", err)
	}
	tlstest.Must(t, server.Handshake())
	_, err = io.ReadFull(client, answer[:99])
	tlstest.Must(t, err)
	if state := server.ConnectionState(); !state.HandshakeComplete || state.NegotiatedProtocol != "one" {
		t.Errorf("%+v", state)
	}
	tlstest.Exchange(t, server, client)
}

// TestEarlyReadEnds: the wait of ReadEarlyData ends with a deadline, after which it goes on, and with the
// transport, after which the connection has the same error.
func TestEarlyReadEnds(t *testing.T) {
	e := newEnds(t)
	offer := e.Session(t)
	s, c := tlstest.TCPPair(t)
	server, client := e.Over(t, s, c, offer)
	_, err := client.WriteEarlyData([]byte("one"))
	tlstest.Must(t, err)
	buf := make([]byte, 100)
	_, err = server.ReadEarlyData(buf)
	tlstest.Must(t, err)
	tlstest.Must(t, server.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	if _, err := server.ReadEarlyData(buf); !tlstest.IsTimeout(err) {
		t.Fatalf("ReadEarlyData returns %v", err)
	}
	tlstest.Must(t, server.SetReadDeadline(time.Time{}))
	_, err = client.WriteEarlyData([]byte("two"))
	tlstest.Must(t, err)
	if n, err := server.ReadEarlyData(buf); string(buf[:n]) != "two" || err != nil {
		t.Fatalf("ReadEarlyData returns %q, %v", buf[:n], err)
	}
	tlstest.Must(t, s.Close())
	_, first := server.ReadEarlyData(buf)
	_, second := server.ReadEarlyData(buf)
	if first == nil || second != first || !errors.Is(server.Handshake(), first) {
		t.Errorf("the errors are %v, %v", first, second)
	}
}

// TestDialerClient: a client of a Dialer that has not begun sends early data by a session of the cache, which
// counts and keeps the sessions of the connection.
func TestDialerClient(t *testing.T) {
	e := newEnds(t)
	cache, err := sslctx.NewClientSessionCache(sslctx.ClientSessionCacheConfig{})
	tlstest.Must(t, err)
	d := &sslctx.Dialer{Context: e.Client, ServerName: "localhost", SessionCache: cache}
	for i, want := range []sslctx.EarlyDataStatus{sslctx.EarlyDataNotSent, sslctx.EarlyDataAccepted} {
		s, c := tlstest.TCPPair(t)
		server, err := sslctx.Server(s, e.Server)
		tlstest.Must(t, err)
		client, err := d.Client(t.Context(), c, "localhost:1")
		tlstest.Must(t, err)
		got := make(chan string, 1)
		go func() {
			data, err := server.HandshakeReadEarlyData(context.Background())
			if err == nil && len(data) == 0 {
				data = make([]byte, 5)
				_, err = io.ReadFull(server, data)
			}
			if err != nil {
				data = []byte(err.Error())
			}
			_, _ = server.Write([]byte{1})
			got <- string(data)
		}()
		tlstest.Must(t, client.HandshakeWithEarlyData(t.Context(), []byte("hello")))
		if text := <-got; text != "hello" || client.EarlyDataStatus() != want {
			t.Errorf("connection %d: %q, %v", i, text, client.EarlyDataStatus())
		}
		_, err = client.Read(make([]byte, 1))
		tlstest.Must(t, err)
		tlstest.Must(t, errors.Join(client.Close(), server.Close()))
	}
	if now := cache.Stats(); now.Offered != 1 || now.Resumed != 1 || now.Kept < 3 {
		t.Errorf("%+v", now)
	}
}

// TestDialerClientFails: Client closes the transport if it fails. The error of a later handshake says what to do, as
// that of ClientContext does.
func TestDialerClientFails(t *testing.T) {
	e := newEnds(t)
	d := &sslctx.Dialer{Context: e.Client}
	s, c := tlstest.TCPPair(t)
	if _, err := d.Client(t.Context(), c, ":1"); !errors.Is(err, sslctx.ErrNoServerName) {
		t.Errorf("Client returns %v", err)
	}
	if _, err := s.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the transport is open: %v", err)
	}
	if _, err := d.Client(t.Context(), nil, "localhost:1"); err == nil {
		t.Error("Client accepts a nil transport")
	} else {
		tlstest.WantArgument(t, err, "conn")
	}
	stranger := tlstest.NewEnds(t, sslctx.VersionTLS13)
	s, c = tlstest.TCPPair(t)
	server, err := sslctx.Server(s, stranger.Server)
	tlstest.Must(t, err)
	defer server.Close()
	go func() { _ = server.Handshake() }()
	client, err := d.Client(t.Context(), c, "localhost:1")
	tlstest.Must(t, err)
	defer client.Close()
	const advice = "have Dialer.Context trust its authority"
	if err := client.Handshake(); err == nil || !strings.Contains(err.Error(), advice) {
		t.Errorf("Handshake returns %v", err)
	}
}

// TestWriteBesideHandshake: a server has read all early data, and its handshake waits for the client's Finished. It can
// write meanwhile, and the client gets that after its own handshake.
func TestWriteBesideHandshake(t *testing.T) {
	e := newEnds(t)
	offer := e.Session(t)
	s, c := tlstest.TCPPair(t)
	split := tlstest.NewSplitFlight(c)
	server, client := e.Over(t, s, split, offer)
	_, err := client.WriteEarlyData([]byte("question"))
	tlstest.Must(t, err)
	_, err = server.ReadEarlyData(make([]byte, 100))
	tlstest.Must(t, err)
	read := make(chan error, 1)
	got := make([]byte, 106)
	go func() {
		_, err := io.ReadFull(client, got)
		read <- err
	}()
	if _, err := server.ReadEarlyData(make([]byte, 100)); err != io.EOF {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	for range 100 { // some of them while it waits
		_, err := server.WriteEarlyData([]byte("."))
		tlstest.Must(t, err)
	}
	select {
	case err := <-done:
		t.Fatalf("Handshake does not wait: %v", err)
	default:
	}
	close(split.Free)
	tlstest.Must(t, <-done)
	_, err = server.Write([]byte("answer"))
	tlstest.Must(t, err)
	tlstest.Must(t, <-read)
	if !strings.HasSuffix(string(got), "..answer") {
		t.Errorf("the client reads %q", got)
	}
}
