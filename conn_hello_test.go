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
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/testcert"
	"sslctx/internal/tlstest"
)

// A helloHook is an argument of SetClientHelloCallback.
type helloHook = func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error)

// otherHost makes a server's context for other.example, with the version of the ends.
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

// TestClientHelloCallback chooses a context by the name. The connection uses its certificate and
// protocols. The session and the hooks are those of the context that the connection was made from.
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

// TestChosenContext: of the context that a hook chooses a connection uses the key log, the cipher
// suites, the OCSP response, the ID context and the VerifyMode. It keeps the options and the ticket
// keys of the first.
func TestChosenContext(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		other := e.otherHost(t)
		keys := map[*sslctx.Context]sslctx.TicketKey{}
		logs := map[*sslctx.Context]*bytes.Buffer{}
		for c, of := range map[*sslctx.Context]struct{ name, suites, list string }{
			e.server: {"first", "TLS_AES_128_GCM_SHA256", "ECDHE+AES128"},
			other:    {"other", "TLS_AES_256_GCM_SHA384", "ECDHE+AES256"},
		} {
			keys[c], logs[c] = sslctx.NewTicketKey(), new(bytes.Buffer)
			must(t, errors.Join(c.SetKeyLogWriter(logs[c]), c.SetCiphersuites(of.suites), c.SetCipherList(of.list),
				c.SetIDContext([]byte(of.name)), c.SetTicketKeyRing(ringOf(keys[c], nil, nil))))
			if ossltest.CompiledVersion() < 0x30600000 { // later libssl sends no garbage
				must(t, c.SetOCSPResponse([]byte(of.name)))
			}
		}
		must(t, e.client.RequestOCSP(true))
		must(t, e.client.SetVerify(sslctx.VerifyNone)) // it would not take the response
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		_, err := other.SetOptions(sslctx.OpNoTicket)
		must(t, err)
		must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return other, nil }))
		server, client, serverErr, clientErr := e.ask(t, "other.example", nil)
		must(t, errors.Join(serverErr, clientErr)) // the chosen one asks for no certificate
		if logs[e.server].Len() > 0 || logs[other].Len() == 0 {
			t.Errorf("%d bytes are in the key log of the first, %d in that of the chosen one", logs[e.server].Len(), logs[other].Len())
		}
		if name := strings.ReplaceAll(client.Cipher().Name, "_", ""); !strings.Contains(name, "AES256") {
			t.Errorf("the cipher suite is %v", client.Cipher())
		}
		if got := client.ConnectionState().OCSPResponse; ossltest.CompiledVersion() < 0x30600000 && string(got) != "other" {
			t.Errorf("the OCSP response is %q", got)
		}
		if got := sessionOf(t, server).IDContext(); string(got) != "other" {
			t.Errorf("the ID context is %q", got)
		}
		if now, err := server.Options(); err != nil || now&sslctx.OpNoTicket != 0 {
			t.Errorf("the options are %v, %v", now, err)
		}
		if ticket := sessionOf(t, client).Ticket().Bytes(); !bytes.HasPrefix(ticket, keys[e.server].Name()) {
			t.Error("the ticket is not of the first context's keys")
		}
		must(t, other.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, e.server.SetVerify(sslctx.VerifyNone))
		_, _, serverErr, _ = e.ask(t, "other.example", nil)
		wantReason(t, serverErr, sslctx.ReasonPeerDidNotReturnACertificate)
	})
}

// TestHandshakeErrorStays: a handshake that a hook or the key log failed has failed: every later
// call returns its error.
func TestHandshakeErrorStays(t *testing.T) {
	for name, set := range map[string]func(*sslctx.Context) error{
		"key log": func(c *sslctx.Context) error { return c.SetKeyLogWriter(brokenWriter{}) },
		"hook": func(c *sslctx.Context) error {
			return c.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return nil, io.ErrShortWrite })
		},
	} {
		eachVersion(t, func(t *testing.T, v sslctx.Version) {
			early := func(c *sslctx.Conn) error { _, err := c.ReadEarlyData(make([]byte, 1)); return err }
			for first, begin := range map[string]func(*sslctx.Conn) error{
				"Handshake":     (*sslctx.Conn).Handshake,
				"ReadEarlyData": func(c *sslctx.Conn) error { _, err := readEarly(c); return err },
			} {
				e := newEnds(t, v)
				must(t, set(e.server))
				server, client := e.join(t, nil)
				go func() { _ = client.Handshake() }()
				for i, call := range []func(*sslctx.Conn) error{
					begin, early, (*sslctx.Conn).Handshake, (*sslctx.Conn).Renegotiate,
					func(c *sslctx.Conn) error { return c.KeyUpdate(false) },
					func(c *sslctx.Conn) error { _, err := c.Write([]byte("x")); return err },
					func(c *sslctx.Conn) error { _, err := c.Read(make([]byte, 1)); return err },
				} {
					if err := call(server); !errors.Is(err, io.ErrShortWrite) {
						t.Fatalf("%s: call %d after %s returns %v", name, i, first, err)
					}
				}
				if server.ConnectionState().HandshakeComplete {
					t.Errorf("%s: the handshake is complete", name)
				}
				must(t, server.Abort())
			}
		})
	}
}

// TestClientHelloRefused: the hook refuses. The client gets the alert, the server's caller the
// error.
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
			if server.SessionReused() || server.ConnectionState().HandshakeComplete || server.Version() != sslctx.VersionAny ||
				server.Cipher() != (sslctx.Cipher{}) {
				t.Error("the connection is complete while it waits")
			}
			end(server, cancel)
			if err := <-errs; !errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) {
				t.Errorf("Handshake returns %v", err)
			}
		})
	}
}

// TestClientHelloOfOthers reads the hello of crypto/tls, also one that comes twice because the
// server requests another key share.
func TestClientHelloOfOthers(t *testing.T) {
	pair := testPair(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pair.Cert)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.UseKeyPair(pair.Cert, pair.Key))
	must(t, e.server.SetGroups("P-521")) // Go's client sends no share for it
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

// TestSwitchedConnsAndConfiguration changes both contexts while connections go from one to the
// other and back.
func TestSwitchedConnsAndConfiguration(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	f := ends{server: e.otherHost(t), client: e.client}
	to := func(c *sslctx.Context) helloHook {
		return func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return c, nil }
	}
	must(t, e.server.SetClientHelloCallback(to(f.server)))
	end := startConfiguring(t, f.server) // which a handshake with it waits for
	server, client := e.join(t, nil)
	go func() { _ = client.Handshake() }()
	must(t, server.SetDeadline(time.Now().Add(50*time.Millisecond)))
	if err := server.Handshake(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("while the chosen context is configured Handshake returns %v", err)
	}
	end()
	must(t, f.server.SetClientHelloCallback(to(e.server)))
	atOnce(t, []func(){
		func() { e.ask(t, "other.example", nil) }, func() { f.ask(t, "localhost", nil) },
		func() { must(t, e.server.SetSecurityLevel(1)) }, func() { must(t, f.server.SetSecurityLevel(1)) },
	})
}

// TestConfigLockOrder takes the configuration locks of two contexts: without a fixed order this
// hangs.
func TestConfigLockOrder(t *testing.T) {
	calls := sslctx.ConfigLockCalls()
	atOnce(t, append(calls, calls...))
}

// atOnce repeats all calls for some time.
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

// TestKeyLog compares our key log with the one of crypto/tls for the same connection.
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

// busyWriter is slow, and allows only one goroutine at a time.
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

// TestHelloHookThatIsRemoved removes the hook while a handshake waits for it, like a reload of the
// configuration: its answer still counts.
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

// TestNamesLikeCryptoTLS connects by names, and a client of crypto/tls does the same: we accept the
// names that it accepts, and refuse the others. The table says where we refuse more.
func TestNamesLikeCryptoTLS(t *testing.T) {
	root := issue(t, "root", nil, authority)
	pool := poolOf(root)
	// The names of a certificate; the first word is its common name.
	for _, test := range []struct {
		common    string
		names     []string
		addresses []string
		good, bad []string // names that the certificate is good for, and others
		strict    []string // names that only we refuse
	}{
		{common: "x", names: []string{"www.example.com"},
			good: []string{"www.example.com", "WWW.Example.COM", "www.example.com."},
			bad: []string{"example.com", "x.example.com", "www.example.com..", ".www.example.com", ".example.com", ".com",
				"www..example.com", "www.example.com:443", "[www.example.com]", "*.example.com", "www.example.co"}},
		{common: "x", names: []string{"*.example.com"},
			good:   []string{"www.example.com", "xn--bcher-kva.example.com", "WWW.example.com.", "a-b.example.com"},
			bad:    []string{"example.com", "a.b.example.com", ".example.com", "www.example.org"},
			strict: []string{"a_b.example.com"}},
		{common: "x", names: []string{"www*.example.com", "*w.example.org", "a*z.example.net"},
			bad: []string{"www1.example.com", "www.example.com", "w.example.org", "xw.example.org", "abz.example.net"}},
		{common: "x", names: []string{"www.*.com", "*.*.org"}, bad: []string{"www.example.com", "www.example.org"}},
		{common: "x", names: []string{"*.com", "*"}, bad: []string{"www.example.org", "localhost"}, strict: []string{"example.com"}},
		{common: "www.example.com", bad: []string{"www.example.com"}},
		{common: "www.example.com", names: []string{"other.example.com"}, good: []string{"other.example.com"},
			bad: []string{"www.example.com"}},
		{common: "10.0.0.1", addresses: []string{"10.0.0.2"}, bad: []string{"10.0.0.1"},
			good: []string{"10.0.0.2"}},
		{common: "x", names: []string{"under_score.example.com"}, good: []string{"under_score.example.com"}},
		{common: "x", names: []string{"10.0.0.1"}, bad: []string{"10.0.0.1"}}, // an address as a name
		{common: "x", addresses: []string{"127.0.0.1", "::1", "fe80::1"},
			good: []string{"127.0.0.1", "::1", "[::1]", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "fe80::1"},
			bad:  []string{"127.0.0.2", "::2", "127.0.0.1.", "127.1", "1.0.0.127", "127.0.0.1.example.com"}},
	} {
		cert := issue(t, test.common, root, func(c *x509.Certificate) {
			c.DNSNames = test.names
			for _, a := range test.addresses {
				c.IPAddresses = append(c.IPAddresses, net.ParseIP(a))
			}
		})
		e := bare(t, sslctx.VersionTLS13, cert.TLSCertificate())
		must(t, e.client.TrustCertificate(root.Cert))
		addr := serve(t, e.server)
		for want, names := range map[string][]string{"good": test.good, "bad": test.bad, "strict": test.strict} {
			for _, name := range names {
				theirs, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: name})
				if err == nil {
					must(t, theirs.Close())
				}
				if (err == nil) != (want != "bad") {
					t.Errorf("%v %v: crypto/tls says of %q: %v", test.names, test.addresses, name, err)
				}
				ours, err := (&sslctx.Dialer{Context: e.client, ServerName: name}).Dial("tcp", addr)
				if err == nil {
					must(t, ours.Close())
				}
				if (err == nil) != (want == "good") {
					t.Errorf("%v %v: we say of %q: %v", test.names, test.addresses, name, err)
				}
			}
		}
	}
}

// TestNameThatIsSent: the client sends the same name as crypto/tls, and sends nothing for a value
// that is no name.
func TestNameThatIsSent(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.client.SetVerify(sslctx.VerifyNone))
	for name, want := range map[string]string{"www.example.com": "www.example.com", "www.example.com.": "www.example.com",
		"127.0.0.1": "", "::1": "", "[::1]": "", "fe80::1%lo": "", "[fe80::1%lo]": ""} {
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, nil)
		must(t, client.SetServerName(name))
		serverErr, clientErr := greet(server, client)
		must(t, serverErr)
		must(t, clientErr)
		if got := server.ConnectionState().ServerName; got != want {
			t.Errorf("%q: the server is asked for %q, want %q", name, got, want)
		}
		if got := client.ConnectionState().ServerName; got != want {
			t.Errorf("%q: the client says %q, want %q", name, got, want)
		}
	}
	s, c := tcpPair(t)
	_, client := e.over(t, s, c, nil)
	longest := strings.Repeat(strings.Repeat("x", 63)+".", 4)[:255]
	must(t, client.SetServerName(longest))
	wantArgument(t, client.SetServerName(longest+"x"), "name")
	for _, name := range []string{"", ".", "..", ".x", "x..", "x..y", "[]", "[x]", "[x", "a\x00b"} {
		if err := client.SetServerName(name); name == "[x" && ossltest.CompiledVersion() < 0x40000000 {
			must(t, err) // it is only a name without a server
		} else {
			wantArgument(t, err, "name")
		}
	}
}

// TestDialWithZone: an IPv6 address may have a zone. A certificate has none.
func TestDialWithZone(t *testing.T) {
	root := issue(t, "root", nil, authority)
	e := bare(t, sslctx.VersionTLS13, issue(t, "host", root, func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv6loopback}
	}).TLSCertificate())
	must(t, e.client.TrustCertificate(root.Cert))
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("there is no IPv6 here:", err)
	}
	defer l.Close()
	loopback, err := net.InterfaceByIndex(1)
	if err != nil {
		t.Skip(err)
	}
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			if c, err := sslctx.Server(raw, e.server); err == nil {
				_ = c.Handshake()
				_ = c.Close()
			}
		}
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	for _, host := range []string{"::1", "::1%" + loopback.Name} {
		c, err := sslctx.Dial("tcp", net.JoinHostPort(host, port), e.client)
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		must(t, c.Close())
	}
}

// TestNameOfResumedServer: a server knows the client's name also when it resumes a session, even
// one that was made for another name.
func TestNameOfResumedServer(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, hook := range []bool{false, true} {
			for _, ticket := range []bool{false, true} {
				noQueue(t)
				e := newEnds(t, v)
				must(t, e.client.SetVerify(sslctx.VerifyNone))
				if !ticket {
					_, err := e.server.SetOptions(sslctx.OpNoTicket)
					must(t, err)
				}
				if hook {
					must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return nil, nil }))
				}
				var offer *sslctx.Session
				for i, name := range []string{"one.example", "one.example", "two.example", ""} {
					s, c := tcpPair(t)
					server, client := e.over(t, s, c, offer)
					if name != "" {
						must(t, client.SetServerName(name))
					}
					serverErr, clientErr := greet(server, client)
					must(t, serverErr)
					must(t, clientErr)
					state := server.ConnectionState()
					if state.DidResume != (i > 0) || state.ServerName != name {
						t.Errorf("hook %v, ticket %v: resumed is %v, and the client asked for %q, not %q",
							hook, ticket, state.DidResume, state.ServerName, name)
					}
					offer = sessionOf(t, client)
				}
			}
		}
	})
}

// TestNameWithDot: a client asks for a name that ends in a dot. The hook for the ClientHello and
// the server's ConnectionState have it without the dot. A server on an SSL_CTX of other code, which
// gets the name from libssl, has it without the dot, too.
func TestNameWithDot(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, kind := range []string{"plain", "hook", "foreign"} {
			noQueue(t)
			e := newEnds(t, v)
			if kind == "foreign" {
				owner := ossltest.NewCtx()
				defer owner.Free()
				var err error
				e.server, err = sslctx.ContextFromPointer(owner.Pointer(), nil)
				must(t, err)
				defer e.server.Close()
				pair := testPair(t)
				must(t, e.server.UseKeyPair(pair.Cert, pair.Key))
				must(t, e.server.SetMaxProtoVersion(v))
			}
			asked := make(chan string, 1)
			if kind == "hook" {
				must(t, e.server.SetClientHelloCallback(func(_ context.Context, h *tls.ClientHelloInfo) (*sslctx.Context, error) {
					asked <- h.ServerName
					return nil, nil
				}))
			} else {
				asked <- "localhost"
			}
			l, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
			must(t, err)
			defer l.Close()
			state := make(chan tls.ConnectionState, 1)
			go func() {
				defer close(state)
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if _, err := c.Write([]byte("greeting")); err != nil {
					t.Errorf("Write returns %v", err)
				}
				state <- c.(*sslctx.Conn).ConnectionState()
			}()
			out, _ := exec.Command("openssl", "s_client", "-connect", l.Addr().String(), "-ign_eof", "-servername", "localhost.").Output()
			if !bytes.Contains(out, []byte("greeting")) {
				t.Fatalf("s_client prints\n%s", out)
			}
			if got, told := (<-state).ServerName, <-asked; got != "localhost" || told != "localhost" {
				t.Errorf("%s: ConnectionState has %q, the hook %q", kind, got, told)
			}
		}
	})
}

// chooses is a server whose hook chooses by the name: admin.example asks for a certificate, others
// do not.
func chooses(t *testing.T, v sslctx.Version) (public *sslctx.Context) {
	t.Helper()
	public, admin := newEnds(t, v).server, newEnds(t, v).server
	must(t, admin.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
	must(t, admin.SetIDContext([]byte("admin")))
	must(t, public.SetClientHelloCallback(func(_ context.Context, h *tls.ClientHelloInfo) (*sslctx.Context, error) {
		if h.ServerName == "admin.example" {
			return admin, nil
		}
		return nil, nil
	}))
	return public
}

// buildClient builds a client of libssl from its source in testdata/clients, for what no Conn does,
// and returns the program's path.
func buildClient(t *testing.T, source string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "client")
	out, err := exec.Command("gcc", "-o", program, filepath.Join("testdata/clients", source), "-lssl", "-lcrypto").CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return program
}

// startClient starts a client of buildClient, with the port of a listener and args. The test waits
// for its end, and prints what it says if the test failed.
func startClient(t *testing.T, program string, args ...string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	var said bytes.Buffer
	cmd := exec.Command(program, append([]string{port}, args...)...)
	cmd.Stderr = &said
	must(t, cmd.Start())
	t.Cleanup(func() {
		l.Close() // a client that still connects fails
		if err := cmd.Wait(); t.Failed() {
			t.Logf("the client: %v\n%s", err, &said)
		}
	})
	return l
}

// acceptRaw returns a server's end of the next connection of l.
func acceptRaw(t *testing.T, l net.Listener, c *sslctx.Context) *sslctx.Conn {
	t.Helper()
	raw, err := l.Accept()
	must(t, err)
	s, err := sslctx.Server(raw, c)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// serveTwoNames runs the client with its names, and calls serve with a server's end. It returns the
// name that the server is asked for in the end, and serve's error.
func serveTwoNames(t *testing.T, client string, c *sslctx.Context, serve func(*sslctx.Conn) error, names ...string) (name string, err error) {
	t.Helper()
	s := acceptRaw(t, startClient(t, client, names...), c)
	defer s.Close()
	err = serve(s)
	return s.ConnectionState().ServerName, err
}

// TestChosenInVain: a context that a hook chose for a connection which is closed before libssl goes
// on with it is given back.
func TestChosenInVain(t *testing.T) {
	noQueue(t)
	e := withIDs(t, sslctx.VersionTLS12)
	offer := e.session(t)
	alive := ossltest.LiveContexts()
	chosen, err := sslctx.NewContext(sslctx.TLSServerMethod)
	must(t, err)
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, offer)
	must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return chosen, nil }))
	closed := false
	must(t, e.server.SetSessionLookup(&sslctx.SessionLookup{ // which comes after the hook
		Find: func(context.Context, sslctx.SessionQuery) (*sslctx.Session, error) {
			closed = true
			return nil, server.Close()
		},
	}))
	go func() { _ = client.Handshake() }()
	if server.Handshake() == nil || !closed {
		t.Error("a handshake that is closed in its middle is good")
	}
	must(t, chosen.Close())
	if n := ossltest.CollectUntil(ossltest.LiveContexts, alive); n > alive {
		t.Errorf("%d contexts are alive, want %d", n, alive)
	}
}

// TestSecondHelloKeepsName: a hook chooses by the name of the first ClientHello. A second one,
// after a HelloRetryRequest, cannot ask for another.
func TestSecondHelloKeepsName(t *testing.T) {
	public := chooses(t, sslctx.VersionTLS13)
	must(t, public.SetGroups("P-256")) // for which the client's first hello has no key
	client := buildClient(t, "two_names.c")
	run := func(first, second string) (name string, err error) {
		return serveTwoNames(t, client, public, func(s *sslctx.Conn) error {
			_, err := s.Write([]byte("y"))
			return err
		}, first, second)
	}
	if _, err := run("admin.example", "admin.example"); err == nil {
		t.Error("a client without a certificate is at admin.example")
	}
	if name, err := run("public.example", "admin.example"); err == nil {
		t.Errorf("a client that was at public.example is at %s", name)
	}
	if name, err := run("public.example", "public.example"); err != nil || name != "public.example" {
		t.Errorf("a client that keeps its name has %v, at %q", err, name)
	}
}

// TestRenegotiationKeepsName: a ClientHello in a renegotiation cannot ask for another name, either.
func TestRenegotiationKeepsName(t *testing.T) {
	public := chooses(t, sslctx.VersionTLS12)
	_, err := public.SetOptions(sslctx.OpAllowClientRenegotiation)
	must(t, err)
	name, err := serveTwoNames(t, buildClient(t, "two_names.c"), public, func(s *sslctx.Conn) error {
		_, err := s.Read(make([]byte, 1))
		return err
	}, "public.example", "admin.example", "again")
	if err == nil && name == "admin.example" {
		t.Error("a client without a certificate is at admin.example")
	}
}

// TestHelloHookAfterDeadline: a deadline passes in ReadEarlyData while the hook for the ClientHello
// runs. The next ReadEarlyData asks the hook again.
func TestHelloHookAfterDeadline(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	var calls atomic.Int32
	must(t, e.server.SetClientHelloCallback(func(ctx context.Context, _ *tls.ClientHelloInfo) (*sslctx.Context, error) {
		if calls.Add(1) == 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, nil
	}))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	read := make(chan error, 1)
	go func() { _, err := client.Read(make([]byte, 1)); read <- err }()
	must(t, server.SetDeadline(time.Now().Add(50*time.Millisecond)))
	if _, err := server.ReadEarlyData(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("after the deadline: %v", err)
	}
	must(t, server.SetDeadline(time.Time{}))
	if _, err := server.ReadEarlyData(make([]byte, 1)); err != io.EOF || calls.Load() != 2 {
		t.Errorf("after a new deadline: %v, and %d calls of the hook", err, calls.Load())
	}
	_, err := server.Write([]byte("x"))
	must(t, err)
	must(t, <-read)
}
