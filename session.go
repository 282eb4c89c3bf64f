// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"encoding/hex"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of libssl and of the binding.
const (
	// MaxIDLength is the limit for a session ID, and for an ID context, in bytes.
	MaxIDLength = C.SSL_MAX_SSL_SESSION_ID_LENGTH

	// maxSeconds is the largest time and timeout that every version keeps unchanged. Later versions
	// count nanoseconds in 64 bits, which wrap.
	maxSeconds = min(math.MaxUint64/1_000_000_000, 1<<(8*C.sizeof_long-1)-1)
)

// A Session is one reference to an SSL_SESSION: the state that two ends keep of a connection, to
// resume it later.
//
// A Session is fresh until it is published: until it is added to a Context, offered by a Conn
// ([Conn.SetSession]), taken from one ([Conn.Session]), or removed while a remove hook learns of
// it. A fresh session belongs to the caller only, and all setters work. A published one is shared
// with libssl. Everything that connections read of it is then fixed: protocol version, ID, ID
// context, cipher, master key and the like. It belongs to the Context that it was published to,
// until it is in no cache and is added to another ([Context.AddSession]). Time, timeout,
// MaxEarlyData and ExData can still change.
//
// All methods may be called from any goroutine. Close gives the reference back; a Session that is
// dropped without Close is given back after garbage collection. Methods without an error result
// panic on a closed or empty Session.
//
// A Session holds the secrets of a connection. It prints, logs and encodes without them.
// [Session.Bytes], [Session.PEM], [Session.Print], [Session.PrintKeylog] and [Session.MasterKey]
// return or write them.
type Session struct {
	owned[*C.SSL_SESSION]
	ctxState atomic.Pointer[ctxState] // a published session's context; it may have moved since
	mu       sync.Mutex               // held during each call on a fresh session

	verifiedBy verifiedBy // set before anybody else has the handle
}

// NewSession makes an empty session: no ID, no cipher, version 0, time now, a timeout of 304
// seconds. It can be added to a cache, but no connection resumes it.
//
// The reference is the caller's.
//
// Wraps [SSL_SESSION_new].
//
// [SSL_SESSION_new]: https://docs.openssl.org/3.0/man3/SSL_SESSION_free/
func NewSession() (*Session, error) {
	r := C.shim_SSL_SESSION_new()
	if r.p == nil {
		return nil, newError("SSL_SESSION_new", r.errs)
	}
	return adoptSession(r.p, nil), nil
}

// adoptSession makes a handle, which takes over the reference p. h is nil for a fresh session.
func adoptSession(p *C.SSL_SESSION, h *ctxState) *Session {
	s := new(Session)
	s.ctxState.Store(h)
	s.adopt(p, freeSession)
	return s
}

// Close gives the reference back. A session that is cached, or that a connection uses, stays alive.
// Further calls of Close do nothing; the error is always nil.
//
// Wraps [SSL_SESSION_free].
//
// [SSL_SESSION_free]: https://docs.openssl.org/3.0/man3/SSL_SESSION_free/
func (s *Session) Close() error {
	if s != nil {
		s.close(freeSession)
	}
	return nil
}

func freeSession(p *C.SSL_SESSION) { C.SSL_SESSION_free(p) }

// sessionCall is one call that reads or changes a session.
type sessionCall struct {
	s         *Session
	p         *C.SSL_SESSION
	ctx       *ctxState // nil: the session is fresh, and s.mu is held
	exclusive bool      // configMu is held for writing, in all holders of a moved session
}

// begin enters s and locks it until end. A fresh session is locked for this call only. A published
// one is locked by configMu: for reading by calls that read it, exclusively by setters. SetTime and
// SetTimeout change values by which a cache is sorted, so nobody else may be inside libssl with it.
func (s *Session) begin(exclusive bool) (sessionCall, error) {
	if s == nil {
		return sessionCall{}, ErrClosed
	}
	p, ok := s.enter()
	if !ok {
		return sessionCall{}, ErrClosed
	}
	a := sessionCall{s: s, p: p, ctx: s.ctxState.Load(), exclusive: exclusive}
	if a.ctx == nil {
		s.mu.Lock()
		if a.ctx = s.ctxState.Load(); a.ctx == nil {
			return a, nil
		}
		s.mu.Unlock()
	}
	a.ctx.lock(exclusive)
	if a.ctx.sessionsMoved.Load() {
		a.followMove()
	}
	return a, nil
}

// mustBegin is begin for a method without an error result.
func (s *Session) mustBegin() sessionCall {
	a, err := s.begin(false)
	if err != nil {
		panic("sslctx: use of a closed or empty Session")
	}
	return a
}

// beginFresh is begin for a setter of what a published session must keep: for such a session it
// returns ErrPublished.
func (s *Session) beginFresh() (sessionCall, error) {
	a, err := s.begin(false)
	if err == nil && a.ctx != nil {
		a.end()
		return sessionCall{}, ErrPublished
	}
	return a, err
}

// setFresh changes a property of a fresh session. libssl reads such a property of a published
// session without a lock.
func (s *Session) setFresh(op string, set func(*C.SSL_SESSION) C.shim_long) error {
	a, err := s.beginFresh()
	if err != nil {
		return err
	}
	defer a.end()
	r := set(a.p)
	return errorIf(r.n == 1, op, r.errs)
}

// setExclusive changes a property of any session, while nobody else is inside libssl with its
// context.
func (s *Session) setExclusive(op string, set func(*C.SSL_SESSION) C.shim_long) error {
	a, err := s.begin(true)
	if err != nil {
		return err
	}
	defer a.end()
	r := set(a.p)
	return errorIf(r.n == 1, op, r.errs)
}

func (a *sessionCall) end() {
	if a.ctx == nil {
		a.s.mu.Unlock()
	} else {
		a.unlock()
	}
	a.s.leave(freeSession)
}

// Dup makes a fresh copy. It has the same ID, keys, ticket and marks, but is another object, in no
// cache. The copy of a session that is not resumable is not resumable.
//
// The reference is the caller's.
//
// Wraps [SSL_SESSION_dup].
//
// [SSL_SESSION_dup]: https://docs.openssl.org/3.0/man3/SSL_SESSION_free/
func (s *Session) Dup() (*Session, error) {
	p, err := s.dup()
	if err != nil {
		return nil, err
	}
	return adoptSession(p, nil), nil
}

func (s *Session) dup() (*C.SSL_SESSION, error) {
	a, err := s.begin(false)
	if err != nil {
		return nil, err
	}
	defer a.end()
	r := C.shim_SSL_SESSION_dup(a.p)
	if r.p == nil {
		return nil, newError("SSL_SESSION_dup", r.errs)
	}
	return r.p, nil
}

// SameKey reports whether both sessions have the same protocol version and the same ID. These are
// the key by which libssl finds a session in a cache: a cache holds only one session of each key.
// Sessions without an ID, such as those that came in a ticket of TLS 1.2, have the same key and
// need not be the same session. The result is false if a handle is closed, empty or nil.
//
// Wraps [SSL_SESSION_get_id], SSL_SESSION_get_protocol_version.
//
// [SSL_SESSION_get_id]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get_id/
func (s *Session) SameKey(other *Session) bool {
	v, id, ok := s.key()
	w, otherID, otherOK := other.key()
	return ok && otherOK && v == w && bytes.Equal(id, otherID)
}

// key returns the values by which a cache finds the session.
func (s *Session) key() (v Version, id []byte, ok bool) {
	a, err := s.begin(false)
	if err != nil {
		return 0, nil, false
	}
	defer a.end()
	return a.protocolVersion(), bytes.Clone(a.id()), true
}

// Same reports whether both handles are of the same C object, which is what SSL_CTX_add_session
// calls identical. The result is false if a handle is closed, empty or nil.
func (s *Session) Same(other *Session) bool {
	if s == nil || other == nil {
		return false
	}
	p, ok := s.enter()
	if !ok {
		return false
	}
	defer s.leave(freeSession)
	q, ok := other.enter()
	if !ok {
		return false
	}
	defer other.leave(freeSession)
	return p == q
}

// ID returns a copy of the session ID, 0 to 32 bytes. A client's TLS 1.3 session, and one with a
// TLS 1.2 ticket, have a hash of the ticket as their ID.
//
// Wraps [SSL_SESSION_get_id].
//
// [SSL_SESSION_get_id]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get0_id_context/
func (s *Session) ID() []byte {
	a := s.mustBegin()
	defer a.end()
	return a.id()
}

func (a *sessionCall) id() []byte { return cloneView(C.shim_SSL_SESSION_get_id(a.p)) }

// SetID sets the session ID of a fresh session, 0 to 32 bytes. It returns ErrPublished for a
// published session, which is found by its ID, and an ArgumentError for a longer ID.
//
// Wraps [SSL_SESSION_set1_id].
//
// [SSL_SESSION_set1_id]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get0_id_context/
func (s *Session) SetID(id []byte) error {
	if err := checkID("SetID", id); err != nil {
		return err
	}
	return s.setFresh("SSL_SESSION_set1_id", func(p *C.SSL_SESSION) C.shim_long {
		return C.shim_SSL_SESSION_set1_id(p, bytesPointer(id), C.size_t(len(id)))
	})
}

// IDContext returns a copy of the ID context, 0 to 32 bytes. With it the application marks what a
// session may be resumed for.
//
// Wraps [SSL_SESSION_get0_id_context].
//
// [SSL_SESSION_get0_id_context]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get0_id_context/
func (s *Session) IDContext() []byte {
	a := s.mustBegin()
	defer a.end()
	return cloneView(C.shim_SSL_SESSION_get0_id_context(a.p))
}

// SetIDContext sets the ID context of a fresh session, 0 to 32 bytes. It returns ErrPublished for a
// published session, whose ID context connections read at any time, and an ArgumentError for a
// longer ID context.
//
// Wraps [SSL_SESSION_set1_id_context].
//
// [SSL_SESSION_set1_id_context]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get0_id_context/
func (s *Session) SetIDContext(id []byte) error {
	if err := checkID("SetIDContext", id); err != nil {
		return err
	}
	return s.setFresh("SSL_SESSION_set1_id_context", func(p *C.SSL_SESSION) C.shim_long {
		return C.shim_SSL_SESSION_set1_id_context(p, bytesPointer(id), C.size_t(len(id)))
	})
}

// Time returns when the session was made, in whole seconds. A session of [ParseSession] can have
// any time. If no [time.Time] can hold it, Time returns the first or the last time that one can
// hold.
//
// Wraps [SSL_SESSION_get_time_ex], SSL_SESSION_get_time before OpenSSL 3.3.
//
// [SSL_SESSION_get_time_ex]: https://docs.openssl.org/3.5/man3/SSL_SESSION_get_time/
func (s *Session) Time() time.Time {
	a := s.mustBegin()
	defer a.end()
	return a.time()
}

func (a *sessionCall) time() time.Time { return unixTime(int64(C.shim_SSL_SESSION_get_time(a.p))) }

// SetTime sets when the session was made; fractions of a second are dropped. In a cached session
// this moves its expiry, and from OpenSSL 3.0 on its position in the order of eviction and
// flushing. It returns an ArgumentError for a time before 1970, and for one that not every version
// keeps (after the year 2554).
//
// Wraps [SSL_SESSION_set_time_ex], SSL_SESSION_set_time before OpenSSL 3.3.
//
// [SSL_SESSION_set_time_ex]: https://docs.openssl.org/3.5/man3/SSL_SESSION_get_time/
func (s *Session) SetTime(t time.Time) error {
	sec, err := unixSeconds("SetTime", "t", t)
	if err != nil {
		return err
	}
	return s.setExclusive("SSL_SESSION_set_time_ex", func(p *C.SSL_SESSION) C.shim_long {
		return C.shim_SSL_SESSION_set_time(p, C.int64_t(sec))
	})
}

// Timeout returns how long after its time the session may be resumed, in whole seconds. A session
// of [ParseSession] can have any timeout, also a negative one. If no [time.Duration] can hold it,
// Timeout returns the longest or the least duration.
//
// Wraps [SSL_SESSION_get_timeout].
//
// [SSL_SESSION_get_timeout]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get_time/
func (s *Session) Timeout() time.Duration {
	a := s.mustBegin()
	defer a.end()
	return a.timeout()
}

func (a *sessionCall) timeout() time.Duration { return seconds(int64(C.SSL_SESSION_get_timeout(a.p))) }

// SetTimeout sets how long after its time the session may be resumed; fractions of a second are
// dropped. In a cached session this moves its expiry, and from OpenSSL 3.0 on its position in the
// order of eviction and flushing. It returns an ArgumentError for a negative timeout, and for one
// above 0 and below a second.
//
// Wraps [SSL_SESSION_set_timeout].
//
// [SSL_SESSION_set_timeout]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get_time/
func (s *Session) SetTimeout(d time.Duration) error {
	sec, err := wholeSeconds("SetTimeout", d)
	if err != nil {
		return err
	}
	return s.setExclusive("SSL_SESSION_set_timeout", func(p *C.SSL_SESSION) C.shim_long {
		return C.shim_SSL_SESSION_set_timeout(p, C.long(sec))
	})
}

// ProtocolVersion returns the protocol version that the session was made with, 0 if no connection
// made it. It is part of the key by which a cache finds a session.
//
// Wraps [SSL_SESSION_get_protocol_version].
//
// [SSL_SESSION_get_protocol_version]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get_protocol_version/
func (s *Session) ProtocolVersion() Version {
	a := s.mustBegin()
	defer a.end()
	return a.protocolVersion()
}

func (a *sessionCall) protocolVersion() Version {
	return Version(C.SSL_SESSION_get_protocol_version(a.p))
}

// SetProtocolVersion sets the protocol version of a fresh session; libssl takes any number. It
// returns ErrPublished for a published session, since the version is part of the key.
//
// Wraps [SSL_SESSION_set_protocol_version].
//
// [SSL_SESSION_set_protocol_version]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get_protocol_version/
func (s *Session) SetProtocolVersion(v Version) error {
	if v < math.MinInt32 || v > math.MaxInt32 {
		return badArgument("SetProtocolVersion", "v", "is %d, which is no C int", int(v))
	}
	return s.setFresh("SSL_SESSION_set_protocol_version", func(p *C.SSL_SESSION) C.shim_long {
		return C.shim_long{n: C.long(C.SSL_SESSION_set_protocol_version(p, C.int(v)))}
	})
}

// Cipher returns the cipher suite of the session, the zero Cipher if it has none.
//
// Wraps [SSL_SESSION_get0_cipher].
//
// [SSL_SESSION_get0_cipher]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get0_cipher/
func (s *Session) Cipher() Cipher {
	a := s.mustBegin()
	defer a.end()
	return a.cipher()
}

func (a *sessionCall) cipher() Cipher { return newCipher(C.shim_SSL_SESSION_get0_cipher(a.p)) }

// IsResumable reports whether the session has an ID or a ticket, and was never marked as not
// resumable. RemoveSession, eviction, flushing, and a connection that ended badly set that mark. It
// stays for ever.
//
// Wraps [SSL_SESSION_is_resumable].
//
// [SSL_SESSION_is_resumable]: https://docs.openssl.org/3.0/man3/SSL_SESSION_is_resumable/
func (s *Session) IsResumable() bool {
	a := s.mustBegin()
	defer a.end()
	return a.isResumable()
}

func (a *sessionCall) isResumable() bool { return C.SSL_SESSION_is_resumable(a.p) == 1 }

// HasTicket reports whether the session carries a ticket. A client offers the ticket in place of
// the ID.
//
// Wraps [SSL_SESSION_has_ticket].
//
// [SSL_SESSION_has_ticket]: https://docs.openssl.org/3.0/man3/SSL_SESSION_has_ticket/
func (s *Session) HasTicket() bool {
	a := s.mustBegin()
	defer a.end()
	return a.hasTicket()
}

func (a *sessionCall) hasTicket() bool { return C.SSL_SESSION_has_ticket(a.p) == 1 }

// TicketLifetimeHint returns how long the server said that it accepts the ticket.
//
// Wraps [SSL_SESSION_get_ticket_lifetime_hint].
//
// [SSL_SESSION_get_ticket_lifetime_hint]: https://docs.openssl.org/3.0/man3/SSL_SESSION_has_ticket/
func (s *Session) TicketLifetimeHint() time.Duration {
	a := s.mustBegin()
	defer a.end()
	return seconds(int64(C.SSL_SESSION_get_ticket_lifetime_hint(a.p)))
}

// MaxFragmentLength returns the record length that the two ends agreed on because the client asked
// for one ([Context.SetMaxFragmentLength]).
//
// Wraps [SSL_SESSION_get_max_fragment_length].
//
// [SSL_SESSION_get_max_fragment_length]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tlsext_max_fragment_length/
func (s *Session) MaxFragmentLength() MaxFragmentLength {
	a := s.mustBegin()
	defer a.end()
	m := MaxFragmentLength(C.SSL_SESSION_get_max_fragment_length(a.p))
	if m > MaxFragment4096 { // later versions have a number for a length that nobody asked for
		return MaxFragmentAny
	}
	return m
}

// String describes the session without its secrets.
//
// Wraps [SSL_SESSION_get_protocol_version], SSL_SESSION_get0_cipher, SSL_SESSION_get_id,
// SSL_SESSION_get_timeout, SSL_SESSION_is_resumable, SSL_SESSION_has_ticket.
//
// [SSL_SESSION_get_protocol_version]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get_protocol_version/
func (s *Session) String() string {
	attrs := s.attrs()
	words := make([]string, len(attrs))
	for i, a := range attrs {
		words[i] = a.String()
	}
	return "Session(" + strings.Join(words, " ") + ")"
}

// GoString is String: no format shows the secrets.
func (s *Session) GoString() string { return s.String() }

// LogValue describes the session to log/slog without its secrets.
//
// Wraps [SSL_SESSION_get_protocol_version], SSL_SESSION_get0_cipher, SSL_SESSION_get_id,
// SSL_SESSION_get_timeout, SSL_SESSION_is_resumable, SSL_SESSION_has_ticket.
//
// [SSL_SESSION_get_protocol_version]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get_protocol_version/
func (s *Session) LogValue() slog.Value { return slog.GroupValue(s.attrs()...) }

// attrs describes the session at one moment.
func (s *Session) attrs() []slog.Attr {
	a, err := s.begin(false)
	if err != nil {
		return []slog.Attr{slog.Bool("closed", true)}
	}
	defer a.end()
	return []slog.Attr{
		slog.String("version", a.protocolVersion().String()),
		slog.String("cipher", a.cipher().String()),
		slog.String("id", hex.EncodeToString(a.id())),
		timeAttr("time", a.time()),
		slog.Duration("timeout", a.timeout()),
		slog.Bool("resumable", a.isResumable()),
		slog.Bool("ticket", a.hasTicket()),
	}
}

// timeAttr is a time. Log formats have years of four digits and would write an error for others:
// there it is the time in seconds since 1970.
func timeAttr(key string, t time.Time) slog.Attr {
	if y := t.Year(); y < 0 || y > 9999 {
		return slog.Int64(key, t.Unix())
	}
	return slog.Time(key, t)
}
