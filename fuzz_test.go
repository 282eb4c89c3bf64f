// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"runtime"
	"testing"

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

// FuzzUnmarshalText reads hostile PEM.
func FuzzUnmarshalText(f *testing.F) {
	for _, v := range versions {
		text, err := fuzzSession(f, v).MarshalText()
		must(f, err)
		f.Add(text)
	}
	f.Add([]byte("-----BEGIN SSL SESSION PARAMETERS-----\nProc-Type: 4,ENCRYPTED\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		fuzzOne(t, func() (*sslctx.Session, error) {
			s := new(sslctx.Session)
			return s, s.UnmarshalText(text)
		})
	})
}

func fuzzSession(f *testing.F, v sslctx.Version) *sslctx.Session { return clientSession(f, v) }

func fuzzOne(t *testing.T, read func() (*sslctx.Session, error)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	live := ossltest.LiveSessions()
	if s, err := read(); err == nil {
		fixpoint(t, s)
		must(t, s.Close())
	}
	if n := ossltest.LiveSessions(); n != live {
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
