// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sslctx/internal/tlstest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// Peers that are slow, stalled, cut off or hostile: each ends by its deadline or by a clear error,
// both roles and both versions.

// TestSilentPeer: a peer that never sends ends the handshake by deadline, and its error is the
// connection's.
func TestSilentPeer(t *testing.T) {
	eachRole(t, func(t *testing.T, e ends, r role) {
		noQueue(t)
		c, _ := r.conn(t, e)
		must(t, c.SetDeadline(time.Now().Add(time.Minute)))
		err := c.Handshake()
		if !errors.Is(err, os.ErrDeadlineExceeded) || !isTimeout(err) {
			t.Errorf("Handshake returns %v", err)
		}
		must(t, c.SetDeadline(time.Time{}))
		wantDead(t, c, err)

		c, _ = r.conn(t, e)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.HandshakeContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("HandshakeContext returns %v", err)
		}
		err = c.Handshake() // the transport is closed
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Handshake after it returns %v", err)
		}
		wantDead(t, c, err)
	})
}

// wantDead: after a handshake that ended with err, every call returns err, and Close works.
func wantDead(t *testing.T, c *sslctx.Conn, err error) {
	t.Helper()
	_, readErr := c.Read(make([]byte, 1))
	_, writeErr := c.Write(make([]byte, 1))
	if again := c.Handshake(); err == nil || again != err || readErr != err || writeErr != err {
		t.Errorf("after %v: Handshake returns %v, Read %v, Write %v", err, again, readErr, writeErr)
	}
	if v := c.Version(); v != sslctx.VersionAny {
		t.Errorf("after a handshake that failed Version is %v", v)
	}
	must(t, c.Close())
}

// meet connects the Conn of the role and a peer that sends one byte. tamper changes the bytes of
// the peer. meet returns the outcome of the Conn. Both ends are closed when it returns.
func (r role) meet(t *testing.T, e ends, tamper func(p []byte) ([]byte, error)) error {
	t.Helper()
	c, peer := r.pair(t, e)
	c.NetConn().(*wireEnd).In.Tamper = tamper
	must(t, c.SetDeadline(time.Now().Add(time.Minute)))
	must(t, peer.SetDeadline(time.Now().Add(time.Hour)))
	peerDone := make(chan struct{})
	go func() {
		defer close(peerDone)
		_, _ = peer.Write([]byte{42})
		_, _ = peer.Read(make([]byte, 1)) // until the Conn ends
	}()
	buf := make([]byte, 1)
	_, err := c.Read(buf)
	if err == nil && buf[0] != 42 {
		t.Errorf("Read gives %d", buf[0])
	}
	if _, again := c.Read(buf); err != nil && (again == nil || again.Error() != err.Error()) {
		t.Errorf("Read returns %v, and then %v", err, again)
	}
	if err == nil {
		c.NetConn().(*wireEnd).In.Tamper = nil // the test is not about the peer's end
	}
	must(t, c.Close())
	<-peerDone
	must(t, peer.Close())
	return err
}

// TestCutPeer cuts off the peer's bytes after each position: by silence, by the end of the
// transport, by a reset.
func TestCutPeer(t *testing.T) {
	for name, test := range map[string]struct{ cut, want error }{
		"silence": {nil, os.ErrDeadlineExceeded},
		"end":     {io.EOF, io.ErrUnexpectedEOF},
		"reset":   {syscall.ECONNRESET, syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, e ends, r role) {
				noQueue(t)
				for n := 0; ; n += step(name == "reset") {
					left := n
					err := r.meet(t, e, func(p []byte) ([]byte, error) {
						k := min(left, len(p))
						left -= k
						if k < len(p) {
							return p[:k], test.cut
						}
						return p, nil
					})
					if err == nil { // all its bytes arrived
						if n < 300 {
							t.Errorf("%d bytes were enough", n)
						}
						return
					}
					if !errors.Is(err, test.want) {
						t.Errorf("cut after %d bytes: %v", n, err)
					}
				}
			})
		})
	}
}

// step is 1, or more where all positions would take too long.
func step(coarse bool) int {
	switch {
	case coarse || testing.Short():
		return 7
	case tlstest.Instrumented:
		return 3
	}
	return 1
}

// TestBitFlips changes one bit of the peer's bytes, at each position: one of the ends notices, and
// none hangs.
func TestBitFlips(t *testing.T) {
	eachRole(t, func(t *testing.T, e ends, r role) {
		noQueue(t)
		for n := 0; ; n += step(false) {
			at, inRecord, left := n, 0, 0
			protected := true
			err := r.meet(t, e, func(p []byte) ([]byte, error) {
				p = slices.Clone(p)
				if at >= 0 && at < len(p) {
					inRecord = recordOffset(p, at)
					protected = inRecord != 1 && inRecord != 2
					p[at] ^= 1 << (n % 8)
					left++
				}
				at -= len(p)
				return p, nil
			})
			if left == 0 {
				must(t, err)
				return
			}
			// Nothing protects the version in the header of an unencrypted record.
			if err == nil && protected {
				t.Errorf("a bit of byte %d (%d of its record) is changed, and nobody minds", n, inRecord)
			}
		}
	})
}

// recordOffset returns the offset of byte i of p in its record; p begins with a record.
func recordOffset(p []byte, i int) int {
	for {
		n := 5 + int(p[3])<<8 + int(p[4])
		if i < n {
			return i
		}
		i -= n
		p = p[n:]
	}
}

// TestGarbagePeer replaces the peer's bytes by noise from some point on.
func TestGarbagePeer(t *testing.T) {
	eachRole(t, func(t *testing.T, e ends, r role) {
		noQueue(t)
		random := rand.New(rand.NewPCG(1, 2))
		for range 300 / step(false) {
			good, touched := random.IntN(2000), false
			if random.IntN(4) == 0 {
				good = 0
			}
			err := r.meet(t, e, func(p []byte) ([]byte, error) {
				p = slices.Clone(p)
				for i := range p {
					if good--; good < 0 {
						p[i] = byte(random.Uint32())
						touched = true
					}
				}
				return p, nil
			})
			if (err != nil) != touched {
				t.Errorf("touched is %v: %v", touched, err)
			}
		}
	})
}

func record(kind byte, body string) string {
	return string([]byte{kind, 3, 3, byte(len(body) >> 8), byte(len(body))}) + body
}

func alert(level, what byte) string { return record(21, string([]byte{level, what})) }

func times(n int, s string) string { return strings.Repeat(s, n) }

// TestBadPeers: bytes that are no handshake end the handshake.
func TestBadPeers(t *testing.T) {
	anySSL := new(sslctx.Error)
	for name, test := range map[string]struct {
		sent  string
		over  error // the end of the transport; nil is silence
		want  error
		first error // for servers, if different: libssl accepts only a ClientHello at first
	}{
		"HTTP request":              {sent: "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", want: sslctx.ReasonHTTPRequest},
		"HTTP answer":               {sent: "HTTP/1.1 400 Bad Request\r\n\r\n", want: anySSL},
		"SSLv2 hello":               {sent: "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + times(37, "x"), want: anySSL},
		"empty handshake records":   {sent: times(1000, record(22, "")), want: anySSL},
		"empty alerts":              {sent: times(1000, record(21, "")), want: anySSL},
		"empty data records":        {sent: times(1000, record(23, "")), want: anySSL},
		"change_cipher_spec":        {sent: times(1000, record(20, "\x01")), want: anySSL},
		"unknown record":            {sent: record(99, "x"), want: anySSL},
		"a record that is too long": {sent: "\x16\x03\x01\xff\xff" + times(70_000, "x"), want: anySSL},
		"16385 bytes":               {sent: record(22, "\x01\x00\x00\x10"+times(16381, "x")), want: anySSL},
		"a message that is too long": {sent: times(20, record(22, "\x01\xff\xff\xff"+times(16000, "x"))),
			want: anySSL},
		"half a record, reset": {sent: record(22, "hello")[:7], over: syscall.ECONNRESET, want: syscall.ECONNRESET},
		"half a record, end":   {sent: record(22, "hello")[:7], over: io.EOF, want: io.ErrUnexpectedEOF},
		"half a header, end":   {sent: "\x16\x03", over: io.EOF, want: io.ErrUnexpectedEOF},
		"half a record, stall": {sent: record(22, "hello")[:7], want: os.ErrDeadlineExceeded},
		"fatal alert": {sent: alert(2, 40), want: sslctx.Reason{Library: sslctx.LibSSL, Code: 1040},
			first: anySSL},
		"alert of two levels": {sent: alert(9, 40), want: anySSL},
		"half an alert":       {sent: record(21, "\x02"), want: anySSL},
		"warnings":            {sent: times(1000, alert(1, 90)), want: anySSL},
		"close_notify":        {sent: alert(1, 0), want: io.ErrUnexpectedEOF, first: anySSL},
		"close_notify and end": {sent: alert(1, 0), over: io.EOF, want: io.ErrUnexpectedEOF,
			first: anySSL},
		"user_canceled, close_notify": {sent: alert(1, 90) + alert(1, 0), over: io.EOF,
			want: io.ErrUnexpectedEOF, first: anySSL},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, e ends, r role) {
				noQueue(t)
				c, peer := r.conn(t, e)
				_, err := io.WriteString(peer, test.sent)
				must(t, err)
				peer.Out.End(test.over)
				must(t, c.SetDeadline(time.Now().Add(time.Minute)))
				err = c.Handshake()
				want := test.want
				if r == serverRole && test.first != nil {
					want = test.first
				}
				wantEnd(t, "Handshake", err, want)
				wantDead(t, c, err)
			})
		})
	}
}

// wantEnd checks that err is want; if want is an *Error, any *Error will do.
func wantEnd(t *testing.T, what string, err, want error) {
	t.Helper()
	var ssl *sslctx.Error
	if _, any := want.(*sslctx.Error); any && errors.As(err, &ssl) || errors.Is(err, want) {
		return
	}
	t.Errorf("%s returns %v", what, err)
}

// TestBadPeersLater: after the handshake, bytes that are no record of the connection end it, and
// the error stays.
func TestBadPeersLater(t *testing.T) {
	anySSL := new(sslctx.Error)
	for name, test := range map[string]struct {
		sent string
		over error
		want error
	}{
		"HTTP request":       {sent: "GET / HTTP/1.1\r\n\r\n", want: anySSL},
		"empty data records": {sent: times(1000, record(23, "")), want: anySSL},
		"data in the clear":  {sent: record(23, times(100, "x")), want: anySSL},
		"alert in the clear": {sent: alert(2, 40), want: anySSL},
		"close in the clear": {sent: alert(1, 0), over: io.EOF, want: anySSL},
		"too long":           {sent: "\x17\x03\x03\xff\xff" + times(70_000, "x"), want: anySSL},
		"16385 bytes":        {sent: record(23, times(16384+257, "x")), want: anySSL},
		"change_cipher_spec": {sent: times(1000, record(20, "\x01")), want: anySSL},
		"half, end":          {sent: record(23, times(100, "x"))[:50], over: io.EOF, want: io.ErrUnexpectedEOF},
		"half, reset":        {sent: record(23, times(100, "x"))[:50], over: syscall.ECONNRESET, want: syscall.ECONNRESET},
		"half, stall":        {sent: record(23, times(100, "x"))[:50], want: os.ErrDeadlineExceeded},
		"header, end":        {sent: "\x17\x03\x03\x01\x00", over: io.EOF, want: io.ErrUnexpectedEOF},
		"end":                {over: io.EOF, want: io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, e ends, r role) {
				noQueue(t)
				c, peer := r.pair(t, e)
				defer peer.Close()
				shake(t, c, peer)
				_, err := peer.Write([]byte("last words"))
				must(t, err)
				lane := peer.NetConn().(*wireEnd).Out
				_, err = lane.Write([]byte(test.sent))
				must(t, err)
				lane.End(test.over)
				must(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
				buf := make([]byte, 100)
				if n, err := c.Read(buf); err != nil || string(buf[:n]) != "last words" {
					t.Fatalf("Read returns %q, %v", buf[:n], err)
				}
				for range 2 {
					_, err = c.Read(buf)
					wantEnd(t, "Read", err, test.want)
				}
				must(t, c.Close())
			})
		})
	}
}

// shake completes the handshake of both ends.
func shake(t *testing.T, c, peer *sslctx.Conn) {
	t.Helper()
	errs := make(chan error, 1)
	go func() { errs <- peer.Handshake() }()
	must(t, c.Handshake())
	must(t, <-errs)
}

// TestPeerStopsReading: Write ends by its deadline. Close ends at once, and says that data is lost.
func TestPeerStopsReading(t *testing.T) {
	eachRole(t, func(t *testing.T, e ends, r role) {
		noQueue(t)
		c, peer := r.pair(t, e)
		defer peer.Close()
		shake(t, c, peer)
		c.NetConn().(*wireEnd).Out.SetRoom(100_000)
		must(t, c.SetWriteDeadline(time.Now().Add(time.Minute)))
		start := time.Now()
		n, err := c.Write(make([]byte, 1<<20))
		if n == 0 || n == 1<<20 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("Write returns %d, %v after %v", n, err, time.Since(start))
		}
		must(t, c.SetWriteDeadline(time.Time{}))
		start = time.Now()
		if err := c.Close(); !errors.Is(err, sslctx.ErrDataLost) || time.Since(start) != 0 {
			t.Errorf("Close returns %v after %v", err, time.Since(start))
		}
		// The written data arrives in order, and then an error.
		_ = peer.SetReadDeadline(time.Now().Add(time.Minute))
		got, err := io.Copy(io.Discard, peer)
		if got == 0 || got > int64(n) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d of %d bytes arrive, %v", got, n, err)
		}
	})
}

// TestCloseCutsWriteOff: Close does not wait for a Write that the peer blocks.
func TestCloseCutsWriteOff(t *testing.T) {
	eachRole(t, func(t *testing.T, e ends, r role) {
		c, peer := r.pair(t, e)
		defer peer.Close()
		shake(t, c, peer)
		c.NetConn().(*wireEnd).Out.SetRoom(100_000)
		errs := make(chan error)
		go func() {
			_, err := c.Write(make([]byte, 1<<20))
			errs <- err
		}()
		start := time.Now()
		time.Sleep(time.Second) // of synctest: after it Write waits
		wantLost(t, c.Close())
		if err := <-errs; !errors.Is(err, net.ErrClosed) || time.Since(start) != time.Second {
			t.Errorf("Write returns %v after %v", err, time.Since(start))
		}
	})
}

// byteConn sends and receives one byte at a time.
type byteConn struct{ net.Conn }

func (c byteConn) Read(p []byte) (int, error) { return c.Conn.Read(p[:min(1, len(p))]) }

func (c byteConn) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = c.Conn.Write(p[n : n+1])
		n += k
	}
	return n, err
}

// TestByteByByte: a full handshake, a resumed one, bulk both ways at once, key updates and tickets
// in the middle of it, over a transport that moves one byte at a time.
func TestByteByByte(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		var offer *sslctx.Session
		for range 2 {
			s, c := wire()
			server, client := e.over(t, byteConn{s}, byteConn{c}, offer)
			data := bytes.Repeat([]byte("0123456789"), 4000)
			errs := make(chan error, 2)
			for _, end := range []*sslctx.Conn{server, client} {
				go func() { errs <- sendInParts(end, data, v) }()
			}
			for _, end := range []*sslctx.Conn{server, client} {
				go func() {
					got, err := io.ReadAll(end)
					if err == nil && !bytes.Equal(got, data) {
						err = errors.New("other bytes arrive than were sent")
					}
					errs <- err
				}()
			}
			for range 4 {
				must(t, <-errs)
			}
			if server.SessionReused() != (offer != nil) || client.SessionReused() != (offer != nil) {
				t.Error("resumption is not as offered")
			}
			offer = sessionOf(t, client)
			must(t, server.Close())
			must(t, client.Close())
		}
	})
}

// sendInParts sends data and the end of it, with TLS 1.3's messages in between.
func sendInParts(c *sslctx.Conn, data []byte, v sslctx.Version) error {
	i := 0
	for part := range slices.Chunk(data, 7001) {
		if _, err := c.Write(part); err != nil {
			return err
		}
		i++
		if v != sslctx.VersionTLS13 {
			continue
		}
		if err := c.KeyUpdate(i%2 == 0); err != nil {
			return err
		}
		if err := c.NewSessionTicket(); err == nil {
			continue // only a server can
		}
	}
	return c.CloseWrite()
}

// A role says which end a test is about. The other end is the peer.
type role string

const (
	serverRole role = "server"
	clientRole role = "client"
)

// eachRole runs a test for both roles and versions, in a bubble of synctest, where deadlines take
// no time. The contexts are made outside, with the real time for the certificate.
func eachRole(t *testing.T, run func(t *testing.T, e ends, r role)) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, r := range []role{serverRole, clientRole} {
			t.Run(string(r), func(t *testing.T) {
				e := newEnds(t, v)
				before := ossltest.LiveSSLs()
				synctest.Test(t, func(t *testing.T) { run(t, e, r) })
				if n := ossltest.LiveSSLs(); n > before {
					t.Errorf("%d SSLs are alive, %d before", n, before)
				}
			})
		}
	})
}

// conn makes the Conn of a role over one end of a wire. The other end is the peer's.
func (r role) conn(t *testing.T, e ends) (c *sslctx.Conn, peer *wireEnd) {
	t.Helper()
	serverEnd, clientEnd := wire()
	var err error
	if r == serverRole {
		c, err = sslctx.Server(serverEnd, e.server)
		peer = clientEnd
	} else {
		c, err = sslctx.Client(clientEnd, e.client)
		peer = serverEnd
	}
	must(t, err)
	if peer == serverEnd {
		must(t, c.AcceptAnyName())
	}
	return c, peer
}

// pair makes both Conns over a wire: the role's and its peer's.
func (r role) pair(t *testing.T, e ends) (c, peer *sslctx.Conn) {
	t.Helper()
	serverEnd, clientEnd := wire()
	server, err := sslctx.Server(serverEnd, e.server)
	must(t, err)
	client, err := sslctx.Client(clientEnd, e.client)
	must(t, err)
	must(t, client.AcceptAnyName())
	if r == serverRole {
		return server, client
	}
	return client, server
}

// A cutter forwards records, and after arm only some more. It is a client's transport.
type cutter struct {
	net.Conn
	mu        sync.Mutex
	armed     bool
	left      int
	part      []byte
	forwarded int // bytes
	dropped   bool
}

func (c *cutter) arm(records int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed, c.left = true, records
}

func (c *cutter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.part = append(c.part, p...)
	for len(c.part) >= 5 && len(c.part) >= 5+int(binary.BigEndian.Uint16(c.part[3:])) {
		n := 5 + int(binary.BigEndian.Uint16(c.part[3:]))
		if c.armed && c.left == 0 {
			c.dropped = true
		} else if _, err := c.Conn.Write(c.part[:n]); err != nil {
			return 0, err
		} else {
			c.forwarded += n
			c.left--
		}
		c.part = c.part[n:]
	}
	return len(p), nil
}

// An arrival is a server's transport that knows when the server has used all that a cutter sent.
type arrival struct {
	net.Conn
	from *cutter
	mu   sync.Mutex
	read int  // bytes
	idle bool // a Read waits
}

func (a *arrival) Read(p []byte) (int, error) {
	a.set(0, true)
	n, err := a.Conn.Read(p)
	a.set(n, false)
	return n, err
}

func (a *arrival) set(n int, idle bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.read, a.idle = a.read+n, idle
}

// await waits until the cutter has dropped a record, and the server has used those before.
func (a *arrival) await(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		a.from.mu.Lock()
		forwarded, dropped := a.from.forwarded, a.from.dropped
		a.from.mu.Unlock()
		a.mu.Lock()
		done := dropped && a.idle && a.read == forwarded
		a.mu.Unlock()
		if done {
			return
		}
	}
	t.Fatal("the server does not get what the client sends")
}

// TestClaimsInRenegotiation: a client shows another client's certificate, or names its pre-shared
// key, in a renegotiation, and stops before it proves that it has the key. What the server says of
// the client is that of the handshake that ended.
func TestClaimsInRenegotiation(t *testing.T) {
	root := issue(t, "root", nil, authority)
	mallory, alice := issue(t, "mallory", root, nil), issue(t, "alice", root, nil)
	check := func(t *testing.T, server *sslctx.Conn, when string) {
		t.Helper()
		state := server.ConnectionState()
		if state.PeerCertificates[0].Subject.CommonName != "mallory" || state.VerifiedChains[0][0].Subject.CommonName != "mallory" {
			t.Errorf("%s: the peer is %v, verified as %v", when, state.PeerCertificates[0].Subject, state.VerifiedChains[0][0].Subject)
		}
	}
	for records := range 4 { // ClientHello, Certificate, ClientKeyExchange
		t.Run(fmt.Sprint(records), func(t *testing.T) {
			noQueue(t)
			e := bare(t, sslctx.VersionTLS12, issue(t, "host", root, nil).TLSCertificate())
			must(t, e.server.TrustCertificate(root.Cert))
			must(t, e.server.SetIDContext([]byte("test")))
			must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
			s, c := tcpPair(t)
			cut := &cutter{Conn: c}
			in := &arrival{Conn: s, from: cut}
			asked := 0
			client := tls.Client(cut, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, Renegotiation: tls.RenegotiateFreelyAsClient,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					show := mallory.TLSCertificate()
					if asked++; asked > 1 {
						show.Certificate = alice.TLSCertificate().Certificate // with mallory's key
					}
					return &show, nil
				}})
			server, err := sslctx.Server(in, e.server)
			must(t, err)
			shaken := make(chan error, 1)
			go func() { shaken <- client.Handshake() }()
			must(t, server.Handshake())
			must(t, <-shaken)
			cipher := server.Cipher()
			cut.arm(records)
			must(t, server.Renegotiate())
			go func() { _, _ = client.Read(make([]byte, 1)) }()
			read := make(chan error, 1)
			go func() { _, err := server.Read(make([]byte, 1)); read <- err }()
			in.await(t)
			check(t, server, "in the middle")
			session, err := server.Session()
			must(t, err)
			if x, err := session.PeerCertificate(); err != nil || x.Subject.CommonName != "mallory" || server.Cipher() != cipher {
				t.Errorf("in the middle the session is of %v, %v, and the cipher suite is %v", x.Subject, err, server.Cipher())
			}
			if result, err := server.VerifyResult(); err != nil || result != sslctx.VerifyOK {
				t.Errorf("in the middle the result is %v, %v", result, err)
			}
			_ = c.Close()
			if err := <-read; err == nil {
				t.Error("the renegotiation ends well")
			}
			check(t, server, "after the failure")
			if session, err := server.Session(); err == nil {
				if x, err := session.PeerCertificate(); err != nil || x.Subject.CommonName != "mallory" {
					t.Errorf("after the failure the session is of %v, %v", x.Subject, err)
				}
			}
			_ = server.Abort()
			check(t, server, "after Abort")
		})
	}
}

// TestIdentityInRenegotiation is TestClaimsInRenegotiation for a pre-shared key.
func TestIdentityInRenegotiation(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	for _, c := range []*sslctx.Context{e.server, e.client} {
		must(t, c.SetCipherList("PSK-AES128-GCM-SHA256"))
		_, err := c.SetSessionCacheMode(sslctx.SessCacheOff)
		must(t, err)
	}
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	must(t, e.server.SetPSKServerCallback(func(_ context.Context, _ *sslctx.Conn, identity string) []byte {
		return []byte("the key of " + identity)
	}))
	asked := 0
	must(t, e.client.SetPSKClientCallback(func(context.Context, *sslctx.Conn, string) (string, []byte) {
		if asked++; asked > 1 {
			return "alice", []byte("unknown")
		}
		return "mallory", []byte("the key of mallory")
	}))
	s, c := tcpPair(t)
	cut := &cutter{Conn: c}
	in := &arrival{Conn: s, from: cut}
	server, client := e.over(t, in, cut, nil)
	serverErr, clientErr := handshakeBoth(server, client)
	must(t, serverErr)
	must(t, clientErr)
	cut.arm(2) // ClientHello, ClientKeyExchange
	must(t, server.Renegotiate())
	go func() { _, _ = client.Read(make([]byte, 1)) }()
	read := make(chan error, 1)
	go func() { _, err := server.Read(make([]byte, 1)); read <- err }()
	in.await(t)
	if identity := server.PSKIdentity(); identity != "mallory" {
		t.Errorf("in the middle: %q", identity)
	}
	_ = c.Close()
	<-read
	if identity := server.PSKIdentity(); identity != "mallory" {
		t.Errorf("after the failure: %q", identity)
	}
}

// TestStateIsTheCallers: what a caller does to a ConnectionState is not in the next one. A
// certificate is parsed once for all connections.
func TestStateIsTheCallers(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	_, client := e.connect(t, nil)
	first := client.ConnectionState()
	cert := first.PeerCertificates[0]
	first.PeerCertificates[0], first.VerifiedChains[0][0] = nil, nil
	if again := client.ConnectionState(); again.PeerCertificates[0] != cert || again.VerifiedChains[0][0] != cert {
		t.Errorf("the state is %+v", again)
	}
	if _, other := e.connect(t, nil); other.ConnectionState().PeerCertificates[0] != cert {
		t.Error("another connection parses the certificate again")
	}
}

// TestReadErrorStays: what ended the reading is the error of all later reads, although the
// transport then reports another end. After a timeout, or an error that is temporary, the next Read
// may succeed.
func TestReadErrorStays(t *testing.T) {
	noQueue(t)
	s, c := tcpPair(t)
	in := &readsErrors{s, make(chan error, 3)}
	server, client := newEnds(t, sslctx.VersionTLS13).over(t, in, c, nil)
	exchange(t, server, client)
	b := make([]byte, 1)
	for _, passes := range []error{os.ErrDeadlineExceeded, syscall.EINTR} {
		in.errs <- passes
		_, err := client.Write([]byte("x"))
		must(t, err)
		if _, err := server.Read(b); !errors.Is(err, passes) {
			t.Errorf("Read returns %v", err)
		}
		if _, err := server.Read(b); err != nil {
			t.Errorf("after %v Read returns %v", passes, err)
		}
	}
	in.errs <- syscall.ECONNRESET
	in.errs <- io.EOF
	for range 3 {
		if _, err := server.Read(b); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after a reset Read returns %v", err)
		}
	}
}

// A readsErrors transport first returns its errors.
type readsErrors struct {
	net.Conn
	errs chan error
}

func (r *readsErrors) Read(p []byte) (int, error) {
	select {
	case err := <-r.errs:
		return 0, err
	default:
		return r.Conn.Read(p)
	}
}
