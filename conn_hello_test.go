// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/testcert"
	"sslctx/internal/tlstest"
)

// A helloHook is what SetClientHelloCallback takes.
type helloHook = func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error)

// otherHost is a server's context for other.example, in the version of the ends.
func (e ends) otherHost(t *testing.T) *sslctx.Context {
	t.Helper()
	pair, err := testcert.For("other.example")
	must(t, err)
	other := newContext(t, sslctx.TLSServerMethod)
	must(t, other.UseKeyPair(pair.Cert, pair.Key))
	must(t, e.client.TrustCertificates(pair.Cert))
	return other
}

// ask makes a connection for a host name, up to the end of the handshake on both ends.
func (e ends) ask(t *testing.T, name string, offer *sslctx.Session) (server, client *sslctx.Conn, serverErr, clientErr error) {
	t.Helper()
	s, c := tcpPair(t)
	server, client = e.over(t, s, c, offer)
	must(t, client.SetServerName(name))
	errs := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte{1})
		if err != nil {
			_ = server.Close()
		}
		errs <- err
	}()
	_, clientErr = client.Read(make([]byte, 1))
	return server, client, <-errs, clientErr
}

// TestClientHelloCallback chooses a context by the name, whose certificate and protocols are used; the session stays
// with the context that the connection was made from, and so do its hooks.
func TestClientHelloCallback(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		var j journal
		e := newEnds(t, v)
		other := e.otherHost(t)
		must(t, other.SetALPNProtos("h2"))
		must(t, e.client.SetALPNProtos("x", "h2"))
		_, err := e.server.SetOptions(sslctx.OpNoTicket)
		must(t, err)
		must(t, e.server.SetClientHelloCallback(func(_ context.Context, hello *tls.ClientHelloInfo) (*sslctx.Context, error) {
			j.add("hello %s %v", hello.ServerName, hello.SupportedProtos)
			if !slices.Equal(hello.SupportedVersions, []uint16{uint16(v)}) && v == sslctx.VersionTLS13 ||
				len(hello.CipherSuites) == 0 || len(hello.Extensions) == 0 || len(hello.SignatureSchemes) == 0 ||
				len(hello.SupportedCurves) == 0 || hello.Conn == nil {
				t.Errorf("the hello is %+v", hello)
			}
			if hello.ServerName == "other.example" {
				return other, nil
			}
			return nil, nil
		}))
		must(t, other.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
			t.Error("the chosen context is asked too")
			return nil, nil
		}))
		j.listen(t, e.server, "first")
		j.listen(t, other, "other")
		var offer *sslctx.Session
		for i := range 2 {
			server, client, serverErr, clientErr := e.ask(t, "other.example", offer)
			must(t, errors.Join(serverErr, clientErr))
			if got := client.ConnectionState(); got.NegotiatedProtocol != "h2" || got.DidResume != (i > 0) ||
				got.PeerCertificates[0].VerifyHostname("other.example") != nil {
				t.Errorf("connection %d: %+v", i, got)
			}
			if n, m := e.server.CacheStats().Number, other.CacheStats().Number; n == 0 || m != 0 {
				t.Errorf("%d sessions are cached in the first context, %d in the chosen one", n, m)
			}
			offer = sessionOf(t, client)
			must(t, errors.Join(client.Close(), server.Close()))
		}
		words := j.take()
		if words[0] != "hello other.example [x h2]" || words[1] != "first.new" || slices.Contains(words, "other.new") {
			t.Errorf("heard %q", words)
		}
		if _, client, _, err := e.ask(t, "localhost", nil); err != nil || client.ConnectionState().NegotiatedProtocol != "" {
			t.Errorf("the first host: %v", err)
		}
	})
}

// TestClientHelloRefused has the hook say no: the client gets the alert, the server's caller the error.
func TestClientHelloRefused(t *testing.T) {
	noQueue(t)
	refusal := errors.New("not today")
	for name, c := range map[string]struct {
		err   error
		alert string
	}{
		"any error": {refusal, "internal error"},
		"an alert":  {errors.Join(refusal, tls.AlertError(112)), "unrecognized name"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, sslctx.VersionTLS13)
			must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
				return nil, c.err
			}))
			server, _, serverErr, clientErr := e.ask(t, "localhost", nil)
			if !errors.Is(serverErr, refusal) {
				t.Errorf("the server's error is %v", serverErr)
			}
			if clientErr == nil || !strings.Contains(clientErr.Error(), c.alert) {
				t.Errorf("the client's error is %v", clientErr)
			}
			if err := server.Handshake(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Handshake after Close returns %v", err)
			}
		})
	}
	e := newEnds(t, sslctx.VersionTLS13)
	closed := newContext(t, sslctx.TLSMethod)
	must(t, closed.Close())
	must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
		return closed, nil
	}))
	if _, _, err, _ := e.ask(t, "localhost", nil); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("a closed context is chosen: %v", err)
	}
}

// TestClientHelloHookWaits ends the wait for a hook in each way.
func TestClientHelloHookWaits(t *testing.T) {
	for name, end := range map[string]func(server *sslctx.Conn, cancel func()){
		"cancel": func(_ *sslctx.Conn, cancel func()) { cancel() },
		"Close":  func(server *sslctx.Conn, _ func()) { _ = server.Close() },
		"Abort":  func(server *sslctx.Conn, _ func()) { _ = server.Abort() },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, sslctx.VersionTLS13)
			asked := make(chan bool)
			must(t, e.server.SetClientHelloCallback(func(ctx context.Context, _ *tls.ClientHelloInfo) (*sslctx.Context, error) {
				asked <- true
				<-ctx.Done()
				return e.server, ctx.Err()
			}))
			s, c := tcpPair(t)
			server, client := e.over(t, s, c, nil)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			errs := make(chan error)
			go func() { errs <- server.HandshakeContext(ctx) }()
			go func() { _ = client.Handshake() }()
			<-asked
			if server.SessionReused() || server.ConnectionState().HandshakeComplete {
				t.Error("the connection is complete while it waits")
			}
			end(server, cancel)
			if err := <-errs; !errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) {
				t.Errorf("Handshake returns %v", err)
			}
		})
	}
}

// TestClientHelloOfOthers reads the hello of crypto/tls, and one that comes twice because the server asks for
// another key share.
func TestClientHelloOfOthers(t *testing.T) {
	pair := testPair(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pair.Cert)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.UseKeyPair(pair.Cert, pair.Key))
	must(t, e.server.SetGroups("P-521")) // for which Go's client sends no share
	var hello *tls.ClientHelloInfo
	asked := 0
	must(t, e.server.SetClientHelloCallback(func(_ context.Context, h *tls.ClientHelloInfo) (*sslctx.Context, error) {
		asked++
		hello = h
		return nil, nil
	}))
	s, c := tcpPair(t)
	server, err := sslctx.Server(s, e.server)
	must(t, err)
	defer server.Close()
	client := tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"a", "b"},
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP521}})
	defer client.Close()
	exchange(t, server, client)
	if asked != 1 || hello.ServerName != "localhost" || !slices.Equal(hello.SupportedProtos, []string{"a", "b"}) ||
		!slices.Equal(hello.SupportedCurves, []tls.CurveID{tls.X25519, tls.CurveP521}) ||
		!slices.Contains(hello.SupportedVersions, tls.VersionTLS13) ||
		!slices.Contains(hello.CipherSuites, tls.TLS_AES_128_GCM_SHA256) {
		t.Errorf("asked %d times, of %+v", asked, hello)
	}
}

// TestSwitchedConnsAndConfiguration changes both contexts while connections go from one to the other and back.
func TestSwitchedConnsAndConfiguration(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	f := ends{server: e.otherHost(t), client: e.client}
	to := func(c *sslctx.Context) helloHook {
		return func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return c, nil }
	}
	must(t, e.server.SetClientHelloCallback(to(f.server)))
	must(t, f.server.SetClientHelloCallback(to(e.server)))
	atOnce(t, []func(){
		func() { e.ask(t, "other.example", nil) }, func() { f.ask(t, "localhost", nil) },
		func() { must(t, e.server.SetSecurityLevel(1)) }, func() { must(t, f.server.SetSecurityLevel(1)) },
	})
}

// TestGates takes the gates of two homes: without an order of them this hangs.
func TestGates(t *testing.T) {
	calls := sslctx.Gates()
	atOnce(t, append(calls, calls...))
}

// atOnce makes all calls over and over for some time.
func atOnce(t *testing.T, calls []func()) {
	defer tlstest.Watchdog(30 * time.Second)()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	done := make(chan bool)
	for _, call := range calls {
		go func() {
			for ctx.Err() == nil {
				call()
			}
			done <- true
		}()
	}
	for range calls {
		<-done
	}
}

// TestKeyLog compares what is logged with what crypto/tls logs of the same connection.
func TestKeyLog(t *testing.T) {
	pair := testPair(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pair.Cert)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		must(t, e.server.UseKeyPair(pair.Cert, pair.Key))
		var ours, theirs bytes.Buffer
		must(t, e.server.SetKeyLogWriter(&ours))
		s, c := tcpPair(t)
		server, err := sslctx.Server(s, e.server)
		must(t, err)
		client := tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "localhost", KeyLogWriter: &theirs})
		exchange(t, server, client)
		_, _ = client.Close(), server.Close()
		for line := range strings.Lines(theirs.String()) {
			if !strings.Contains(ours.String(), line) {
				t.Errorf("%q is not logged", strings.Fields(line)[0])
			}
		}
		if theirs.Len() == 0 {
			t.Error("crypto/tls logs nothing")
		}
	})
}

// busyWriter is for one goroutine at a time, and takes its time.
type busyWriter struct {
	busy, met atomic.Bool
	lines     atomic.Int32
}

func (w *busyWriter) Write(p []byte) (int, error) {
	if !w.busy.CompareAndSwap(false, true) {
		w.met.Store(true)
	}
	time.Sleep(time.Millisecond)
	if bytes.Count(p, []byte("\n")) == 1 && bytes.HasSuffix(p, []byte("\n")) {
		w.lines.Add(1)
	}
	w.busy.Store(false)
	return len(p), nil
}

// TestKeyLogAtOnce: connections that share a writer write one line at a time.
func TestKeyLogAtOnce(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	var log busyWriter
	must(t, e.server.SetKeyLogWriter(&log))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { e.inMemory(t, nil) })
	}
	wg.Wait()
	if log.met.Load() {
		t.Error("two connections write at once")
	}
	if n := log.lines.Load(); n != 8 {
		t.Errorf("%d lines of 8 connections", n)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestKeyLogFails(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetKeyLogWriter(brokenWriter{}))
	if _, _, err, _ := e.ask(t, "localhost", nil); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a log that cannot be written gives %v", err)
	}
	must(t, e.server.SetKeyLogWriter(nil))
	_, _, serverErr, clientErr := e.ask(t, "localhost", nil)
	must(t, errors.Join(serverErr, clientErr))
}

// TestHelloHookThatIsRemoved removes the hook while a handshake waits for it, as a reload of the configuration may: its
// answer counts all the same.
func TestHelloHookThatIsRemoved(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	other := e.otherHost(t)
	answer := func(chosen *sslctx.Context, err error) helloHook {
		return func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
			must(t, e.server.SetClientHelloCallback(nil))
			return chosen, err
		}
	}
	must(t, e.server.SetClientHelloCallback(answer(other, nil)))
	_, _, serverErr, clientErr := e.ask(t, "other.example", nil)
	must(t, errors.Join(serverErr, clientErr))
	for _, refusal := range []error{errors.New("refused"), tls.AlertError(0)} {
		must(t, e.server.SetClientHelloCallback(answer(nil, refusal)))
		_, _, serverErr, clientErr = e.ask(t, "other.example", nil)
		if !errors.Is(serverErr, refusal) || clientErr == nil {
			t.Errorf("refusing gives %v at the server, %v at the client", serverErr, clientErr)
		}
	}
}
