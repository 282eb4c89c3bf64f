// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"sslctx"
)

// TestCryptoTLS talks to Go's own implementation, both ways round, full and resumed.
func TestCryptoTLS(t *testing.T) {
	pair := testPair(t)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pair.Cert)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		must(t, e.server.UseKeyPair(pair.Cert, pair.Key))
		must(t, e.client.TrustCertificates(pair.Cert))
		config := &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, ServerName: "localhost",
			MinVersion: uint16(v), MaxVersion: uint16(v), ClientSessionCache: tls.NewLRUClientSessionCache(4)}

		t.Run("their client", func(t *testing.T) {
			for i := range 3 {
				s, c := tcpPair(t)
				server, err := sslctx.Server(s, e.server)
				must(t, err)
				client := tls.Client(c, config)
				exchange(t, server, client)
				if got := client.ConnectionState().DidResume; got != (i > 0) || server.SessionReused() != got {
					t.Errorf("connection %d: resumed is %v for them, %v for us", i, got, server.SessionReused())
				}
				_, _ = client.Close(), server.Close()
			}
		})
		t.Run("their server", func(t *testing.T) {
			var offer *sslctx.Session
			for i := range 3 {
				s, c := tcpPair(t)
				server := tls.Server(s, config)
				client, err := sslctx.Client(c, e.client)
				must(t, err)
				must(t, client.AcceptAnyName())
				if offer != nil {
					must(t, client.SetSession(offer))
				}
				exchange(t, server, client)
				if got := server.ConnectionState().DidResume; got != (i > 0) || client.SessionReused() != got {
					t.Errorf("connection %d: resumed is %v for them, %v for us", i, got, client.SessionReused())
				}
				offer = sessionOf(t, client)
				_, _ = client.Close(), server.Close()
			}
		})
	})
}

// TestOpenSSLClient has openssl s_client connect, keep its session in a file and resume from it.
func TestOpenSSLClient(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		reused := make(chan bool, 2)
		go serveGreeting(t, l, e.server, reused)
		file := filepath.Join(t.TempDir(), "session.pem")
		for i := range 2 {
			args := []string{"s_client", "-connect", l.Addr().String(), "-ign_eof", "-sess_out", file}
			if i > 0 {
				args = append(args, "-sess_in", file)
			}
			out, _ := exec.Command("openssl", args...).Output()
			if !bytes.Contains(out, []byte("greeting")) {
				t.Fatalf("s_client prints\n%s", out)
			}
			want := []string{"New, ", "Reused, "}[i]
			if got := <-reused; got != (i > 0) || !bytes.Contains(out, []byte(want)) {
				t.Errorf("connection %d: reused is %v for us; s_client prints\n%s", i, got, out)
			}
		}
		text, err := os.ReadFile(file)
		must(t, err)
		s, err := sslctx.ParseSessionPEM(text) // what s_client wrote is a session for us too
		must(t, err)
		defer s.Close()
		if s.ProtocolVersion() != v || !s.IsResumable() {
			t.Errorf("s_client's session is %v", s)
		}
	})
}

func serveGreeting(t *testing.T, l net.Listener, server *sslctx.Context, reused chan<- bool) {
	for {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		c, err := sslctx.Server(raw, server)
		if err != nil {
			t.Error(err)
			return
		}
		_, err = io.WriteString(c, "greeting\n")
		if err != nil {
			t.Error(err)
		}
		reused <- c.SessionReused()
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
}

// TestOpenSSLServer connects to openssl s_server, full and resumed.
func TestOpenSSLServer(t *testing.T) {
	pair := testPair(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(cert, pair.Cert, 0o600))
	must(t, os.WriteFile(key, pair.Key, 0o600))
	cmd := exec.Command("openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key, "-rev")
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	addr := acceptAddress(t, stdout)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		must(t, e.client.TrustCertificates(pair.Cert))
		var offer *sslctx.Session
		for i := range 3 {
			raw, err := net.Dial("tcp", addr)
			must(t, err)
			c, err := sslctx.Client(raw, e.client)
			must(t, err)
			must(t, c.AcceptAnyName())
			if offer != nil {
				must(t, c.SetSession(offer))
			}
			_, err = io.WriteString(c, "abc\n")
			must(t, err)
			buf := make([]byte, 4)
			if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "cba\n" {
				t.Errorf("s_server answers %q, %v", buf, err)
			}
			if c.SessionReused() != (i > 0) {
				t.Errorf("connection %d: reused is %v", i, c.SessionReused())
			}
			offer = sessionOf(t, c)
			must(t, c.Close())
		}
	})
}

// acceptAddress reads where s_server listens: it prints ACCEPT and the address that it got.
func acceptAddress(t *testing.T, out io.Reader) string {
	t.Helper()
	var text []byte
	buf := make([]byte, 1000)
	pattern := regexp.MustCompile(`ACCEPT (\S+:\d+)`)
	for {
		n, err := out.Read(buf)
		text = append(text, buf[:n]...)
		if m := pattern.FindSubmatch(text); m != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return string(m[1])
		}
		if err != nil {
			t.Fatalf("s_server prints %q, %v", text, err)
		}
	}
}
