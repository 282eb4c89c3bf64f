// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sslctx/internal/testcert"
)

// A testProxy is a proxy of one of the schemes. It records its requests.
type testProxy struct {
	url *url.URL
	pem []byte // of an https proxy

	mu       sync.Mutex
	requests []*http.Request // CONNECT; of a SOCKS proxy only Host is set
	status   int             // status of the answers; 0 means the correct one
	hosts    map[string]string
}

// setHosts sets a map in which the proxy looks up names.
func (p *testProxy) setHosts(hosts map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hosts = hosts
}

func (p *testProxy) dial(addr string) (net.Conn, error) {
	p.mu.Lock()
	hosts := p.hosts
	p.mu.Unlock()
	return dialingBy(hosts)(context.Background(), "tcp", addr)
}

// dialingBy returns a dial function that looks up names in a map first.
func dialingBy(hosts map[string]string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		if to, ok := hosts[host]; ok {
			host = to
		}
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(host, port))
	}
}

func (p *testProxy) asked() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

func (p *testProxy) note(r *http.Request) (status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, r)
	return p.status
}

// newProxy runs a proxy until the test ends. If user is not nil, clients must log in with it.
func newProxy(t testing.TB, scheme string, user *url.Userinfo) *testProxy {
	t.Helper()
	p := &testProxy{}
	if scheme == "socks5" || scheme == "socks5h" {
		p.url = &url.URL{Scheme: scheme, User: user, Host: p.serveSOCKS(t, user)}
		return p
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.connect(t, w, r, user) }))
	if scheme == "https" {
		pair, err := testcert.New()
		must(t, err)
		cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
		must(t, err)
		p.pem, s.TLS = pair.Cert, &tls.Config{Certificates: []tls.Certificate{cert}}
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	p.url = &url.URL{Scheme: scheme, User: user, Host: s.Listener.Addr().String()}
	return p
}

func (p *testProxy) connect(t testing.TB, w http.ResponseWriter, r *http.Request, user *url.Userinfo) {
	status := p.note(r)
	if r.Method != "CONNECT" {
		t.Errorf("the proxy is sent %s %s", r.Method, r.RequestURI)
	}
	if user != nil && r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(user.String())) {
		status = http.StatusProxyAuthRequired
	}
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	to, err := p.dial(r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	from, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = rw.WriteString("HTTP/1.1 200 Connection established\r\nX-Proxy: tested\r\n\r\n")
	_ = rw.Flush()
	splice(from, rw, to)
}

// splice copies both ways until both end.
func splice(from net.Conn, fromReader io.Reader, to net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(to, fromReader); _ = to.(*net.TCPConn).CloseWrite() })
	wg.Go(func() {
		_, _ = io.Copy(from, to)
		if c, ok := from.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite()
		}
	})
	wg.Wait()
	_ = from.Close()
	_ = to.Close()
}

// serveSOCKS implements the part of SOCKS 5 that TestProxies needs. There net/http's client shows
// that it is correct.
func (p *testProxy) serveSOCKS(t testing.TB, user *url.Userinfo) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.socks(c, user) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

func (p *testProxy) socks(c net.Conn, user *url.Userinfo) {
	defer c.Close()
	r := bufio.NewReader(c)
	take := func(n int) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(r, b)
		return b
	}
	text := func() string { return string(take(int(take(1)[0]))) }
	method := byte(0)
	if user != nil {
		method = 2
	}
	if take(1)[0] != 5 || !strings.Contains(text(), string(rune(method))) {
		_, _ = c.Write([]byte{5, 0xff})
		return
	}
	_, _ = c.Write([]byte{5, method})
	if user != nil {
		take(1)
		name, password := text(), text()
		if url.UserPassword(name, password).String() != user.String() {
			_, _ = c.Write([]byte{1, 1})
			return
		}
		_, _ = c.Write([]byte{1, 0})
	}
	kind := take(4)[3]
	host := ""
	switch kind {
	case 1:
		host = net.IP(take(4)).String()
	case 3:
		host = text()
	case 4:
		host = net.IP(take(16)).String()
	}
	port := take(2)
	addr := net.JoinHostPort(host, strconv.Itoa(int(port[0])<<8|int(port[1])))
	status := p.note(&http.Request{Host: addr})
	to, err := p.dial(addr)
	if err != nil || status != 0 {
		_, _ = c.Write([]byte{5, byte(max(status, 1)), 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	_, _ = c.Write(append([]byte{5, 0, 0, 3, 9}, "localhost\x12\x34"...))
	splice(c, r, to)
}
