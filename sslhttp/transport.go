// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"sslctx"
)

// A Transport sends HTTPS requests by connections of an [sslctx.Dialer]. It is an http.RoundTripper for any
// number of goroutines, and keeps connections: make one, and use it again.
//
// A host's first request connects, and all that come meanwhile wait for what that connection will speak;
// by HTTP/2 they then share it. The connections that net/http/httptrace shows have the methods of
// *sslctx.Conn.
type Transport struct {
	dialer *sslctx.Dialer
	base   *http.Transport // the settings
	http1  *http.Transport

	mu    sync.Mutex
	hosts map[string]*host // with a connection, or with one being made; by host and port
}

// A host is what is connected to one.
type host struct {
	http1   int            // connections that speak it
	http2   []*http2Client // the newest last
	dialing *dialing
}

// NewTransport makes a Transport. Which protocols it speaks is the list of d.Context:
// [sslctx.Context.SetALPNProtos]. A d.Session is offered to every host: see [sslctx.Conn.SetSession].
//
// base, which may be nil, has the settings. TLSHandshakeTimeout is for connecting and the handshake
// together. MaxConnsPerHost and the number of idle connections are those of HTTP/1.1; of HTTP/2 there is
// one to a host, and more when the server allows it no more requests. Protocols, the functions that dial,
// TLSClientConfig and Proxy are not used: net/http has no proxies for TLS that is not its own. Without base
// it is 30 seconds to connect, and http.DefaultTransport's limits for idle connections.
func NewTransport(d *sslctx.Dialer, base *http.Transport) *Transport {
	if base == nil {
		base = &http.Transport{TLSHandshakeTimeout: 30 * time.Second, MaxIdleConns: 100,
			IdleConnTimeout: 90 * time.Second, ExpectContinueTimeout: time.Second}
	}
	t := &Transport{dialer: d, base: base.Clone(), hosts: map[string]*host{}}
	t.base.Proxy, t.base.TLSNextProto = nil, nil
	t.base.Protocols = new(http.Protocols)
	t.http1 = t.base.Clone()
	t.http1.Protocols.SetHTTP1(true)
	t.http1.DialTLSContext = t.dialHTTP1
	return t
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() {
	t.http1.CloseIdleConnections()
	t.mu.Lock()
	var clients []*http2Client
	for _, h := range t.hosts {
		clients = append(clients, h.http2...)
	}
	t.mu.Unlock()
	for _, c := range clients {
		c.transport.CloseIdleConnections()
	}
}

// RoundTrip sends a request, by HTTP/2 if that is what the host agrees on. The response's TLS field is set.
// The URL's host is written in ASCII.
//
// A request that asks for another protocol by an Upgrade header needs a Context that offers HTTP/1.1 alone.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	b := &body{request: r}
	resp, err := t.roundTrip(r, b)
	b.finish()
	if err != nil {
		return nil, err
	}
	resp.Request = r
	return resp, nil
}

// maxDials is how many connections a request makes one after the other before it gives up: one is enough,
// unless the server lets a connection speak no sooner than it closes it.
const maxDials = 10

var errTooManyDials = errors.New("sslhttp: the server ends every connection before a request")

func (t *Transport) roundTrip(r *http.Request, b *body) (*http.Response, error) {
	addr, err := address(r.URL)
	if err != nil {
		return nil, err
	}
	var refused []*http2Client
	var c *http2Client // by which to send it
	var spare *conn    // or this, by HTTP/1.1
	for dials := 0; ; {
		known := false
		if c == nil && !t.alone(r) {
			c, known = t.choose(addr, refused)
		}
		if c == nil && !known {
			if dials++; dials > maxDials {
				return nil, errTooManyDials
			}
			if c, spare, err = t.dial(r, addr); err != nil {
				return nil, err
			}
		}
		attempt, err := b.attempt()
		if err != nil {
			c.leave()
			spare.drop()
			return nil, err
		}
		var resp *http.Response
		var instead *http2Client
		if c != nil {
			resp, err = c.roundTrip(attempt)
		} else {
			resp, instead, err = t.roundTripHTTP1(attempt, spare)
		}
		if !errors.Is(err, errElsewhere) {
			return resp, err
		}
		if t.alone(r) {
			c.drop()
		}
		refused = append(refused, c)
		c, spare = instead, nil
	}
}

// errElsewhere says that a transport of net/http would have to connect to send the request. It has sent
// nothing.
var errElsewhere = errors.New("sslhttp: no connection")

// address returns the host and port of an https URL. It is what net/http makes of it.
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

// alone reports whether the request's connection is for nothing else.
func (t *Transport) alone(r *http.Request) bool {
	return t.base.DisableKeepAlives || r.Close || strings.EqualFold(r.Header.Get("Connection"), "close")
}

// choose returns the connection for a request, if the host has one by HTTP/2 that has not refused it
// already. Otherwise it reports whether the host is known to speak HTTP/1.1.
func (t *Transport) choose(addr string, refused []*http2Client) (c *http2Client, http1 bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[addr]
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

// dial connects for a request: to a client of HTTP/2, or to a connection that it may take to HTTP/1.1.
// Neither is there if another request took that.
func (t *Transport) dial(r *http.Request, addr string) (*http2Client, *conn, error) {
	if !t.alone(r) {
		return t.dialTogether(r.Context(), addr)
	}
	c, err := t.connect(r.Context(), addr)
	if err != nil {
		return nil, nil, err
	}
	if c.speaksHTTP2() {
		return t.newHTTP2Client(c), nil, nil
	}
	t.keep(c, nil)
	return nil, c, nil
}

// roundTripHTTP1 sends a request by HTTP/1.1; spare may be nil. If that needs a connection, and it turns out
// to speak HTTP/2, errElsewhere is returned with it.
func (t *Transport) roundTripHTTP1(r *http.Request, spare *conn) (*http.Response, *http2Client, error) {
	o := &handover{conn: spare}
	var used *conn
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { used, _ = i.Conn.(*conn) }, // by this goroutine
	})
	resp, err := t.http1.RoundTrip(r.WithContext(context.WithValue(ctx, handoverKey{}, o)))
	left := o.end()
	if errors.Is(err, errElsewhere) && left != nil && left.speaksHTTP2() {
		c := t.newHTTP2Client(left)
		if !t.alone(r) {
			t.keep(left, c)
		}
		return nil, c, err
	}
	left.drop()
	if err == nil && used != nil {
		resp.TLS = &used.state
	}
	return resp, nil, err
}

// dialHTTP1 is how http1 connects.
func (t *Transport) dialHTTP1(ctx context.Context, _, addr string) (net.Conn, error) {
	o, _ := ctx.Value(handoverKey{}).(*handover)
	if c := o.take(); c != nil {
		return c, nil
	}
	c, err := t.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	if !c.speaksHTTP2() {
		t.keep(c, nil)
		return c, nil
	}
	if !o.put(c) {
		c.drop()
	}
	return nil, errElsewhere
}

// A handover is a connection on its way between RoundTrip and http1, in the context of a request: net/http
// may dial for longer than the request waits, and may not dial at all.
type handover struct {
	mu   sync.Mutex
	conn *conn
	over bool // nobody will look again
}

type handoverKey struct{}

func (o *handover) take() *conn {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.conn
	o.conn = nil
	return c
}

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
