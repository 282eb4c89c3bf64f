// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"
)

// A SessionQuery is a session that a client wants to resume.
type SessionQuery struct {
	// ID is the session's: the session ID that the client offers, or with TLS 1.3 the identity of its first
	// pre-shared key, 32 bytes.
	ID []byte

	// Hello is what the client said, as for SetClientHelloCallback.
	Hello *tls.ClientHelloInfo
}

// A SessionLookup finds sessions in a place outside of libssl, which may be slow: see
// [Context.SetSessionLookup].
type SessionLookup struct {
	// Find returns the session with the query's ID, or nil if there is none. It runs on a goroutine of its
	// own; ctx ends with the lookup's time, with the context of HandshakeContext, and with Close of the Conn.
	// The session stays Find's: libssl takes a reference of its own. An error is as good as no session.
	Find func(ctx context.Context, q SessionQuery) (*Session, error)

	// Timeout, if it is not 0, is how long a handshake waits for Find. Then it goes on without a session, and
	// what Find returns later is dropped.
	Timeout time.Duration

	// Failed, if it is set, hears why a session was not resumed: Find's error, context.DeadlineExceeded, a
	// refusal such as ErrNoCipher, or ErrWrongSession. It runs on the goroutine of the handshake, and may call
	// what a hook for the ClientHello may.
	Failed func(q SessionQuery, err error)
}

// ErrWrongSession says that a [SessionLookup] found a session with another ID than the client's, or one that
// was marked as not resumable.
var ErrWrongSession = errors.New("sslctx: the lookup found another session, or one that is not resumable")

// lookUp waits for the lookup, and leaves what it found for libssl to ask for. Whatever goes wrong with it is
// a full handshake; only its panic is not.
func (c *Conn) lookUp(ctx context.Context, l *SessionLookup, q SessionQuery) (told news, err error) {
	if l.Timeout > 0 {
		var stop func()
		ctx, stop = context.WithTimeout(ctx, l.Timeout)
		defer stop()
	}
	found := make(chan foundSession, 1)
	go func() {
		f := foundSession{end: runtime.Goexit} // unless it gets beyond
		defer func() { found <- f }()
		f.end = guard(func() { f.s, f.err = l.Find(ctx, q) })
	}()
	var f foundSession
	select {
	case f = <-found:
	case <-ctx.Done():
		f.err = ctx.Err()
	}
	if f.err == nil && f.s != nil {
		f.err = c.accept(f.s, q.ID)
	}
	if f.err != nil && l.Failed != nil {
		l.Failed(q, f.err)
	}
	return news{end: f.end}, nil
}

type foundSession struct {
	s   *Session
	err error
	end func()
}

// accept leaves a session for libssl to ask for.
func (c *Conn) accept(s *Session, id []byte) error {
	if !s.answers(id) {
		return ErrWrongSession
	}
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	r.p.found, err = s.giveTo(r.p, r.h.own, true)
	return err
}

// answerHello runs the hooks that the handshake was suspended for, and leaves their answers to the next
// crossing. The locks of the handshake are held, c.mu is not.
func (c *Conn) answerHello(ctx context.Context) (told news, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	hello, wanted, err := c.takeHello(stop)
	if err != nil {
		return told, err
	}
	info := parseHello(hello)
	info.Conn = c.conn
	if hook := c.hooks.hello.Load(); hook != nil {
		chosen, err := (*hook)(ctx, info)
		if err != nil {
			return c.refuseHello(err)
		}
		if told, err := c.choose(chosen); told.any() || err != nil {
			return told, err
		}
	}
	if l := c.hooks.lookup.Load(); l != nil && len(wanted) > 0 {
		return c.lookUp(ctx, l, SessionQuery{ID: wanted, Hello: info})
	}
	return told, nil
}

// takeHello copies the ClientHello, and the ID of the session that it wants; stop will end the wait for
// an answer.
func (c *Conn) takeHello(stop context.CancelFunc) (hello, wanted []byte, err error) {
	r, err := c.begin()
	if err != nil {
		return nil, nil, err
	}
	defer c.end(r)
	c.stopHello.Store(&stop)
	if c.state.Load() < stateOpen { // Close came meanwhile, and may have looked too early
		stop()
	}
	hello = C.GoBytes(unsafe.Pointer(r.p.hello), C.int(r.p.hello_len))
	C.shim_SSL_client_hello_free(r.p)
	return hello, C.GoBytes(unsafe.Pointer(&r.p.wanted), C.int(r.p.wanted_len)), nil
}

// choose has the next crossing go on with another context, if it is not nil and not the same.
func (c *Conn) choose(chosen *Context) (told news, err error) {
	if chosen == nil {
		return told, nil
	}
	owner := chosen.ownerOf() // before enter: Close forgets it
	to, ok := chosen.enter()
	if !ok {
		return c.refuseHello(fmt.Errorf("SSL_set_SSL_CTX: %w", ErrClosed))
	}
	defer chosen.leave(func(r contextRef) { told = told.and(news{told: freeContext(r)}) })

	from, ok := c.enter()
	if !ok {
		return told, ErrClosed
	}
	defer func() { told = told.and(news{told: c.exit()}) }()
	c.mu.Lock()
	defer c.mu.Unlock()
	if to.h != from.h.own {
		C.shim_SSL_set_SSL_CTX(from.p, to.p)
		from.h.chosen = to.h
		c.chosen = &subject{hooks: chosen.hooks, h: to.h, p: to.p, owner: owner}
	}
	return told, nil
}

// refuseHello fails the handshake with an alert, and with the hook's error.
func (c *Conn) refuseHello(reason error) (told news, err error) {
	alert := tls.AlertError(C.SSL_AD_INTERNAL_ERROR)
	errors.As(reason, &alert)
	r, err := c.begin()
	if err != nil {
		return told, err
	}
	r.p.hello_refused, r.p.hello_alert = 1, C.int(alert)
	c.end(r)
	crossed, _, _ := c.cross(callHandshake, nil, false, nil)
	if !crossed.news.any() { // otherwise hooks come first
		_ = c.flush()
	}
	return crossed.news, fmt.Errorf("sslctx: the ClientHello was refused: %w", reason)
}

// The extensions that are read, by their numbers at IANA.
const (
	extServerName          = 0
	extSupportedGroups     = 10
	extPointFormats        = 11
	extSignatureAlgorithms = 13
	extALPN                = 16
	extSupportedVersions   = 43
)

// parseHello reads what the shim copied of a ClientHello. libssl has looked at its form and not yet at its
// extensions: one that is malformed is left out here, and libssl will refuse it.
func parseHello(b []byte) *tls.ClientHelloInfo {
	r := wire(b)
	version := r.number(2)
	r.vector(1) // the session ID
	info := &tls.ClientHelloInfo{CipherSuites: numbers[uint16](r.vector(2), 2)}
	for len(r) > 0 {
		kind := uint16(r.number(2))
		ext := r.vector(2)
		info.Extensions = append(info.Extensions, kind)
		readExtension(info, kind, ext)
	}
	if info.SupportedVersions == nil {
		info.SupportedVersions = versionsUpTo(version)
	}
	return info
}

func readExtension(info *tls.ClientHelloInfo, kind uint16, ext wire) {
	switch kind {
	case extServerName:
		info.ServerName = serverName(ext.vector(2))
	case extALPN:
		for list := ext.vector(2); len(list) > 0; {
			info.SupportedProtos = append(info.SupportedProtos, string(list.vector(1)))
		}
	case extSupportedVersions:
		info.SupportedVersions = numbers[uint16](ext.vector(1), 2)
	case extSupportedGroups:
		info.SupportedCurves = numbers[tls.CurveID](ext.vector(2), 2)
	case extPointFormats:
		info.SupportedPoints = numbers[uint8](ext.vector(1), 1)
	case extSignatureAlgorithms:
		info.SignatureSchemes = numbers[tls.SignatureScheme](ext.vector(2), 2)
	}
}

// serverName returns the first host name of the list.
func serverName(list wire) string {
	for len(list) > 0 {
		if kind, name := list.number(1), list.vector(2); kind == 0 && bytes.IndexByte(name, 0) < 0 {
			return string(name)
		}
	}
	return ""
}

// versionsUpTo is what a client supports that does not say: crypto/tls has it so too.
func versionsUpTo(version uint64) (versions []uint16) {
	for v := min(version, tls.VersionTLS12); v >= tls.VersionTLS10; v-- {
		versions = append(versions, uint16(v))
	}
	return versions
}

// wire is bytes in the form of RFC 8446, section 3. What reaches behind the end is empty, and so is then all
// that follows.
type wire []byte

// number takes a number of n bytes.
func (w *wire) number(n int) (v uint64) {
	for _, b := range w.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

// vector takes a vector whose length has n bytes.
func (w *wire) vector(n int) wire { return w.take(int(w.number(n))) }

func (w *wire) take(n int) wire {
	if n > len(*w) {
		*w = nil
		return nil
	}
	taken := (*w)[:n]
	*w = (*w)[n:]
	return taken
}

// numbers reads a list of numbers of n bytes.
func numbers[T ~uint8 | ~uint16](list wire, n int) (all []T) {
	for len(list) >= n {
		all = append(all, T(list.number(n)))
	}
	return all
}
