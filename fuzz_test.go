// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// FuzzParseSession reads hostile DER: an error or a session that writes and reads itself, no crash, no
// leak, nothing left on the error queue.
func FuzzParseSession(f *testing.F) {
	for _, v := range versions {
		der, err := fuzzSession(f, v).Bytes()
		must(f, err)
		f.Add(der)
		f.Add(der[:len(der)/2])
	}
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		fuzzOne(t, func() (*sslctx.Session, error) { return sslctx.ParseSession(der) })
	})
}

// FuzzParseSessionPEM reads hostile PEM.
func FuzzParseSessionPEM(f *testing.F) {
	for _, v := range versions {
		text, err := fuzzSession(f, v).PEM()
		must(f, err)
		f.Add(text)
	}
	f.Add([]byte("-----BEGIN SSL SESSION PARAMETERS-----\nProc-Type: 4,ENCRYPTED\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		fuzzOne(t, func() (*sslctx.Session, error) { return sslctx.ParseSessionPEM(text) })
	})
}

// FuzzTicketAppData puts data into a session, and reads it back from its DER.
func FuzzTicketAppData(f *testing.F) {
	from := fuzzSession(f, sslctx.VersionTLS13)
	f.Add([]byte(nil))
	f.Add([]byte("data"))
	f.Add(bytes.Repeat([]byte{0}, 70_000))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzOne(t, func() (*sslctx.Session, error) {
			s, err := from.Dup()
			must(t, err)
			defer s.Close()
			if err := s.SetTicketAppData(data); err != nil {
				return nil, err
			}
			der, err := s.Bytes()
			must(t, err)
			back, err := sslctx.ParseSession(der)
			if err == nil && !bytes.Equal(back.TicketAppData(), data) {
				t.Errorf("%d bytes come back of %d", len(back.TicketAppData()), len(data))
			}
			return back, err
		})
	})
}

// FuzzClientHello sends hostile bytes to a server that has a hook for the ClientHello.
func FuzzClientHello(f *testing.F) {
	e := newEnds(f, sslctx.VersionTLS13)
	for _, v := range versions {
		must(f, e.client.SetMinProtoVersion(v))
		must(f, e.client.SetALPNProtos("h2", "http/1.1"))
		hello := &recorder{}
		client, err := sslctx.Client(hello, e.client)
		must(f, err)
		must(f, client.AcceptAnyName())
		must(f, client.SetServerName("localhost"))
		_ = client.Handshake()
		must(f, client.Close())
		f.Add(hello.sent.Bytes())
		must(f, e.client.SetMinProtoVersion(sslctx.VersionAny))
		must(f, e.client.SetMaxProtoVersion(sslctx.VersionTLS13))
	}
	must(f, e.server.SetMinProtoVersion(sslctx.VersionTLS12))
	must(f, e.server.SetClientHelloCallback(func(_ context.Context, hello *tls.ClientHelloInfo) (*sslctx.Context, error) {
		_ = fmt.Sprint(hello)
		return nil, nil
	}))
	f.Fuzz(func(t *testing.T, data []byte) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		c, err := sslctx.Server(&recorder{arrived: bytes.NewReader(data)}, e.server)
		must(t, err)
		if err := c.Handshake(); err == nil {
			t.Error("one flight completes a handshake")
		}
		must(t, c.Close())
		if c := ossltest.PeekError(); c != 0 {
			t.Errorf("the error queue holds %#x", c)
		}
	})
}

// recorder is a transport whose peer sends what arrived, and then nothing more.
type recorder struct {
	net.Conn
	arrived *bytes.Reader
	sent    bytes.Buffer
}

func (r *recorder) Read(p []byte) (int, error) {
	if r.arrived == nil {
		return 0, io.EOF
	}
	return r.arrived.Read(p)
}
func (r *recorder) Write(p []byte) (int, error)      { return r.sent.Write(p) }
func (r *recorder) Close() error                     { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

func fuzzSession(f *testing.F, v sslctx.Version) *sslctx.Session { return clientSession(f, v) }

func fuzzOne(t *testing.T, read func() (*sslctx.Session, error)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	live := ossltest.LiveSessions()
	if s, err := read(); err == nil {
		fixpoint(t, s)
		must(t, s.Close())
	}
	if n := ossltest.LiveSessions(); n > live { // less: what tests before forgot was collected
		t.Errorf("%d sessions are alive, %d before", n, live)
	}
	if c := ossltest.PeekError(); c != 0 {
		t.Errorf("the error queue holds %#x", c)
	}
}

// fixpoint: what was read is written the same each time.
func fixpoint(t *testing.T, s *sslctx.Session) {
	_ = s.String()
	der, err := s.Bytes()
	if err != nil {
		return // libssl reads more than it writes
	}
	again, err := sslctx.ParseSession(der)
	if err != nil {
		t.Fatalf("what Bytes returns is refused: %v\n%x", err, der)
	}
	defer again.Close()
	if got, err := again.Bytes(); err != nil || !bytes.Equal(got, der) {
		t.Errorf("DER changes on its way:\n%x\n%x, %v", der, got, err)
	}
}

// FuzzReadEarlyData sends hostile bytes to a server that reads early data, to its end or to an error.
func FuzzReadEarlyData(f *testing.F) {
	e := newEnds(f, sslctx.VersionTLS13)
	must(f, e.server.SetMaxEarlyData(1000))
	_, err := e.server.SetOptions(sslctx.OpNoAntiReplay) // so that a seed's key is good more than once
	must(f, err)
	must(f, e.server.SetCiphersuites("TLS_AES_128_GCM_SHA256"))
	s, psk := e.session(f), pskSession(f, 1000)
	e.withPSK(f, "me", psk, psk)
	for _, offer := range []*sslctx.Session{nil, s} {
		for _, data := range []string{"", "early data"} {
			sent := &recorder{}
			client, err := sslctx.Client(sent, e.client)
			must(f, err)
			must(f, client.AcceptAnyName())
			if offer != nil {
				must(f, client.SetSession(offer))
			}
			_, err = client.WriteEarlyData([]byte(data))
			must(f, err)
			must(f, client.Close())
			f.Add(sent.sent.Bytes())
			f.Add(sent.sent.Bytes()[:sent.sent.Len()/2])
		}
	}
	f.Add([]byte("\x16\x03\x01\x00\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		c, err := sslctx.Server(&recorder{arrived: bytes.NewReader(data)}, e.server)
		must(t, err)
		buf, read := make([]byte, 64), 0
		for err == nil {
			var n int
			n, err = c.ReadEarlyData(buf)
			read += n
		}
		if read > 1000 {
			t.Errorf("%d bytes of early data are read", read)
		}
		if err == io.EOF {
			err = c.Handshake()
		}
		if err == nil {
			t.Error("one flight completes a handshake")
		}
		must(t, c.Close())
		if c := ossltest.PeekError(); c != 0 {
			t.Errorf("the error queue holds %#x", c)
		}
	})
}
