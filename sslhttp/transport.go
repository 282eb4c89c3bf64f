// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sslctx"
)

// A Transport sends HTTPS requests by connections of an [sslctx.Dialer]. It is an http.RoundTripper for any
// number of goroutines, and keeps connections: make one, and use it again. It refuses URLs of http, also in a
// redirect: for both use an http.Transport, and give it the Transport by RegisterProtocol("https", t).
//
// A host's first request connects, and all that come meanwhile wait for what that connection will speak; by
// HTTP/2 they then share it. When there is none after a quarter of a second, another connection is begun
// beside it, and so on; the first that is ready serves all. When a connection fails, the request that it was
// begun for gets the error, and each of the others connects by itself. When no request waits any more, it is
// given up; net/http would keep it for the next one. So give requests more time than connecting takes. The
// connections that net/http/httptrace shows have the methods of *sslctx.Conn.
type Transport struct {
	dialer *sslctx.Dialer
	given  *http.Transport // the settings
	base   *http.Transport // the same without dialing and proxies, for net/http's transports
	err    error           // a setting that is not supported
	early  atomic.Bool     // requests go as early data

	mu     sync.Mutex
	routes map[string]*route // by the proxy's URL
	hosts  map[target]*host  // hosts with a connection, or with one that is being made
}

// NewTransport makes a Transport. Which protocols it speaks is the list of d.Context:
// [sslctx.Context.SetALPNProtos]. The server's certificate must be for d.ServerName, or for the host of the
// URL if that is empty.
//
// Connections resume by themselves. Without d.SessionCache the Transport keeps sessions in a cache of its own,
// which [sslctx.SessCacheOff] of the Context turns off. A d.Session is offered to every host instead: see
// [sslctx.Conn.SetSession]. The Transport has a copy of d.
//
// base, which may be nil, has the settings. They hold for HTTP/1.1 and for HTTP/2, as with net/http, but for
// these:
//
//   - TLSHandshakeTimeout is for all that comes before a request: connecting, the proxy and the handshake. The
//     Timeout and the Deadline of d.NetDialer are, too.
//   - DialContext (or Dial) connects to hosts and proxies, unless d.NetDialer is set.
//   - Proxy and what belongs to it work as with net/http, for proxies of the schemes http, https, socks5 and
//     socks5h. TLSClientConfig is for the connection to an https proxy, which crypto/tls makes, and for nothing
//     else.
//   - MaxConnsPerHost and the number of idle connections are those of HTTP/1.1, for each proxy apart. Of HTTP/2
//     there is one connection to a host, and more when the server allows it no more requests. A request that
//     wants a connection of its own does not count those that are being made for others.
//   - Protocols, if it is set, must allow what the server agrees on. TLSNextProto and ForceAttemptHTTP2 are not
//     looked at.
//
// Every request fails, with an error that names the field, if base has DialTLSContext or DialTLS, or a
// TLSClientConfig which says more than NextProtos and the request goes through no https proxy: such a base expects TLS
// of crypto/tls, and what it demands of the server's certificate would not hold.
//
// Without base it is 30 seconds to connect, http.DefaultTransport's limits for idle connections, and no proxy.
func NewTransport(d *sslctx.Dialer, base *http.Transport) *Transport {
	if base == nil {
		base = &http.Transport{TLSHandshakeTimeout: 30 * time.Second, MaxIdleConns: 100,
			IdleConnTimeout: 90 * time.Second, ExpectContinueTimeout: time.Second}
	}
	t := &Transport{dialer: withCache(d), given: base.Clone(), base: base.Clone(), err: refuse(d, base),
		routes: map[string]*route{}, hosts: map[target]*host{}}
	withoutDialing(t.base)
	return t
}

// withCache returns a copy of a Dialer, with a cache if it has neither a cache nor a session.
func withCache(d *sslctx.Dialer) *sslctx.Dialer {
	if d == nil {
		return nil
	}
	copied := *d
	if d.SessionCache == nil && d.Session == nil {
		copied.SessionCache, _ = sslctx.NewClientSessionCache(sslctx.ClientSessionCacheConfig{}) // cannot fail
	}
	return &copied
}

// newHTTP1 makes net/http's transport for HTTP/1.1 over a route.
func (t *Transport) newHTTP1(to *route) *http.Transport {
	http1 := t.base.Clone()
	http1.Protocols.SetHTTP1(true)
	http1.DialTLSContext = func(ctx context.Context, _, addr string) (net.Conn, error) {
		if !t.reroute(to) {
			return nil, errNeedsConn // no request waits for this connection
		}
		defer t.unroute(to)
		return t.dialHTTP1(ctx, target{addr, to})
	}
	return http1
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	var routes []*route
	for _, r := range t.routes {
		routes = append(routes, r)
	}
	var clients []*http2Client
	for _, h := range t.hosts {
		clients = append(clients, h.http2...)
	}
	t.mu.Unlock()
	for _, r := range routes {
		r.http1.CloseIdleConnections()
	}
	for _, c := range clients {
		c.transport.CloseIdleConnections()
	}
}

// RoundTrip sends a request, by HTTP/2 if that is what the host agrees on. The response's TLS field is the
// connection's state when the response came. The URL's host is written in ASCII.
//
// A request that asks for another protocol by an Upgrade header needs a Context that offers HTTP/1.1 alone.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t == nil || t.hosts == nil {
		closeBody(r)
		return nil, errors.New("sslhttp: the Transport was not made by NewTransport")
	}
	b := &body{request: r}
	defer b.finish()
	resp, err := t.roundTrip(r, b)
	if err != nil {
		return nil, err
	}
	resp.Request = r
	return resp, nil
}

func (t *Transport) roundTrip(r *http.Request, b *body) (*http.Response, error) {
	if t.err != nil {
		return nil, t.err
	}
	addr, err := address(r.URL)
	if err != nil {
		return nil, err
	}
	by, err := t.route(r)
	if err != nil {
		return nil, err
	}
	defer t.unroute(by)
	ctx, stop := waiting(r)
	defer stop()
	private := t.needsOwnConn(r)
	w := &trip{t: t, ctx: ctx, to: target{addr, by}, private: private, alone: private, early: t.mayGoEarly(r)}
	defer w.leave() // also if GetBody panics or ends the goroutine
	for {
		if err := w.find(); err != nil {
			return nil, err
		}
		attempt, err := b.attempt()
		if err != nil {
			return nil, err
		}
		attempt, use := w.mark(attempt)
		resp, err := w.send(attempt)
		switch {
		case errors.Is(err, errNeedsConn):
		case use.again(r, resp, err):
			w.early = false
		default:
			return resp, err
		}
	}
}

var errCanceled = errors.New("sslhttp: the request was canceled")

// waiting returns the request's context for the time before net/http's transport gets the request.
// It also ends with the request's Cancel, which net/http observes itself.
func waiting(r *http.Request) (context.Context, func()) {
	//lint:ignore SA1019 net/http honours it, too
	canceled := r.Cancel
	if canceled == nil {
		return r.Context(), func() {}
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	go func() {
		select {
		case <-canceled:
			cancel(errCanceled)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// address returns the host and port of an https URL, like net/http.
func address(u *url.URL) (string, error) {
	switch {
	case u == nil:
		return "", errors.New("sslhttp: the request has no URL")
	case u.Scheme != "https":
		return "", fmt.Errorf("sslhttp: the URL's scheme is %q, not https", u.Scheme)
	case u.Hostname() == "":
		return "", errors.New("sslhttp: the URL has no host")
	case strings.ContainsFunc(u.Hostname(), func(r rune) bool { return r > 127 }):
		return "", fmt.Errorf("sslhttp: the URL's host %q is not ASCII: write it as xn--", u.Hostname())
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// needsOwnConn reports whether no other request may use the request's connection.
func (t *Transport) needsOwnConn(r *http.Request) bool {
	return t.base.DisableKeepAlives || r.Close || strings.EqualFold(r.Header.Get("Connection"), "close")
}

// sharedConn returns an HTTP/2 connection of the host for a request, unless all have refused the
// request already. Otherwise it reports whether the host is known to speak HTTP/1.1.
func (t *Transport) sharedConn(to target, refused []*http2Client) (c *http2Client, http1 bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[to]
	if h == nil {
		return nil, false
	}
	for _, c := range slices.Backward(h.http2) {
		if !slices.Contains(refused, c) {
			return c, false
		}
	}
	return nil, len(h.http2) == 0 && h.http1 > 0 && len(refused) == 0
}

// roundTripHTTP1 sends a request by HTTP/1.1; spare may be nil. If it makes a connection, and that
// agrees on HTTP/2, it returns errNeedsConn and a client of that connection, which nobody else
// knows.
func (t *Transport) roundTripHTTP1(r *http.Request, to target, spare *conn) (*http.Response, *http2Client, error) {
	use := useOf(r.Context())
	o := &handover{early: use != nil && use.allowed}
	// Net/http may have another connection for the request, and a hook may panic or end the goroutine.
	defer t.dropSpare(to, spare)
	defer func() { o.end().drop() }()
	var used *conn
	ctx := use.trace(r.Context(), func(c *conn) { used = c }) // called on this goroutine
	resp, err := to.route.http1.RoundTrip(r.WithContext(context.WithValue(ctx, handoverKey{}, o)))
	left := o.end()
	if errors.Is(err, errNeedsConn) && left != nil && left.http2 {
		return nil, t.newHTTP2Client(left), err
	}
	left.drop()
	if err == nil && used != nil {
		state := used.ConnectionState() // a renegotiation may have changed it
		resp.TLS = &state
	}
	return resp, nil, err
}

// dialHTTP1 makes a connection for net/http's transport for HTTP/1.1.
func (t *Transport) dialHTTP1(ctx context.Context, to target) (net.Conn, error) {
	spare, want := t.takeSpare(to)
	if spare != nil {
		return spare, nil
	}
	o, _ := ctx.Value(handoverKey{}).(*handover)
	c, err := t.connectOrTake(ctx, to, want, o.early)
	if err != nil {
		return nil, err
	}
	if !c.http2 {
		return c, nil
	}
	if !o.put(c) {
		c.dropQuietly()
	}
	return nil, errNeedsConn
}

// A handover passes a connection between RoundTrip and net/http's transport for HTTP/1.1, in the
// context of a request. net/http may dial for longer than the request waits, or may not dial at
// all.
type handover struct {
	early bool // the request may go as early data

	mu   sync.Mutex
	conn *conn
	over bool // the request no longer takes a connection
}

type handoverKey struct{}

func (o *handover) put(c *conn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over || o.conn != nil {
		return false
	}
	o.conn = c
	return true
}

func (o *handover) end() *conn {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.conn
	o.conn, o.over = nil, true
	return c
}
