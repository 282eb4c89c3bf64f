// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
)

// TestGatesAfterTimeout: who stopped waiting for a context that is being configured holds nothing of it later.
func TestGatesAfterTimeout(t *testing.T) {
	for range 2 {
		e := newEnds(t, sslctx.VersionTLS13)
		other := newEnds(t, sslctx.VersionTLS13).server
		must(t, e.client.SetVerify(sslctx.VerifyNone))
		must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
			return other, nil
		}))
		const conns = 20
		var servers []*sslctx.Conn
		for range conns {
			s, c := tcpPair(t)
			server, client := e.over(t, s, c, nil)
			servers = append(servers, server)
			go func() { _ = client.Handshake() }()
		}
		end := startConfiguring(t, e.server)
		done := make(chan error, conns)
		for _, server := range servers {
			go func() {
				for {
					_ = server.SetReadDeadline(time.Now().Add(100 * time.Microsecond))
					_, err := server.ReadEarlyData(make([]byte, 10))
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						done <- err
						return
					}
				}
			}()
		}
		time.Sleep(200 * time.Millisecond)
		end()
		for range conns {
			<-done
		}
	}
}

// TestAnswerAfterDeadline: an answer that met a deadline for writes is sent by a Read, when the deadline is lifted.
func TestAnswerAfterDeadline(t *testing.T) {
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	server, client := e.connect(t, nil)
	must(t, server.VerifyClientPostHandshake())
	must(t, client.SetWriteDeadline(time.Unix(1, 0)))
	must(t, client.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
	_, _ = client.Read(make([]byte, 1))
	must(t, client.SetDeadline(time.Time{}))
	go func() { _, _ = client.Read(make([]byte, 1)) }()
	must(t, server.SetReadDeadline(time.Now().Add(2*time.Second)))
	_, _ = server.Read(make([]byte, 1))
	if len(server.ConnectionState().PeerCertificates) == 0 {
		t.Error("the client's answer is not sent, though it reads")
	}
	_ = server.Close()
}

// TestHookWaitsForClose: a hook that Close runs can wait for another goroutine that closes.
func TestHookWaitsForClose(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	_, _ = e.client.SetSessionCacheMode(sslctx.SessCacheClient)
	watchdogGone := make(chan struct{})
	must(t, e.client.SetNewSessionCallback(func(c *sslctx.Conn, s *sslctx.Session) {
		_ = s.Close()
		select {
		case <-watchdogGone: // as sync.WaitGroup.Wait would
		case <-time.After(10 * time.Second):
			t.Error("the hook has waited ten seconds for a Close that waits for a lock which is held while the hook runs")
		}
	}))
	s, c := tcpPair(t)
	must(t, s.(*net.TCPConn).SetReadBuffer(4096))
	server, client := e.over(t, s, c, nil)
	hs := make(chan error, 1)
	go func() { hs <- server.Handshake() }()
	must(t, client.Handshake())
	must(t, <-hs)
	time.Sleep(50 * time.Millisecond) // the tickets are there, unread
	must(t, client.SetWriteDeadline(time.Now().Add(4*time.Second)))
	_, err := client.Write(make([]byte, 1<<20)) // the server does not read yet
	must(t, err)
	go func() { // the watchdog of the connection
		time.Sleep(100 * time.Millisecond)
		_ = client.Close()
		close(watchdogGone)
	}()
	go func() {
		time.Sleep(500 * time.Millisecond)
		_, _ = io.Copy(io.Discard, server)
	}()
	_ = client.Close()
}

// TestEarlyDataAfterPanic: early data that a hook's panic kept from a caller is the next call's.
func TestEarlyDataAfterPanic(t *testing.T) {
	e, s := earlyEnds(t, 1000)
	var once sync.Once
	must(t, e.server.SetRemoveSessionCallback(func(s *sslctx.Session) {
		_ = s.Close()
		once.Do(func() { panic("hook") })
	}))
	server, client := e.join(t, s)
	cl := make(chan error, 1)
	go func() { cl <- client.HandshakeWithEarlyData(t.Context(), []byte("early")) }()
	time.Sleep(100 * time.Millisecond)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the hook's panic does not come out")
			}
		}()
		_, _ = server.HandshakeReadEarlyData(t.Context())
	}()
	data, err := server.HandshakeReadEarlyData(t.Context())
	if clientErr := <-cl; err != nil || clientErr != nil || string(data) != "early" {
		t.Errorf("the server has %q, %v; the client %v", data, err, clientErr)
	}
}

// panicsEarly is a key log that panics by the secret for early data, once.
type panicsEarly struct{ once sync.Once }

func (l *panicsEarly) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("CLIENT_EARLY")) {
		l.once.Do(func() { panic("key log") })
	}
	return len(p), nil
}

// TestContextAfterPanic: a context ends no connection when the call that had it is over, by a panic.
func TestContextAfterPanic(t *testing.T) {
	noQueue(t)
	e, s := earlyEnds(t, 1000)
	must(t, e.client.SetKeyLogWriter(new(panicsEarly)))
	server, client := e.join(t, s)
	go func() {
		_, _ = server.HandshakeReadEarlyData(t.Context())
		_, _ = io.Copy(server, server)
	}()
	ctx, cancel := context.WithCancel(t.Context())
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_ = client.HandshakeWithEarlyData(ctx, []byte("early"))
	}()
	cancel() // as its caller's defer does
	for range 20 {
		_, err := client.Write([]byte("x"))
		must(t, err)
		_, err = client.Read(make([]byte, 1))
		must(t, err)
		time.Sleep(time.Millisecond)
	}
}

// TestCutOffKeepsSession: Close after a Write that failed leaves the session as it is, also beside other calls.
func TestCutOffKeepsSession(t *testing.T) {
	bad, gone := 0, 0
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	for range 100 {
		server, client := e.connect(t, nil)
		s := sessionOf(t, server)
		before := e.server.CacheStats().Number
		must(t, server.SetWriteDeadline(time.Unix(1, 0)))
		_, err := server.Write([]byte("x"))
		if err == nil {
			t.Fatal()
		}
		stop, done := make(chan struct{}), make(chan struct{})
		go func() { // what a program does that watches its connections
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					_ = server.ConnectionState()
				}
			}
		}()
		time.Sleep(100 * time.Microsecond)
		_ = server.Close()
		close(stop)
		<-done
		if !s.IsResumable() {
			bad++
		}
		if e.server.CacheStats().Number < before {
			gone++
		}
		_ = client.Abort()
	}
	if bad > 0 {
		t.Errorf("Close marked %d of 100 sessions, and took %d out of the cache", bad, gone)
	}
}

// TestPanicBesideRead: a hook's panic comes out of its Read while another Read waits, and the data is the next Read's.
func TestPanicBesideRead(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	_, _ = e.client.SetSessionCacheMode(sslctx.SessCacheClient)
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	second := make(chan string, 1)
	var once sync.Once
	must(t, e.client.SetNewSessionCallback(func(c *sslctx.Conn, s *sslctx.Session) {
		once.Do(func() {
			go func() {
				buf := make([]byte, 10)
				n, err := c.Read(buf)
				second <- fmt.Sprintf("%q %v", buf[:n], err)
			}()
			time.Sleep(100 * time.Millisecond)
			panic("hook")
		})
	}))
	go func() { _, _ = server.Write([]byte("data")) }()
	must(t, client.Handshake())
	time.Sleep(100 * time.Millisecond) // tickets and data together
	first := make(chan any, 1)
	go func() {
		defer func() { first <- recover() }()
		_, _ = client.Read(make([]byte, 10))
	}()
	select {
	case v := <-first:
		if v != "hook" {
			t.Errorf("the first Read panics with %v", v)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the panic does not come out")
	}
	buf := make([]byte, 10)
	if n, err := client.Read(buf); err != nil || string(buf[:n]) != "data" {
		t.Errorf("the next Read has %q, %v", buf[:n], err)
	}
	_ = server.Close()
	<-second
}

// TestRequestBesideHandshake: a long request for a certificate is sent as the handshake of another goroutine ends (with -race).
func TestRequestBesideHandshake(t *testing.T) {
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	var authorities []*x509.Certificate
	for range 60 {
		authorities = append(authorities, issue(t, "an authority with a name that makes the request for a certificate long", nil, authority).Cert)
	}
	must(t, e.server.SetClientCAs(authorities...))
	for range 20 {
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Add(2)
		go func() { defer wg.Done(); _, _ = client.Read(make([]byte, 1)) }()
		go func() { defer wg.Done(); _ = server.HandshakeContext(ctx) }()
		for server.Version() == sslctx.VersionAny {
		}
		_ = server.VerifyClientPostHandshake()
		_ = server.Close()
		wg.Wait()
		_ = client.Close()
		cancel()
	}
}

// TestReadBesideWrite: a Read gets its data while a Write waits for the end of a renegotiation.
func TestReadBesideWrite(t *testing.T) {
	late := 0
	for range 5 {
		e := renegotiating(t)
		server, client := e.connect(t, nil)
		must(t, client.Renegotiate())
		wrote := make(chan error, 1)
		go func() { _, err := client.Write([]byte("w")); wrote <- err }()
		time.Sleep(20 * time.Millisecond) // it reads the transport
		got := make(chan time.Duration, 1)
		var begun atomic.Int64
		begun.Store(time.Now().UnixNano())
		go func() {
			_, _ = client.Read(make([]byte, 1))
			got <- time.Duration(time.Now().UnixNano() - begun.Load())
		}()
		time.Sleep(20 * time.Millisecond)
		begun.Store(time.Now().UnixNano())
		_, err := server.Write([]byte("data"))
		must(t, err)
		time.Sleep(300 * time.Millisecond) // the server does something else
		go func() { _, _ = server.Read(make([]byte, 1)) }()
		d := <-got
		if d > 200*time.Millisecond {
			late++
		}
		must(t, <-wrote)
		_, _ = client.Close(), server.Close()
	}
	if late > 0 {
		t.Errorf("%d of 5 Reads waited for the next record though their data was there", late)
	}
}
