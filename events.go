// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// hooks are what a context tells its user: they are the Context's and its Conns', which may outlive it.
// A collected Context whose Conns are gone has no hooks any more.
type hooks struct {
	newSession    atomic.Pointer[func(*Conn, *Session)]
	removeSession atomic.Pointer[func(*Session)]
	hello         atomic.Pointer[helloHook]
	keyLog        atomic.Pointer[keyLog]
}

type helloHook = func(context.Context, *tls.ClientHelloInfo) (*Context, error)

// askHello reports whether a server stops at the ClientHello.
func (k *hooks) askHello() bool { return k.hello.Load() != nil }

// keyLog is a writer that several connections share.
type keyLog struct {
	mu sync.Mutex
	w  io.Writer
}

func (k *keyLog) write(line string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := io.WriteString(k.w, line+"\n"); err != nil {
		return fmt.Errorf("sslctx: key log: %w", err)
	}
	return nil
}

// A subject is whose hooks hear of an event, and where its session is at home.
type subject struct {
	hooks *hooks
	h     *home
	p     *C.SSL_CTX // to compare only
}

// A delivery runs hooks for what libssl reported in one call, in its order, on the goroutine of that call
// and with no lock held: a hook may call anything.
type delivery struct {
	next   *C.shim_event
	conn   *Conn // whose call it was, or nil
	own    subject
	chosen *subject // of the context that the connection changed to, or nil
	err    error    // the first of the key log
}

func (d *delivery) run() error {
	defer func() {
		if d.next != nil { // a hook panicked or ended its goroutine; what is left must be told
			_ = d.run()
		}
	}()
	for d.next != nil {
		d.one()
	}
	return d.err
}

// one runs the hook of the next event and takes it off the list before: a hook may panic.
func (d *delivery) one() {
	e := d.next
	to := d.own
	if d.chosen != nil && e.ctx == d.chosen.p {
		to = *d.chosen
	}
	onNew, onRemove := to.hooks.newSession.Load(), to.hooks.removeSession.Load()
	switch {
	case e.kind == C.SHIM_EVENT_NEW_SESSION && onNew != nil:
		s := takeSession(e, to.h)
		d.next = freeEvent(e)
		(*onNew)(d.conn, s)
	case e.kind == C.SHIM_EVENT_REMOVE_SESSION && onRemove != nil && e.session != nil:
		s := takeSession(e, to.h)
		d.next = freeEvent(e)
		(*onRemove)(s)
	case e.kind == C.SHIM_EVENT_KEYLOG:
		line := C.GoString(e.line)
		d.next = freeEvent(e)
		d.keyLog(to.hooks.keyLog.Load(), line)
	default: // the hook is gone
		d.next = freeEvent(e)
	}
}

func (d *delivery) keyLog(log *keyLog, line string) {
	if log == nil {
		return
	}
	if err := log.write(line); d.err == nil {
		d.err = err
	}
}

// takeSession makes a handle of the event's reference.
func takeSession(e *C.shim_event, h *home) *Session {
	s := adoptSession(e.session, h)
	e.session = nil
	return s
}

// freeEvent gives an event back, and a session that nobody took, and returns the next.
func freeEvent(e *C.shim_event) *C.shim_event { return C.shim_event_free(e) }

// dropEvents is for what nobody hears.
func dropEvents(e *C.shim_event) {
	for e != nil {
		e = freeEvent(e)
	}
}

// joinEvents puts second behind first.
func joinEvents(first, second *C.shim_event) *C.shim_event {
	if first == nil {
		return second
	}
	last := first
	for last.next != nil {
		last = last.next
	}
	last.next = second
	return first
}
