// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"sslctx"
)

// awaitLimit is longer than what comes can take.
const awaitLimit = 20 * time.Second

// TestAwaitTicket: a client has its session without data of the server's, in every version.
func TestAwaitTicket(t *testing.T) {
	noQueue(t)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		var offer *sslctx.Session
		for i := range 3 {
			server, client := e.join(t, offer)
			done := make(chan error, 1)
			go func() { done <- server.Handshake() }()
			ctx, stop := context.WithTimeout(context.Background(), awaitLimit)
			for range 2 { // the second has nothing to wait for
				must(t, client.AwaitTicket(ctx))
			}
			stop()
			must(t, <-done)
			s := sessionOf(t, client)
			if !s.IsResumable() || client.SessionReused() != (i > 0) {
				t.Errorf("connection %d: resumable %v, resumed %v", i, s.IsResumable(), client.SessionReused())
			}
			if v == sslctx.VersionTLS13 && i > 0 && s.Same(offer) {
				t.Error("it is the session that was offered")
			}
			offer = s
			exchange(t, server, client)
			must(t, errors.Join(client.Close(), server.Close()))
		}
		server, _ := e.join(t, nil)
		wantArgument(t, server.AwaitTicket(context.Background()), "receiver")
	})
}

// TestAwaitTicketNone: without a ticket it ends with its context, its deadline, or the connection; data and the connection stay.
func TestAwaitTicketNone(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetNumTickets(0))
	server, client := e.join(t, nil)
	done := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte("data"))
		done <- err
	}()
	must(t, client.Handshake())
	for range 2 {
		ctx, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if err := client.AwaitTicket(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("AwaitTicket is %v", err)
		}
		stop()
	}
	must(t, client.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	if err := client.AwaitTicket(context.Background()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("AwaitTicket is %v", err)
	}
	must(t, client.SetReadDeadline(time.Time{}))
	must(t, <-done)
	buf := make([]byte, 4)
	if _, err := io.ReadFull(client, buf); err != nil || string(buf) != "data" {
		t.Errorf("the client read %q, %v", buf, err)
	}
	exchange(t, server, client)
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := client.AwaitTicket(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("AwaitTicket is %v", err)
	}
	must(t, server.Close())
	for range 2 {
		if err := client.AwaitTicket(context.Background()); err != io.EOF {
			t.Errorf("at the end AwaitTicket is %v", err)
		}
	}
	must(t, client.Close())
	if err := client.AwaitTicket(context.Background()); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("after Close AwaitTicket is %v", err)
	}
}

// TestAwaitTicketBesideRead: a Read that comes later gets the data, however long AwaitTicket waits, and AwaitTicket hears of
// the ticket that the Read reads.
func TestAwaitTicketBesideRead(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetNumTickets(0))
	server, client := e.connect(t, nil)
	waiting := make(chan error, 1)
	go func() { waiting <- client.AwaitTicket(context.Background()) }()
	time.Sleep(10 * time.Millisecond)
	for range 20 {
		exchange(t, server, client)
	}
	large := strings.Repeat("0123456789", 300_000) // more than AwaitTicket keeps
	read := make(chan string, 1)
	wrote := make(chan error, 1)
	go func() { _, err := io.WriteString(server, large); wrote <- err }()
	time.Sleep(10 * time.Millisecond)
	go func() {
		buf := make([]byte, len(large))
		n, _ := io.ReadFull(client, buf)
		read <- string(buf[:n])
	}()
	if got := <-read; got != large {
		t.Errorf("the client read %d bytes", len(got))
	}
	must(t, <-wrote)
	select {
	case err := <-waiting:
		t.Fatalf("AwaitTicket is %v, and no ticket came", err)
	default:
	}
	if err := server.NewSessionTicket(); unsupported(err) {
		must(t, client.Close())
		if err := <-waiting; !errors.Is(err, sslctx.ErrClosed) && !errors.Is(err, io.EOF) && err == nil {
			t.Errorf("after Close AwaitTicket is %v", err)
		}
		return
	} else {
		must(t, err)
	}
	must(t, <-waiting)
	exchange(t, server, client)
}

// TestAwaitTicketClosed: Close ends it.
func TestAwaitTicketClosed(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetNumTickets(0))
	_, client := e.connect(t, nil)
	waiting := make(chan error, 1)
	go func() { waiting <- client.AwaitTicket(context.Background()) }()
	time.Sleep(10 * time.Millisecond)
	must(t, client.Close())
	if err := <-waiting; err == nil {
		t.Error("AwaitTicket succeeds after Close")
	}
}

// TestHandshakeReadEarlyData: the server's end of HandshakeWithEarlyData.
func TestHandshakeReadEarlyData(t *testing.T) {
	noQueue(t)
	e, s := earlyEnds(t, 10_000)
	ctx, stop := context.WithTimeout(context.Background(), awaitLimit)
	defer stop()
	large := bytes.Repeat([]byte("x"), 10_000)
	for _, c := range []struct {
		name  string
		offer *sslctx.Session
		data  []byte
		want  []byte
	}{
		{"none", nil, nil, nil},
		{"much", s, large, large},
		{"replayed", s, large, nil},
		{"not offered", e.session(t), nil, nil},
	} {
		server, client := e.join(t, c.offer)
		got := make(chan earlyRead, 1)
		go func() {
			data, err := server.HandshakeReadEarlyData(ctx)
			got <- earlyRead{data, err}
		}()
		if len(c.data) > 0 {
			_, err := client.WriteEarlyData(c.data)
			must(t, err)
		}
		must(t, client.Handshake())
		if read := <-got; read.err != nil || !bytes.Equal(read.data, c.want) {
			t.Errorf("%s: the server read %d bytes, %v", c.name, len(read.data), read.err)
		}
		if data, err := server.HandshakeReadEarlyData(ctx); len(data) != 0 || err != nil {
			t.Errorf("%s: again it is %q, %v", c.name, data, err)
		}
		exchange(t, server, client)
	}

	server, client := e.join(t, e.session(t))
	wantReceiver := func(_ []byte, err error) { wantArgument(t, err, "receiver") }
	wantReceiver(client.HandshakeReadEarlyData(ctx))
	_, err := client.WriteEarlyData([]byte("early"))
	must(t, err)
	short, stopShort := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stopShort()
	// The client is gone: what it recorded, or someone, is read, and is an error.
	data, err := server.HandshakeReadEarlyData(short)
	if string(data) != "early" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it is %q, %v", data, err)
	}
	must(t, server.Close())
	if _, err := server.HandshakeReadEarlyData(ctx); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("after Close it is %v", err)
	}
	server, _ = e.connect(t, nil)
	if _, err := server.HandshakeReadEarlyData(ctx); !errors.Is(err, sslctx.ErrHandshakeStarted) {
		t.Errorf("after a handshake it is %v", err)
	}
}

// TestEarlyHookContext: the hook for the ClientHello has the context of HandshakeReadEarlyData.
func TestEarlyHookContext(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	started := make(chan struct{})
	must(t, e.server.SetClientHelloCallback(func(ctx context.Context, _ *tls.ClientHelloInfo) (*sslctx.Context, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	server, client := e.join(t, nil)
	go func() { _ = client.Handshake() }()
	ctx, stop := context.WithCancel(context.Background())
	go func() { <-started; stop() }()
	if _, err := server.HandshakeReadEarlyData(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("it is %v", err)
	}
	must(t, client.Close())
}
