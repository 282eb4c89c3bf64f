// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"reflect"
	"time"

	"sslctx"
)

// refuse returns an error for a setting that is not supported, so that it is not silently ignored.
func refuse(d *sslctx.Dialer, base *http.Transport) error {
	if d == nil || d.Context == nil {
		return errors.New("sslhttp: NewTransport: the Dialer has no Context")
	}
	//lint:ignore SA1019 whoever sets it must be told
	if base.DialTLSContext != nil || base.DialTLS != nil {
		return errors.New("sslhttp: NewTransport: base.DialTLSContext or base.DialTLS is set, but the Dialer makes the connections")
	}
	return nil
}

// refuseConfig refuses a TLSClientConfig that would have no effect: it is only for https proxies.
func refuseConfig(config *tls.Config, proxy *url.URL) error {
	if field := settingOf(config); field != "" && (proxy == nil || proxy.Scheme != "https") {
		return fmt.Errorf("sslhttp: NewTransport: base.TLSClientConfig.%s is set, but the Dialer's Context is what configures "+
			"connections to servers; TLSClientConfig is for https proxies, and this request has none", field)
	}
	return nil
}

// settingOf returns the name of a field that is set in a configuration. NextProtos does not count:
// net/http sets it.
func settingOf(config *tls.Config) string {
	if config == nil {
		return ""
	}
	v := reflect.ValueOf(config).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && f.Name != "NextProtos" && !v.Field(i).IsZero() {
			return f.Name
		}
	}
	return ""
}

// withoutDialing removes the settings that this package handles itself.
func withoutDialing(base *http.Transport) {
	base.Proxy, base.TLSNextProto, base.TLSClientConfig = nil, nil, nil
	base.DialContext, base.DialTLSContext = nil, nil
	//lint:ignore SA1019 it may be set
	base.Dial, base.DialTLS = nil, nil
	base.Protocols = new(http.Protocols)
}

var errDialEnded = errors.New("sslhttp: a hook ended the goroutine that connects")

// connect makes a connection that no request uses yet. Several requests may wait for it. So the
// panic of a hook, or of a method of the caller's, is their error. If a hook ends its goroutine,
// connect still returns.
//
// With early the connection may be one whose handshake is not over: its field early is set then.
func (t *Transport) connect(ctx context.Context, to target, early bool) (c *conn, err error) {
	err = guard(func() (err error) {
		c, err = t.connectHere(ctx, to, early)
		return err
	})
	return c, err
}

func (t *Transport) connectHere(ctx context.Context, to target, mayEarly bool) (*conn, error) {
	ctx, cancel := t.limit(withoutEarly(ctx))
	defer cancel()
	raw, err := t.dial(ctx, to)
	if err != nil {
		return nil, err
	}
	ssl, early, err := t.handshake(ctx, raw, to.addr, mayEarly)
	if err != nil {
		return nil, err
	}
	protocol := ssl.ConnectionState().NegotiatedProtocol
	if early != nil {
		protocol = early.protocol
	}
	c := &conn{Conn: ssl, of: t, early: early, http2: protocol == "h2", target: to, born: time.Now(),
		closed: make(chan struct{}), seen: make(chan struct{})}
	if c.http2 {
		_, err = ssl.SetOptions(sslctx.OpNoRenegotiation) // RFC 9113, 9.2.1
	}
	if err := errors.Join(err, t.allows(c)); err != nil {
		c.drop()
		return nil, err
	}
	if early != nil {
		t.goOn(ctx, c)
	}
	return c, nil
}

// limit sets the time limit for everything before a request.
func (t *Transport) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return t.limitAfter(ctx, 0)
}

// limitAfter sets a time limit that ends some time after limit's.
func (t *Transport) limitAfter(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	var end time.Time
	sooner := func(other time.Time) {
		if end.IsZero() || other.Before(end) {
			end = other
		}
	}
	if d := t.given.TLSHandshakeTimeout; d > 0 {
		sooner(time.Now().Add(d))
	}
	if n := t.dialer.NetDialer; n != nil && n.Timeout > 0 {
		sooner(time.Now().Add(n.Timeout))
	}
	if n := t.dialer.NetDialer; n != nil && !n.Deadline.IsZero() {
		sooner(n.Deadline)
	}
	if end.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, end.Add(d))
}

// dial connects to a host, perhaps by a proxy.
func (t *Transport) dial(ctx context.Context, to target) (net.Conn, error) {
	if proxy := to.route.proxy; proxy != nil {
		return t.dialProxy(ctx, proxy, to.addr)
	}
	return t.dialTransport(ctx, "tcp", to.addr)
}

// handshake makes the handshake, or with early begins one with early data if the session allows that. If it
// fails, or a hook panics or ends the goroutine, it closes raw.
func (t *Transport) handshake(ctx context.Context, raw net.Conn, addr string, mayEarly bool) (c *sslctx.Conn, early *earlyData, err error) {
	done := false
	defer func() {
		switch {
		case done:
		case c != nil:
			_ = c.Close()
		default:
			_ = raw.Close()
		}
	}()
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.TLSHandshakeStart != nil {
		trace.TLSHandshakeStart()
	}
	if c, err = t.dialer.Client(ctx, raw, addr); err == nil {
		err = c.SetBackgroundClose(true)
	}
	if err == nil && mayEarly {
		early, err = beginEarly(ctx, c)
	}
	if err == nil && early == nil {
		err = c.HandshakeContext(ctx)
	}
	if early == nil && trace != nil && trace.TLSHandshakeDone != nil {
		var state tls.ConnectionState
		if err == nil {
			state = c.ConnectionState()
		}
		trace.TLSHandshakeDone(state, err)
	}
	done = err == nil
	return c, early, err
}

// dialTransport connects to a host, or to a proxy.
func (t *Transport) dialTransport(ctx context.Context, network, addr string) (net.Conn, error) {
	//lint:ignore SA1019 net/http uses it, too
	dialContext, dial := t.given.DialContext, t.given.Dial
	var c net.Conn
	var err error
	switch {
	case t.dialer.NetDialer != nil:
		return t.dialer.NetDialer.DialContext(ctx, network, addr)
	case dialContext != nil:
		c, err = dialContext(ctx, network, addr)
	case dial != nil:
		c, err = dial(network, addr)
	default:
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	if err == nil && c == nil {
		err = errors.New("sslhttp: base.DialContext or base.Dial returned neither a connection nor an error")
	}
	return c, err
}

// allows checks the protocol that a connection has agreed on.
func (t *Transport) allows(c *conn) error {
	p := t.given.Protocols
	switch http2 := c.http2; {
	case http2 && p != nil && !p.HTTP2():
		return errors.New("sslhttp: the server agreed on HTTP/2, which base.Protocols do not allow: take it out of the Context's SetALPNProtos")
	case http2 && !netHTTPHasClient():
		return errors.New("sslhttp: the server agreed on HTTP/2, which GODEBUG=http2client=0 turns off in net/http: take it out of the Context's SetALPNProtos")
	case !http2 && p != nil && !p.HTTP1():
		return errors.New("sslhttp: the server did not agree on HTTP/2, and base.Protocols do not allow HTTP/1.1")
	}
	return nil
}

// netHTTPHasClient reports whether net/http's clients speak HTTP/2: the environment or the program
// may have turned that off. A Transport that has HTTP/2 shows it once it is set up.
func netHTTPHasClient() bool {
	probe := &http.Transport{Protocols: new(http.Protocols)}
	probe.Protocols.SetUnencryptedHTTP2(true)
	probe.Clone() // sets it up
	return len(probe.TLSNextProto) > 0
}
