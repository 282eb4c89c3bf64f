// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// A route is the way of requests to their hosts: direct, or by one proxy. Requests of one route
// never use connections of another.
type route struct {
	proxy *url.URL // nil for none
	http1 *http.Transport
	uses  int // requests and connections; at 0 the Transport removes it. mu of the Transport guards it.
}

// A target is the host and port of a request, and the route to it.
type target struct {
	addr  string
	route *route
}

// route returns the route of a request. The caller releases it with unroute.
func (t *Transport) route(r *http.Request) (*route, error) {
	var proxy *url.URL
	if t.given.Proxy != nil {
		var err error
		if proxy, err = t.given.Proxy(r); err != nil {
			return nil, err
		}
	}
	if err := refuseConfig(t.given.TLSClientConfig, proxy); err != nil {
		return nil, err
	}
	key := ""
	if proxy != nil {
		if _, ok := proxyPorts[proxy.Scheme]; !ok {
			return nil, fmt.Errorf("sslhttp: Proxy returned a URL with the scheme %q: it must be http, https, socks5 or socks5h", proxy.Scheme)
		}
		key = proxy.String()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	to := t.routes[key]
	if to == nil {
		to = &route{proxy: proxy}
		to.http1 = t.newHTTP1(to)
		t.routes[key] = to
	}
	to.uses++
	return to, nil
}

func (t *Transport) unroute(r *route) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unrouteLocked(r)
}

func (t *Transport) unrouteLocked(r *route) {
	if r.uses--; r.uses > 0 || r.proxy == nil {
		return
	}
	if key := r.proxy.String(); t.routes[key] == r {
		delete(t.routes, key)
	}
}

// reroute adds a dialing of net/http to the uses of a route. It returns false if no request uses
// the route any more.
func (t *Transport) reroute(r *route) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.uses == 0 {
		return false
	}
	r.uses++
	return true
}

var proxyPorts = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

// maxConnectTime is the time limit for a proxy's answer, if there is no other. It is net/http's
// value.
const maxConnectTime = time.Minute

// dialProxy connects to addr through a proxy.
func (t *Transport) dialProxy(ctx context.Context, proxy *url.URL, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, maxConnectTime)
	defer cancel()
	c, err := t.dialTransport(ctx, "tcp", proxyAddr(proxy))
	if err == nil {
		c, err = t.tunnel(ctx, c, proxy, addr)
	}
	if err != nil {
		return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err} // as net/http
	}
	return c, nil
}

func proxyAddr(proxy *url.URL) string {
	port := proxy.Port()
	if port == "" {
		port = proxyPorts[proxy.Scheme]
	}
	return net.JoinHostPort(proxy.Hostname(), port)
}

// tunnel makes the proxy at the other end of c connect to addr. If it fails, or a hook panics or
// ends the goroutine, it closes c.
func (t *Transport) tunnel(ctx context.Context, c net.Conn, proxy *url.URL, addr string) (_ net.Conn, err error) {
	done := false
	stop := context.AfterFunc(ctx, func() { closeQuietly(c) })
	defer func() {
		if !stop() {
			err = ctx.Err()
		}
		if !done || err != nil {
			_ = c.Close()
		}
	}()
	through, err := t.askProxy(ctx, c, proxy, addr)
	done = err == nil
	return through, err
}

// closeQuietly is Close for a goroutine of its own. The panic of a hook or of a transport reaches no
// caller there, and would end the program: it is lost.
func closeQuietly(c net.Conn) {
	defer func() { _ = recover() }()
	_ = c.Close()
}

// askProxy makes the proxy connect to addr. What it returns may be TLS to an https proxy.
func (t *Transport) askProxy(ctx context.Context, c net.Conn, proxy *url.URL, addr string) (net.Conn, error) {
	if proxy.Scheme == "socks5" || proxy.Scheme == "socks5h" {
		return c, socksConnect(c, proxy.User, addr)
	}
	if proxy.Scheme == "https" {
		ssl := tls.Client(c, t.proxyConfig(proxy))
		if err := ssl.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		c = ssl
	}
	return c, t.httpConnect(ctx, c, proxy, addr)
}

// proxyConfig returns the configuration for the TLS connection to an https proxy.
func (t *Transport) proxyConfig(proxy *url.URL) *tls.Config {
	config := t.given.TLSClientConfig.Clone()
	if config == nil {
		config = new(tls.Config)
	}
	if config.ServerName == "" {
		config.ServerName = proxy.Hostname()
	}
	config.NextProtos = nil // CONNECT is sent by HTTP/1.1
	return config
}

// httpConnect sends a CONNECT request and reads its response.
func (t *Transport) httpConnect(ctx context.Context, c net.Conn, proxy *url.URL, addr string) error {
	header := t.given.ProxyConnectHeader.Clone()
	if get := t.given.GetProxyConnectHeader; get != nil {
		h, err := get(ctx, proxy, addr)
		if err != nil {
			return err
		}
		header = h.Clone()
	}
	if header == nil {
		header = http.Header{}
	}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	r := &http.Request{Method: "CONNECT", URL: &url.URL{Opaque: addr}, Host: addr, Header: header}
	if err := r.Write(c); err != nil {
		return err
	}
	// The reader cannot read too much: a TLS server does not send first.
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(c, t.maxProxyHeader())), r)
	if err != nil {
		return err
	}
	if see := t.given.OnProxyConnectResponse; see != nil {
		if err := see(ctx, proxy, r, resp); err != nil {
			return err
		}
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New("the proxy answers " + resp.Status)
	}
	return nil
}

func (t *Transport) maxProxyHeader() int64 {
	if n := t.given.MaxResponseHeaderBytes; n > 0 {
		return n
	}
	return 10 << 20 // net/http's default
}
