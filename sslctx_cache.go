// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include <stdlib.h>
// #include "cgo_shim.h"
import "C"

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
	"unsafe"
)

// Sessions returns the sessions of the internal cache, in no order, as they are at one moment.
// libssl does not lock what SSL_CTX_sessions returns. So Sessions waits until nobody else is inside
// libssl with this context, and makes all others wait while it reads the cache: a few milliseconds
// for 20,000 sessions.
//
// Each reference is the caller's. The cache of an SSL_CTX of [ContextFromPointer] cannot be read,
// because other C code may use it at the same time: Sessions returns an ArgumentError.
//
// Wraps [SSL_CTX_sessions].
//
// [SSL_CTX_sessions]: https://docs.openssl.org/3.0/man3/SSL_CTX_sessions/
func (c *Context) Sessions() ([]*Session, error) {
	if c != nil && c.foreign {
		return nil, badArgument("Sessions", "receiver", "is of ContextFromPointer: other code may use its cache meanwhile")
	}
	var v contextCall
	if err := v.begin(c, true); err != nil {
		return nil, err
	}
	r := C.shim_SSL_CTX_sessions(v.p)
	found := unsafe.Slice(r.p, int(r.n))
	defer func() {
		for _, p := range found { // there are some if a hook panicked
			freeSession(p)
		}
		C.free(unsafe.Pointer(r.p))
	}()
	v.end()
	if r.ok == 0 {
		return nil, newError("SSL_CTX_sessions", nil)
	}
	sessions := make([]*Session, 0, len(found))
	for ; len(found) > 0; found = found[1:] {
		sessions = append(sessions, adoptSession(found[0], v.ctx))
	}
	return sessions, nil
}

// AddSession puts s into the context's internal cache. added is libssl's return value: it is false
// if this very session object is already cached. A different object with the same key (protocol
// version and ID) is replaced. If the cache is full, the session that expires first is evicted
// (1.1.1: the one that was added first), and marked as not resumable.
//
// The cache takes a reference of its own; s stays the caller's. AddSession publishes s: from then
// on s belongs to this context. It returns ErrForeignContext for a session that is in the cache of
// another context. A session of another context that is not in the cache there moves to this one:
// it was removed, evicted or never cached, or the other context is gone. The cache of a context of
// [ContextFromPointer] cannot be looked at, so its sessions are refused while it exists. AddSession
// returns ErrNoCipher for a session that has a protocol version and no cipher, and an *Error if
// memory runs out. For a session that was published before, it waits until nobody else is inside
// libssl with this context, and with those that the session belonged to.
//
// Wraps [SSL_CTX_add_session].
//
// [SSL_CTX_add_session]: https://docs.openssl.org/3.0/man3/SSL_CTX_add_session/
func (c *Context) AddSession(s *Session) (added bool, err error) {
	for fresh := true; ; fresh = false {
		p, ok := enterSession(s)
		if !ok {
			return false, closedArgument("AddSession", "s")
		}
		var v contextCall
		added, err = v.add(c, s, p, fresh && s.ctxState.Load() == nil)
		// Nothing before can panic. Hooks may, but they run in v.end, when the session is left. So
		// there is no defer, which would be a tenth of the time.
		s.leave(freeSession)
		v.end()
		if err == errOtherContext {
			return c.addOfOther(s)
		}
		if err != errNotFresh {
			return added, err
		}
	}
}

// addOfOther is AddSession for a session that was published to another context.
func (c *Context) addOfOther(s *Session) (added bool, err error) {
	b, err := enterBatch("", []*Session{s})
	if err != nil {
		return false, ErrClosed
	}
	defer b.leave()
	all, err := c.addMoved(b)
	return len(all) > 0 && all[0], err
}

// errNotFresh says that another goroutine has published a session that was to be added as a fresh
// one.
var errNotFresh = errors.New("sslctx: session is not fresh any more")

// add begins the call, and calls libssl.
func (v *contextCall) add(c *Context, s *Session, p *C.SSL_SESSION, fresh bool) (added bool, err error) {
	if err := v.begin(c, !fresh); err != nil {
		return false, err
	}
	first, err := s.beginPublish(v.ctx)
	if !first && (err != nil || v.ctx.isOfOther(s.ctxState.Load(), p)) {
		return false, errOtherContext
	}
	if fresh && !first {
		return false, errNotFresh
	}
	ret := C.shim_SSL_CTX_add_session(v.p, p, v.cacheSharing(first))
	if ret.n == C.SHIM_REFUSED_NO_CIPHER {
		s.endPublish(first, nil)
		return false, ErrNoCipher
	}
	s.endPublish(first, v.ctx)
	if ret.n == C.SHIM_ADD_FAILED {
		_ = v.keepEvents(ret)
		return false, newError("SSL_CTX_add_session", ret.errs)
	}
	return ret.n == 1, v.result("SSL_CTX_add_session", ret)
}

// RemoveSession takes the session with the key of s out of the cache, and marks s as not resumable.
// removed is libssl's return value. It is false if the cache holds no such session; s is marked all
// the same. It is also false if s has no ID; then s is not marked, and stays in the cache if it is
// there.
//
// libssl looks for the key: if another object with this key is cached, that one is removed, and s
// is marked. RemoveSession does not move a session of another context to this one. A fresh session
// stays fresh, unless a hook of [Context.SetRemoveSessionCallback] gets it: the hook has a handle
// of its own.
//
// A server's session that was removed does not resume if the server keeps its sessions
// ([OpNoTicket]). By default the server issues stateless tickets, which hold the session itself:
// they still resume until they expire. With TLS 1.3 each ticket is a session of its own with its
// own ID: see [Conn.ResumedSession].
//
// Wraps [SSL_CTX_remove_session].
//
// [SSL_CTX_remove_session]: https://docs.openssl.org/3.0/man3/SSL_CTX_add_session/
func (c *Context) RemoveSession(s *Session) (removed bool, err error) {
	var v contextCall
	if err := v.begin(c, false); err != nil {
		return false, err
	}
	p, ok := enterSession(s)
	if !ok {
		v.end()
		return false, closedArgument("RemoveSession", "s")
	}
	first := false
	isOther := s.ctxState.Load() != v.ctx
	if isOther {
		first, _ = s.beginPublish(v.ctx)
	}
	ret := C.shim_SSL_CTX_remove_session(v.p, p)
	if isOther {
		v.endRemove(s, p, first, ret.events != nil)
	}
	err = v.result("SSL_CTX_remove_session", ret)
	s.leave(freeSession)
	v.end() // as in AddSession
	return ret.n == 1, err
}

// AddSessions is [Context.AddSession] for each of the sessions, in their order, in one call into C.
// added[i] is libssl's return value for sessions[i]. If memory runs out for one, the error is an
// *Error.
//
// If one session is refused, or is nil or closed, the error names its index, and none is added.
//
// Wraps [SSL_CTX_add_session].
//
// [SSL_CTX_add_session]: https://docs.openssl.org/3.0/man3/SSL_CTX_add_session/
func (c *Context) AddSessions(sessions []*Session) (added []bool, err error) {
	b, err := enterBatch("AddSessions", sessions)
	if err != nil {
		return nil, err
	}
	defer b.leave()
	added, err = c.addBatch(b)
	if err == errOtherContext {
		return c.addMoved(b)
	}
	return added, err
}

// addBatch adds sessions that belong to this context, or are fresh. Otherwise it returns
// errOtherContext.
func (c *Context) addBatch(b *batch) (added []bool, err error) {
	var v contextCall
	// Exclusively: a session that is fresh now may be published when its turn comes.
	if err := v.begin(c, true); err != nil {
		return nil, err
	}
	defer v.end()
	if len(b.sessions) == 0 {
		return nil, nil
	}
	if err := b.publishTo(v.ctx); err != nil {
		return nil, err
	}
	return v.addAll(b)
}

// addMoved adds sessions, whichever context they belong to.
func (c *Context) addMoved(b *batch) (added []bool, err error) {
	for err = errOtherContext; err == errOtherContext; {
		added, err = c.tryToMove(b)
	}
	return added, err
}

func (c *Context) tryToMove(b *batch) (added []bool, err error) {
	var v contextCall
	held, err := v.beginMove(c, b)
	if err != nil {
		return nil, err
	}
	defer v.end()
	defer held.unlock(v.ctx)
	if err := b.moveTo(v.ctx, held); err != nil {
		return nil, err
	}
	return v.addAll(b)
}

// addAll calls libssl for all sessions. configMu is held exclusively.
func (v *contextCall) addAll(b *batch) (added []bool, err error) {
	ret := C.shim_SSL_CTX_add_sessions(v.p, &b.p[0], &b.ret[0], C.size_t(len(b.p)), v.cacheSharing(false))
	if ret.n < 0 {
		return nil, b.refuse(int(-1-ret.n), ErrNoCipher)
	}
	if slices.Contains(b.ret, C.SHIM_ADD_FAILED) {
		_ = v.keepEvents(ret)
		return b.results(), newError("SSL_CTX_add_session", ret.errs)
	}
	return b.results(), v.result("SSL_CTX_add_session", ret)
}

// RemoveSessions is [Context.RemoveSession] for each of the sessions, in their order, in one call
// into C. removed[i] is libssl's return value for sessions[i].
//
// If one session is nil or closed, the error names its index, and none is removed.
//
// Wraps [SSL_CTX_remove_session].
//
// [SSL_CTX_remove_session]: https://docs.openssl.org/3.0/man3/SSL_CTX_add_session/
func (c *Context) RemoveSessions(sessions []*Session) (removed []bool, err error) {
	var v contextCall
	if err := v.begin(c, false); err != nil {
		return nil, err
	}
	defer v.end()
	if len(sessions) == 0 {
		return nil, nil
	}
	b, err := enterBatch("RemoveSessions", sessions)
	if err != nil {
		return nil, err
	}
	defer b.leave()
	fresh := b.claim(v.ctx)
	ret := C.shim_SSL_CTX_remove_sessions(v.p, &b.p[0], &b.ret[0], C.size_t(len(b.p)))
	for i, s := range b.sessions {
		if fresh[s] || s.ctxState.Load() != v.ctx {
			v.endRemove(s, b.p[i], fresh[s], ret.events != nil)
			delete(fresh, s) // the batch may have it twice
		}
	}
	return b.results(), v.result("SSL_CTX_remove_session", ret)
}

// FlushSessions takes the sessions that have expired at the given time out of the cache, and marks
// them as not resumable. A session expires when its time and its timeout have passed: at that very
// second it is still kept. Fractions of a second are dropped. The zero time, and the start of 1970,
// flush all sessions. It returns an ArgumentError for any other time before 1970, and for one less
// than a second after its start.
//
// Wraps [SSL_CTX_flush_sessions_ex], SSL_CTX_flush_sessions before OpenSSL 3.4.
//
// [SSL_CTX_flush_sessions_ex]: https://docs.openssl.org/3.5/man3/SSL_CTX_flush_sessions/
func (c *Context) FlushSessions(at time.Time) error {
	var sec int64
	if !at.IsZero() {
		var err error
		if sec, err = unixSeconds("FlushSessions", "at", at); err != nil {
			return err
		}
		if sec == 0 && at.Nanosecond() != 0 { // 0 flushes all
			return badArgument("FlushSessions", "at", "is %v, less than a second after the start of 1970", at)
		}
	}
	var v contextCall
	if err := v.begin(c, false); err != nil {
		return err
	}
	defer v.end()
	return v.result("SSL_CTX_flush_sessions", C.shim_SSL_CTX_flush_sessions(v.p, C.int64_t(sec)))
}

// CacheStats are the counters of a context. Number is the size of the cache now. The others count
// since the context was made.
type CacheStats struct {
	Number             int // sessions in the internal cache
	Connect            int // client handshakes begun
	ConnectGood        int // client handshakes completed
	ConnectRenegotiate int // client renegotiations begun
	Accept             int // server handshakes begun
	AcceptGood         int // server handshakes completed
	AcceptRenegotiate  int // server renegotiations begun
	Hits               int // sessions resumed
	CbHits             int // sessions that a lookup callback found
	Misses             int // sessions asked for and not in the internal cache
	Timeouts           int // sessions asked for and expired
	CacheFull          int // sessions evicted because the cache was full
}

// CacheStats reads the twelve counters one after the other: libssl does not stop meanwhile.
//
// Wraps [SSL_CTX_sess_number], SSL_CTX_sess_connect, SSL_CTX_sess_connect_good,
// SSL_CTX_sess_connect_renegotiate, SSL_CTX_sess_accept, SSL_CTX_sess_accept_good,
// SSL_CTX_sess_accept_renegotiate, SSL_CTX_sess_hits, SSL_CTX_sess_cb_hits, SSL_CTX_sess_misses,
// SSL_CTX_sess_timeouts, SSL_CTX_sess_cache_full.
//
// [SSL_CTX_sess_number]: https://docs.openssl.org/3.0/man3/SSL_CTX_sess_number/
func (c *Context) CacheStats() CacheStats {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	s := C.shim_SSL_CTX_sess_stats(v.p)
	return CacheStats{
		Number:             int(s.number),
		Connect:            int(s.connect),
		ConnectGood:        int(s.connect_good),
		ConnectRenegotiate: int(s.connect_renegotiate),
		Accept:             int(s.accept),
		AcceptGood:         int(s.accept_good),
		AcceptRenegotiate:  int(s.accept_renegotiate),
		Hits:               int(s.hits),
		CbHits:             int(s.cb_hits),
		Misses:             int(s.misses),
		Timeouts:           int(s.timeouts),
		CacheFull:          int(s.cache_full),
	}
}

// SessionCacheMode returns what libssl does with the cache automatically.
//
// Wraps [SSL_CTX_get_session_cache_mode].
//
// [SSL_CTX_get_session_cache_mode]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_session_cache_mode/
func (c *Context) SessionCacheMode() CacheMode {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	return cacheModeOf(v.p)
}

func cacheModeOf(p *C.SSL_CTX) CacheMode { return CacheMode(C.shim_SSL_CTX_get_session_cache_mode(p)) }

// SetSessionCacheMode sets what libssl does with the cache automatically, and returns the mode that
// was set before.
//
// Wraps [SSL_CTX_set_session_cache_mode].
//
// [SSL_CTX_set_session_cache_mode]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_session_cache_mode/
func (c *Context) SetSessionCacheMode(m CacheMode) (previous CacheMode, err error) {
	err = c.configure(func(p *C.SSL_CTX) error {
		previous = CacheMode(C.shim_SSL_CTX_set_session_cache_mode(p, C.long(m)))
		return nil
	})
	return previous, err
}

// CacheSize returns the size of the cache, in sessions; 0 is no limit. From OpenSSL 3.0 on, a cache
// of size n > 1 holds n-1 sessions.
//
// Wraps [SSL_CTX_sess_get_cache_size].
//
// [SSL_CTX_sess_get_cache_size]: https://docs.openssl.org/3.0/man3/SSL_CTX_sess_set_cache_size/
func (c *Context) CacheSize() int {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	return int(C.shim_SSL_CTX_sess_get_cache_size(v.p))
}

// SetCacheSize sets the size of the cache, in sessions, and returns the size that was set before; 0
// is no limit. A smaller size evicts nothing until the next session is added. It returns an
// ArgumentError for a negative size.
//
// Wraps [SSL_CTX_sess_set_cache_size].
//
// [SSL_CTX_sess_set_cache_size]: https://docs.openssl.org/3.0/man3/SSL_CTX_sess_set_cache_size/
func (c *Context) SetCacheSize(n int) (previous int, err error) {
	if err := checkInt("SetCacheSize", "n", n, 0, maxLong); err != nil {
		return 0, err
	}
	err = c.configure(func(p *C.SSL_CTX) error {
		previous = int(C.shim_SSL_CTX_sess_set_cache_size(p, C.long(n)))
		return nil
	})
	return previous, err
}

// Timeout returns how long the sessions of new connections may be resumed.
//
// Wraps [SSL_CTX_get_timeout].
//
// [SSL_CTX_get_timeout]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_timeout/
func (c *Context) Timeout() time.Duration {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	return seconds(int64(C.SSL_CTX_get_timeout(v.p)))
}

// SetTimeout sets how long the sessions of new connections may be resumed, and returns the timeout
// that was set before. Fractions of a second are dropped, and 0 is libssl's default of 2 hours. It
// returns an ArgumentError for a negative timeout, and for one above 0 and below a second.
//
// Wraps [SSL_CTX_set_timeout].
//
// [SSL_CTX_set_timeout]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_timeout/
func (c *Context) SetTimeout(d time.Duration) (previous time.Duration, err error) {
	sec, err := wholeSeconds("SetTimeout", d)
	if err != nil {
		return 0, err
	}
	err = c.configure(func(p *C.SSL_CTX) error {
		previous = seconds(int64(C.SSL_CTX_set_timeout(p, C.long(sec))))
		return nil
	})
	return previous, err
}

// SetIDContext sets the ID context of the sessions of new connections, 0 to 32 bytes. A session is
// resumed only where the ID context is the same. A server that verifies clients (VerifyPeer) needs
// one. Without it a connection fails if the client offers a session ("session id context
// uninitialized", and internal_error for the client), and the session is marked as not resumable:
// each client's second connection fails. Any bytes will do, such as the name of the service.
// Servers that resume each other's sessions need the same ID context. Servers that ask different
// things of clients need different ones, because a session that was made without a certificate
// resumes without one.
//
// Wraps [SSL_CTX_set_session_id_context].
//
// [SSL_CTX_set_session_id_context]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_session_id_context/
func (c *Context) SetIDContext(id []byte) error {
	if err := checkID("SetIDContext", id); err != nil {
		return err
	}
	err := c.configure(func(p *C.SSL_CTX) error {
		r := C.shim_SSL_CTX_set_session_id_context(p, bytesPointer(id), C.size_t(len(id)))
		if r.n == 1 {
			c.p.ctx.idContext = string(id)
		}
		return errorIf(r.n == 1, "SSL_CTX_set_session_id_context", r.errs)
	})
	if err == nil {
		c.made.rebase(id)
	}
	return err
}

// MaxEarlyData returns how many bytes of early data (TLS 1.3) a server allows.
//
// Wraps [SSL_CTX_get_max_early_data].
//
// [SSL_CTX_get_max_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Context) MaxEarlyData() int {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	return int(C.SSL_CTX_get_max_early_data(v.p))
}

// SetMaxEarlyData sets how many bytes of early data (TLS 1.3) a server allows. A server that allows
// any keeps its sessions in the cache, and accepts each session only once, unless OpNoAntiReplay is
// set. This needs the internal cache: with SessCacheNoInternal no such session resumes.
//
// With a store ([Context.SetSessionLookup], [Context.SetGetSessionCallback]) libssl accepts a session
// again for as long as the store returns it, and so its early data. Set SessCacheNoInternalLookup,
// so that libssl asks the store for every session, and let the store delete a session in the same
// step as it reads it. Or use [Context.SetAllowEarlyDataCallback], or
// [Conn.HandshakeReadEarlyData], which returns no replay.
//
// Wraps [SSL_CTX_set_max_early_data].
//
// [SSL_CTX_set_max_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Context) SetMaxEarlyData(n int) error {
	if err := checkInt("SetMaxEarlyData", "n", n, 0, min(math.MaxUint32, math.MaxInt)); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		r := C.shim_SSL_CTX_set_max_early_data(p, C.uint32_t(n))
		return errorIf(r.n == 1, "SSL_CTX_set_max_early_data", r.errs)
	})
}

func enterSession(s *Session) (*C.SSL_SESSION, bool) {
	if s == nil {
		return nil, false
	}
	return s.enter()
}

// A batch is the sessions of one call into C, all entered. It has a slice of its own: hooks run
// before the sessions are left, and may change the caller's slice.
type batch struct {
	fn       string
	sessions []*Session
	p        []*C.SSL_SESSION
	ret      []C.schar
}

// batches reuses the memory of batches that are done. Without it the collector takes a tenth of the
// time of small ones.
var batches = sync.Pool{New: func() any { return new(batch) }}

// keptBatch is how many sessions a batch may have had for its memory to be reused.
const keptBatch = 1024

func enterBatch(fn string, sessions []*Session) (*batch, error) {
	b := batches.Get().(*batch)
	b.fn = fn
	b.sessions = append(b.sessions[:0], sessions...)
	b.p = slices.Grow(b.p[:0], len(sessions))
	b.ret = slices.Grow(b.ret[:0], len(sessions))[:len(sessions)]
	for i, s := range b.sessions {
		p, ok := enterSession(s)
		if !ok {
			err := b.refuse(i, ErrClosed)
			b.leave()
			return nil, err
		}
		b.p = append(b.p, p)
	}
	return b, nil
}

// leave leaves the sessions that were entered.
func (b *batch) leave() {
	for i := range b.p {
		b.sessions[i].leave(freeSession)
	}
	clear(b.sessions)
	if len(b.p) <= keptBatch {
		batches.Put(b)
	}
}

func (b *batch) refuse(i int, err error) error {
	if b.fn == "" { // a call for one session
		return err
	}
	return fmt.Errorf("%s: sessions[%d]: %w", b.fn, i, err)
}

// publishTo publishes all sessions to h, or none. It looks for refusals first, because a published
// session cannot become fresh again.
func (b *batch) publishTo(h *ctxState) error {
	fresh := false
	for i, s := range b.sessions {
		at := s.ctxState.Load()
		if at != nil && h.isOfOther(at, b.p[i]) {
			return errOtherContext
		}
		fresh = fresh || at == nil
	}
	if !fresh {
		return nil
	}
	// The add itself checks this, too, but then the fresh sessions are already published.
	if err := b.checkCiphers(); err != nil {
		return err
	}
	for _, s := range b.sessions {
		first, err := s.beginPublish(h)
		if err != nil {
			return errOtherContext
		}
		s.endPublish(first, h)
	}
	return nil
}

func (b *batch) checkCiphers() error {
	if i := C.shim_session_first_without_cipher(&b.p[0], C.size_t(len(b.p))); i >= 0 {
		return b.refuse(int(i), ErrNoCipher)
	}
	return nil
}

// claiming is locked while a call takes the locks of several fresh sessions: two such calls never
// wait for each other's locks.
var claiming sync.Mutex

// claim takes the locks of the fresh sessions, for a call that may publish them to h or not.
// endPublish must follow for each.
func (b *batch) claim(h *ctxState) (fresh map[*Session]bool) {
	claiming.Lock()
	defer claiming.Unlock()
	for _, s := range b.sessions {
		if s.ctxState.Load() != nil || fresh[s] {
			continue
		}
		if first, _ := s.beginPublish(h); first {
			if fresh == nil {
				fresh = make(map[*Session]bool)
			}
			fresh[s] = true
		}
	}
	return fresh
}

func (b *batch) results() []bool {
	r := make([]bool, len(b.ret))
	for i, n := range b.ret {
		r[i] = n == 1
	}
	return r
}
