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

// upcalls is what belongs to a Conn of it, guarded by Conn.mu but for the window.
type upcalls struct {
	generateID   generateIDHook // of the connection's own, before those of its context
	notResumable notResumableHook
	ticketExt    func(ctx context.Context, data []byte) error
	err          error            // why a hook gave no answer in this crossing
	asked        [upcallKinds]int // how many identities of the client's a hook was asked about in this call

	window hookWindow
}

// A hookWindow is open while a hook runs: the crossing stands still then, and the SSL may be read.
type hookWindow struct {
	mu   sync.RWMutex
	open bool
}

func (w *hookWindow) set(open bool) {
	w.mu.Lock()
	w.open = open
	w.mu.Unlock()
}

// enter reports whether the window is open; if it is, it stays so until leave.
func (w *hookWindow) enter() bool {
	w.mu.RLock()
	open := w.open
	if !open {
		w.mu.RUnlock()
	}
	return open
}

func (w *hookWindow) leave() { w.mu.RUnlock() }

// maxIdentities is how many identities of a ClientHello, pre-shared keys and tickets, a hook is asked about. Clients have
// one or two, and crypto/tls looks at five. Without a limit one ClientHello has room for nine thousand.
const maxIdentities = 16

// What is asked about the identities of a ClientHello.
const (
	askedFindPSK = iota
	askedServerPSK
	askedDecryptTicket
	askedGetSession
	askedCertPool
	upcallKinds
)

// tooMany counts an identity, and reports whether it is one too many.
func (a *upcalls) tooMany(kind int) bool {
	a.asked[kind]++
	return a.asked[kind] > maxIdentities
}

// wrapHookError is the error of a crossing in which a hook gave no answer.
func (a *upcalls) wrapHookError(err error) error {
	if a.err == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", a.err, err)
}

// fail notes why a hook gave no answer. What ended the hook itself ends the caller.
func (a *upcalls) fail(what string, err error) {
	if err != errHookEnded {
		a.err = fmt.Errorf("sslctx: %s: %w", what, err)
	}
}

// answers returns which upcalls the Conn answers in a call: SHIM_UPCALL_ bits. 0 spares the call a handle.
func (c *Conn) answers(t *hookTable) (kinds C.int) {
	own := &c.upcalls
	if c.server && t.getSession != nil {
		kinds |= C.SHIM_UPCALL_GET_SESSION
	}
	if own.ticketExt != nil || c.p.ctxs.usesCertPool() || c.server && (own.generateID != nil || own.notResumable != nil ||
		t.generateID != nil || t.notResumable != nil || t.generateTicket != nil || t.decryptTicket != nil) {
		kinds |= C.SHIM_UPCALL_ISSUE
	}
	if c.copied.hasCopied() {
		kinds |= C.SHIM_UPCALL_PSK
	}
	return kinds
}

// passHandle gives C a handle of the Conn for one call, until stop.
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
	return C.long(min(len(made), len(id)+1)) // libssl says what it thinks of one that is too long
}

// notResumable is true without an answer: then the session is used for this connection alone.
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

// generateTicket asks for the data of a new ticket; the reference to s is the hook's.
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

// errTicketAborted is why a handshake failed that a hook ended by TicketAbort.
var errTicketAborted = errors.New("the answer is TicketAbort")

// decryptTicket asks what to do with a ticket; the reference to s, which may be nil, is the hook's. unasked is what libssl
// does without a hook.
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
	if c.upcalls.tooMany(askedDecryptTicket) {
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
	case errors.Is(err, ErrTooManyHooks):
		return C.SSL_TICKET_RETURN_IGNORE_RENEW // a full handshake
	case err != nil:
		c.upcalls.fail("the ticket hook", err)
		return C.SSL_TICKET_RETURN_ABORT
	case answer == TicketDefault:
		return unasked
	}
	return C.int(answer)
}

func (c *Conn) hearTicketExt(data []byte) bool {
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

// getSession asks the hook. Without an answer it is a full handshake.
func (c *Conn) getSession(id []byte) *C.SSL_SESSION {
	hook := c.hooks.table.Load().getSession
	if hook == nil || c.upcalls.tooMany(askedGetSession) {
		return nil
	}
	s, err := runUpcall(c, func(ctx context.Context) (*Session, error) { return hook(ctx, id), nil })
	if err != nil || s == nil {
		return nil
	}
	p, _ := s.upRefFor(c.p.p, c.p.ctxs.sessionCtx, false) // what must not be used is no session: it may just have been closed
	return p
}

// A pskAnswer is what a hook for pre-shared keys gives.
type pskAnswer struct {
	identity []byte
	session  *Session // a copy for libssl, or nil
	key      []byte
}

// askPSK runs a hook. Its error is the error of the handshake.
func (c *Conn) askPSK(hook func(context.Context) (pskAnswer, error)) (answer pskAnswer, err error) {
	answer, err = runUpcall(c, hook)
	if err != nil && err != errHookEnded {
		c.upcalls.err = err
	}
	return answer, err
}

// findPSK asks for the key of an identity. Where the hook cannot be asked there is no key: libssl takes the identity
// for a ticket, and makes a full handshake if it is none.
func (c *Conn) findPSK(identity []byte) (p *C.SSL_SESSION, ok bool) {
	if c.copied.findPSK == nil || c.upcalls.tooMany(askedFindPSK) {
		return nil, true
	}
	answer, err := c.askPSK(func(ctx context.Context) (a pskAnswer, err error) {
		if s := c.copied.findPSK(ctx, c, identity); s != nil {
			a.session, err = s.dupPSK()
		}
		return a, err
	})
	return answer.session.release(), err == nil || errors.Is(err, ErrTooManyHooks)
}

// usePSK asks for a key whose hash has the digest's size, which is 0 for any.
func (c *Conn) usePSK(size int) (identity []byte, p *C.SSL_SESSION, ok bool) {
	if c.copied.usePSK == nil {
		return nil, nil, true
	}
	var digest crypto.Hash
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
		if h.Size() == size {
			digest = h
		}
	}
	answer, err := c.askPSK(func(ctx context.Context) (a pskAnswer, err error) {
		id, s := c.copied.usePSK(ctx, c, digest)
		if s == nil {
			return a, nil
		}
		if len(id) == 0 || len(id) > maxTicket {
			return a, badArgument("SetPSKUseSessionCallback", "identity", "is %d bytes long, the limits are 1 and %d", len(id), maxTicket)
		}
		a.identity = id
		a.session, err = s.dupPSK()
		return a, err
	})
	return answer.identity, answer.session.release(), err == nil
}

// serverPSK writes a key, and returns a length of more than there is room if there is none to go on with.
func (c *Conn) serverPSK(identity string, room []byte) (n int) {
	if c.copied.serverPSK == nil || c.upcalls.tooMany(askedServerPSK) {
		return 0
	}
	answer, err := c.askPSK(func(ctx context.Context) (pskAnswer, error) {
		key := c.copied.serverPSK(ctx, c, identity)
		return pskAnswer{key: key}, checkPSK("SetPSKServerCallback", key, len(room))
	})
	if err != nil {
		return len(room) + 1
	}
	return copy(room, answer.key)
}

// clientPSK writes an identity, with the zero byte that ends it, and a key, as serverPSK does. TLS 1.3 has no empty
// identities.
func (c *Conn) clientPSK(tls13 bool, hint string, identity, room []byte) (n int) {
	const fn = "SetPSKClientCallback"
	if c.copied.clientPSK == nil {
		return 0
	}
	answer, err := c.askPSK(func(ctx context.Context) (pskAnswer, error) {
		id, key := c.copied.clientPSK(ctx, c, hint)
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
	if c.copied.allowEarlyData == nil { // another Context of the SSL_CTX had it, and is closed
		return true
	}
	allow, err := runUpcall(c, func(ctx context.Context) (bool, error) { return c.copied.allowEarlyData(ctx, c), nil })
	return err == nil && allow
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
	hook := c.hooks.table.Load().getSession
	if hook == nil {
		return nil
	}
	key := C.GoBytes(unsafe.Pointer(id), n)
	found := make(chan *Session, 1)
	go func() { // no frame of C is skipped if the hook does not return; its panic ends the program
		var s *Session
		defer func() { found <- s }()
		s = hook(context.Background(), key)
	}()
	s := <-found
	p, _ := s.upRefFor(nil, nil, true)
	return p
}

// The next five are libssl's questions of what a server issues; conn is the handle of the Conn. libssl holds no
// lock of its own. The answers stand above.

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
