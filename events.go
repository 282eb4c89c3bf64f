// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"runtime/cgo"
	"sync"
	"sync/atomic"
	"unsafe"
)

// hooks are what a context tells its user: they are the Context's and its Conns', which may outlive it.
// A collected Context whose Conns are gone has no hooks any more.
type hooks struct {
	newSession    atomic.Pointer[func(*Conn, *Session)]
	removeSession atomic.Pointer[func(*Session)]
	getSession    atomic.Pointer[getSessionHook]
	hello         atomic.Pointer[helloHook]
	lookup        atomic.Pointer[SessionLookup]
	keyLog        atomic.Pointer[keyLog]

	generateID     atomic.Pointer[generateIDHook]
	notResumable   atomic.Pointer[notResumableHook]
	generateTicket atomic.Pointer[generateTicketHook]
	decryptTicket  atomic.Pointer[decryptTicketHook]

	psk *pskHooks // guarded by the home's gate
}

type helloHook = func(context.Context, *tls.ClientHelloInfo) (*Context, error)

// askHello says for what a server stops at the ClientHello.
func (k *hooks) askHello() (ask C.int) {
	if k.hello.Load() != nil {
		ask |= C.SHIM_ASK_CONTEXT
	}
	if k.lookup.Load() != nil {
		ask |= C.SHIM_ASK_SESSION
	}
	return ask
}

// keyLog is a writer that several connections share.
type keyLog struct {
	mu sync.Mutex
	w  io.Writer
}

// write writes a line and its end.
func (k *keyLog) write(line []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := k.w.Write(line); err != nil {
		return fmt.Errorf("sslctx: key log: %w", err)
	}
	return nil
}

// A hookTarget is whose hooks hear of an event, and where its session is at home.
type hookTarget struct {
	hooks *hooks
	ctx   *ctxState
	p     *C.SSL_CTX // to compare only
	owner *any       // kept from collection, or nil
}

// pending is what a crossing leaves to do when no lock is held.
type pending struct {
	events  *C.shim_event
	hookEnd func() // ends the goroutine as a hook that libssl waited for ended: by a panic or Goexit
	lostErr error  // there was no memory for some of what is to be told
}

func (n pending) any() bool { return n.events != nil || n.hookEnd != nil || n.lostErr != nil }

// countEvents returns the length of a list.
func countEvents(e *C.shim_event) (n int) {
	for ; e != nil; e = e.next {
		n++
	}
	return n
}

// lostError is the error of a call that could not note all that libssl reported.
func lostError(lost C.int) error {
	if lost == 0 {
		return nil
	}
	return ErrEventLost
}

// join adds what came later.
func (n *pending) add(later pending) {
	if n.hookEnd == nil {
		n.hookEnd = later.hookEnd
	}
	if n.lostErr == nil {
		n.lostErr = later.lostErr
	}
	n.events = joinEvents(n.events, later.events)
}

// count returns how much there is to tell.
func (n pending) count() int {
	count := countEvents(n.events)
	if n.hookEnd != nil {
		count++
	}
	if n.lostErr != nil {
		count++
	}
	return count
}

// catchPanic runs a hook. If it panics, end is what panics in its place.
func catchPanic(hook func()) (end func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil {
			end = func() { panic(v) }
		}
	}()
	hook()
	returned = true
	return nil
}

// A dispatcher runs hooks for what libssl reported in one call, in its order, on the goroutine of that call
// and with no lock held: a hook may call anything.
type dispatcher struct {
	events        *C.shim_event
	conn          *Conn // whose call it was, or nil
	sessionTarget hookTarget
	currentTarget *hookTarget // of the context that the connection changed to, or nil
	err           error       // the first of the key log

	otherStates map[*C.SSL_SESSION]*ctxState // whose home is another than that of the context that reports them
}

func (d *dispatcher) run() error {
	defer d.runRest()
	for d.events != nil {
		d.runNext()
	}
	return d.err
}

// runRest tells what is left when a hook panicked or ended its goroutine. What others do then is lost with it: the first counts.
func (d *dispatcher) runRest() {
	defer func() {
		if d.events != nil { // a hook has ended the goroutine, again
			d.runRest()
		}
	}()
	for d.events != nil {
		_ = catchPanic(d.runNext)
	}
}

// runNext runs the hook of the next event and takes it off the list before: a hook may panic.
func (d *dispatcher) runNext() {
	e := d.events
	to := d.sessionTarget
	if d.currentTarget != nil && e.ctx == d.currentTarget.p {
		to = *d.currentTarget
	}
	onNew, onRemove := to.hooks.newSession.Load(), to.hooks.removeSession.Load()
	switch {
	case e.kind == C.SHIM_EVENT_NEW_SESSION && onNew != nil:
		s := takeSession(e, to.ctx)
		d.events = freeEvent(e)
		if d.conn == nil {
			s = s.copyOfOther()
		} else {
			d.conn.markVerifiedLater(s)
		}
		if s != nil {
			(*onNew)(d.conn, s)
		}
	case e.kind == C.SHIM_EVENT_REMOVE_SESSION && onRemove != nil && e.session != nil:
		h := to.ctx
		if other := d.otherStates[e.session]; other != nil {
			h = other
		}
		s := takeSession(e, h)
		d.events = freeEvent(e)
		(*onRemove)(s)
	case e.kind == C.SHIM_EVENT_KEYLOG:
		line := make([]byte, int(e.line_len)+1) // it holds secrets
		defer clear(line)
		copy(line, unsafe.Slice((*byte)(unsafe.Pointer(e.line)), int(e.line_len)))
		line[len(line)-1] = '\n'
		d.events = freeEvent(e)
		d.keyLog(to.hooks.keyLog.Load(), line)
	default: // the hook is gone
		d.events = freeEvent(e)
	}
}

func (d *dispatcher) keyLog(log *keyLog, line []byte) {
	if log == nil {
		return
	}
	if err := log.write(line); d.err == nil {
		d.err = err
	}
}

// takeSession makes a handle of the event's reference.
func takeSession(e *C.shim_event, h *ctxState) *Session {
	s := adoptSession(e.session, h)
	e.session = nil
	return s
}

// copyOfOther has a copy take the place of a session that a connection of other code made; nil without memory. libssl
// does not say whose cache that connection uses, if it changed to another SSL_CTX: s may not be of the one it is
// told by.
func (s *Session) copyOfOther() *Session {
	defer func() { _ = s.Close() }()
	copied, _ := s.Dup()
	return copied
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

// What C calls. Such a function runs inside a call of libssl, on the goroutine of a crossing, whose locks are
// held: it must not touch a handle, and a panic must not leave it.

// goAskPool gives, in C memory, the certificates of a pool that the chain which a peer sent ends in, and their length; -1
// if that cannot be known. A pool may have constraints, which are functions of its user's. conn is 0 for a connection of
// other code, whose thread waits.
//
//export goAskPool
func goAskPool(conn, pool C.uintptr_t, sent *C.uchar, n C.size_t, anchors **C.uchar) (length C.long) {
	chain := C.GoBytes(unsafe.Pointer(sent), C.int(n))
	judge := pools.get(uintptr(pool)) // now, while the gates keep it from being replaced
	var der []byte
	ok := false
	if conn != 0 {
		der, ok = connOf(conn).askPool(judge, chain)
	} else {
		r := runHook(context.Background(), func(context.Context) ([]byte, error) { return anchorsOf(judge, chain), nil })
		der, ok = r.answer, r.end == nil
	}
	if !ok {
		return -1
	}
	*anchors = (*C.uchar)(C.CBytes(der))
	return C.long(len(der))
}

// goReleasePool forgets the pool of a context that is gone.
//
//export goReleasePool
func goReleasePool(pool C.uintptr_t) { pools.remove(uintptr(pool)) }

// goCopyValues gives a session that libssl copied a number of its own for the values of the original.
//
//export goCopyValues
func goCopyValues(n C.uintptr_t) C.uintptr_t { return C.uintptr_t(values.copy(uintptr(n))) }

// goForgetValues forgets the values of a session that is gone. A context may be locked: what goes with them
// goes when Go collects it.
//
//export goForgetValues
func goForgetValues(n C.uintptr_t) { values.remove(uintptr(n)) }

// goForgetMoved hears that a session is gone that was moved from one context to another.
//
//export goForgetMoved
func goForgetMoved(s *C.SSL_SESSION) { forgetPlacement(s) }

// goGetSession is libssl's question for a session; conn is the handle of the Conn. libssl holds no lock of its own.
//
//export goGetSession
func goGetSession(conn C.uintptr_t, id *C.uchar, n C.int) *C.SSL_SESSION {
	return connOf(conn).getSession(C.GoBytes(unsafe.Pointer(id), n))
}

// goNotedForeign hears that a context has events which no call of Go's waits for; libssl may hold its locks.
//
//export goNotedForeign
func goNotedForeign(number C.uint64_t) {
	go func() {
		for {
			c := contextOf(uint64(number))
			if c == nil || c.notedForeign() {
				return
			}
		}
	}()
}

// goGetSessionForeign is the question of a connection of other code, made from an SSL_CTX with a number. What it
// is given is its own.
//
//export goGetSessionForeign
func goGetSessionForeign(number C.uint64_t, id *C.uchar, n C.int) *C.SSL_SESSION {
	c := contextOf(uint64(number))
	if c == nil {
		return nil
	}
	hook := c.hooks.getSession.Load()
	if hook == nil {
		return nil
	}
	key := C.GoBytes(unsafe.Pointer(id), n)
	found := make(chan *Session, 1)
	go func() { // no frame of C is skipped if the hook does not return; its panic ends the program
		var s *Session
		defer func() { found <- s }()
		s = (*hook)(context.Background(), key)
	}()
	s := <-found
	p, _ := s.upRefFor(nil, nil, true)
	return p
}

// The next five are libssl's questions of what a server issues; conn is the handle of the Conn. libssl holds no
// lock of its own. conn_ask.go has what they come to.

//export goGenerateID
func goGenerateID(conn C.uintptr_t, id *C.uchar, n C.uint) C.long {
	return connOf(conn).generateID(unsafe.Slice((*byte)(id), int(n)))
}

//export goNotResumable
func goNotResumable(conn C.uintptr_t, isForwardSecure C.int) C.int {
	return boolInt(connOf(conn).notResumable(isForwardSecure != 0))
}

//export goGenerateTicket
func goGenerateTicket(conn C.uintptr_t, s *C.SSL_SESSION, has unsafe.Pointer, hasLen C.size_t, data **C.uchar, n *C.size_t) C.int {
	t := SessionTicket{AppData: C.GoBytes(has, C.int(hasLen))}
	made, answer := connOf(conn).generateTicket(s, t)
	if answer == C.SHIM_TICKET_CHANGED && len(made) > 0 {
		*data, *n = (*C.uchar)(C.CBytes(made)), C.size_t(len(made))
	}
	return answer
}

//export goDecryptTicket
func goDecryptTicket(conn C.uintptr_t, s *C.SSL_SESSION, has unsafe.Pointer, hasLen C.size_t, name *C.uchar, n C.size_t, status, unasked C.int) C.int {
	return connOf(conn).decryptTicket(s, SessionTicket{
		AppData: C.GoBytes(has, C.int(hasLen)),
		KeyName: C.GoBytes(unsafe.Pointer(name), C.int(n)),
		Status:  TicketStatus(status),
	}, unasked)
}

//export goTicketExt
func goTicketExt(conn C.uintptr_t, data *C.uchar, n C.int) C.int {
	return boolInt(connOf(conn).hearTicketExt(C.GoBytes(unsafe.Pointer(data), n)))
}

// What the hooks for early data and pre-shared keys answer; sslctx_early.go and sslctx_psk.go have the rest.

// goAllowEarlyData returns whether a server accepts early data.
//
//export goAllowEarlyData
func goAllowEarlyData(conn C.uintptr_t) C.int { return boolInt(connOf(conn).allowEarlyData()) }

// goFindPSK gives the session of an identity, a reference; 0 fails the handshake.
//
//export goFindPSK
func goFindPSK(conn C.uintptr_t, identity *C.uchar, n C.size_t, s **C.SSL_SESSION) C.int {
	p, ok := connOf(conn).findPSK(C.GoBytes(unsafe.Pointer(identity), C.int(n)))
	*s = p
	return boolInt(ok)
}

// goUsePSK gives the session that a client offers, a reference, and its identity, in C memory; 0 fails the
// handshake.
//
//export goUsePSK
func goUsePSK(conn C.uintptr_t, digest C.int, identity **C.uchar, n *C.size_t, s **C.SSL_SESSION) C.int {
	id, p, ok := connOf(conn).usePSK(int(digest))
	if p != nil {
		*identity, *n, *s = (*C.uchar)(C.CBytes(id)), C.size_t(len(id)), p
	}
	return boolInt(ok)
}

// goServerPSK writes the key of an identity and returns its length.
//
//export goServerPSK
func goServerPSK(conn C.uintptr_t, identity *C.char, key *C.uchar, limit C.uint) C.uint {
	return C.uint(connOf(conn).serverPSK(C.GoString(identity), unsafe.Slice((*byte)(key), int(limit))))
}

// goClientPSK writes the identity and the key that a client uses and returns the length of the key.
//
//export goClientPSK
func goClientPSK(conn C.uintptr_t, tls13 C.int, hint, identity *C.char, idLimit C.uint, key *C.uchar, limit C.uint) C.uint {
	id := unsafe.Slice((*byte)(unsafe.Pointer(identity)), int(idLimit))
	return C.uint(connOf(conn).clientPSK(tls13 != 0, C.GoString(hint), id, unsafe.Slice((*byte)(key), int(limit))))
}

func connOf(h C.uintptr_t) *Conn { return cgo.Handle(h).Value().(*Conn) }
