// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include <stdlib.h>
// #include "cgo_shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// ErrNoSession says that a connection has no session (yet).
var ErrNoSession = errors.New("sslctx: the connection has no session")

// closeNotifyTimeout bounds how long Close waits for a peer that does not read.
const closeNotifyTimeout = 5 * time.Second

// A Conn is one reference to an SSL: one end of a TLS connection, over any net.Conn.
//
// All methods may be called from any goroutine; one Read, one Write and one Close at a time make
// progress together. A Conn that is dropped without Close is given back after garbage collection,
// and its session stays resumable.
//
// Ciphertext moves between the net.Conn and libssl through buffers that Go lends for each call into
// C: no goroutine, no thread and no descriptor is held.
type Conn struct {
	owned[connRef]
	conn net.Conn

	// The locks, in the order in which they are taken.
	handshakeMu sync.Mutex // one handshake
	readMu      sync.Mutex // one reader of conn; guards in and readErr
	writeMu     sync.Mutex // one writer to conn; guards writeErr
	mu          sync.Mutex // one crossing; guards what follows it

	handshakeErr error // guarded by handshakeMu
	done         atomic.Bool

	in      input
	readErr error // what all further reads return

	writeErr error // what all further writes return

	out         []byte // ciphertext on its way to conn
	last        crossing
	started     bool // the handshake has begun
	handshaking bool // it is under way: libssl writes to the session
	broken      bool // libssl reported a fatal error
}

// connRef is what a handle holds of an SSL.
type connRef struct {
	p *C.shim_conn
	h *home
}

// crossing is what a call into libssl came to.
type crossing struct {
	verdict int // SSL_get_error
	n       int // plaintext bytes moved
	pending bool
	partial bool
	sends   bool // there is ciphertext to send
	err     error

	version Version
	reused  bool
	cipher  *C.SSL_CIPHER
}

func newConn(conn net.Conn, ctx *Context, server bool) (*Conn, error) {
	fn := "Client"
	if server {
		fn = "Server"
	}
	if conn == nil {
		return nil, badArgument(fn, "conn", "is nil")
	}
	r, err := ctx.begin()
	if err != nil {
		return nil, err
	}
	defer ctx.end(r)
	made := C.shim_SSL_new(r.p, boolInt(server))
	if made.p == nil {
		return nil, newError("SSL_new", made.errs)
	}
	c := &Conn{conn: conn}
	r.h.users.Add(1)
	c.adopt(connRef{made.p, r.h}, collectConn)
	return c, nil
}

// freeConn gives an SSL back as its owner's last word: libssl takes a connection that was not shut down
// for a bad one.
func freeConn(r connRef) { freeSSL(r, 0) }

// collectConn gives back an SSL that was forgotten: that is no judgement on its session.
func collectConn(r connRef) { freeSSL(r, 1) }

func freeSSL(r connRef, keepSession C.int) {
	r.h.gate.RLock()
	C.shim_SSL_free(r.p, keepSession)
	r.h.gate.RUnlock()
	r.h.users.Add(-1)
}

func boolInt(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// The calls that move ciphertext.
type call int

const (
	callHandshake call = iota
	callRead
	callWrite
	callShutdown
)

func (c call) String() string {
	return [...]string{"SSL_do_handshake", "SSL_read_ex", "SSL_write_ex", "SSL_shutdown"}[c]
}

// cross is the only way into libssl for what moves ciphertext. in is what arrived, used how much of it
// libssl took; what libssl has to send is appended to c.out.
func (c *Conn) cross(what call, in []byte, eof bool, p []byte) (r crossing, used int, err error) {
	ref, ok := c.enter()
	if !ok {
		return r, 0, ErrClosed
	}
	defer c.leave(freeConn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if what == callShutdown && (c.broken || !c.done.Load()) {
		return r, 0, nil
	}
	c.reserve(what == callWrite && len(p) > smallBuffer/2)
	ref.h.gate.RLock()
	r, used = c.run(what, ref.p, in, eof, p)
	ref.h.gate.RUnlock()
	if len(c.out) == 0 { // an idle connection keeps no buffer
		putBuffer(c.out)
		c.out = nil
	}
	c.last = r
	c.started = true
	c.broken = c.broken || r.err != nil
	return r, used, nil
}

// run makes the crossing.
func (c *Conn) run(what call, s *C.shim_conn, in []byte, eof bool, p []byte) (r crossing, used int) {
	room := c.out[len(c.out):cap(c.out)]
	inP, inN := bytesPointer(in), C.size_t(len(in))
	outP, outN := bytesPointer(room), C.size_t(len(room))
	s.in_eof = boolInt(eof)
	switch what {
	case callHandshake:
		C.shim_SSL_do_handshake(s, inP, inN, outP, outN)
	case callRead:
		C.shim_SSL_read(s, inP, inN, outP, outN, bytesPointer(p), C.size_t(len(p)))
	case callWrite:
		C.shim_SSL_write(s, inP, inN, outP, outN, bytesPointer(p), C.size_t(len(p)))
	case callShutdown:
		C.shim_SSL_shutdown(s, outP, outN)
	}
	c.out = c.out[:len(c.out)+int(s.out_len)]
	r = crossing{
		verdict: int(s.verdict),
		n:       int(s.n),
		pending: s.pending != 0,
		partial: s.partial != 0,
		sends:   len(c.out) > 0,
		version: Version(s.version),
		reused:  s.reused != 0,
		cipher:  s.cipher,
	}
	if r.verdict == C.SSL_ERROR_SSL || r.verdict == C.SSL_ERROR_SYSCALL {
		r.err = crossingError(what, s.errs, eof)
		s.errs = nil
	}
	return r, int(s.in_used)
}

// crossingError makes the error of a fatal verdict. A transport that ended without close_notify is
// io.ErrUnexpectedEOF, whatever more libssl has to say.
func crossingError(what call, errs *C.shim_err, eof bool) error {
	if errs == nil && eof {
		return io.ErrUnexpectedEOF
	}
	err := newError(what.String(), errs)
	if eof && errors.Is(err, ReasonUnexpectedEOFWhileReading) {
		return fmt.Errorf("%w (%w)", io.ErrUnexpectedEOF, err)
	}
	return err
}

// reserve makes room for ciphertext in c.out.
func (c *Conn) reserve(large bool) {
	if c.out == nil {
		c.out = getBuffer(large)
	}
	if large && cap(c.out)-len(c.out) < recordRoom {
		grown := append(getBuffer(true), c.out...)
		putBuffer(c.out)
		c.out = grown
	}
}

// flush sends what libssl left in c.out; after an error it is dropped. writeMu is held.
func (c *Conn) flush() error {
	for {
		c.mu.Lock()
		out := c.out
		c.out = nil
		c.mu.Unlock()
		if len(out) == 0 {
			return c.writeErr
		}
		if c.writeErr == nil { // part of a record may be gone: nothing can follow it
			_, c.writeErr = c.conn.Write(out)
		}
		putBuffer(out)
	}
}

// unlockWrite gives writeMu back, and sends what a reader left behind because it was held.
func (c *Conn) unlockWrite() {
	for {
		c.writeMu.Unlock()
		c.mu.Lock()
		waiting := len(c.out) > 0
		c.mu.Unlock()
		if !waiting || !c.writeMu.TryLock() {
			return
		}
		_ = c.flush() // it is the next Write's error
	}
}

// flushFromRead sends what a read made libssl answer. A writer that is at it sends it too: waiting for
// that one could make both peers wait for each other. Only when libssl has no room left must it be.
func (c *Conn) flushFromRead(must bool) {
	if must {
		c.writeMu.Lock()
	} else if !c.writeMu.TryLock() {
		return
	}
	_ = c.flush() // it is the next Write's error
	c.unlockWrite()
}

// Handshake runs the handshake, if it has not run yet. Its error stays the error of the connection.
func (c *Conn) Handshake() error { return c.HandshakeContext(context.Background()) }

// HandshakeContext is Handshake until ctx is done: then the transport is closed and ctx's error is
// returned.
//
// Wraps [SSL_do_handshake].
//
// [SSL_do_handshake]: https://docs.openssl.org/3.0/man3/SSL_do_handshake/
func (c *Conn) HandshakeContext(ctx context.Context) (err error) {
	if c.state.Load() < stateOpen {
		return ErrClosed
	}
	if c.done.Load() {
		return nil
	}
	c.handshakeMu.Lock()
	defer c.handshakeMu.Unlock()
	if c.handshakeErr != nil || c.done.Load() {
		return c.handshakeErr
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
		defer func() {
			if !stop() && c.handshakeErr != nil {
				c.handshakeErr = ctx.Err()
				err = ctx.Err()
			}
		}()
	}
	c.setHandshaking(true)
	c.handshakeErr = c.handshake()
	c.setHandshaking(false)
	return c.handshakeErr
}

func (c *Conn) setHandshaking(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handshaking = on
}

func (c *Conn) handshake() error {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	c.writeMu.Lock()
	defer c.unlockWrite()
	for {
		r, used, err := c.cross(callHandshake, c.in.ready(c.lastCrossing().partial), c.in.eof, nil)
		if err != nil {
			return err
		}
		c.in.advance(used)
		flushErr := c.flush()
		switch {
		case r.err != nil:
			return r.err
		case flushErr != nil:
			return flushErr
		case r.verdict == C.SSL_ERROR_NONE:
			c.done.Store(true)
			return nil
		case r.verdict == C.SSL_ERROR_WANT_READ:
			if err := c.in.fill(c.conn); err != nil {
				return err
			}
		case r.verdict != C.SSL_ERROR_WANT_WRITE:
			return unexpectedVerdict(callHandshake, r.verdict)
		}
	}
}

// unexpectedVerdict is an error for verdicts that need callbacks which the binding does not set.
func unexpectedVerdict(what call, verdict int) error {
	return fmt.Errorf("sslctx: %v: SSL_get_error is %d", what, verdict)
}

// Read reads plaintext, after the handshake. It returns io.EOF when the peer sent close_notify, and
// io.ErrUnexpectedEOF when the transport ended without.
//
// Wraps [SSL_read_ex].
//
// [SSL_read_ex]: https://docs.openssl.org/3.0/man3/SSL_read/
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for c.readErr == nil {
		n, err := c.readBuffered(p)
		if n > 0 || err != nil {
			return n, err
		}
		if c.readErr != nil {
			break
		}
		if err := c.in.fill(c.conn); err != nil {
			return 0, err
		}
	}
	return 0, c.readErr
}

// readBuffered reads what has arrived, if there is any. A fatal verdict becomes readErr, which is what
// follows the plaintext that came before it.
func (c *Conn) readBuffered(p []byte) (int, error) {
	for {
		last := c.lastCrossing()
		in := c.in.ready(last.partial)
		if len(in) == 0 && !last.pending && !c.in.eof {
			return 0, nil
		}
		r, used, err := c.cross(callRead, in, c.in.eof, p)
		if err != nil {
			return 0, err
		}
		c.in.advance(used)
		full := r.verdict == C.SSL_ERROR_WANT_WRITE
		if r.sends || full {
			c.flushFromRead(full)
		}
		switch r.verdict {
		case C.SSL_ERROR_NONE, C.SSL_ERROR_WANT_READ:
		case C.SSL_ERROR_WANT_WRITE:
			if r.n == 0 {
				continue
			}
		case C.SSL_ERROR_ZERO_RETURN:
			c.readErr = io.EOF
		default:
			if c.readErr = r.err; r.err == nil {
				c.readErr = unexpectedVerdict(callRead, r.verdict)
			}
		}
		return r.n, nil
	}
}

func (c *Conn) lastCrossing() crossing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// Write writes plaintext, after the handshake. After an error, a timeout included, part of a record may
// be lost: all further writes fail.
//
// Wraps [SSL_write_ex].
//
// [SSL_write_ex]: https://docs.openssl.org/3.0/man3/SSL_write/
func (c *Conn) Write(p []byte) (n int, err error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	c.writeMu.Lock()
	defer c.unlockWrite()
	for len(p) > 0 {
		if c.writeErr != nil {
			return n, c.writeErr
		}
		r, _, err := c.cross(callWrite, nil, false, p)
		if err != nil {
			return n, err
		}
		if err := c.flush(); err != nil {
			return n, err
		}
		n += r.n
		p = p[r.n:]
		switch r.verdict {
		case C.SSL_ERROR_NONE, C.SSL_ERROR_WANT_WRITE:
		case C.SSL_ERROR_WANT_READ:
			c.writeErr = errRenegotiating
		default:
			if c.writeErr = r.err; r.err == nil {
				c.writeErr = unexpectedVerdict(callWrite, r.verdict)
			}
		}
	}
	return n, c.writeErr
}

var errRenegotiating = errors.New("sslctx: SSL_write_ex: the peer renegotiates")

// CloseWrite sends close_notify: the peer's Read returns io.EOF. Reading goes on.
//
// Wraps [SSL_shutdown].
//
// [SSL_shutdown]: https://docs.openssl.org/3.0/man3/SSL_shutdown/
func (c *Conn) CloseWrite() error {
	if !c.done.Load() {
		return badArgument("CloseWrite", "receiver", "has not completed its handshake")
	}
	c.writeMu.Lock()
	defer c.unlockWrite()
	r, _, err := c.cross(callShutdown, nil, false, nil)
	if err != nil {
		return err
	}
	return errors.Join(r.err, c.flush())
}

// Close sends close_notify, waiting no longer than five seconds for a peer that does not read, closes
// the transport and gives the SSL back. Reads and writes that wait return. Further calls do nothing.
//
// The session stays resumable, unless libssl reported a fatal error on the connection before.
//
// Wraps [SSL_shutdown], SSL_free.
//
// [SSL_shutdown]: https://docs.openssl.org/3.0/man3/SSL_shutdown/
func (c *Conn) Close() error {
	if _, _, err := c.cross(callShutdown, nil, false, nil); err != nil {
		return nil // it is closed
	}
	if c.writeMu.TryLock() { // a writer that holds it sends the rest, or is cut off
		_ = c.conn.SetWriteDeadline(time.Now().Add(closeNotifyTimeout))
		_ = c.flush() // the peer may be gone
		c.writeMu.Unlock()
	}
	return c.drop()
}

// Abort closes the transport without close_notify and gives the SSL back. libssl takes this for a bad
// end: the session is marked as not resumable and removed from the cache. SetQuietShutdown and Close
// end without a message and without that.
//
// Wraps [SSL_free].
//
// [SSL_free]: https://docs.openssl.org/3.0/man3/SSL_free/
func (c *Conn) Abort() error {
	if c.state.Load() < stateOpen {
		return nil
	}
	return c.drop()
}

func (c *Conn) drop() error {
	err := c.conn.Close()
	c.close(freeConn)
	if errors.Is(err, net.ErrClosed) { // by the peer's or the caller's doing, or by a context's end
		return nil
	}
	return err
}

// SetQuietShutdown sets whether Close and CloseWrite send nothing and only note that the connection
// ended well.
//
// Wraps [SSL_set_quiet_shutdown].
//
// [SSL_set_quiet_shutdown]: https://docs.openssl.org/3.0/man3/SSL_set_quiet_shutdown/
func (c *Conn) SetQuietShutdown(quiet bool) error {
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	C.SSL_set_quiet_shutdown(r.p.ssl, boolInt(quiet))
	return nil
}

// begin enters the SSL for a call that moves no ciphertext, end leaves.
func (c *Conn) begin() (connRef, error) {
	r, ok := c.enter()
	if !ok {
		return connRef{}, ErrClosed
	}
	c.mu.Lock()
	r.h.gate.RLock()
	return r, nil
}

func (c *Conn) end(r connRef) {
	r.h.gate.RUnlock()
	c.mu.Unlock()
	c.leave(freeConn)
}

// Session returns the connection's session, ErrNoSession if it has none. A client has one that resumes
// after the handshake (TLS 1.2), or after it read the server's tickets, which come with the first
// Read (TLS 1.3). While the handshake runs it is a copy.
//
// The reference is the caller's; the session belongs to the connection's context.
//
// Wraps [SSL_get1_session].
//
// [SSL_get1_session]: https://docs.openssl.org/3.0/man3/SSL_get_session/
func (c *Conn) Session() (*Session, error) {
	r, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer c.end(r)
	got := C.shim_SSL_get1_session(r.p, boolInt(c.handshaking))
	switch {
	case got.p != nil && c.handshaking:
		return adoptSession(got.p, nil), nil
	case got.p != nil:
		return adoptSession(got.p, r.h), nil
	case got.errs != nil:
		return nil, newError("SSL_SESSION_dup", got.errs)
	}
	return nil, ErrNoSession
}

// SetSession sets the session that a client offers to resume, nil for none. It must come before the
// handshake: ErrHandshakeStarted.
//
// The connection takes a reference of its own; s stays the caller's. SetSession publishes s. A session
// of another context, and one that has a ticket and no ID, is offered as a copy: what the
// connection does to it does not show in s.
//
// A resumed handshake does not look at the server's certificate again: only offer a session to the host
// it was made with.
//
// Wraps [SSL_set_session].
//
// [SSL_set_session]: https://docs.openssl.org/3.0/man3/SSL_set_session/
func (c *Conn) SetSession(s *Session) error {
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	if c.started {
		return ErrHandshakeStarted
	}
	if s == nil {
		return c.offer(r, nil, false)
	}
	p, ok := s.enter()
	if !ok {
		return ErrClosed
	}
	defer s.leave(freeSession)
	first, err := s.publish(r.h)
	err = c.offer(r, p, err != nil)
	s.settle(first, err != nil)
	return err
}

// offer hands a session to libssl, or a private copy of it.
func (c *Conn) offer(r connRef, p *C.SSL_SESSION, private bool) error {
	ret := C.shim_SSL_set_session(r.p, p, boolInt(private))
	if ret.n == C.SHIM_REFUSED_NO_CIPHER {
		return ErrNoCipher
	}
	return errorIf(ret.n == 1, "SSL_set_session", ret.errs)
}

// SetServerName sets the host that a client wants to talk to, a DNS name or an IP address. With VerifyPeer
// the server's certificate must be for it; without a name any trusted certificate will do. A DNS
// name is also sent to the server. It must come before the handshake: ErrHandshakeStarted.
//
// Wraps [SSL_set1_host], SSL_set_tlsext_host_name, X509_VERIFY_PARAM_set1_ip_asc.
//
// [SSL_set1_host]: https://docs.openssl.org/3.0/man3/SSL_set1_host/
func (c *Conn) SetServerName(name string) error {
	if name == "" {
		return badArgument("SetServerName", "name", "is empty")
	}
	if err := checkString("SetServerName", "name", name); err != nil {
		return err
	}
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	if c.started {
		return ErrHandshakeStarted
	}
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	ret := C.shim_SSL_set1_host(r.p, s)
	return errorIf(ret.n == 1, "SSL_set1_host", ret.errs)
}

// SessionReused reports whether the handshake resumed a session. It is false before the handshake.
//
// Wraps [SSL_session_reused].
//
// [SSL_session_reused]: https://docs.openssl.org/3.0/man3/SSL_session_reused/
func (c *Conn) SessionReused() bool { return c.done.Load() && c.lastCrossing().reused }

// Version returns the protocol that the handshake agreed on, VersionAny before.
//
// Wraps [SSL_version].
//
// [SSL_version]: https://docs.openssl.org/3.0/man3/SSL_get_version/
func (c *Conn) Version() Version {
	if !c.done.Load() {
		return VersionAny
	}
	return c.lastCrossing().version
}

// Cipher returns the cipher suite that the handshake agreed on, the zero Cipher before.
//
// Wraps [SSL_get_current_cipher].
//
// [SSL_get_current_cipher]: https://docs.openssl.org/3.0/man3/SSL_get_current_cipher/
func (c *Conn) Cipher() Cipher {
	if !c.done.Load() {
		return Cipher{}
	}
	return newCipher(C.shim_cipher_of(c.lastCrossing().cipher))
}

// NetConn returns the transport. Reading from it or writing to it breaks the connection.
func (c *Conn) NetConn() net.Conn { return c.conn }

// LocalAddr returns the transport's local address.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr returns the transport's remote address.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// SetDeadline sets the transport's deadlines. After a write has timed out all further writes fail.
func (c *Conn) SetDeadline(t time.Time) error { return c.conn.SetDeadline(t) }

// SetReadDeadline sets the transport's deadline for reads.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// SetWriteDeadline sets the transport's deadline for writes. After a write has timed out all further
// writes fail.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }
