// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/testcert"
)

// handshake makes a connection and returns both ends and their errors.
func (e ends) handshake(t *testing.T) (server, client *sslctx.Conn, serverErr, clientErr error) {
	t.Helper()
	s, c := tcpPair(t)
	server, client = e.over(t, s, c, nil)
	done := make(chan error, 1)
	go func() {
		err := server.Handshake()
		if err != nil {
			_ = s.Close()
		}
		done <- err
	}()
	clientErr = client.Handshake()
	if clientErr != nil {
		_ = c.Close()
	}
	return server, client, <-done, clientErr
}

// TestALPNMismatch: if a server's list has nothing in common with the client's, the handshake
// fails, unless the server allows that.
func TestALPNMismatch(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.client.SetALPNProtos("imap"))
	for i, step := range []struct {
		set  func() error
		want string
		ok   bool
	}{
		{func() error { return e.server.SetALPNProtos("h2") }, "", false},
		{func() error { return e.server.AllowALPNMismatch(true) }, "", true},
		{func() error { return e.server.SetALPNProtos("http/1.1") }, "", true}, // the allowance stays
		{func() error { return e.server.SetALPNProtos("http/1.1", "imap") }, "imap", true},
		{func() error { return e.server.SetALPNProtos() }, "", true},
		{func() error { return e.server.SetALPNProtos("h2") }, "", true},
		{func() error { return e.server.AllowALPNMismatch(false) }, "", false},
		{func() error { return e.server.SetALPNProtos() }, "", true},
		{func() error { return e.server.SetALPNProtos("h2") }, "", false},
	} {
		must(t, step.set())
		server, _, serverErr, clientErr := e.handshake(t)
		if (serverErr == nil && clientErr == nil) != step.ok {
			t.Errorf("step %d: %v, %v", i, serverErr, clientErr)
		}
		if got := server.ConnectionState().NegotiatedProtocol; got != step.want {
			t.Errorf("step %d: the protocol is %q, want %q", i, got, step.want)
		}
	}
	other := newContext(t, sslctx.TLSServerMethod)
	must(t, other.AllowALPNMismatch(true)) // before there is a list
	must(t, other.SetALPNProtos("h2"))
	pair := testPair(t)
	must(t, other.UseKeyPair(pair.Cert, pair.Key))
	must(t, e.client.TrustCertificates(pair.Cert))
	if _, _, serverErr, clientErr := (ends{other, e.client}).handshake(t); serverErr != nil || clientErr != nil {
		t.Errorf("allowed before the list was set: %v, %v", serverErr, clientErr)
	}
}

// TestClientCAs: a client gets the names from the server, in the same order.
func TestClientCAs(t *testing.T) {
	noQueue(t)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		must(t, e.server.SetVerify(sslctx.VerifyPeer))
		var certs []*x509.Certificate
		var want [][]byte
		for range 3 {
			block, _ := pem.Decode(testPair(t).Cert)
			cert, err := x509.ParseCertificate(block.Bytes)
			must(t, err)
			certs, want = append(certs, cert), append(want, cert.RawSubject)
		}
		for _, n := range []int{0, 3, 1, 0} {
			must(t, e.server.SetClientCAs(certs[:n]...))
			server, client, serverErr, clientErr := e.handshake(t)
			must(t, errors.Join(serverErr, clientErr))
			got, err := client.AcceptableCAs()
			must(t, err)
			if !slices.EqualFunc(got, want[:n], slices.Equal) {
				t.Errorf("the client was sent %d names, want %d: %x", len(got), n, got)
			}
			if got, err := server.AcceptableCAs(); len(got) != 0 || err != nil {
				t.Errorf("a server was sent %x, %v", got, err)
			}
			must(t, client.Close())
			if _, err := client.AcceptableCAs(); !errors.Is(err, sslctx.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		file := filepath.Join(t.TempDir(), "cas")
		must(t, os.WriteFile(file, append(pemOf(certs[0].Raw), pemOf(certs[1].Raw)...), 0o600))
		ofFile := newEnds(t, v)
		must(t, ofFile.server.SetVerify(sslctx.VerifyPeer))
		must(t, ofFile.server.Configure("ClientCAFile", file))
		_, client, serverErr, clientErr := ofFile.handshake(t)
		must(t, errors.Join(serverErr, clientErr))
		if got, err := client.AcceptableCAs(); err != nil || len(got) != 2 {
			t.Errorf("of the file's two names the client was sent %d, %v", len(got), err)
		}
		wantArgument(t, e.server.SetClientCAs(nil), "certs")
		wantArgument(t, e.server.SetClientCAs(new(x509.Certificate)), "certs")
		big := &x509.Certificate{RawSubject: make([]byte, 1<<16)}
		wantArgument(t, e.server.SetClientCAs(big), "certs")
		if err := e.server.SetClientCAs(&x509.Certificate{RawSubject: []byte("no name")}); err == nil {
			t.Error("what is no name is taken")
		}
		if _, client, _, _ := e.handshake(t); client != nil {
			if got, err := client.AcceptableCAs(); len(got) != 0 || err != nil {
				t.Errorf("a refused list changed the names to %x, %v", got, err)
			}
		}
	})
}

// TestSigalgs: if an end accepts no signature that the peer can make, it ends the handshake.
func TestSigalgs(t *testing.T) {
	noQueue(t)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v) // its key is P-256
		pair := testPair(t)
		must(t, e.client.UseKeyPair(pair.Cert, pair.Key))
		must(t, e.server.TrustCertificates(pair.Cert))
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, e.server.SetIDContext([]byte("id")))
		good, bad := "ECDSA+SHA256", "RSA-PSS+SHA256"
		for _, step := range []struct {
			all, client string
			ok          bool
		}{
			{good, "", true},
			{good + ":" + bad, bad, false}, // the server accepts no certificate of the client
			{good + ":" + bad, bad + ":" + good, true},
			{bad, good, false}, // the client accepts no signature that the server can make
		} {
			must(t, e.client.SetSigalgs(step.all))
			if step.client != "" {
				must(t, e.server.SetClientSigalgs(step.client))
			}
			server, _, serverErr, clientErr := e.handshake(t)
			if ok := serverErr == nil && clientErr == nil; ok != step.ok {
				t.Errorf("%+v: %v, %v", step, serverErr, clientErr)
			}
			_ = server.Close()
		}
		ofRSA := newEnds(t, v) // the client alone has a key of RSA
		rsaPair, err := testcert.NewRSA()
		must(t, err)
		must(t, ofRSA.client.UseKeyPair(rsaPair.Cert, rsaPair.Key))
		must(t, ofRSA.server.TrustCertificates(rsaPair.Cert))
		must(t, ofRSA.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, ofRSA.server.SetClientSigalgs("RSA-PSS+SHA256:RSA+SHA256"))
		_, _, serverErr, clientErr := ofRSA.handshake(t)
		must(t, errors.Join(serverErr, clientErr))
		for _, set := range []func(string) error{e.client.SetSigalgs, e.client.SetClientSigalgs} {
			var failed *sslctx.Error
			if err := set("no such algorithm"); !errors.As(err, &failed) {
				t.Errorf("an unknown algorithm gives %v", err)
			}
			wantArgument(t, set("a\x00b"), "list")
		}
	})
}

// TestClientWithoutCertificate: VerifyFailIfNoPeerCert makes a server refuse it, and VerifyPeer
// alone does not.
func TestClientWithoutCertificate(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		must(t, e.server.SetVerify(sslctx.VerifyPeer))
		_, _, serverErr, clientErr := e.handshake(t)
		must(t, errors.Join(serverErr, clientErr))
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		_, _, serverErr, _ = e.handshake(t)
		wantReason(t, serverErr, sslctx.ReasonPeerDidNotReturnACertificate)
	})
}

// TestDHAuto: a server gets parameters for DHE without a file.
func TestDHAuto(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS12)
	pair, err := testcert.NewRSA()
	must(t, err)
	must(t, e.server.UseKeyPair(pair.Cert, pair.Key))
	must(t, e.client.TrustCertificates(pair.Cert))
	must(t, e.client.SetCipherList("DHE-RSA-AES128-GCM-SHA256"))
	if _, _, serverErr, _ := e.handshake(t); ossltest.LinkedVersion() < 0x30500000 && !errors.Is(serverErr, sslctx.ReasonNoSharedCipher) {
		t.Errorf("without parameters: %v", serverErr)
	}
	must(t, e.server.SetDHAuto(true))
	server, _, serverErr, clientErr := e.handshake(t)
	must(t, errors.Join(serverErr, clientErr))
	if name := server.Cipher().Name; name != "DHE-RSA-AES128-GCM-SHA256" {
		t.Errorf("the cipher suite is %s", name)
	}
	must(t, e.server.SetDHAuto(false))
	if _, _, serverErr, _ := e.handshake(t); ossltest.LinkedVersion() < 0x30500000 && !errors.Is(serverErr, sslctx.ReasonNoSharedCipher) {
		t.Errorf("after SetDHAuto(false): %v", serverErr)
	}
}

// TestListenWithoutCertificate: a context that cannot serve any client is refused at once. No other
// is refused.
func TestListenWithoutCertificate(t *testing.T) {
	noQueue(t)
	listens := func(c *sslctx.Context) error {
		l, err := sslctx.Listen("tcp", "127.0.0.1:0", c)
		if err == nil {
			_ = l.Close()
		}
		return err
	}
	bare := newContext(t, sslctx.TLSMethod)
	wantArgument(t, listens(bare), "c")
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer inner.Close()
	_, err = sslctx.NewListener(inner, bare).Accept()
	wantArgument(t, err, "c")

	pair := testPair(t)
	closed := newContext(t, sslctx.TLSMethod)
	must(t, closed.Close())
	for i, c := range []*sslctx.Context{closed, nil} {
		if err := listens(c); !errors.Is(err, sslctx.ErrClosed) || !strings.Contains(fmt.Sprint(err), "Listen: c ") {
			t.Errorf("context %d: %v", i, err)
		}
	}
	for name, set := range map[string]func(c *sslctx.Context) error{
		"certificate": func(c *sslctx.Context) error { return c.UseKeyPair(pair.Cert, pair.Key) },
		"anonymous":   func(c *sslctx.Context) error { return c.SetCipherList("aNULL:@SECLEVEL=0") },
		"psk": func(c *sslctx.Context) error {
			return c.SetPSKServerCallback(func(context.Context, *sslctx.Conn, string) []byte { return nil })
		},
		"psk session": func(c *sslctx.Context) error {
			return c.SetPSKFindSessionCallback(func(context.Context, *sslctx.Conn, []byte) *sslctx.Session { return nil })
		},
		"hello": func(c *sslctx.Context) error {
			return c.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return nil, nil })
		},
	} {
		c := newContext(t, sslctx.TLSMethod)
		must(t, set(c))
		if err := listens(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	owner := ossltest.NewCtx()
	defer owner.Free()
	theirs, err := sslctx.ContextFromPointer(owner.Pointer(), nil)
	must(t, err)
	defer theirs.Close()
	must(t, listens(theirs))
}

// TestClosedArguments: for a nil or closed handle the error is ErrClosed, and names the call and
// the argument.
func TestClosedArguments(t *testing.T) {
	noQueue(t)
	c := newContext(t, sslctx.TLSMethod)
	s, ctx := newSession(t, "a"), newContext(t, sslctx.TLSMethod)
	must(t, s.Close())
	must(t, ctx.Close())
	_, conn := connPair(t)
	rawServer, rawClient := tcpPair(t)
	fresh, err := sslctx.Client(rawClient, c)
	must(t, err)
	defer fresh.Close()
	must(t, conn.Close())
	owner := ossltest.NewCtx()
	defer owner.Free()
	theirs, err := sslctx.ContextFromPointer(owner.Pointer(), nil)
	must(t, err)
	defer theirs.Close()
	ssl := owner.NewSSL()
	defer ssl.Free()
	only := func(_ any, err error) error { return err }
	for want, errs := range map[string][]error{
		"AddSession: s":               {only(c.AddSession(nil)), only(c.AddSession(s))},
		"RemoveSession: s":            {only(c.RemoveSession(nil)), only(c.RemoveSession(s))},
		"AddSessions: sessions[0]":    {only(c.AddSessions([]*sslctx.Session{nil})), only(c.AddSessions([]*sslctx.Session{s}))},
		"RemoveSessions: sessions[0]": {only(c.RemoveSessions([]*sslctx.Session{nil})), only(c.RemoveSessions([]*sslctx.Session{s}))},
		"SetSession: s":               {fresh.SetSession(s)},
		"SetSessionOf: s":             {theirs.SetSessionOf(ssl.Pointer(), s)},
		"CopySessionID: from":         {fresh.CopySessionID(conn)},
		"Client: c":                   {only(sslctx.Client(rawServer, nil)), only(sslctx.Client(rawServer, ctx))},
		"Server: c":                   {only(sslctx.Server(rawServer, nil)), only(sslctx.Server(rawServer, ctx))},
	} {
		for i, err := range errs {
			if !errors.Is(err, sslctx.ErrClosed) || !errors.Is(err, net.ErrClosed) || !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%s, call %d: %v", want, i, err)
			}
		}
	}
}

// TestLargeClientCertificate: a certificate of 64 KiB does not fit into a ticket, but fits into a
// session of the cache.
func TestLargeClientCertificate(t *testing.T) {
	noQueue(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "large"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: make([]byte, 1<<16)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		must(t, e.client.UseCertificate(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}))
		cert, err := x509.ParseCertificate(der)
		must(t, err)
		must(t, e.server.TrustCertificate(cert))
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, e.server.SetIDContext([]byte("id")))
		if _, _, serverErr, _ := e.handshake(t); serverErr == nil {
			t.Error("the session of a large certificate is in a ticket")
		}
		_, err = e.server.SetOptions(sslctx.OpNoTicket)
		must(t, err)
		_, _, serverErr, clientErr := e.handshake(t)
		must(t, errors.Join(serverErr, clientErr))
	})
}

// recordConn records the lengths of the records of application data that are written to it.
type recordConn struct {
	net.Conn
	mu      sync.Mutex
	rest    []byte
	lengths []int
}

func (c *recordConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest = append(c.rest, p...)
	for len(c.rest) >= 5 {
		n := int(c.rest[3])<<8 | int(c.rest[4])
		if len(c.rest) < 5+n {
			break
		}
		if c.rest[0] == 23 {
			c.lengths = append(c.lengths, n)
		}
		c.rest = c.rest[5+n:]
	}
	return c.Conn.Write(p)
}

// take returns the lengths so far, and clears them.
func (c *recordConn) take() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	lengths := c.lengths
	c.lengths = nil
	return lengths
}

// recorded makes a connection with a completed handshake, and records what its ends write.
func recorded(t *testing.T, e ends) (server, client *sslctx.Conn, serverWrites, clientWrites *recordConn) {
	t.Helper()
	s, c := tcpPair(t)
	serverWrites, clientWrites = &recordConn{Conn: s}, &recordConn{Conn: c}
	server, client = e.over(t, serverWrites, clientWrites, nil)
	exchange(t, server, client)
	serverWrites.take()
	clientWrites.take()
	return server, client, serverWrites, clientWrites
}

// send sends data from one end to the other.
func send(t *testing.T, from io.Writer, to io.Reader, data []byte) {
	t.Helper()
	errs := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		errs <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came, and they are equal: %v; %v", len(got), bytes.Equal(got, data), err)
	}
	must(t, <-errs)
}

// overheadOf is the most that a record of the tests' ciphers adds to its plaintext.
const overheadOf = 64

func TestMaxSendFragment(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		must(t, e.server.SetMaxSendFragment(512))
		must(t, e.server.SetSplitSendFragment(512))
		wantArgument(t, e.server.SetSplitSendFragment(1024), "n")
		server, client, out, back := recorded(t, e)
		data := bytes.Repeat([]byte("0123456789"), 100_000)
		before := server.LibsslCalls()
		send(t, server, client, data)
		lengths := out.take()
		if want := (len(data) + 511) / 512; len(lengths) != want {
			t.Errorf("%d records, want %d", len(lengths), want)
		}
		for _, n := range lengths {
			if n > 512+overheadOf {
				t.Fatalf("a record of %d bytes", n)
			}
		}
		if n := server.LibsslCalls() - before; n > len(data)/15_000 {
			t.Errorf("%d crossings for %d bytes", n, len(data))
		}
		send(t, client, server, data) // the peer's records are unchanged
		if got := back.take(); len(got) > len(data)/16384+1 {
			t.Errorf("%d records of the other end", len(got))
		}
		for _, n := range []int{-1, 0, 511, 16385} {
			wantArgument(t, e.server.SetMaxSendFragment(n), "n")
			wantArgument(t, e.server.SetSplitSendFragment(n), "n")
		}
	})
}

func TestMaxFragmentLength(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		data := bytes.Repeat([]byte("0123456789"), 10_000)
		for m := sslctx.MaxFragmentAny; m <= sslctx.MaxFragment4096; m++ {
			must(t, e.client.SetMaxFragmentLength(m))
			server, client, out, back := recorded(t, e)
			send(t, server, client, data)
			send(t, client, server, data)
			for what, lengths := range map[string][]int{"server": out.take(), "client": back.take()} {
				want := (len(data) + m.Bytes() - 1) / m.Bytes()
				if len(lengths) != want {
					t.Errorf("asked for %v the %s sends %d records, want %d", m, what, len(lengths), want)
				}
			}
			if got := sessionOf(t, client).MaxFragmentLength(); got != m {
				t.Errorf("MaxFragmentLength is %v, want %v", got, m)
			}
			_, _ = server.Close(), client.Close()
		}
		wantArgument(t, e.client.SetMaxFragmentLength(-1), "m")
		wantArgument(t, e.client.SetMaxFragmentLength(5), "m")
	})
	if s := sslctx.MaxFragment512.String() + sslctx.MaxFragmentAny.String(); s != "512any" {
		t.Errorf("String gives %s", s)
	}
}

// TestBlockPadding checks records of all sizes of plaintext and padding, and the number of calls
// into C.
func TestBlockPadding(t *testing.T) {
	for name, set := range map[string]func(*sslctx.Context, int) error{
		"SetBlockPadding": (*sslctx.Context).SetBlockPadding,
		"Configure": func(c *sslctx.Context, n int) error {
			return c.Configure("RecordPadding", map[int]string{512: "512", 4600: "4600", 16384: "16384"}[n])
		},
	} {
		t.Run(name, func(t *testing.T) {
			noQueue(t)
			for _, block := range []int{512, 4600, 16384} {
				e := newEnds(t, sslctx.VersionTLS13)
				must(t, set(e.server, block))
				server, client, out, _ := recorded(t, e)
				for _, n := range []int{1, 511, 512, 2304, 2305, 5000, 16384, 100_000} {
					before := server.LibsslCalls()
					send(t, server, client, bytes.Repeat([]byte("x"), n))
					for _, got := range out.take() {
						if got < block || (got-16)%block > 0 && got != 16384+17 {
							t.Errorf("padding to %d, %d bytes: a record of %d", block, n, got)
						}
					}
					if c := server.LibsslCalls() - before; c > 1+n/30_000 {
						t.Errorf("padding to %d, %d bytes: %d crossings", block, n, c)
					}
				}
				must(t, server.Close()) // its alert is padded, too
				if _, err := client.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("padding to %d: the end is %v", block, err)
				}
			}
		})
	}
	e := newEnds(t, sslctx.VersionTLS12)
	must(t, e.server.SetBlockPadding(512))
	server, client, out, _ := recorded(t, e)
	send(t, server, client, []byte("x"))
	if got := out.take(); len(got) != 1 || got[0] >= 512 {
		t.Errorf("in TLS 1.2 the records have the lengths %d", got)
	}
	wantArgument(t, e.server.SetBlockPadding(-1), "n")
	wantArgument(t, e.server.SetBlockPadding(16385), "n")
}

// TestFragmentsCryptoTLS sends short and padded records to Go's implementation, and reads its own.
func TestFragmentsCryptoTLS(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		must(t, e.server.SetMaxSendFragment(600))
		must(t, e.server.SetBlockPadding(1000))
		s, c := tcpPair(t)
		server, err := sslctx.Server(s, e.server)
		must(t, err)
		defer server.Close()
		theirs := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: uint16(v), MaxVersion: uint16(v)})
		defer theirs.Close()
		data := bytes.Repeat([]byte("0123456789"), 10_000)
		send(t, theirs, server, data)
		send(t, server, theirs, data)
	})
}

// TestModes: a mode is there from SetMode to ClearMode, and both return all that are set.
func TestModes(t *testing.T) {
	c := newContext(t, sslctx.TLSMethod)
	before := c.Mode()
	if before&sslctx.ModeReleaseBuffers != 0 {
		_, err := c.ClearMode(sslctx.ModeReleaseBuffers)
		must(t, err)
		before = c.Mode()
	}
	set, err := c.SetMode(sslctx.ModeReleaseBuffers)
	must(t, err)
	if want := before | sslctx.ModeReleaseBuffers; set != want || c.Mode() != want {
		t.Errorf("SetMode returns %v, Mode %v, want %v", set, c.Mode(), want)
	}
	cleared, err := c.ClearMode(sslctx.ModeReleaseBuffers)
	must(t, err)
	if cleared != before || c.Mode() != before {
		t.Errorf("ClearMode returns %v, Mode %v, want %v", cleared, c.Mode(), before)
	}
}

// TestStrings: the texts of flags and numbers.
func TestStrings(t *testing.T) {
	for _, c := range []struct {
		of   any
		want string
	}{
		{sslctx.VersionAny, "any"}, {sslctx.VersionTLS10, "TLSv1"}, {sslctx.VersionTLS11, "TLSv1.1"},
		{sslctx.VersionTLS12, "TLSv1.2"}, {sslctx.VersionTLS13, "TLSv1.3"}, {sslctx.Version(0x0300), "0x0300"},
		{sslctx.SessCacheOff, "OFF"}, {sslctx.SessCacheBoth | sslctx.SessCacheNoInternal, "BOTH|NO_INTERNAL"},
		{sslctx.VerifyNone, "NONE"}, {sslctx.VerifyPeer | sslctx.VerifyPostHandshake, "PEER|POST_HANDSHAKE"},
		{sslctx.VerifyMode(1 << 20), "0x100000"},
		{sslctx.Option(0), "0"}, {sslctx.OpNoTicket, "NO_TICKET"},
		{sslctx.Mode(0), "0"}, {sslctx.ModeReleaseBuffers | sslctx.ModeAutoRetry, "RELEASE_BUFFERS|AUTO_RETRY"},
		{sslctx.Cipher{}, "none"}, {sslctx.Cipher{ID: 1, Name: "A", StandardName: "B"}, "A"},
		{sslctx.Reason{Library: 20, Code: 7}, "sslctx: OpenSSL library 20, reason 7"},
	} {
		if got := fmt.Sprint(c.of); got != c.want {
			t.Errorf("%T %#v is %q, want %q", c.of, c.of, got, c.want)
		}
	}
	err := &sslctx.CertificateError{Index: 2, Err: io.ErrNoProgress}
	if got := err.Error(); !strings.Contains(got, "certificate 2 ") || !strings.Contains(got, io.ErrNoProgress.Error()) || !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a CertificateError is %q, and is not its reason", got)
	}
}

var updateDocs = flag.Bool("update", false, "write docs/migrating.md")

// TestTLSFields: the package knows each field of tls.Config, and docs/migrating.md says of each what
// becomes of it.
func TestTLSFields(t *testing.T) {
	words := sslctx.TLSFields()
	config := reflect.TypeFor[tls.Config]()
	for i := range config.NumField() {
		f := config.Field(i)
		if f.IsExported() && words[f.Name] == "" {
			t.Errorf("tls.Config.%s has no row in tlsFields", f.Name)
		}
	}
	const path = "docs/migrating.md"
	text, err := os.ReadFile(path)
	must(t, err)
	want := withTLSFields(string(text), words)
	if *updateDocs {
		must(t, os.WriteFile(path, []byte(want), 0o644))
	}
	if text, err = os.ReadFile(path); err != nil || string(text) != want {
		t.Errorf("%s is old (%v): go test -run TestTLSFields . -update", path, err)
	}
	e := (*sslctx.ArgumentError)(nil)
	err = sslctx.TLSFieldRefused("NextProtos", &tls.Config{NextProtos: []string{"a"}}) // as if a later Go had added it
	if !errors.As(err, &e) || e.Arg != "config.NextProtos" {
		t.Errorf("a field without a row gives %v", err)
	}
}

// withTLSFields writes the last cell of each row of the table of fields.
func withTLSFields(text string, words map[string]string) string {
	before, table, _ := strings.Cut(text, "| field of `tls.Config` |")
	head, rest, _ := strings.Cut(table, "|---|---|---|\n")
	rows, after, _ := strings.Cut(rest, "\n\n")
	name := regexp.MustCompile("`(\\w+)`")
	var b strings.Builder
	for row := range strings.Lines(rows) {
		cells := strings.Split(strings.TrimSpace(row), " | ")
		var all []string
		for _, m := range name.FindAllStringSubmatch(cells[0], -1) {
			all = append(all, m[1])
		}
		fmt.Fprintf(&b, "%s | %s | %s |\n", cells[0], strings.TrimSuffix(cells[1], " |"), joinWords(all, words))
	}
	return before + "| field of `tls.Config` |" + head + "|---|---|---|\n" + strings.TrimSuffix(b.String(), "\n") + "\n\n" + after
}

// joinWords is what is said of several fields: once if it is the same.
func joinWords(names []string, words map[string]string) string {
	var each []string
	for _, n := range names {
		each = append(each, words[n])
	}
	if slices.Sort(each); len(slices.Compact(each)) == 1 {
		return each[0]
	}
	each = nil
	for _, n := range names {
		each = append(each, "`"+n+"`: "+words[n])
	}
	return strings.Join(each, ". ")
}
