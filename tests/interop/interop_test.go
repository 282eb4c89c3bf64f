// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sslctx/internal/tlstest"
	"testing"

	"sslctx"
)

// TestCryptoTLS connects to crypto/tls, in both roles, full and resumed.
func TestCryptoTLS(t *testing.T) {
	pair := tlstest.SelfSigned(t)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	tlstest.Must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pair.Cert)
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := tlstest.NewEnds(t, v)
		tlstest.Must(t, e.Server.UseKeyPair(pair.Cert, pair.Key))
		tlstest.Must(t, e.Client.TrustCertificates(pair.Cert))
		config := &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, ServerName: "localhost",
			MinVersion: uint16(v), MaxVersion: uint16(v), ClientSessionCache: tls.NewLRUClientSessionCache(4)}

		t.Run("their client", func(t *testing.T) {
			for i := range 3 {
				s, c := tlstest.TCPPair(t)
				server, err := sslctx.Server(s, e.Server)
				tlstest.Must(t, err)
				client := tls.Client(c, config)
				tlstest.Exchange(t, server, client)
				if got := client.ConnectionState().DidResume; got != (i > 0) || server.SessionReused() != got {
					t.Errorf("connection %d: resumed is %v for them, %v for us", i, got, server.SessionReused())
				}
				_, _ = client.Close(), server.Close()
			}
		})
		t.Run("their server", func(t *testing.T) {
			var offer *sslctx.Session
			for i := range 3 {
				s, c := tlstest.TCPPair(t)
				server := tls.Server(s, config)
				client, err := sslctx.Client(c, e.Client)
				tlstest.Must(t, err)
				tlstest.Must(t, client.AcceptAnyName())
				if offer != nil {
					tlstest.Must(t, client.SetSession(offer))
				}
				tlstest.Exchange(t, server, client)
				if got := server.ConnectionState().DidResume; got != (i > 0) || client.SessionReused() != got {
					t.Errorf("connection %d: resumed is %v for them, %v for us", i, got, client.SessionReused())
				}
				offer = tlstest.SessionOf(t, client)
				_, _ = client.Close(), server.Close()
			}
		})
	})
}

// TestOpenSSLClient: openssl s_client connects, saves its session in a file and resumes from it.
func TestOpenSSLClient(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := tlstest.NewEnds(t, v)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		tlstest.Must(t, err)
		defer l.Close()
		reused := make(chan bool, 2)
		go tlstest.ServeGreeting(t, l, e.Server, reused)
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
		tlstest.Must(t, err)
		s, err := sslctx.ParseSessionPEM(text) // we can read the session of s_client, too
		tlstest.Must(t, err)
		defer s.Close()
		if s.ProtocolVersion() != v || !s.IsResumable() {
			t.Errorf("s_client's session is %v", s)
		}
	})
}

// TestOpenSSLServer connects to openssl s_server, full and resumed.
func TestOpenSSLServer(t *testing.T) {
	pair := tlstest.SelfSigned(t)
	cert, key := tlstest.PairFiles(t, pair)
	addr := tlstest.StartOpenSSLServer(t, "-cert", cert, "-key", key, "-rev").Addr
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := tlstest.NewEnds(t, v)
		tlstest.Must(t, e.Client.TrustCertificates(pair.Cert))
		var offer *sslctx.Session
		for i := range 3 {
			raw, err := net.Dial("tcp", addr)
			tlstest.Must(t, err)
			c, err := sslctx.Client(raw, e.Client)
			tlstest.Must(t, err)
			tlstest.Must(t, c.AcceptAnyName())
			if offer != nil {
				tlstest.Must(t, c.SetSession(offer))
			}
			_, err = io.WriteString(c, "abc\n")
			tlstest.Must(t, err)
			buf := make([]byte, 4)
			if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "cba\n" {
				t.Errorf("s_server answers %q, %v", buf, err)
			}
			if c.SessionReused() != (i > 0) {
				t.Errorf("connection %d: reused is %v", i, c.SessionReused())
			}
			offer = tlstest.SessionOf(t, c)
			tlstest.Must(t, c.Close())
		}
	})
}

// TestHostname: a client's session has the server name if the server acknowledged it, which
// s_server does.
func TestHostname(t *testing.T) {
	cert, key := tlstest.PairFiles(t, tlstest.SelfSigned(t))
	addr := tlstest.StartOpenSSLServer(t, "-cert", cert, "-key", key, "-rev",
		"-servername", "example.com", "-cert2", cert, "-key2", key).Addr
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		for name, want := range map[string]string{"example.com": "example.com", "example.org": ""} {
			e := tlstest.NewEnds(t, v)
			tlstest.Must(t, e.Client.SetVerify(sslctx.VerifyNone))
			raw, err := net.Dial("tcp", addr)
			tlstest.Must(t, err)
			c, err := sslctx.Client(raw, e.Client)
			tlstest.Must(t, err)
			tlstest.Must(t, c.AcceptAnyName())
			tlstest.Must(t, c.SetServerName(name))
			_, err = io.WriteString(c, "abc\n")
			tlstest.Must(t, err)
			_, err = io.ReadFull(c, make([]byte, 4))
			tlstest.Must(t, err)
			if got := tlstest.SessionOf(t, c).Hostname(); got != want {
				t.Errorf("the session of %s is %q's, want %q", name, got, want)
			}
			tlstest.Must(t, c.Close())
		}
	})
}
