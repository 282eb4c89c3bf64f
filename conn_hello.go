// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"unsafe"
)

// answerHello runs the hook that the handshake was suspended for, and leaves its answer to the next crossing.
// The locks of the handshake are held, c.mu is not.
func (c *Conn) answerHello(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	hello, err := c.takeHello(stop)
	if err != nil {
		return err
	}
	info := parseHello(hello)
	info.Conn = c.conn
	var chosen *Context
	if hook := c.hooks.hello.Load(); hook != nil {
		chosen, err = (*hook)(ctx, info)
	}
	if err != nil {
		return c.refuseHello(err)
	}
	return c.choose(chosen)
}

// takeHello copies the ClientHello; stop will end the wait for an answer.
func (c *Conn) takeHello(stop func()) ([]byte, error) {
	r, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer c.end(r)
	c.stopHello = stop
	hello := C.GoBytes(unsafe.Pointer(r.p.hello), C.int(r.p.hello_len))
	C.shim_SSL_client_hello_free(r.p)
	return hello, nil
}

// choose has the next crossing go on with another context, if it is not nil and not the same.
func (c *Conn) choose(chosen *Context) error {
	if chosen == nil {
		return nil
	}
	to, ok := chosen.enter()
	if !ok {
		return c.refuseHello(fmt.Errorf("SSL_set_SSL_CTX: %w", ErrClosed))
	}
	var told *C.shim_event
	defer func() { _ = chosen.deliver(told) }()
	defer chosen.leave(func(r contextRef) { told = freeContext(r) })

	from, ok := c.enter()
	if !ok {
		return ErrClosed
	}
	c.mu.Lock()
	if to.h != from.h.own {
		C.shim_SSL_set_SSL_CTX(from.p, to.p)
		from.h.chosen = to.h
		c.chosen = &subject{hooks: chosen.hooks, h: to.h, p: to.p}
	}
	c.mu.Unlock()
	return c.deliver(c.exit())
}

// refuseHello fails the handshake with an alert, and with the hook's error.
func (c *Conn) refuseHello(err error) error {
	alert := tls.AlertError(C.SSL_AD_INTERNAL_ERROR)
	errors.As(err, &alert)
	r, beginErr := c.begin()
	if beginErr != nil {
		return beginErr
	}
	r.p.hello_alert = C.int(alert)
	c.end(r)
	crossed, _, _ := c.cross(callHandshake, nil, false, nil)
	dropEvents(crossed.told)
	_ = c.flush()
	return fmt.Errorf("sslctx: the ClientHello was refused: %w", err)
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
		if kind, name := list.number(1), list.vector(2); kind == 0 {
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
