// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"runtime/cgo"
	"strings"
	"sync"
	"unsafe"
)

type (
	generateIDHook   = func(ctx context.Context, c *Conn, n int) ([]byte, error)
	notResumableHook = func(ctx context.Context, c *Conn, isForwardSecure bool) bool
)

// upcalls is the state of a Conn for callbacks of libssl's. Conn.mu guards it, except the window.
type upcalls struct {
	generateID   generateIDHook // the connection's own hooks, which come before those of its context
	notResumable notResumableHook
	ticketExt    func(ctx context.Context, data []byte) error
	err          *hookFailure     // why a hook gave no answer in this call
	closed       bool             // likewise: because Close ended the wait
	identities   [upcallKinds]int // how many identities of the client each kind of hook got in this call

	window hookWindow
}

// A hookWindow is open while a hook runs. The call into libssl stands still then, and other calls
// may read the SSL.
type hookWindow struct {
	mu   sync.RWMutex
	open bool
}

func (w *hookWindow) set(open bool) {
	w.mu.Lock()
	w.open = open
	w.mu.Unlock()
}

// enter reports whether the window is open. If it is, it stays open until leave.
func (w *hookWindow) enter() bool {
	w.mu.RLock()
	open := w.open
	if !open {
		w.mu.RUnlock()
	}
	return open
}

func (w *hookWindow) leave() { w.mu.RUnlock() }

// maxIdentities is how many identities (pre-shared keys and tickets) of one ClientHello a hook
// gets. Clients have one or two, and crypto/tls looks at five. Without a limit one ClientHello has
// room for nine thousand.
const maxIdentities = 16

// The kinds of hooks that get the identities of a ClientHello.
const (
	upcallFindPSK = iota
	upcallServerPSK
	upcallDecryptTicket
	upcallGetSession
	upcallCertPool
	upcallKinds
)

// tooMany counts an identity, and reports whether that exceeds the limit.
func (a *upcalls) tooMany(kind int) bool {
	a.identities[kind]++
	return a.identities[kind] > maxIdentities
}

// wrapHookError adds the reason why a hook gave no answer in this call.
func (a *upcalls) wrapHookError(err error) error {
	if a.err == nil {
		return err
	}
	return &hookFailure{a.err.what, a.err.reason, err}
}

// A hookFailure is the reason why a hook gave no answer. It is made where locks are held, so it calls no
// method of the reason, which is the application's, until somebody asks.
type hookFailure struct {
	what   string // which hook, or empty: the reason tells
	reason error
	libssl error // what libssl made of it
}

func (e *hookFailure) Error() string {
	if e.what == "" {
		return fmt.Sprintf("%v (%v)", e.reason, e.libssl)
	}
	return fmt.Sprintf("sslctx: %s: %v (%v)", e.what, e.reason, e.libssl)
}

func (e *hookFailure) Unwrap() []error { return []error{e.reason, e.libssl} }

// fail records why a hook gave no answer. A hook that panicked is no such reason: its panic reaches
// the caller.
func (a *upcalls) fail(what string, err error) {
	if err != errHookEnded {
		a.err, a.closed = &hookFailure{what: what, reason: err}, err == ErrClosed
	}
}

// answers returns the SHIM_UPCALL_ bits of the callbacks that this Conn answers. With 0 the call
// needs no handle.
func (c *Conn) answers(t *hookTable) (kinds C.int) {
	own := &c.upcalls
	if c.server && t.getSession != nil {
		kinds |= C.SHIM_UPCALL_GET_SESSION
	}
	if own.ticketExt != nil || c.p.ctxs.usesCertPool() || c.server && (own.generateID != nil || own.notResumable != nil ||
		t.generateID != nil || t.notResumable != nil || t.generateTicket != nil || t.decryptTicket != nil) {
		kinds |= C.SHIM_UPCALL_ISSUE
	}
	if c.hooksWhenMade.hasCopied() {
		kinds |= C.SHIM_UPCALL_PSK
	}
	return kinds
}

// passHandle gives C a handle of the Conn until stop.
func (c *Conn) passHandle() (stop func()) {
	h := cgo.NewHandle(c)
	c.p.p.handle = C.uintptr_t(h)
	return func() {
		c.p.p.handle = 0
		h.Delete()
	}
}

// generateID writes an ID to id, and returns its length.
func (c *Conn) generateID(id []byte) C.long {
	hook := c.upcalls.generateID
	if hook == nil {
		hook = c.hooks.table.Load().generateID
	}
	if hook == nil {
		return C.SHIM_ID_NO_HOOK
	}
	made, err := runUpcall(c, func(ctx context.Context) ([]byte, error) { return hook(ctx, c, len(id)) })
	if err != nil {
		c.upcalls.fail("the session ID hook", err)
		return C.SHIM_ID_FAILED
	}
	copy(id, made)
	return C.long(min(len(made), len(id)+1)) // libssl reports an ID that is too long
}

// notResumable asks the hook. Without an answer it is true: the session is then for this connection
// alone.
func (c *Conn) notResumable(isForwardSecure bool) bool {
	hook := c.upcalls.notResumable
	if hook == nil {
		hook = c.hooks.table.Load().notResumable
	}
	if hook == nil {
		return false
	}
	not, err := runUpcall(c, func(ctx context.Context) (bool, error) { return hook(ctx, c, isForwardSecure), nil })
	return err != nil || not
}

// generateTicket asks the hook for the data of a new ticket. The hook owns the reference to s.
func (c *Conn) generateTicket(s *C.SSL_SESSION, t SessionTicket) (made []byte, answer C.int) {
	t.Conn, t.Session = c, adoptSession(s, nil)
	hook := c.hooks.table.Load().generateTicket
	if hook == nil {
		_ = t.Session.Close()
		return nil, C.SHIM_TICKET_KEPT
	}
	made, err := runUpcall(c, func(ctx context.Context) ([]byte, error) { return hook(ctx, t) })
	if err != nil {
		c.upcalls.fail("the ticket hook", err)
		return nil, C.SHIM_TICKET_FAILED
	}
	return made, C.SHIM_TICKET_CHANGED
}

// errTicketAborted is the reason of a handshake that a hook ended by TicketAbort.
var errTicketAborted = errors.New("the answer is TicketAbort")

// decryptTicket asks the hook what to do with a ticket. The hook owns the reference to s, which may
// be nil. unasked is libssl's answer without a hook.
func (c *Conn) decryptTicket(s *C.SSL_SESSION, t SessionTicket, unasked C.int) C.int {
	t.Conn = c
	if s != nil {
		t.Session = adoptSession(s, nil)
	}
	hook := c.hooks.table.Load().decryptTicket
	if hook == nil {
		_ = t.Session.Close()
		return unasked
	}
	if c.upcalls.tooMany(upcallDecryptTicket) {
		_ = t.Session.Close()
		return C.SSL_TICKET_RETURN_IGNORE_RENEW
	}
	answer, err := runUpcall(c, func(ctx context.Context) (TicketReturn, error) {
		answer := hook(ctx, t)
		if answer.ends(t.Status) {
			return answer, errTicketAborted
		}
		return answer, nil
	})
	switch {
	case err == ErrTooManyHooks: // compared, since libssl waits: the cause of a context may have methods
		return C.SSL_TICKET_RETURN_IGNORE_RENEW // a full handshake
	case err != nil:
		c.upcalls.fail("the ticket hook", err)
		return C.SSL_TICKET_RETURN_ABORT
	case answer == TicketDefault:
		return unasked
	}
	return C.int(answer)
}

func (c *Conn) passTicketExt(data []byte) bool {
	hook := c.upcalls.ticketExt
	if hook == nil {
		return true
	}
	_, err := runUpcall(c, func(ctx context.Context) (struct{}, error) { return struct{}{}, hook(ctx, data) })
	if err != nil {
		c.upcalls.fail("the ticket extension hook", err)
	}
	return err == nil
}

// getSession asks the hook. Without an answer the handshake is a full one.
func (c *Conn) getSession(id []byte) *C.SSL_SESSION {
	hook := c.hooks.table.Load().getSession
	if hook == nil || c.upcalls.tooMany(upcallGetSession) {
		return nil
	}
	s, err := runUpcall(c, func(ctx context.Context) (*Session, error) { return hook(ctx, id), nil })
	if err != nil || s == nil {
		return nil
	}
	// With a CertPool libssl may verify the session before it adds it to its cache, and meanwhile
	// another context may get it. A session that must not be used, or was closed, counts as none.
	p, _ := s.upRefFor(c.p.p, c.p.ctxs.sessionCtx, c.p.ctxs.usesCertPool())
	return p
}

// A pskAnswer is the answer of a hook for pre-shared keys.
type pskAnswer struct {
	identity []byte
	session  *Session // a copy for libssl, or nil
	key      []byte
}

// askPSK runs a hook. The hook's error fails the handshake.
func (c *Conn) askPSK(hook func(context.Context) (pskAnswer, error)) (answer pskAnswer, err error) {
	answer, err = runUpcall(c, hook)
	if err != nil && err != errHookEnded {
		c.upcalls.err, c.upcalls.closed = &hookFailure{reason: err}, err == ErrClosed
	}
	return answer, err
}

// findPSK asks the hook for the key of an identity. If the hook cannot run, there is no key: libssl
// then treats the identity as a ticket, and makes a full handshake if it is none.
func (c *Conn) findPSK(identity []byte) (p *C.SSL_SESSION, ok bool) {
	if c.hooksWhenMade.findPSK == nil || c.upcalls.tooMany(upcallFindPSK) {
		return nil, true
	}
	answer, err := c.askPSK(func(ctx context.Context) (a pskAnswer, err error) {
		if s := c.hooksWhenMade.findPSK(ctx, c, identity); s != nil {
			a.session, err = s.dupPSK()
		}
		return a, err
	})
	return answer.session.release(), err == nil || err == ErrTooManyHooks // as in decryptTicket
}

// usePSK asks the hook for a key. size is the length of the key's hash, 0 for any.
func (c *Conn) usePSK(size int) (identity []byte, p *C.SSL_SESSION, ok bool) {
	if c.hooksWhenMade.usePSK == nil {
		return nil, nil, true
	}
	var digest crypto.Hash
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
		if h.Size() == size {
			digest = h
		}
	}
	answer, err := c.askPSK(func(ctx context.Context) (a pskAnswer, err error) {
		id, s := c.hooksWhenMade.usePSK(ctx, c, digest)
		if s == nil {
			return a, nil
		}
		if len(id) == 0 || len(id) > maxPSKIdentity13 {
			return a, badArgument("SetPSKUseSessionCallback", "identity", "is %d bytes long, the limits are 1 and %d", len(id), maxPSKIdentity13)
		}
		a.identity = id
		a.session, err = s.dupPSK()
		return a, err
	})
	return answer.identity, answer.session.release(), err == nil
}

// serverPSK writes the key and returns its length; len(room)+1 makes libssl fail the handshake.
func (c *Conn) serverPSK(identity string, room []byte) (n int) {
	if c.hooksWhenMade.serverPSK == nil || c.upcalls.tooMany(upcallServerPSK) {
		return 0
	}
	answer, err := c.askPSK(func(ctx context.Context) (pskAnswer, error) {
		key := c.hooksWhenMade.serverPSK(ctx, c, identity)
		return pskAnswer{key: key}, checkPSK("SetPSKServerCallback", key, len(room))
	})
	if err != nil {
		return len(room) + 1
	}
	return copy(room, answer.key)
}

// clientPSK writes an identity with its zero byte, and a key as serverPSK does. TLS 1.3 has no
// empty identities.
func (c *Conn) clientPSK(tls13 bool, hint string, identity, room []byte) (n int) {
	const fn = "SetPSKClientCallback"
	if c.hooksWhenMade.clientPSK == nil {
		return 0
	}
	answer, err := c.askPSK(func(ctx context.Context) (pskAnswer, error) {
		id, key := c.hooksWhenMade.clientPSK(ctx, c, hint)
		switch {
		case len(key) == 0:
			return pskAnswer{}, nil
		case id == "" && tls13:
			return pskAnswer{}, badArgument(fn, "identity", "is empty, which TLS 1.3 does not allow")
		case len(id) >= len(identity):
			return pskAnswer{}, badArgument(fn, "identity", "is %d bytes long, the limit is %d", len(id), len(identity)-1)
		case strings.IndexByte(id, 0) >= 0:
			return pskAnswer{}, badArgument(fn, "identity", "has a zero byte")
		}
		return pskAnswer{identity: []byte(id), key: key}, checkPSK(fn, key, len(room))
	})
	if err != nil {
		return len(room) + 1
	}
	if len(answer.key) > 0 {
		identity[copy(identity, answer.identity)] = 0
	}
	return copy(room, answer.key)
}

func checkPSK(fn string, key []byte, limit int) error {
	if len(key) > limit {
		return badArgument(fn, "key", "is %d bytes long, the limit is %d", len(key), limit)
	}
	return nil
}

// allowEarlyData asks the hook.
func (c *Conn) allowEarlyData() bool {
	if c.hooksWhenMade.allowEarlyData == nil { // a Context of the SSL_CTX that is closed had the hook
		return true
	}
	allow, err := runUpcall(c, func(ctx context.Context) (bool, error) { return c.hooksWhenMade.allowEarlyData(ctx, c), nil })
	return err == nil && allow
}

// The functions that C calls. Each runs inside a call into libssl, on that call's goroutine and
// with its locks held. It must not touch a handle, and no panic may leave it.

// goAskPool verifies the chain that a peer sent by a pool. It puts the certificates of the pool in
// which the chain ends into C memory, and returns their length; -1 without a result. A pool may
// have constraints, which are functions of the application. conn is 0 for a connection of other
// code, whose thread waits.
//
//export goAskPool
func goAskPool(conn, pool C.uintptr_t, sent *C.uchar, n C.size_t, anchors **C.uchar) (length C.long) {
	chain := C.GoBytes(unsafe.Pointer(sent), C.int(n))
	trusted := pools.get(uintptr(pool)) // now, while the configuration locks keep it from being replaced
	var der []byte
	ok := false
	if conn != 0 {
		der, ok = connOf(conn).askPool(trusted, chain)
	} else {
		r := runHook(context.Background(), func(context.Context) ([]byte, error) { return anchorsOf(trusted, chain), nil })
		der, ok = r.answer, r.end == nil
	}
	if !ok {
		return -1
	}
	*anchors = (*C.uchar)(C.CBytes(der))
	return C.long(len(der))
}

// goReleasePool drops the pool of a freed context.
//
//export goReleasePool
func goReleasePool(pool C.uintptr_t) { pools.remove(uintptr(pool)) }

// goCopyValues returns a new number for the values of a session that libssl copied.
//
//export goCopyValues
func goCopyValues(n C.uintptr_t) C.uintptr_t { return C.uintptr_t(exData.add(exData.get(uintptr(n)))) }

// goForgetValues drops the values of a freed session. A context may be locked here: the values
// themselves are left to the collector.
//
//export goForgetValues
func goForgetValues(n C.uintptr_t) { exData.remove(uintptr(n)) }

// goForgetMoved drops the record of a freed session that had moved from one context to another.
//
//export goForgetMoved
func goForgetMoved(s *C.SSL_SESSION) { forgetPlacement(s) }

// goGetSession answers libssl's get callback. conn is the handle of the Conn. libssl holds no lock
// of its own.
//
//export goGetSession
func goGetSession(conn C.uintptr_t, id *C.uchar, n C.int) *C.SSL_SESSION {
	return connOf(conn).getSession(C.GoBytes(unsafe.Pointer(id), n))
}

// goNotedForeign learns that a context has events for which no call of Go's waits. libssl may hold
// its locks.
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

// goGetSessionForeign answers the get callback for a connection of other code. number is that of
// its SSL_CTX. libssl owns the returned reference.
//
//export goGetSessionForeign
func goGetSessionForeign(number C.uint64_t, id *C.uchar, n C.int) *C.SSL_SESSION {
	c := contextOf(uint64(number))
	if c == nil {
		return nil
	}
	hook := c.hooks.table.Load().getSession
	if hook == nil {
		return nil
	}
	key := C.GoBytes(unsafe.Pointer(id), n)
	found := make(chan *Session, 1)
	go func() { // a hook that ends its goroutine skips no frame of C; its panic ends the program
		var s *Session
		defer func() { found <- s }()
		s = hook(context.Background(), key)
	}()
	s := <-found
	p, _ := s.upRefFor(nil, nil, true)
	return p
}

// The next five are callbacks for what a server issues. conn is the handle of the Conn. libssl
// holds no lock of its own.

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
	return boolInt(connOf(conn).passTicketExt(C.GoBytes(unsafe.Pointer(data), n)))
}

// The callbacks for early data and pre-shared keys; sslctx_early.go and sslctx_psk.go have the
// rest.

// goAllowEarlyData returns whether a server accepts early data.
//
//export goAllowEarlyData
func goAllowEarlyData(conn C.uintptr_t) C.int { return boolInt(connOf(conn).allowEarlyData()) }

// goFindPSK sets s to the session of an identity, a reference. It returns 0 to fail the handshake.
//
//export goFindPSK
func goFindPSK(conn C.uintptr_t, identity *C.uchar, n C.size_t, s **C.SSL_SESSION) C.int {
	p, ok := connOf(conn).findPSK(C.GoBytes(unsafe.Pointer(identity), C.int(n)))
	*s = p
	return boolInt(ok)
}

// goUsePSK sets s to the session that a client offers, a reference, and identity to C memory with
// its identity. It returns 0 to fail the handshake.
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
