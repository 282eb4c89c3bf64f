// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"runtime/debug"
	"sslctx/internal/tlstest"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
)

// A flood is a server of mutual TLS with slow parts, and its clients. A CertPool, a hook for
// pre-shared keys and a lookup do not answer for hostile clients.
type flood struct {
	tlstest.Ends
	hostile *sslctx.Context // offers a key for which the server's store hangs
	asksFor *sslctx.Context // offers a session for which the server's store hangs
	offered *sslctx.Session
	chain   tls.Certificate // takes long to verify; no authority signed it

	refused  int           // honest clients that got ErrTooManyHooks
	patience time.Duration // how long the server waits for a handshake of a hostile client
}

const hostileIdentity = "hostile"

func newFlood(t *testing.T) *flood {
	root := tlstest.Issue(t, "root", nil, tlstest.Authority)
	f := &flood{Ends: tlstest.NewEnds(t, sslctx.VersionAny), chain: longChain(t, 90)}
	f.hostile, f.asksFor = tlstest.NewContext(t, sslctx.TLSClientMethod), tlstest.NewContext(t, sslctx.TLSClientMethod)
	tlstest.Must(t, f.Server.SetVerify(sslctx.VerifyPeer))
	tlstest.Must(t, f.Server.SetIDContext([]byte("flood")))
	tlstest.Must(t, f.Server.TrustCertPool(tlstest.PoolOf(root)))
	tlstest.Must(t, f.Client.UseCertificate(tlstest.Issue(t, "honest", root, nil).TLSCertificate()))
	tlstest.Must(t, f.hostile.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) {
		return []byte(hostileIdentity), tlstest.PSKSession(t, 0)
	}))
	tlstest.Must(t, f.Server.SetPSKFindSessionCallback(func(ctx context.Context, _ *sslctx.Conn, id []byte) *sslctx.Session {
		if string(id) == hostileIdentity {
			<-ctx.Done()
		}
		return nil
	}))
	tlstest.Must(t, f.Server.SetSessionLookup(&sslctx.SessionLookup{Find: func(ctx context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}))
	e := tlstest.NewEndsWithIDs(t, sslctx.VersionTLS12)
	f.offered = e.Session(t)
	tlstest.Must(t, f.asksFor.SetMaxProtoVersion(sslctx.VersionTLS12))
	return f
}

// longChain makes a certificate whose issuer's name n certificates have, each with its own key:
// crypto/x509 tries them all.
func longChain(t *testing.T, n int) tls.Certificate {
	t.Helper()
	name := pkix.Name{CommonName: "issuer"}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		tlstest.Must(t, err)
		return key
	}
	sign := func(i int, subject, issuer pkix.Name, key, by *ecdsa.PrivateKey) []byte {
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: subject, IsCA: i > 0, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, &x509.Certificate{Subject: issuer}, key.Public(), by)
		tlstest.Must(t, err)
		return der
	}
	key := newKey()
	chain := tls.Certificate{PrivateKey: key, Certificate: [][]byte{sign(0, pkix.Name{CommonName: "leaf"}, name, key, newKey())}}
	for i := range n {
		k := newKey()
		chain.Certificate = append(chain.Certificate, sign(i+1, name, name, k, k))
	}
	return chain
}

// attack runs one hostile client, until the server ends the connection.
func (f *flood) attack(t *testing.T, i int) {
	a, b := tlstest.Wire()
	defer a.Close()
	server, err := sslctx.Server(a, f.Server)
	tlstest.Must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), f.patience)
	defer cancel()
	var client interface {
		Handshake() error
		Close() error
	}
	switch {
	case i%100 == 0: // enough to keep a processor busy for a while
		client = tls.Client(b, &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &f.chain, nil
		}})
	case i%3 == 0:
		client, err = sslctx.Client(b, f.hostile)
	case i%3 == 1:
		c, failed := sslctx.Client(b, f.asksFor)
		tlstest.Must(t, failed)
		client, err = c, c.SetSession(f.offered)
	default: // sends half of its hello, and stalls
		_, err = b.Write([]byte{22, 3, 1, 0, 200, 1, 0, 0})
		tlstest.Must(t, err)
		_ = server.HandshakeContext(ctx)
		_ = server.Close()
		return
	}
	tlstest.Must(t, err)
	done := make(chan bool)
	go func() { defer close(done); _ = client.Handshake() }()
	_ = server.HandshakeContext(ctx)
	_ = server.Close()
	_ = b.Close()
	<-done
	_ = client.Close()
}

// serve runs one honest client, and returns how long its handshake takes.
func (f *flood) serve(t *testing.T, offer *sslctx.Session) (session *sslctx.Session, took time.Duration) {
	a, b := tlstest.Wire()
	server, client := f.Over(t, a, b, offer)
	start := time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte("x"))
		done <- err
	}()
	_, err := client.Read(make([]byte, 1))
	took = time.Since(start)
	if err = errors.Join(err, <-done); errors.Is(err, sslctx.ErrTooManyHooks) { // its verification was slow, and all threads were in use
		f.refused++
		tlstest.Must(t, errors.Join(client.Abort(), server.Abort()))
		return nil, took
	}
	tlstest.Must(t, err)
	if server.SessionReused() != (offer != nil) {
		t.Errorf("resumed: %v", server.SessionReused())
	}
	session = tlstest.SessionOf(t, client)
	tlstest.Must(t, client.Close())
	tlstest.Must(t, server.Close())
	return session, took
}

// TestFlood serves honest clients while hostile ones come: the process has no more than 40 threads,
// and memory in proportion to its connections. It runs in a process of its own, because too many
// threads end the process.
func TestFlood(t *testing.T) {
	const child = "SSLCTX_FLOOD"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFlood$", "-test.v", "-test.timeout=10m")
		cmd.Env = append(os.Environ(), child+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "hostile clients") {
				t.Log(strings.TrimSpace(line))
			}
		}
		return
	}
	debug.SetMaxThreads(40)
	f, n := newFlood(t), 300
	f.patience = 2 * time.Second
	if os.Getenv("SSLCTX_TORTURE") != "" {
		f.patience, n = 30*time.Second, 10_000
	}
	session, _ := f.serve(t, nil)
	before := tlstest.ProcessStatus(t, "VmRSS")
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f.attack(t, i) })
	}
	attacked := make(chan bool)
	go func() { all.Wait(); close(attacked) }()
	var worst time.Duration
	memory, threads, served := 0, 0, 0
	for over := false; !over || served < 10; served++ {
		var offer *sslctx.Session
		if served%2 == 1 {
			offer = session
		}
		_, took := f.serve(t, offer)
		worst = max(worst, took)
		memory, threads = max(memory, tlstest.ProcessStatus(t, "VmRSS")), max(threads, tlstest.ProcessStatus(t, "Threads"))
		select {
		case <-attacked:
			over = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	if grown := memory - before; !tlstest.Instrumented && grown > 50_000+200*n { // a sanitizer's own memory is a multiple
		t.Errorf("%d kB for %d clients", grown, n)
	}
	if f.refused > served/10+1 {
		t.Errorf("%d of %d honest clients are refused", f.refused, served)
	}
	if threads > 40 {
		t.Errorf("%d threads", threads)
	}
	fmt.Printf("%d hostile clients: %d threads, %d kB more; %d honest ones are served, each within %v\n",
		n, threads, memory-before, served, worst.Round(time.Millisecond))
}
