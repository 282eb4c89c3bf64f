// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"sslctx"
)

// Serve is srv.Serve for a listener whose connections are *sslctx.Conn ([sslctx.Listen],
// [sslctx.NewListener]): it serves HTTP/2 to clients that agreed on "h2", and HTTP/1.1 to others. Like
// srv.Serve it closes l, and returns http.ErrServerClosed after Shutdown and Close.
//
// Serve accepts a connection when its handshake is done. A handshake may take as long as the shortest of
// ReadHeaderTimeout, ReadTimeout and WriteTimeout, as with srv.ServeTLS; Shutdown and Close cut it off. The context
// that hooks get ends with it. Serve does not wait for a hook that continues after that. A client that sends plain
// HTTP gets an answer that says so.
//
// Serve changes srv once, also if srv has several listeners. Protocols becomes a copy that allows HTTP/2 without
// crypto/tls, unless it forbids HTTP/2. Serve wraps Handler and ConnContext, so that requests have their TLS field.
// The field is the connection's state when the handler begins. It has the certificate of a client that was asked
// later ([sslctx.Conn.VerifyClientPostHandshake]). No other function may serve on srv before Serve. A plain listener
// of the same srv will also accept HTTP/2 from clients that begin with it.
//
// If TLSConfig says more than NextProtos, Serve closes l and returns an error that names the field: ClientAuth,
// Certificates and the others would have no effect. The Context of l has their place: see docs/migrating.md.
//
// The connections close in the background ([sslctx.Conn.SetBackgroundClose]), because net/http closes them while it
// holds a lock.
//
// BaseContext gets l. ConnContext, ConnState and, for HTTP/1.1, the caller of Hijack get the *sslctx.Conn. Serve
// wraps them for that, too.
func Serve(srv *http.Server, l net.Listener) error {
	return serve(srv, l, false)
}

func serve(srv *http.Server, l net.Listener, early bool) error {
	if l == nil {
		return errors.New("sslhttp: Serve: l is nil")
	}
	h, err := configure(srv)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	return srv.Serve(newListener(l, srv, h.http2, early))
}

// refuseServer refuses a TLSConfig that would have no effect. ConfigureServer of
// golang.org/x/net/http2 sets PreferServerCipherSuites, which Go does not look at.
func refuseServer(srv *http.Server) error {
	config := srv.TLSConfig.Clone()
	if config != nil {
		//lint:ignore SA1019 x/net/http2 sets it
		config.PreferServerCipherSuites = false
	}
	if field := settingOf(config); field != "" {
		return fmt.Errorf("sslhttp: Serve: srv.TLSConfig.%s is set, but the listener's Context is what configures its connections", field)
	}
	return nil
}

// Conn returns the connection by which a server got a request, for example to read its session. ctx is the
// request's context, or one made from it. The result is nil if the request did not come through Serve. Do not read
// from the connection or write to it: that breaks it. With HTTP/2 do not ask for a certificate later
// ([sslctx.Conn.VerifyClientPostHandshake]): RFC 8740 forbids it, and many clients end the connection.
func Conn(ctx context.Context) *sslctx.Conn {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	ssl, _ := plain(c).(*sslctx.Conn)
	return ssl
}

type connKey struct{}

// plain returns the connection itself, without the wrappers for net/http.
func plain(c net.Conn) net.Conn {
	if h2, ok := c.(*http2Conn); ok {
		c = h2.Conn
	}
	if early, ok := c.(*earlyServerConn); ok {
		return early.Conn
	}
	return c
}

// A handler sets the TLS field of requests to the connection's state when the request is handled. net/http sets the
// field to the state after the first handshake. For HTTP/2 it does not set the field.
type handler struct {
	next  http.Handler
	http2 bool // the server may speak it
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*http2Conn); ok && r.Method == "PRI" {
		// HTTP/1 got the preface: HTTP/2 of another package is set up, for example
		logf(c.srv, "http: net/http does not speak HTTP/2 with %s, which agreed on it", r.RemoteAddr)
		panic(http.ErrAbortHandler)
	}
	if c := Conn(r.Context()); c != nil {
		early := earlyConnOf(r.Context()) // before the state: a handshake that is over by then stays so
		state := c.ConnectionState()
		r.TLS = &state
		if early != nil {
			early.noteUnproven(&state)
			if !mayHandleEarly(c, r) {
				tooEarly(w)
				return
			}
		}
	}
	next := h.next
	if next == nil {
		next = http.DefaultServeMux
	}
	next.ServeHTTP(w, r)
}

// configuring is a lock for calls of Serve for two listeners at once.
var configuring sync.Mutex

// configure prepares srv. If srv is prepared already, it may be serving, and configure writes
// nothing.
func configure(srv *http.Server) (*handler, error) {
	configuring.Lock()
	defer configuring.Unlock()
	if h, ok := srv.Handler.(*handler); ok { // net/http may write TLSConfig now
		return h, nil
	}
	if err := refuseServer(srv); err != nil {
		return nil, err
	}
	h := &handler{srv.Handler, speaksHTTP2(srv)}
	srv.Handler = h
	if h.http2 {
		srv.Protocols = withUnencryptedHTTP2(srv.Protocols)
	}
	if baseContext := srv.BaseContext; baseContext != nil {
		srv.BaseContext = func(l net.Listener) context.Context {
			if ours, ok := l.(*listener); ok {
				l = ours.Listener
			}
			return baseContext(l)
		}
	}
	connContext := srv.ConnContext
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, plain(c))
		}
		return context.WithValue(ctx, connKey{}, c)
	}
	if connState := srv.ConnState; connState != nil {
		srv.ConnState = func(c net.Conn, s http.ConnState) { connState(plain(c), s) }
	}
	return h, nil
}

// speaksHTTP2 reports whether the caller allows HTTP/2, in one of net/http's two ways.
func speaksHTTP2(srv *http.Server) bool {
	if srv.Protocols != nil {
		return srv.Protocols.HTTP2()
	}
	return srv.TLSNextProto == nil || srv.TLSNextProto["h2"] != nil
}

// withUnencryptedHTTP2 returns a copy: several servers may share the caller's value.
func withUnencryptedHTTP2(p *http.Protocols) *http.Protocols {
	var with http.Protocols
	if p != nil {
		with = *p
	} else {
		with.SetHTTP1(true)
		with.SetHTTP2(true)
	}
	with.SetUnencryptedHTTP2(true)
	return &with
}

// handshakeTimeout follows net/http's rule. 0 is no limit.
func handshakeTimeout(srv *http.Server) (shortest time.Duration) {
	for _, d := range []time.Duration{srv.ReadHeaderTimeout, srv.ReadTimeout, srv.WriteTimeout} {
		if d > 0 && (shortest == 0 || d < shortest) {
			shortest = d
		}
	}
	return shortest
}

func logf(srv *http.Server, format string, a ...any) {
	if srv.ErrorLog != nil {
		srv.ErrorLog.Printf(format, a...)
	} else {
		log.Printf(format, a...)
	}
}
