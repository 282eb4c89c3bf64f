// SPDX-License-Identifier: Apache-2.0

package early_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/testcert"
	"sslctx/internal/tlstest"
	"sslctx/sslhttp"
)

// A slowEnd is a transport that writes nothing more, or reads nothing more, once it has done the other, until it is
// let go. So the end of a handshake comes after the request that went early.
type slowEnd struct {
	net.Conn
	server bool
	free   chan struct{}
	other  atomic.Bool
}

func (s *slowEnd) wait(reads bool) {
	if reads != s.server {
		s.other.Store(true)
		return
	}
	if s.other.Load() {
		select {
		case <-s.free:
		case <-time.After(10 * time.Second):
		}
	}
}

func (s *slowEnd) Read(p []byte) (int, error) {
	if s.server {
		s.wait(true)
		return s.Conn.Read(p)
	}
	n, err := s.Conn.Read(p)
	s.wait(true)
	return n, err
}

func (s *slowEnd) Write(p []byte) (int, error) {
	if !s.server {
		s.wait(false)
		return s.Conn.Write(p)
	}
	n, err := s.Conn.Write(p)
	s.wait(false)
	return n, err
}

// A slowListener makes its connections slow once it is told to.
type slowListener struct {
	net.Listener
	mu   sync.Mutex
	slow bool
	free chan struct{}
}

func (l *slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || !l.slow {
		return c, err
	}
	return &slowEnd{Conn: c, server: true, free: l.free}, nil
}

// next makes the next connection slow, until let.
func (l *slowListener) next() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow, l.free = true, make(chan struct{})
}

func (l *slowListener) let() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.slow {
		l.slow = false
		close(l.free)
	}
}

// TestOpenSSLRequest: openssl s_client sends a request as early data. The handler gets it before the handshake is over,
// and answers it or refuses it with 425. A session that was used already is a replay, and the request is not early.
func TestOpenSSLRequest(t *testing.T) {
	pair := tlstest.SelfSigned(t)
	c := tlstest.NewContext(t, sslctx.TLSServerMethod)
	tlstest.Must(t, errors.Join(c.UseKeyPair(pair.Cert, pair.Key), c.SetMaxEarlyData(4096), c.SetMinProtoVersion(sslctx.VersionTLS13)))
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	tlstest.Must(t, err)
	l := &slowListener{Listener: inner}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer l.let()
		if r.URL.Path == "/late" {
			sslhttp.RequireHandshake(http.NotFoundHandler()).ServeHTTP(w, r)
			return
		}
		fmt.Fprintf(w, "early: %v", sslhttp.IsEarly(r))
	})
	srv := &http.Server{Handler: handler}
	done := make(chan error, 1)
	go func() { done <- sslhttp.ServeWithEarlyData(srv, sslctx.NewListener(l, c)) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	dir := t.TempDir()
	session := filepath.Join(dir, "session.pem")
	ask := func(path string, args ...string) string {
		request := filepath.Join(dir, "request")
		tlstest.Must(t, os.WriteFile(request, []byte("GET "+path+" HTTP/1.1\r\nHost: host.example\r\nConnection: close\r\n\r\n"), 0o600))
		cmd := exec.Command("openssl", append([]string{"s_client", "-connect", inner.Addr().String(), "-ign_eof"}, args...)...)
		for i, arg := range args {
			if arg == "-early_data" {
				cmd.Args[len(cmd.Args)-len(args)+i+1] = request
			}
		}
		if args[0] == "-sess_out" {
			text, err := os.Open(request)
			tlstest.Must(t, err)
			defer text.Close()
			cmd.Stdin = text
		}
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	for _, row := range []struct{ path, want string }{{"/", "early: true"}, {"/late", "425 Too Early"}} {
		if out := ask("/", "-sess_out", session); !strings.Contains(out, "early: false") {
			t.Fatalf("s_client prints\n%s", out)
		}
		l.next()
		out := ask(row.path, "-sess_in", session, "-early_data", "")
		if !strings.Contains(out, row.want) || !strings.Contains(out, "Early data was accepted") {
			t.Errorf("s_client does not print %q:\n%s", row.want, out)
		}
		l.let()
	}
}

// startNginx starts an nginx with a certificate, until the test ends.
func startNginx(t *testing.T, pair testcert.Pair) (addr string) {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx"
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("nginx is not installed")
	}
	dir := t.TempDir()
	tlstest.Must(t, errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "cert.pem"), pair.Cert, 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), pair.Key, 0o600)))
	addr = tlstest.FreeAddr(t)
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
	access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	server {
		listen %[2]s ssl http2;
		ssl_certificate %[1]s/cert.pem; ssl_certificate_key %[1]s/key.pem;
		ssl_protocols TLSv1.3; ssl_early_data on; ssl_session_cache shared:a:1m;
		location / { return 200 "early=$ssl_early_data"; }
		location /late { if ($ssl_early_data) { return 425; } return 200 "early=$ssl_early_data"; }
	}
}
`, dir, addr)
	tlstest.Must(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o600))
	tlstest.StartServer(t, exec.Command(path, "-p", dir, "-c", filepath.Join(dir, "nginx.conf")), addr)
	return addr
}

// TestNginx: nginx accepts requests as early data, answers some with 425, and rejects the early data of sessions that
// it does not know. The caller has its answer in all cases.
func TestNginx(t *testing.T) {
	for proto, protos := range map[string][]string{"HTTP/1.1": {"http/1.1"}, "HTTP/2.0": {"h2"}} {
		t.Run(proto, func(t *testing.T) {
			pair := tlstest.SelfSigned(t)
			host := startNginx(t, pair)
			client := tlstest.NewContext(t, sslctx.TLSClientMethod)
			tlstest.Must(t, errors.Join(client.TrustCertificates(pair.Cert), client.SetALPNProtos(protos...)))
			cache, err := sslctx.NewClientSessionCache(sslctx.ClientSessionCacheConfig{})
			tlstest.Must(t, err)
			var slow atomic.Pointer[slowEnd]
			var delay atomic.Bool
			addr := host
			tr := sslhttp.NewTransport(&sslctx.Dialer{Context: client, ServerName: "localhost", SessionCache: cache, SessionAddr: addr}, &http.Transport{
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					c, err := new(net.Dialer).DialContext(ctx, network, addr)
					if err != nil || !delay.Swap(false) {
						return c, err
					}
					s := &slowEnd{Conn: c, free: make(chan struct{})}
					slow.Store(s)
					time.AfterFunc(100*time.Millisecond, sync.OnceFunc(func() { close(s.free) })) // nginx has the request by then
					return s, nil
				}})
			tr.SetEarlyData(true)
			defer tr.CloseIdleConnections()
			ask := func(path string) string {
				r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+host+path, nil)
				tlstest.Must(t, err)
				resp, err := tr.RoundTrip(r)
				tlstest.Must(t, err)
				defer resp.Body.Close()
				text, err := io.ReadAll(resp.Body)
				tlstest.Must(t, err)
				return fmt.Sprint(resp.Proto, " ", resp.StatusCode, " ", string(text))
			}
			again := func() {
				for n := 0; cache.Stats().Sessions == 0 && n < 1000; n++ {
					time.Sleep(time.Millisecond) // nginx's tickets come with the answer
				}
				tr.CloseIdleConnections()
			}
			if got := ask("/"); got != proto+" 200 early=" {
				t.Fatal(got)
			}
			for path, want := range map[string]string{"/": "200 early=1", "/late": "200 early="} {
				again()
				delay.Store(true)
				if got := ask(path); got != proto+" "+want {
					t.Errorf("%s: %s", path, got)
				}
			}
			again()
			addr = startNginx(t, pair) // which has other keys
			before := cache.Stats().Declined
			if got := ask("/"); got != proto+" 200 early=" || cache.Stats().Declined != before+1 {
				t.Errorf("the other server: %s, %+v", got, cache.Stats())
			}
		})
	}
}
