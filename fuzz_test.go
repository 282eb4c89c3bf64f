// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
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
//
// Reached in Go: ParseSession, parseDER, Bytes, takeBytes, String and the getters that it calls. Reached in the shim:
// shim_d2i_SSL_SESSION, shim_i2d_SSL_SESSION and take_errors. docs/peer-bytes.md has the coverage that shows it.
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
//
// Reached in Go: ParseSessionPEM, and what FuzzParseSession reaches. Reached in the shim: shim_PEM_read_bio_SSL_SESSION,
// shim_d2i_SSL_SESSION and shim_i2d_SSL_SESSION. docs/peer-bytes.md has the coverage that shows it.
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
//
// Reached in Go: SetTicketAppData, TicketAppData, Dup and ParseSession. Reached in the shim:
// shim_SSL_SESSION_set1_ticket_appdata, shim_SSL_SESSION_get0_ticket_appdata, shim_SSL_SESSION_dup and
// shim_d2i_SSL_SESSION. docs/peer-bytes.md has the coverage that shows it.
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
	leavesNothing(t, "the session", func() {
		if s, err := read(); err == nil {
			fixpoint(t, s)
			must(t, s.Close())
		}
	})
}

// leavesNothing runs what is fuzzed: it must end, and leave no object alive and nothing on the error queue.
func leavesNothing(t *testing.T, what string, run func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	watch := time.AfterFunc(5*time.Minute, func() { panic("this input has not come to an end in five minutes") })
	defer watch.Stop()
	closeLent()
	sessions, ssls := ossltest.LiveSessions(), ossltest.LiveSSLs()
	run()
	closeLent()
	if n := ossltest.LiveSessions(); n > sessions { // less: what tests before forgot was collected
		t.Errorf("%s: %d sessions are alive, %d before", what, n, sessions)
	}
	if n := ossltest.LiveSSLs(); n > ssls {
		t.Errorf("%s: %d SSLs are alive, %d before", what, n, ssls)
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
