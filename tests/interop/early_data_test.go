// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sslctx/internal/tlstest"
	"strings"
	"testing"
	"time"

	"sslctx"
)

// received has the early data that a server read, and the result of its handshake.
type received struct {
	data []byte
	err  error
}

// TestOpenSSLClientEarlyData: openssl s_client sends early data. The server accepts it with a new
// session, and rejects it with the same session.
func TestOpenSSLClientEarlyData(t *testing.T) {
	e := tlstest.NewEnds(t, sslctx.VersionTLS13)
	tlstest.Must(t, e.Server.SetMaxEarlyData(1000))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	tlstest.Must(t, err)
	defer l.Close()
	got := make(chan received, 1)
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			c, err := sslctx.Server(raw, e.Server)
			if err != nil {
				t.Error(err)
				return
			}
			data, err := tlstest.ReadEarlyData(c)
			got <- received{data, err}
			_, _ = io.WriteString(c, "greeting\n")
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	dir := t.TempDir()
	session, data := filepath.Join(dir, "session.pem"), filepath.Join(dir, "data")
	tlstest.Must(t, os.WriteFile(data, []byte("early data\n"), 0o600))
	for i, want := range []string{"Early data was not sent", "Early data was accepted", "Early data was rejected"} {
		args := []string{"s_client", "-connect", l.Addr().String(), "-ign_eof"}
		if i == 0 {
			args = append(args, "-sess_out", session)
		} else {
			args = append(args, "-sess_in", session, "-early_data", data)
		}
		out, _ := exec.Command("openssl", args...).Output()
		if !bytes.Contains(out, []byte(want)) || !bytes.Contains(out, []byte("greeting")) {
			t.Errorf("s_client does not print %q:\n%s", want, out)
		}
		if read := <-got; read.err != nil || (string(read.data) == "early data\n") != (i == 1) {
			t.Errorf("connection %d: the server read %q, %v", i, read.data, read.err)
		}
	}
}

// TestOpenSSLServerEarlyData sends early data to openssl s_server: accepted with a new session,
// rejected with the same one.
func TestOpenSSLServerEarlyData(t *testing.T) {
	pair := tlstest.SelfSigned(t)
	cert, key := tlstest.PairFiles(t, pair)
	theirs := tlstest.StartOpenSSLServer(t, "-cert", cert, "-key", key, "-early_data", "-max_early_data", "1000")
	e := tlstest.NewEnds(t, sslctx.VersionTLS13)
	tlstest.Must(t, e.Client.TrustCertificates(pair.Cert))
	var offer *sslctx.Session
	for i, want := range []sslctx.EarlyDataStatus{sslctx.EarlyDataNotSent, sslctx.EarlyDataAccepted, sslctx.EarlyDataRejected} {
		raw, err := net.Dial("tcp", theirs.Addr)
		tlstest.Must(t, err)
		c, err := sslctx.Client(raw, e.Client)
		tlstest.Must(t, err)
		tlstest.Must(t, c.AcceptAnyName())
		if offer != nil {
			tlstest.Must(t, c.SetSession(offer))
		}
		tlstest.Must(t, c.HandshakeWithEarlyData(context.Background(), []byte("hear this\n")))
		if got := c.EarlyDataStatus(); got != want {
			t.Errorf("connection %d: early data is %v, want %v", i, got, want)
		}
		theirs.Output.Await(t, "hear this", i+1) // sent early, or again after the handshake
		if i == 0 {                              // tickets arrive, but no data
			tlstest.Must(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
			_, _ = c.Read(make([]byte, 1))
			offer = tlstest.SessionOf(t, c)
		}
		tlstest.Must(t, c.Close())
	}
}

// TestOpenSSLPSK connects to openssl as client and as server with pre-shared keys, in both
// versions.
func TestOpenSSLPSK(t *testing.T) {
	flags := []string{"-psk", hex.EncodeToString(tlstest.PSKKey), "-psk_identity", "me",
		"-cipher", "PSK-AES128-GCM-SHA256", "-ciphersuites", "TLS_AES_128_GCM_SHA256"}
	theirs := tlstest.StartOpenSSLServer(t, append(flags, "-nocert", "-rev")...)
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := tlstest.NewEnds(t, v)
		s := tlstest.PSKSession(t, 0)
		e.SetPSK(t, "me", s, s)
		tlstest.Must(t, e.Client.SetPSKClientCallback(func(context.Context, *sslctx.Conn, string) (string, []byte) { return "me", tlstest.PSKKey }))
		tlstest.Must(t, e.Server.SetPSKServerCallback(func(_ context.Context, _ *sslctx.Conn, identity string) []byte {
			if identity != "me" {
				t.Errorf("the identity is %q", identity)
			}
			return tlstest.PSKKey
		}))
		for _, c := range []*sslctx.Context{e.Server, e.Client} {
			tlstest.Must(t, c.SetCipherList("PSK-AES128-GCM-SHA256"))
		}
		raw, err := net.Dial("tcp", theirs.Addr)
		tlstest.Must(t, err)
		c, err := sslctx.Client(raw, e.Client)
		tlstest.Must(t, err)
		tlstest.Must(t, c.AcceptAnyName())
		_, err = io.WriteString(c, "abc\n")
		tlstest.Must(t, err)
		buf := make([]byte, 4)
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "cba\n" {
			t.Errorf("s_server answers %q, %v", buf, err)
		}
		tlstest.Must(t, c.Close())

		l, err := net.Listen("tcp", "127.0.0.1:0")
		tlstest.Must(t, err)
		defer l.Close()
		reused := make(chan bool, 1)
		go tlstest.ServeGreeting(t, l, e.Server, reused)
		out, _ := exec.Command("openssl", append([]string{"s_client", "-connect", l.Addr().String(), "-ign_eof"}, flags...)...).Output()
		if !strings.Contains(string(out), "greeting") || <-reused != (v == sslctx.VersionTLS13) {
			t.Errorf("s_client prints\n%s", out)
		}
	})
}
