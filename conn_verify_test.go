// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sslctx"
	"sslctx/internal/testcert"
	"sslctx/internal/tlstest"
)

// greet sends a byte from the server to the client. It closes an end that fails, so that the other
// does not wait.
func greet(server, client net.Conn) (serverErr, clientErr error) {
	done := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte{1})
		if err != nil {
			_ = server.Close()
		}
		done <- err
	}()
	_, clientErr = client.Read(make([]byte, 1))
	if clientErr != nil {
		_ = client.Close()
	}
	return <-done, clientErr
}

// TestUnreadableCertificate: a peer shows a certificate that Go cannot parse. The handshake fails
// on both ends, whether they verify or not, and the peer sees a cut connection.
func TestUnreadableCertificate(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		root := issue(t, "root", nil, authority)
		user := issue(t, "user", root, nil)
		odd := tlstest.Unreadable(t)
		for _, mode := range []sslctx.VerifyMode{sslctx.VerifyNone, sslctx.VerifyPeer} {
			for _, chain := range [][][]byte{{user.Cert.Raw}, {user.Cert.Raw, odd}} {
				theirs := &tls.Config{InsecureSkipVerify: true, MinVersion: uint16(v), MaxVersion: uint16(v),
					Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: user.Key}}}
				e := bare(t, v, user.TLSCertificate())
				must(t, e.client.TrustCertificate(root.Cert))
				must(t, e.server.TrustCertificate(root.Cert))
				must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
				must(t, e.client.SetVerify(mode))

				a, b := tcpPair(t)
				ours, err := sslctx.Client(b, e.client)
				must(t, err)
				must(t, ours.SetServerName("localhost"))
				_, err = greet(tls.Server(a, theirs), ours)
				wantHidden(t, ours, err, len(chain) > 1)

				a, b = tcpPair(t)
				ours, err = sslctx.Server(a, e.server)
				must(t, err)
				err, _ = greet(ours, tls.Client(b, theirs))
				wantHidden(t, ours, err, len(chain) > 1)
			}
		}
	})
}

func wantHidden(t *testing.T, c *sslctx.Conn, err error, hidden bool) {
	t.Helper()
	defer c.Close()
	if !hidden {
		if certs := c.ConnectionState().PeerCertificates; err != nil || len(certs) != 1 {
			t.Errorf("%d certificates, %v", len(certs), err)
		}
		return
	}
	var unread *sslctx.CertificateError
	if !errors.As(err, &unread) || unread.Index != 1 || unread.Err == nil {
		t.Fatalf("the handshake returns %v", err)
	}
	if c.ConnectionState().HandshakeComplete || c.Handshake() == nil {
		t.Error("the connection goes on")
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("the connection writes")
	}
	if !strings.Contains(err.Error(), "certificate 1 ") {
		t.Errorf("%q", err)
	}
}

// TestUnreadableCertificateLater: the same for a client that shows its certificates after the
// handshake.
func TestUnreadableCertificateLater(t *testing.T) {
	e, user := pha(t)
	for _, hidden := range []bool{false, true} {
		chain := pemOf(user.Cert.Raw)
		if hidden {
			chain = append(chain, pemOf(tlstest.Unreadable(t))...)
		}
		must(t, e.client.UseKeyPair(chain, keyPEM(t, user.Key)))
		server, client := e.connect(t, nil)
		must(t, server.VerifyClientPostHandshake())
		err := answer(t, server, client)
		var unread *sslctx.CertificateError
		if errors.As(err, &unread) != hidden || (err == nil) == hidden {
			t.Errorf("hidden is %v: Read returns %v", hidden, err)
		}
	}
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// TestVerifiedChains: a state has a chain if and only if the peer had to be verified and was, also
// on a resumed connection. The chain leads to the root.
func TestVerifiedChains(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		root := issue(t, "root", nil, authority)
		middle := issue(t, "middle", root, authority)
		host, user := issue(t, "host", middle, nil), issue(t, "user", middle, nil)
		for name, test := range map[string]struct {
			mode    sslctx.VerifyMode
			trusted bool
			pool    bool
			want    int // certificates in the chain
		}{
			"none":              {sslctx.VerifyNone, true, false, 0},
			"none, not trusted": {sslctx.VerifyNone, false, false, 0},
			"peer":              {sslctx.VerifyPeer, true, false, 3},
			"peer, by a pool":   {sslctx.VerifyPeer, false, true, 3},
		} {
			t.Run(name, func(t *testing.T) {
				e := bare(t, v, host.TLSCertificate(middle))
				must(t, e.server.SetIDContext([]byte("test")))
				must(t, e.client.UseCertificate(user.TLSCertificate(middle)))
				must(t, e.client.SetVerify(test.mode))
				must(t, e.server.SetVerify(sslctx.VerifyPeer))
				must(t, e.server.TrustCertificate(root.Cert))
				if test.trusted {
					must(t, e.client.TrustCertificate(root.Cert))
				}
				if test.pool {
					must(t, e.client.TrustCertPool(poolOf(root)))
				}
				var offer *sslctx.Session
				for i := range 3 {
					a, b := tcpPair(t)
					server, client := e.over(t, a, b, offer)
					must(t, client.SetServerName("localhost"))
					serverErr, clientErr := greet(server, client)
					must(t, errors.Join(serverErr, clientErr))
					if client.SessionReused() != (i > 0) {
						t.Fatalf("connection %d: resumed is %v", i, client.SessionReused())
					}
					wantChain(t, client, host.Cert, test.want, test.want)
					wantChain(t, server, user.Cert, 3, 1) // a ticket has no intermediates
					offer = sessionOf(t, client)
				}
			})
		}
	})
}

// wantChain checks that PeerCertificates has the peer's certificate, and checks the length of the
// chain: full, or at least least on a resumed connection.
func wantChain(t *testing.T, c *sslctx.Conn, peer *x509.Certificate, full, least int) {
	t.Helper()
	for range 2 { // it is kept
		state := c.ConnectionState()
		if len(state.PeerCertificates) == 0 || !state.PeerCertificates[0].Equal(peer) {
			t.Fatalf("%d certificates of the peer", len(state.PeerCertificates))
		}
		if full == 0 {
			if state.VerifiedChains != nil {
				t.Errorf("a peer that was not verified has %d chains", len(state.VerifiedChains))
			}
			continue
		}
		if len(state.VerifiedChains) != 1 || !state.VerifiedChains[0][0].Equal(peer) {
			t.Fatalf("resumed is %v: %d chains", state.DidResume, len(state.VerifiedChains))
		}
		if n := len(state.VerifiedChains[0]); n != full && (!state.DidResume || n < least) {
			t.Errorf("resumed is %v: a chain of %d certificates", state.DidResume, n)
		}
		state.PeerCertificates[0], state.VerifiedChains[0][0] = nil, nil // the caller owns them
	}
}

// TestPeerOfStoredSession: a client that resumes a session from storage has the server's
// certificate and a chain.
func TestPeerOfStoredSession(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		root := issue(t, "root", nil, authority)
		middle := issue(t, "middle", root, authority)
		for want, sends := range map[int]tls.Certificate{
			2: issue(t, "host", root, nil).TLSCertificate(),
			1: issue(t, "host", middle, nil).TLSCertificate(middle), // nobody has the intermediate any more
		} {
			e := bare(t, v, sends)
			must(t, e.client.TrustCertificate(root.Cert))
			_, client := e.connect(t, nil)
			stored := storedAs(t, sessionOf(t, client), nil)
			for range 2 { // also if it was offered before
				_, client = e.connect(t, stored)
				state := client.ConnectionState()
				if !state.DidResume || len(state.PeerCertificates) != 1 || len(state.VerifiedChains) != 1 ||
					len(state.VerifiedChains[0]) != want || !bytes.Equal(state.PeerCertificates[0].Raw, sends.Certificate[0]) {
					t.Errorf("resumed %v, %d certificates, chains %v", state.DidResume, len(state.PeerCertificates), state.VerifiedChains)
				}
			}
		}
	})
}

// TestConstraintInState: a connection resumed a session, and ConnectionState looks for the chain. A
// constraint of the pool may panic there, end its goroutine, or wait: ConnectionState returns. It
// has the whole chain as soon as the constraint has returned.
func TestConstraintInState(t *testing.T) {
	since := func(c *x509.Certificate) { c.NotBefore = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) } // before that of a bubble
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		root := issue(t, "root", nil, func(c *x509.Certificate) { authority(c); since(c) })
		e := bare(t, v, issue(t, "localhost", root, since).TLSCertificate())
		constraint, calls := func() {}, 0
		must(t, e.client.TrustCertPool(waitingPool(root, func(context.Context) { calls++; constraint() })))
		_, client := e.connect(t, nil)
		offer := sessionOf(t, client)
		for name, test := range map[string]struct {
			does  func() // nil waits
			while func(*sslctx.Conn) error
			took  time.Duration
			chain int
			later int // once the constraint has returned
		}{
			"returns":         {does: func() {}, chain: 2, later: 2},
			"panics":          {does: func() { panic(errTunnel) }, chain: 1, later: 1},
			"ends":            {does: runtime.Goexit, chain: 1, later: 1},
			"waits":           {took: time.Second, chain: 1, later: 2},
			"deadline":        {while: deadlineIn(time.Second / 2), took: time.Second / 2, chain: 1, later: 2},
			"deadline passed": {while: deadlineIn(-time.Second), took: 50 * time.Millisecond, chain: 1, later: 2},
			"Close": {while: func(c *sslctx.Conn) error { time.AfterFunc(time.Second/2, func() { _ = c.Close() }); return nil },
				took: time.Second / 2, chain: 1, later: 1},
		} {
			synctest.Test(t, func(t *testing.T) {
				s, c := wire()
				server, client := e.over(t, s, c, offer)
				exchange(t, server, client)
				release := make(chan struct{})
				constraint, calls = test.does, 0
				if constraint == nil {
					constraint = func() { <-release }
				}
				if test.while != nil {
					must(t, test.while(client))
				}
				start := time.Now()
				both := make(chan int, 2)
				for range 2 {
					go func() { both <- len(client.ConnectionState().VerifiedChains[0]) }()
				}
				for range 2 {
					if n, took := <-both, time.Since(start); n != test.chain || took != test.took {
						t.Errorf("%s: a chain of %d certificates after %v", name, n, took)
					}
				}
				close(release)
				synctest.Wait()
				if n := len(client.ConnectionState().VerifiedChains[0]); n != test.later || calls != 1 || !client.SessionReused() {
					t.Errorf("%s: in the end the chain has %d certificates, and the constraint was called %d times", name, n, calls)
				}
			})
		}
	})
}

func deadlineIn(d time.Duration) func(*sslctx.Conn) error {
	return func(c *sslctx.Conn) error { return c.SetDeadline(time.Now().Add(d)) }
}

// TestChosenContextVerifies: a ClientHello hook chooses a context. Its own verify mode and trust
// apply to the client, and a session that the first context verified does not bypass them.
func TestChosenContextVerifies(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		root, users, others := issue(t, "root", nil, authority), issue(t, "users", nil, authority), issue(t, "others", nil, authority)
		e := bare(t, v, issue(t, "host", root, nil).TLSCertificate())
		must(t, e.client.TrustCertificate(root.Cert))
		chosen := newContext(t, sslctx.TLSServerMethod)
		must(t, chosen.UseCertificate(issue(t, "chosen", root, nil).TLSCertificate()))
		must(t, chosen.TrustCertificate(users.Cert))
		must(t, e.server.TrustCertificate(others.Cert))
		for _, c := range []*sslctx.Context{e.server, chosen} {
			must(t, c.SetIDContext([]byte("the same")))
		}
		var choice *sslctx.Context
		must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
			return choice, nil
		}))
		strict := sslctx.VerifyPeer | sslctx.VerifyFailIfNoPeerCert
		come := func(offer *sslctx.Session) (server, client *sslctx.Conn, err error) {
			a, b := tcpPair(t)
			server, client = e.over(t, a, b, offer)
			err, _ = greet(server, client)
			return server, client, err
		}

		must(t, e.server.SetVerify(sslctx.VerifyNone))
		must(t, chosen.SetVerify(strict))
		choice = chosen
		_, _, err := come(nil)
		wantReason(t, err, sslctx.ReasonPeerDidNotReturnACertificate)

		must(t, e.client.UseCertificate(issue(t, "user", users, nil).TLSCertificate()))
		server, _, err := come(nil)
		must(t, err)
		if len(server.ConnectionState().VerifiedChains) != 1 {
			t.Error("the chosen context does not verify")
		}

		must(t, e.server.SetVerify(strict))
		must(t, chosen.SetVerify(sslctx.VerifyNone))
		server, _, err = come(nil)
		must(t, err)
		if len(server.ConnectionState().PeerCertificates) != 0 {
			t.Error("the context that was not chosen asks")
		}

		// A client that the first context trusts, and the chosen one does not.
		must(t, chosen.SetVerify(strict))
		must(t, e.client.UseCertificate(issue(t, "other", others, nil).TLSCertificate()))
		choice = nil
		_, client, err := come(nil)
		must(t, err)
		s := sessionOf(t, client)
		server, client, err = come(s)
		must(t, err)
		if !server.SessionReused() {
			t.Error("the first context does not resume its session")
		}
		s = sessionOf(t, client)
		choice = chosen
		_, _, err = come(s)
		wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
	})
}

// TestClientNeedsName: a client that verifies must set a name, or accept any name. Otherwise it
// sends nothing at all.
func TestClientNeedsName(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		root := issue(t, "root", nil, authority)
		e := bare(t, v, issue(t, "host", root, func(c *x509.Certificate) { c.DNSNames = []string{"host.example"} }).TLSCertificate())
		must(t, e.client.TrustCertificate(root.Cert))
		far, near := wire()
		c, err := sslctx.Client(near, e.client)
		must(t, err)
		for _, call := range []func() error{c.Handshake, func() error { _, err := c.Write([]byte{1}); return err }} {
			if err := call(); !errors.Is(err, sslctx.ErrNoServerName) {
				t.Errorf("a client without a name returns %v", err)
			}
		}
		must(t, c.Close())
		if sent, err := io.ReadAll(far); err != nil || len(sent) > 0 {
			t.Errorf("it sent %d bytes, %v", len(sent), err)
		}

		for name, test := range map[string]struct {
			prepare func(c *sslctx.Conn) error
			asked   string
			good    bool
		}{
			"any name":            {func(c *sslctx.Conn) error { return c.AcceptAnyName() }, "", true},
			"the name":            {func(c *sslctx.Conn) error { return c.SetServerName("host.example") }, "host.example", true},
			"another name":        {func(c *sslctx.Conn) error { return c.SetServerName("x.example") }, "", false},
			"not verified at all": {func(c *sslctx.Conn) error { return c.SetVerify(sslctx.VerifyNone) }, "", true},
			"any name, and another is sent": {func(c *sslctx.Conn) error {
				return errors.Join(c.SetServerName("x.example"), c.AcceptAnyName())
			}, "x.example", true},
			"any name, and then another": {func(c *sslctx.Conn) error {
				return errors.Join(c.AcceptAnyName(), c.SetServerName("x.example"))
			}, "", false},
		} {
			a, b := tcpPair(t)
			server, err := sslctx.Server(a, e.server)
			must(t, err)
			client, err := sslctx.Client(b, e.client)
			must(t, err)
			must(t, test.prepare(client))
			_, err = greet(server, client)
			if (err == nil) != test.good || test.good && server.ConnectionState().ServerName != test.asked {
				t.Errorf("%s: %v, and the server is asked for %q", name, err, server.ConnectionState().ServerName)
			}
			if test.good {
				if err := client.AcceptAnyName(); !errors.Is(err, sslctx.ErrHandshakeStarted) {
					t.Errorf("AcceptAnyName after the handshake returns %v", err)
				}
				if err := client.SetVerify(sslctx.VerifyNone); !errors.Is(err, sslctx.ErrHandshakeStarted) {
					t.Errorf("SetVerify after the handshake returns %v", err)
				}
			}
			_, _ = client.Close(), server.Close()
		}
	})
}

// TestDialVerifies: Dial and Dialer verify by default. Only a Dialer's own field turns that off.
func TestDialVerifies(t *testing.T) {
	noQueue(t)
	root := issue(t, "root", nil, authority)
	e := bare(t, sslctx.VersionTLS13, issue(t, "host", root, nil).TLSCertificate())
	addr := serve(t, e.server)
	_, port, err := net.SplitHostPort(addr)
	must(t, err)
	client := newContext(t, sslctx.TLSClientMethod) // with the defaults of NewContext
	_, err = sslctx.Dial("tcp", addr, client)
	wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
	if !strings.Contains(err.Error(), "InsecureSkipVerify") {
		t.Errorf("%q does not say what to do", err)
	}
	for _, d := range []sslctx.Dialer{{Context: client}, {Context: client, ServerName: "localhost"}} {
		if _, err := d.Dial("tcp", addr); !errors.Is(err, sslctx.ReasonCertificateVerifyFailed) {
			t.Errorf("a Dialer of a context that trusts nobody returns %v", err)
		}
	}
	if _, err := sslctx.Dial("tcp", ":"+port, client); !errors.Is(err, sslctx.ErrNoServerName) {
		t.Errorf("Dial without a host returns %v", err)
	}

	// With InsecureSkipVerify, whatever the mode of the context.
	for _, mode := range []sslctx.VerifyMode{sslctx.VerifyNone, sslctx.VerifyPeer} {
		must(t, client.SetVerify(mode))
		for _, a := range []string{addr, ":" + port} {
			c, err := (&sslctx.Dialer{Context: client, InsecureSkipVerify: true}).Dial("tcp", a)
			must(t, err)
			if n := len(c.(*sslctx.Conn).ConnectionState().VerifiedChains); n != 0 {
				t.Errorf("%d chains", n)
			}
			must(t, c.Close())
		}
	}

	must(t, client.TrustCertificate(root.Cert))
	must(t, client.SetVerify(sslctx.VerifyNone))
	insecure, err := (&sslctx.Dialer{Context: client, InsecureSkipVerify: true, ServerName: "x.example"}).Dial("tcp", addr)
	must(t, err)
	echoOnce(t, insecure)
	s := sessionOf(t, insecure.(*sslctx.Conn))
	must(t, insecure.Close())
	_, err = (&sslctx.Dialer{Context: client, ServerName: "x.example", Session: s}).Dial("tcp", addr)
	wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
	c, err := (&sslctx.Dialer{Context: client, ServerName: "localhost"}).Dial("tcp", addr)
	must(t, err)
	if n := len(c.(*sslctx.Conn).ConnectionState().VerifiedChains); n != 1 {
		t.Errorf("%d chains", n)
	}
	must(t, c.Close())
}

// TestDialIsBounded: the time limit of the net.Dialer includes the handshake.
func TestDialIsBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	must(t, err)
	defer l.Close()
	for _, d := range []*net.Dialer{
		{Timeout: 100 * time.Millisecond},
		{Deadline: time.Now().Add(100 * time.Millisecond), Timeout: time.Hour},
		{Timeout: 100 * time.Millisecond, Deadline: time.Now().Add(time.Hour)},
	} {
		dialer := sslctx.Dialer{Context: newContext(t, sslctx.TLSClientMethod), NetDialer: d}
		if _, err := dialer.Dial("tcp", l.Addr().String()); !isTimeout(err) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Dial returns %v", err)
		}
	}
}

// TestVerifyErrors: the error of a verification has the reason, the name and the certificate.
func TestVerifyErrors(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		root := issue(t, "root", nil, authority)
		must := func(err error) { t.Helper(); must(t, err) }
		for name, test := range map[string]struct {
			cert *issued
			host string
			want sslctx.VerifyResult
			text []string
		}{
			"another host": {issue(t, "host", root, nil), "x.example", 62, []string{"ostname mismatch", `host "x.example"`, `"CN=host"`}},
			"another address": {issue(t, "host", root, nil), "10.0.0.1", 64,
				[]string{"IP address mismatch", `host "10.0.0.1"`, `"CN=host"`}},
			"nobody knows it": {issue(t, "host\nforged line", issue(t, "elsewhere", nil, authority), nil), "localhost", 20,
				[]string{"unable to get local issuer", `"CN=host\nforged line"`}},
			"expired": {issue(t, "host", root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
				"localhost", 10, []string{"expired", `"CN=host"`}},
		} {
			e := bare(t, v, test.cert.TLSCertificate())
			must(e.client.TrustCertificate(root.Cert))
			a, b := tcpPair(t)
			server, client := e.over(t, a, b, nil)
			must(client.SetServerName(test.host))
			_, err := greet(server, client)
			var ssl *sslctx.Error
			if !errors.As(err, &ssl) || ssl.VerifyResult != test.want || ssl.Host != test.host ||
				ssl.Subject != test.cert.Cert.Subject.String() {
				t.Errorf("%s: %+v", name, ssl)
				continue
			}
			for _, text := range test.text {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%s: %q does not say %q", name, err, text)
				}
			}
		}

		e := bare(t, v, issue(t, "host", root, nil).TLSCertificate()) // the other end
		must(e.client.TrustCertificate(root.Cert))
		must(e.server.SetVerify(sslctx.VerifyPeer))
		must(e.client.UseCertificate(issue(t, "stranger", nil, nil).TLSCertificate()))
		a, b := tcpPair(t)
		server, client := e.over(t, a, b, nil)
		err, clientErr := greet(server, client)
		var ssl *sslctx.Error
		if !errors.As(err, &ssl) || ssl.VerifyResult != 18 || ssl.Host != "" || ssl.Subject != "CN=stranger" {
			t.Errorf("the server's error is %v", err)
		}
		var alert tls.AlertError
		if !errors.As(clientErr, &alert) || alert != 48 || !errors.Is(clientErr, sslctx.AlertReason(alert)) ||
			errors.Is(clientErr, sslctx.AlertReason(alert+1)) {
			t.Errorf("the client's error is %v, the alert in it %v", clientErr, alert)
		}
		if errors.As(err, &alert) {
			t.Errorf("the server got an alert: %v", err)
		}
	})
}

// TestKeyOfSessions compares sessions by the key with which libssl finds them.
func TestKeyOfSessions(t *testing.T) {
	a, b := newSession(t, "one"), newSession(t, "one")
	if !a.SameKey(a) || !a.SameKey(b) || a.Same(b) || a.SameKey(newSession(t, "another")) || a.SameKey(newSession(t, "on")) {
		t.Error("the ID does not decide")
	}
	must(t, b.SetProtocolVersion(sslctx.VersionTLS12))
	if a.SameKey(b) || b.SameKey(a) {
		t.Error("the version does not decide")
	}
	must(t, b.Close())
	if a.SameKey(b) || b.SameKey(b) || a.SameKey(nil) || (*sslctx.Session)(nil).SameKey(a) {
		t.Error("nothing has a key")
	}
}

// TestServerOffersNothing: a server has no session to offer.
func TestServerOffersNothing(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	s, c := tcpPair(t)
	server, _ := e.over(t, s, c, nil)
	wantArgument(t, server.SetSession(newSession(t, "id")), "receiver")
	wantArgument(t, server.SetSession(nil), "receiver")
}

// TestServerTrustThatIsGone: a server no longer trusts a client's authority. The client's session
// does not resume as verified.
func TestServerTrustThatIsGone(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, cached := range []bool{false, true} {
			gone, kept := issue(t, "gone", nil, authority), issue(t, "kept", nil, authority)
			e := newEnds(t, v)
			must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
			must(t, e.server.SetIDContext([]byte("test")))
			if cached {
				_, err := e.server.SetOptions(sslctx.OpNoTicket)
				must(t, err)
			}
			must(t, e.server.TrustCertPool(poolOf(gone)))
			must(t, e.client.UseCertificate(issue(t, "user", gone, nil).TLSCertificate()))
			_, client := e.connect(t, nil)
			s := sessionOf(t, client)
			must(t, e.server.TrustCertPool(poolOf(kept)))
			a, b := tcpPair(t)
			server, client := e.over(t, a, b, s)
			serverErr, _ := greet(server, client)
			if serverErr == nil && server.SessionReused() {
				t.Error("a client of an authority that is trusted no more is resumed as verified")
			}
		}
	})
}

// TestPurposeOfProvenClient: a session that is verified again is verified for what its certificate
// is for.
func TestPurposeOfProvenClient(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		root := issue(t, "root", nil, authority)
		e := newEnds(t, v)
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, e.server.SetIDContext([]byte("test")))
		must(t, e.server.TrustCertPool(poolOf(root)))
		user := issue(t, "user", root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
		must(t, e.client.UseCertificate(user.TLSCertificate()))
		s := e.session(t)
		must(t, e.server.TrustCertPool(poolOf(root, issue(t, "another", nil, authority))))
		server, _ := e.connect(t, s)
		if !server.SessionReused() {
			t.Error("a client's certificate is not good for the server any more")
		}
	})
}

// TestFleetOfTwoTrusts: two processes share ticket keys. In each a hook chooses between contexts
// that trust different clients. A session that one context verified does not resume with the other,
// also in the other process.
func TestFleetOfTwoTrusts(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		low, high := issue(t, "low", nil, authority), issue(t, "high", nil, authority)
		key := sslctx.NewTicketKey()
		process := func() ends {
			e := newEnds(t, v) // the default context: trusts "high"
			must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
			must(t, e.server.SetIDContext([]byte("test")))
			must(t, e.server.TrustCertPool(poolOf(high)))
			must(t, e.server.SetTicketKeyRing(&sslctx.TicketKeyRing{Current: key}))
			lowCtx := newEnds(t, v).server
			must(t, lowCtx.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
			must(t, lowCtx.SetIDContext([]byte("test")))
			must(t, lowCtx.TrustCertPool(poolOf(low)))
			must(t, e.server.SetClientHelloCallback(func(_ context.Context, h *tls.ClientHelloInfo) (*sslctx.Context, error) {
				if h.ServerName == "low.example" {
					return lowCtx, nil
				}
				return nil, nil
			}))
			return e
		}
		run := func(server, client *sslctx.Context, name string, offer *sslctx.Session) (s, c *sslctx.Conn, err error) {
			a, b := tcpPair(t)
			s, c = ends{server, client}.over(t, a, b, offer)
			must(t, c.SetServerName(name))
			must(t, c.AcceptAnyName())
			err, _ = greet(s, c)
			return s, c, err
		}
		one := process()
		must(t, one.client.SetVerify(sslctx.VerifyNone))
		must(t, one.client.UseCertificate(issue(t, "user", low, nil).TLSCertificate()))
		_, client, err := run(one.server, one.client, "low.example", nil)
		must(t, err)
		s := sessionOf(t, client)
		server, _, err := run(process().server, one.client, "high.example", s)
		if err == nil && server.SessionReused() {
			t.Error("a client that only low trusts is verified at high")
		}
	})
}

// pha makes ends of TLS 1.3 whose client allows a request for a certificate after the handshake,
// and a certificate that the server trusts.
func pha(t *testing.T) (e ends, user *issued) {
	t.Helper()
	root := issue(t, "root", nil, authority)
	e = bare(t, sslctx.VersionTLS13, issue(t, "host", root, nil).TLSCertificate())
	must(t, e.client.TrustCertificate(root.Cert))
	must(t, e.client.SetPostHandshakeAuth(true))
	must(t, e.server.TrustCertificate(root.Cert))
	must(t, e.server.SetIDContext([]byte("test")))
	must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert|sslctx.VerifyPostHandshake))
	return e, issue(t, "user", root, nil)
}

// answer makes the client read the server's request and answer it. It returns the error of the
// server's Read.
func answer(t *testing.T, server, client *sslctx.Conn) error {
	t.Helper()
	_, err := server.Write([]byte{2})
	must(t, err)
	_, err = client.Read(make([]byte, 1))
	must(t, err)
	if _, err = client.Write([]byte{3}); err != nil {
		return err
	}
	_, err = server.Read(make([]byte, 1))
	return err
}

// TestPostHandshakeAuth requests a client's certificate on a connection in use.
func TestPostHandshakeAuth(t *testing.T) {
	noQueue(t)
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	server, client := e.connect(t, nil)
	if n := len(server.ConnectionState().PeerCertificates); n != 0 {
		t.Fatalf("%d certificates before anybody asked", n)
	}
	must(t, server.VerifyClientPostHandshake())
	var ssl *sslctx.Error
	if err := server.VerifyClientPostHandshake(); !errors.As(err, &ssl) {
		t.Errorf("asking twice returns %v", err)
	}
	must(t, answer(t, server, client))
	wantChain(t, server, user.Cert, 2, 2)
	exchange(t, server, client)

	// Without a certificate the server's Read fails.
	e, _ = pha(t)
	server, client = e.connect(t, nil)
	must(t, server.VerifyClientPostHandshake())
	wantReason(t, answer(t, server, client), sslctx.ReasonPeerDidNotReturnACertificate)

	// A session without a certificate is resumed, because the server requests it later.
	e, _ = pha(t)
	_, client = e.connect(t, nil)
	if server, _ = e.connect(t, sessionOf(t, client)); !server.SessionReused() {
		t.Error("the session is not resumed")
	}
}

// TestPostHandshakeAuthRefused: if the client does not allow the request, it fails, and the
// connection continues.
func TestPostHandshakeAuthRefused(t *testing.T) {
	noQueue(t)
	willing, _ := pha(t)
	silent, _ := pha(t)
	must(t, silent.client.SetPostHandshakeAuth(false))
	old := newEnds(t, sslctx.VersionTLS12)
	asker := func(e ends, client bool) (asks, peer *sslctx.Conn) {
		s, c := e.connect(t, nil)
		if client {
			return c, s
		}
		return s, c
	}
	for name, test := range map[string]struct {
		e      ends
		client bool
	}{"a client that did not say so": {silent, false}, "TLS 1.2": {old, false}, "a client asks": {willing, true}} {
		asks, peer := asker(test.e, test.client)
		var ssl *sslctx.Error
		if err := asks.VerifyClientPostHandshake(); !errors.As(err, &ssl) {
			t.Errorf("%s: it returns %v", name, err)
		}
		exchange(t, asks, peer)
	}

	// Here one connection allows it.
	s, c := tcpPair(t)
	server, client := silent.over(t, s, c, nil)
	must(t, client.SetPostHandshakeAuth(true))
	serverErr, clientErr := greet(server, client)
	must(t, errors.Join(serverErr, clientErr))
	must(t, server.VerifyClientPostHandshake())
	if err := client.SetPostHandshakeAuth(false); !errors.Is(err, sslctx.ErrHandshakeStarted) {
		t.Errorf("SetPostHandshakeAuth after the handshake returns %v", err)
	}
}

// TestModesWithoutPeer: a mode without effect is refused, and so are unknown bits.
func TestModesWithoutPeer(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	server, _ := e.join(t, nil)
	for _, m := range []sslctx.VerifyMode{sslctx.VerifyFailIfNoPeerCert, sslctx.VerifyClientOnce, sslctx.VerifyPostHandshake, 1 << 20, -1,
		sslctx.VerifyPeer | 1<<10} {
		wantArgument(t, e.server.SetVerify(m), "m")
		wantArgument(t, server.SetVerify(m), "m")
	}
	must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert|sslctx.VerifyClientOnce|sslctx.VerifyPostHandshake))
	must(t, e.server.SetVerify(sslctx.VerifyNone))
}

// TestServerChanges: a server shows another certificate in a renegotiation, or none. The client of a
// Dialer ends the connection, as crypto/tls does. Any other client goes on, as libssl does.
func TestServerChanges(t *testing.T) {
	noQueue(t)
	for _, ciphers := range []string{"ECDHE-RSA-AES128-GCM-SHA256", "AECDH-AES128-SHA"} {
		t.Run(ciphers, func(t *testing.T) { serverChanges(t, ciphers) })
	}
}

// serverChanges has a server choose other cipher suites for a renegotiation, and so another
// certificate.
func serverChanges(t *testing.T, ciphers string) {
	root := issue(t, "root", nil, authority)
	rsa, err := testcert.NewRSA()
	must(t, err)
	for _, dialer := range []bool{true, false} {
		e := bare(t, sslctx.VersionTLS12, issue(t, "localhost", root, nil).TLSCertificate())
		must(t, e.server.UseKeyPair(rsa.Cert, rsa.Key))
		must(t, e.server.SetCipherList("ECDHE-ECDSA-AES128-GCM-SHA256:@SECLEVEL=0"))
		must(t, e.client.SetCipherList("ECDHE-ECDSA-AES128-GCM-SHA256:"+ciphers+":@SECLEVEL=0"))
		_, err := e.server.SetSessionCacheMode(sslctx.SessCacheOff)
		must(t, err)
		_, err = e.server.SetOptions(sslctx.OpNoTicket)
		must(t, err)
		s, c := tcpPair(t)
		server, err := sslctx.Server(s, e.server)
		must(t, err)
		shaken := make(chan error, 1)
		go func() { shaken <- server.Handshake() }()
		var client *sslctx.Conn
		if dialer {
			client, err = (&sslctx.Dialer{Context: e.client, InsecureSkipVerify: true}).ClientContext(t.Context(), c, "localhost:1")
			must(t, err)
		} else {
			client, err = sslctx.Client(c, e.client)
			must(t, err)
			must(t, client.SetVerify(sslctx.VerifyNone))
			must(t, client.Handshake())
		}
		must(t, <-shaken)
		first, suite := client.ConnectionState().PeerCertificates[0], client.Cipher()
		must(t, server.Renegotiate()) // with the same certificate
		go func() { _, _ = io.Copy(io.Discard, server) }()
		use := func() error { // both ends write, so both know of the renegotiation's end
			if _, err := client.Write([]byte("x")); err != nil {
				return err
			}
			_, err = server.Write([]byte("x"))
			must(t, err)
			_, err = client.Read(make([]byte, 1))
			return err
		}
		for range 3 {
			must(t, use())
		}
		must(t, e.server.SetCipherList(ciphers))
		must(t, server.Renegotiate())
		same, readErr := true, error(nil)
		for same && readErr == nil {
			readErr = use()
			now := client.ConnectionState().PeerCertificates
			same = len(now) > 0 && now[0].Equal(first)
		}
		if dialer != same || dialer != errors.Is(readErr, sslctx.ErrPeerChanged) {
			t.Errorf("a Dialer's %v: Read returns %v, the certificate is the same: %v", dialer, readErr, same)
		}
		if dialer != (client.Cipher() == suite) {
			t.Errorf("a Dialer's %v: the cipher suite is %v", dialer, client.Cipher())
		}
		for name, get := range refusedCalls {
			if err := get(client); dialer != errors.Is(err, sslctx.ErrPeerChanged) {
				t.Errorf("a Dialer's %v: %s returns %v", dialer, name, err)
			}
		}
		must(t, errors.Join(client.Abort(), server.Abort()))
	}
}

// refusedCalls do not answer for a peer that the binding has refused.
var refusedCalls = map[string]func(*sslctx.Conn) error{
	"Session":              func(c *sslctx.Conn) error { _, err := c.Session(); return err },
	"VerifyResult":         func(c *sslctx.Conn) error { _, err := c.VerifyResult(); return err },
	"ClientRandom":         func(c *sslctx.Conn) error { _, err := c.ClientRandom(); return err },
	"ServerRandom":         func(c *sslctx.Conn) error { _, err := c.ServerRandom(); return err },
	"ExportKeyingMaterial": func(c *sslctx.Conn) error { _, err := c.ExportKeyingMaterial("label", nil, 16); return err },
}
