// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include <stdlib.h>
// #include "cgo_shim.h"
import "C"

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// ErrNoSession says that a connection has no session (yet).
var ErrNoSession = errors.New("sslctx: the connection has no session")

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
	conn   net.Conn
	server bool
	hooks  *hooks     // of the context it was made from
	owner  *any       // likewise, or nil
	padded bool       // of the context, when the connection was made
	copied *hookTable // likewise: libssl copies some of these hooks

	// The locks, in the order in which they are taken.
	handshakeMu sync.Mutex // one handshake
	turnMu      sync.Mutex // one Write, which gives writeMu back when it waits for a renegotiation
	readMu      sync.Mutex // one reader of conn; guards in, readErr and plain
	writeMu     sync.Mutex // one writer to conn; guards writeErr
	mu          sync.Mutex // one crossing; guards what follows it

	handshakeErr    error           // guarded by handshakeMu
	handshakeCtx    context.Context // of the handshake that is under way, for its hooks; guarded by writeMu
	closing         atomic.Bool     // Close or Abort was called: a further Close does nothing
	transportClosed atomic.Bool     // conn was told to close, once
	cutOff          atomic.Bool     // Close cut the connection off
	inHook          atomic.Bool     // the call that has mu waits for a hook, or for the configuration locks after it
	handshakeDone   atomic.Bool
	flushPending    atomic.Bool // what ended the handshake waits for hooks, or for its turn after them
	hasWritten      atomic.Bool // data was written
	hasRead         atomic.Bool // data was read, after the handshake
	writeFailed     atomic.Bool // the last Write failed: what the peer has is not the whole
	closeNotifyMade atomic.Bool // close_notify was made: libssl takes no more data

	earlyPhase earlyPhase // guarded by handshakeMu
	keptEarly  keptData   // what a hook's panic kept from a ReadEarlyData
	earlyLeft  int        // what a client may still send; guarded by handshakeMu

	in        input
	readErr   error     // what all further reads return
	readAhead readAhead // what a Write read
	keptRead  keptData  // what a hook's panic kept from a Read; it comes before plain

	notifier notifier // rings after each crossing of a reader, when the reader leaves, and on Close and deadlines

	writeErr error        // what all further writes return
	writing  atomic.Int32 // calls of Write under way

	deadlineMu            sync.Mutex
	readDeadline          time.Time
	writeDeadline         time.Time
	readsUseWriteDeadline bool        // a Write reads conn: its deadline counts there
	closeWriteLimits      bool        // writeDeadline is CloseWrite's, not the caller's
	closeBegun            atomic.Bool // Close has begun: conn gets its last deadlines, and a Read is ErrClosed
	hookWait              *hookWait   // of the hook that is waited for, or nil
	hookEndErr            error       // why no hook is waited for any more, or nil
	prefetcher            prefetcher

	out           []byte // ciphertext on its way to conn
	lastResult    callResult
	started       bool        // the handshake has begun
	nameErr       error       // what SetServerName failed with: the name that was set before is lost
	named         bool        // a client knows whom it talks to, or was told that it need not
	host          string      // what SetServerName set
	peer          peer        // who is at the other end
	wasEarly      bool        // with early data, which libssl takes for the end of the handshake
	fatal         error       // what libssl reported as the end of the connection
	refused       error       // why the binding ended the connection, against libssl
	offered       verifiedBy  // of the session that a client offers
	sslCalls      int         // for tests
	currentTarget *hookTarget // the context that the hello hook chose
	hookEnd       func()      // as in news
	upcalls       upcalls     // what libssl asks in the middle of a crossing

	slot           handshakeSlot
	hookCtx        context.Context // of the hooks of the crossing
	handshakeBytes int             // what the peer has sent in handshakes; guarded by writeMu
}

// connRef is what a handle holds of an SSL.
type connRef struct {
	p    *C.shim_conn
	ctxs *connStates
}

func newConn(conn net.Conn, ctx *Context, server bool) (*Conn, error) {
	fn := "Client"
	if server {
		fn = "Server"
	}
	if conn == nil {
		return nil, badArgument(fn, "conn", "is nil")
	}
	owner := ctx.ownerOf() // before begin: Close forgets it
	var v contextCall
	if err := v.begin(ctx, false); err != nil {
		return nil, closedArgument(fn, "ctx")
	}
	defer v.end()
	made := C.shim_SSL_new(v.p, boolInt(server))
	if made.p == nil {
		return nil, newError("SSL_new", made.errs)
	}
	c := &Conn{conn: conn, server: server, hooks: ctx.hooks, owner: owner, padded: v.ctx.padsRecords, copied: ctx.hooks.table.Load(),
		handshakeCtx: context.Background(), hookCtx: context.Background()}
	c.adopt(connRef{made.p, &connStates{sessionCtx: v.ctx}}, forgetConn)
	return c, nil
}

// free gives an SSL back as its owner's last word, when nobody is inside any more. libssl takes a connection that was
// not shut down for a bad one. That it is not if Close came in the middle of early data, which libssl takes for the end of
// the handshake, or of a call that waited for a hook.
func (c *Conn) free(r connRef) *C.shim_event {
	failed := c.fatal != nil && !errors.Is(c.fatal, ErrClosed)
	keep := c.cutOff.Load() && !failed && (c.wasEarly || c.handshakeDone.Load())
	if !r.ctxs.rlockUntil(time.Now().Add(closeNotifyTimeout)) { // then Close does not wait for who configures the context
		go func() {
			r.ctxs.rlock()
			_ = c.runHooks(pending{events: freeSSL(r, keep)})
		}()
		return nil
	}
	return freeSSL(r, keep)
}

// forgetConn gives back an SSL that was dropped without Close: that is no judgement on its session. It must not stop the
// goroutine that gives back what else was collected.
func forgetConn(r connRef) {
	if r.ctxs.tryRLock(nil) == nil {
		dropEvents(freeSSL(r, true))
		return
	}
	go func() {
		r.ctxs.rlock()
		dropEvents(freeSSL(r, true))
	}()
}

// freeSSL gives an SSL back, and then the configuration locks, which the caller has taken.
func freeSSL(r connRef, keepSession bool) *C.shim_event {
	defer r.ctxs.runlock()
	return C.shim_SSL_free(r.p, boolInt(keepSession))
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

// SetSession sets the session that a client offers to resume, nil for none. It must come before the
// handshake: ErrHandshakeStarted. A server's Conn is an ArgumentError.
//
// The connection takes a reference of its own; s stays the caller's. SetSession publishes s. A session
// of another context, and one that has a ticket and no ID, is offered as a copy: what the
// connection does to it does not show in s.
//
// A resumed handshake shows no certificate again: the session vouches for it. So with VerifyPeer the client looks at
// the session when the handshake begins. It does not offer one that was made without a certificate or with one
// that was not found good ([Conn.VerifyResult]), whose certificate is not for the name of SetServerName, or has
// expired; then the handshake is a full one. The certificates are verified again, by
// what this context trusts now, unless the session comes from a connection of this context that verified them.
// A session that was read (ParseSession) has no chain, only the server's own certificate. If the issuer of that is not
// among the trusted, the result that is stored in the session counts: it is as good as the place where it was stored.
// With VerifyNone any session is offered.
//
// Wraps [SSL_set_session].
//
// [SSL_set_session]: https://docs.openssl.org/3.0/man3/SSL_set_session/
func (c *Conn) SetSession(s *Session) error {
	if c.server && c.state.Load() >= stateOpen {
		return badArgument("SetSession", "receiver", "is a server's")
	}
	r, err := c.beginSetup()
	if err != nil {
		return err
	}
	defer c.end(r)
	err = offer(r.p.ssl, r.ctxs.sessionCtx, s)
	if err == ErrClosed {
		return closedArgument("SetSession", "s")
	}
	if err == nil && s != nil {
		c.offered = s.verifiedBy
	}
	return err
}

// offer has an SSL of h offer s, or nothing.
func offer(ssl *C.SSL, h *ctxState, s *Session) error {
	if s == nil {
		return setSession(ssl, nil, false)
	}
	p, ok := s.enter()
	if !ok {
		return ErrClosed
	}
	defer s.leave(freeSession)
	first, foreign := s.beginPublish(h)
	if err := setSession(ssl, p, foreign != nil); err != nil {
		s.endPublish(first, nil)
		return err
	}
	s.endPublish(first, h)
	return nil
}

// setSession hands a session to libssl, or a private copy of it.
func setSession(ssl *C.SSL, p *C.SSL_SESSION, private bool) error {
	ret := C.shim_SSL_set_session(ssl, p, boolInt(private))
	if ret.n == C.SHIM_REFUSED_NO_CIPHER {
		return ErrNoCipher
	}
	return errorIf(ret.n == 1, "SSL_set_session", ret.errs)
}

// SetOptions sets options of this connection, in addition to those that are set, and returns all that are set then. At first
// they are those that its context had when the connection was made ([Context.SetOptions]). What the handshake looks at
// must be set before it. It is ErrClosed after Close.
//
// Wraps [SSL_set_options].
//
// [SSL_set_options]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_options/
func (c *Conn) SetOptions(o Option) (now Option, err error) {
	r, err := c.begin()
	if err != nil {
		return 0, err
	}
	defer c.end(r)
	return Option(C.shim_SSL_set_options(r.p, C.uint64_t(o))), nil
}

// ClearOptions clears options of this connection and returns all that are set then. It is ErrClosed after Close.
//
// Wraps [SSL_clear_options].
//
// [SSL_clear_options]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_options/
func (c *Conn) ClearOptions(o Option) (now Option, err error) {
	r, err := c.begin()
	if err != nil {
		return 0, err
	}
	defer c.end(r)
	return Option(C.shim_SSL_clear_options(r.p, C.uint64_t(o))), nil
}

// Options returns the options of this connection. It is ErrClosed after Close.
//
// Wraps [SSL_get_options].
//
// [SSL_get_options]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_options/
func (c *Conn) Options() (Option, error) {
	r, err := c.begin()
	if err != nil {
		return 0, err
	}
	defer c.end(r)
	return Option(C.shim_SSL_get_options(r.p)), nil
}

// maxServerName is libssl's TLSEXT_MAXLEN_host_name.
const maxServerName = C.TLSEXT_MAXLEN_host_name

// SetServerName sets the host that a client wants to talk to, a DNS name or an IP address. With VerifyPeer
// the server's certificate must be for it, and a handshake without a name fails with ErrNoServerName unless
// [Conn.AcceptAnyName] says otherwise. A DNS name is also sent to the server. It must come before the handshake:
// ErrHandshakeStarted.
//
// Names are taken as crypto/tls takes them. A dot at the end is not sent, and a name is the same with it and without. An
// IPv6 address may stand in brackets and have a zone, which does not count. What names nothing (only a dot, a dot at the
// front, no address in the brackets), or has more than 255 bytes, is an ArgumentError. From OpenSSL 4.0 on, so is a name
// that is no host name: one byte alone, a label of more than 63, other characters than letters, digits, "-" and "_".
//
// Of the certificate the names and addresses in its subject alternative name count, and not the common name of its
// subject; "*" stands for one whole label, and has two more behind it.
//
// libssl drops the name that it has before it looks at another. So when it refuses one, there is no handshake
// until SetServerName succeeds: it would trust any name.
//
// Wraps [SSL_set_tlsext_host_name], X509_VERIFY_PARAM_set1_host, X509_VERIFY_PARAM_set1_ip.
//
// [SSL_set_tlsext_host_name]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tlsext_servername_callback/
func (c *Conn) SetServerName(name string) error {
	host, address, err := parseHost(name)
	if err != nil {
		return err
	}
	r, err := c.beginSetup()
	if err != nil {
		return err
	}
	defer c.end(r)
	s := C.CString(host)
	defer C.free(unsafe.Pointer(s))
	ret := C.shim_SSL_set_tlsext_host_name(r.p, s, bytesPointer(address), C.size_t(len(address)))
	c.nameErr = errorIf(ret.n == 1, "SSL_set_tlsext_host_name", ret.errs)
	if ret.n == C.SHIM_REFUSED_NAME {
		c.nameErr = badArgument("SetServerName", "name", "is no host name to libssl")
	}
	c.named, c.host = ret.n == 1, host
	return c.nameErr
}

// parseHost returns a name as it is sent and compared, and its bytes if it is an address.
func parseHost(name string) (host string, address []byte, err error) {
	if err := checkString("SetServerName", "name", name); err != nil {
		return "", nil, err
	}
	host = name
	bracketed := strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")
	if bracketed {
		host = host[1 : len(host)-1]
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.WithZone("").Unmap()
		return ip.String(), ip.AsSlice(), nil
	}
	host = strings.TrimSuffix(host, ".")
	switch {
	case name == "" || host == "":
		return "", nil, badArgument("SetServerName", "name", "is empty")
	case bracketed:
		return "", nil, badArgument("SetServerName", "name", "has brackets around what is no address")
	case len(host) > maxServerName:
		return "", nil, badArgument("SetServerName", "name", "is %d bytes long, the limit is %d", len(host), maxServerName)
	case host[0] == '.' || host[len(host)-1] == '.' || strings.Contains(host, ".."):
		return "", nil, badArgument("SetServerName", "name", "has an empty label")
	}
	return host, nil, nil
}
