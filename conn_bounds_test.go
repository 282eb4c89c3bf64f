// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// asksLater are ends whose server asks the client for a certificate after the handshake, and verifies it by a pool that
// does not answer before the end of the test.
func asksLater(t *testing.T) (e ends, asked chan bool, open func()) {
	t.Helper()
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	root := issue(t, "pool's root", nil, authority)
	must(t, e.client.UseCertificate(issue(t, "pool's user", root, nil).TLSCertificate()))
	asked = make(chan bool, 100)
	closed := make(chan struct{})
	open = sync.OnceFunc(func() { close(closed) })
	t.Cleanup(open)
	must(t, e.server.TrustCertPool(waitingPool(root, func(context.Context) {
		asked <- true
		<-closed
	})))
	return e, asked, open
}

// askLater has a server ask the client, which answers. The server's Read then waits for the pool.
func askLater(t *testing.T, server, client *sslctx.Conn) (read <-chan error) {
	t.Helper()
	must(t, server.VerifyClientPostHandshake())
	_, err := server.Write([]byte{1})
	must(t, err)
	_, err = client.Read(make([]byte, 1))
	must(t, err)
	_, err = client.Write([]byte{2})
	must(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 1))
		done <- err
	}()
	return done
}

// TestReadsThatVerify: Reads that wait for a pool, after the handshake, are as many as hooks, and no more.
func TestReadsThatVerify(t *testing.T) {
	noQueue(t)
	e, asked, open := asksLater(t)
	limit := 8 + 4*runtime.GOMAXPROCS(0)
	var reads []<-chan error
	for range limit {
		server, client := e.connect(t, nil)
		reads = append(reads, askLater(t, server, client))
		<-asked
	}
	for range 3 {
		server, client := e.connect(t, nil)
		if err := <-askLater(t, server, client); !errors.Is(err, sslctx.ErrTooManyHooks) {
			t.Errorf("one Read too many returns %v", err)
		}
	}
	open()
	for _, read := range reads {
		must(t, <-read)
	}
	server, client := e.connect(t, nil)
	must(t, <-askLater(t, server, client))
}

// TestCloseWriteBesideHook: CloseWrite waits five seconds for a Read that waits for a pool.
func TestCloseWriteBesideHook(t *testing.T) {
	e, asked, open := asksLater(t)
	server, client := e.connect(t, nil)
	read := askLater(t, server, client)
	<-asked
	start := time.Now()
	if err := server.CloseWrite(); !isTimeout(err) || time.Since(start) > 7*time.Second {
		t.Errorf("CloseWrite returns %v after %v", err, time.Since(start))
	}
	open()
	must(t, <-read)
	must(t, server.CloseWrite())
	if _, err := io.ReadAll(client); err != nil {
		t.Error(err)
	}
}

// TestCloseBesideHook: Close ends the wait for a pool, also for one that is asked while Close runs.
func TestCloseBesideHook(t *testing.T) {
	e, _, _ := asksLater(t)
	for i := range 60 {
		server, client := e.connect(t, nil)
		read := askLater(t, server, client)
		time.Sleep(time.Duration(i%20) * 50 * time.Microsecond)
		start := time.Now()
		err := server.Close()
		if took := time.Since(start); took > 2*time.Second {
			t.Fatalf("Close takes %v, and returns %v", took, err)
		}
		if err := <-read; i > 40 && err == nil {
			t.Error("the Read has no error")
		}
		_ = client.Abort()
	}
}

// framed is a transport which, once told, returns nothing before a hundred bytes have come.
type framed struct {
	net.Conn
	whole bool
}

func (f *framed) NetConn() net.Conn { return f.Conn }

func (f *framed) Read(p []byte) (int, error) {
	if !f.whole {
		return f.Conn.Read(p)
	}
	return io.ReadFull(f.Conn, p[:100])
}

// TestCloseOverRecords: a part of a record of the transport's own does not keep Close waiting.
func TestCloseOverRecords(t *testing.T) {
	noQueue(t)
	s, c := tcpPair(t)
	transport := &framed{Conn: c}
	server, client := newEnds(t, sslctx.VersionTLS12).over(t, s, transport, nil)
	exchange(t, server, client)
	transport.whole = true
	_, err := client.Write([]byte("x"))
	must(t, err)
	_, err = s.Write(make([]byte, 10))
	must(t, err)
	time.Sleep(20 * time.Millisecond)
	must(t, client.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
	start := time.Now()
	err = client.Close()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("Close takes %v, and returns %v", took, err)
	}
}

// watchedWrites is a transport that tells of a Write, once it is watched.
type watchedWrites struct {
	net.Conn
	watch atomic.Bool
	sent  chan struct{}
}

func (w *watchedWrites) NetConn() net.Conn { return w.Conn }

func (w *watchedWrites) Write(p []byte) (int, error) {
	if w.watch.Load() {
		select {
		case w.sent <- struct{}{}:
		default:
		}
	}
	return w.Conn.Write(p)
}

// TestCutOffIsLost: Close in the middle of a Write that goes nowhere says that data is lost.
func TestCutOffIsLost(t *testing.T) {
	noQueue(t)
	s, c := tcpPair(t)
	must(t, s.(*net.TCPConn).SetReadBuffer(4096))
	transport := &watchedWrites{Conn: c, sent: make(chan struct{}, 1)}
	server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, transport, nil)
	shake(t, server, client)
	wrote := make(chan error, 1)
	data := make([]byte, 64<<20)
	transport.watch.Store(true)
	go func() {
		_, err := client.Write(data)
		wrote <- err
	}()
	<-transport.sent
	start := time.Now()
	if err := client.Close(); !errors.Is(err, sslctx.ErrDataLost) || time.Since(start) > 2*time.Second {
		t.Errorf("Close returns %v after %v", err, time.Since(start))
	}
	if err := <-wrote; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write returns %v", err)
	}
}

// TestResumeByVerifyCAFile: a session of another context is offered if the certificates of that command, which come before
// those of the context, vouch for its chain.
func TestResumeByVerifyCAFile(t *testing.T) {
	noQueue(t)
	if ossltest.CompiledVersion() < 0x30000000 {
		t.Skip("OpenSSL 1.1.1 does not give these certificates away")
	}
	root, other := issue(t, "root", nil, authority), issue(t, "other", nil, authority)
	e := bare(t, sslctx.VersionTLS12, issue(t, "localhost", root, nil).TLSCertificate())
	must(t, e.client.TrustCertificate(root.Cert))
	file := func(cert *x509.Certificate) string {
		path := filepath.Join(t.TempDir(), "trusted.pem")
		must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600))
		return path
	}
	for _, test := range []struct {
		command, context *issued
		want             bool
	}{{root, other, true}, {other, root, false}} {
		server, client := e.connect(t, nil)
		exchange(t, server, client)
		c := newContext(t, sslctx.TLSClientMethod)
		must(t, c.SetVerify(sslctx.VerifyPeer))
		must(t, c.TrustCertificate(test.context.Cert))
		must(t, c.Configure("VerifyCAFile", file(test.command.Cert)))
		a, b := tcpPair(t)
		again, late := ends{e.server, c}.over(t, a, b, sessionOf(t, client))
		serverErr, clientErr := greet(again, late)
		if resumed := late.SessionReused(); resumed != test.want || (clientErr == nil) != test.want {
			t.Errorf("resumed is %v; the server has %v, the client %v", resumed, serverErr, clientErr)
		}
	}
}
