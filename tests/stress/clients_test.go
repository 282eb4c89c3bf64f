// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/testcert"
	"sslctx/internal/tlstest"
)

// TestManyClients: 100 clients make 10 connections each. Each connection sends 64 KiB with its
// checksum and reads it back; half of the connections are cut at a random moment. Afterwards no C
// object, goroutine or descriptor is left.
func TestManyClients(t *testing.T) {
	clients := 100
	if testing.Short() {
		clients = 10
	}
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := tlstest.NewEnds(t, v)
		ssls, sessions := ossltest.LiveSSLs(), ossltest.LiveSessions()
		goroutines, files := runtime.NumGoroutine(), openFiles(t)
		func() {
			addr, stop := echoServer(t, e.Server)
			defer stop()
			var whole atomic.Int64
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for i := range 10 {
						if echoSum(t, e.Client, addr, i%2 == 0) {
							whole.Add(1)
						}
					}
				})
			}
			wg.Wait()
			if n := whole.Load(); n < int64(5*clients) {
				t.Errorf("%d connections of %d came to their end", n, 5*clients)
			}
		}()
		tlstest.Must(t, e.Server.FlushSessions(time.Time{}))
		for what, count := range map[string]struct {
			now    func() int
			before int
		}{
			"SSLs": {ossltest.LiveSSLs, ssls}, "sessions": {ossltest.LiveSessions, sessions},
			"goroutines": {runtime.NumGoroutine, goroutines}, "files": {func() int { return openFiles(t) }, files},
		} {
			if n := ossltest.CollectUntil(count.now, count.before); n > count.before {
				t.Errorf("%d %s, %d before", n, what, count.before)
			}
		}
	})
}

// echoServer echoes until stop. stop waits for all its goroutines.
func echoServer(t *testing.T, server *sslctx.Context) (addr string, stop func()) {
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
	tlstest.Must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	return l.Addr().String(), func() { _ = l.Close(); wg.Wait() }
}

// echoSum sends a block and its checksum, and checks that both come back. A connection that is cut
// may end at any point.
func echoSum(t *testing.T, client *sslctx.Context, addr string, cut bool) bool {
	c, err := sslctx.Dial("tcp", addr, client)
	if err != nil {
		t.Error(err)
		return false
	}
	defer c.Close()
	if cut {
		timer := time.AfterFunc(time.Duration(mathrand.IntN(2000))*time.Microsecond, func() { cutOff(c) })
		defer timer.Stop()
	}
	data := make([]byte, 64<<10)
	_, _ = rand.Read(data)
	sum := sha256.Sum256(data)
	go func() { _, _ = c.Write(append(data, sum[:]...)) }()
	back := make([]byte, len(data)+len(sum))
	if _, err := io.ReadFull(c, back); err != nil {
		if !cut {
			t.Errorf("a connection that was not cut: %v", err)
		}
		return false
	}
	if sha256.Sum256(back[:len(data)]) != [32]byte(back[len(data):]) {
		t.Error("the checksum is wrong")
	}
	return true
}

func cutOff(c *sslctx.Conn) {
	if mathrand.IntN(2) == 0 {
		_ = c.Abort()
		return
	}
	_ = c.NetConn().(*net.TCPConn).SetLinger(0) // a reset for the peer
	_ = c.NetConn().Close()
}

func openFiles(t *testing.T) int {
	files, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		return 0 // not on Linux
	}
	tlstest.Must(t, err)
	return len(files)
}

// TestStateIsOfOneMoment: while renegotiations change the server's certificate and the cipher suite,
// no ConnectionState has the one of a handshake and the other of another handshake.
func TestStateIsOfOneMoment(t *testing.T) {
	root := tlstest.Issue(t, "root", nil, tlstest.Authority)
	e := tlstest.NewEndsWith(t, sslctx.VersionTLS12, tlstest.Issue(t, "ecdsa", root, nil).TLSCertificate())
	rsa, err := testcert.NewRSA()
	tlstest.Must(t, err)
	tlstest.Must(t, e.Server.UseKeyPair(rsa.Cert, rsa.Key))
	lists := []string{"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"}
	tlstest.Must(t, e.Server.SetCipherList(lists[0]))
	_, err = e.Server.SetSessionCacheMode(sslctx.SessCacheOff)
	tlstest.Must(t, err)
	_, err = e.Server.SetOptions(sslctx.OpNoTicket)
	tlstest.Must(t, err)
	tlstest.Must(t, e.Client.SetVerify(sslctx.VerifyNone))
	server, client := e.Connect(t, nil)
	go func() { _, _ = io.Copy(client, client) }() // carries the handshakes on
	stop := tlstest.Repeat(t, func(int) {
		state := client.ConnectionState()
		_, ecdsa := state.PeerCertificates[0].PublicKey.(*ecdsa.PublicKey)
		if ecdsa != (state.CipherSuite == tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256) {
			t.Errorf("a state has the certificate of one handshake and the cipher suite %#x of another", state.CipherSuite)
		}
	})
	defer stop()
	for i := range 300 {
		tlstest.Must(t, e.Server.SetCipherList(lists[(i+1)%2]))
		tlstest.Must(t, server.Renegotiate())
		_, err := server.Write([]byte("x"))
		tlstest.Must(t, err)
		_, err = server.Read(make([]byte, 1))
		tlstest.Must(t, err)
	}
}
