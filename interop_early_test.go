// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
)

// TestOpenSSLClientEarlyData has openssl s_client send early data: accepted with a new session, rejected with the same.
func TestOpenSSLClientEarlyData(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetMaxEarlyData(1000))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	got := make(chan earlyRead, 1)
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			c, err := sslctx.Server(raw, e.server)
			if err != nil {
				t.Error(err)
				return
			}
			data, err := readEarly(c)
			got <- earlyRead{data, err}
			_, _ = io.WriteString(c, "greeting\n")
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	dir := t.TempDir()
	session, data := filepath.Join(dir, "session.pem"), filepath.Join(dir, "data")
	must(t, os.WriteFile(data, []byte("early data\n"), 0o600))
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

// output is what a program printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// want waits until text was printed n times.
func (o *output) want(t *testing.T, text string, n int) {
	t.Helper()
	for range 500 {
		o.mu.Lock()
		count := bytes.Count(o.text.Bytes(), []byte(text))
		o.mu.Unlock()
		if count >= n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("not printed %d times: %q in\n%s", n, text, o.text.String())
}

// startServer starts openssl s_server.
func startServer(t *testing.T, args ...string) (addr string, out *output) {
	t.Helper()
	cmd := exec.Command("openssl", append([]string{"s_server", "-accept", "127.0.0.1:0"}, args...)...)
	stdin, err := cmd.StdinPipe() // s_server ends when it ends
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	out = new(output)
	return acceptAddress(t, io.TeeReader(stdout, out)), out
}

// TestOpenSSLServerEarlyData sends early data to openssl s_server: accepted with a new session, rejected with the same.
func TestOpenSSLServerEarlyData(t *testing.T) {
	pair := testPair(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(cert, pair.Cert, 0o600))
	must(t, os.WriteFile(key, pair.Key, 0o600))
	addr, out := startServer(t, "-cert", cert, "-key", key, "-early_data", "-max_early_data", "1000")
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.client.TrustCertificates(pair.Cert))
	var offer *sslctx.Session
	for i, want := range []sslctx.EarlyDataStatus{sslctx.EarlyDataNotSent, sslctx.EarlyDataAccepted, sslctx.EarlyDataRejected} {
		raw, err := net.Dial("tcp", addr)
		must(t, err)
		c, err := sslctx.Client(raw, e.client)
		must(t, err)
		must(t, c.AcceptAnyName())
		if offer != nil {
			must(t, c.SetSession(offer))
		}
		must(t, c.HandshakeWithEarlyData(context.Background(), []byte("hear this\n")))
		if got := c.EarlyDataStatus(); got != want {
			t.Errorf("connection %d: early data is %v, want %v", i, got, want)
		}
		out.want(t, "hear this", i+1) // early, or sent again
		if i == 0 {                   // its tickets are there, and no data
			must(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
			_, _ = c.Read(make([]byte, 1))
			offer = sessionOf(t, c)
		}
		must(t, c.Close())
	}
}

// TestOpenSSLPSK talks to both ends of openssl with pre-shared keys, in both versions.
func TestOpenSSLPSK(t *testing.T) {
	flags := []string{"-psk", hex.EncodeToString(pskKey), "-psk_identity", "me",
		"-cipher", "PSK-AES128-GCM-SHA256", "-ciphersuites", "TLS_AES_128_GCM_SHA256"}
	addr, _ := startServer(t, append(flags, "-nocert", "-rev")...)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		s := pskSession(t, 0)
		e.withPSK(t, "me", s, s)
		must(t, e.client.SetPSKClientCallback(func(context.Context, *sslctx.Conn, string) (string, []byte) { return "me", pskKey }))
		must(t, e.server.SetPSKServerCallback(func(_ context.Context, _ *sslctx.Conn, identity string) []byte {
			if identity != "me" {
				t.Errorf("the identity is %q", identity)
			}
			return pskKey
		}))
		for _, c := range []*sslctx.Context{e.server, e.client} {
			must(t, c.SetCipherList("PSK-AES128-GCM-SHA256"))
		}
		raw, err := net.Dial("tcp", addr)
		must(t, err)
		c, err := sslctx.Client(raw, e.client)
		must(t, err)
		must(t, c.AcceptAnyName())
		_, err = io.WriteString(c, "abc\n")
		must(t, err)
		buf := make([]byte, 4)
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "cba\n" {
			t.Errorf("s_server answers %q, %v", buf, err)
		}
		must(t, c.Close())

		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		reused := make(chan bool, 1)
		go serveGreeting(t, l, e.server, reused)
		out, _ := exec.Command("openssl", append([]string{"s_client", "-connect", l.Addr().String(), "-ign_eof"}, flags...)...).Output()
		if !strings.Contains(string(out), "greeting") || <-reused != (v == sslctx.VersionTLS13) {
			t.Errorf("s_client prints\n%s", out)
		}
	})
}
