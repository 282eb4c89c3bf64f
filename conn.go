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
// Ciphertext moves between the net.Conn and libssl through buffers of Go's, which each call lends
// to C. A Conn holds no goroutine, no thread and no descriptor.
//
// After Close, methods with an error result return ErrClosed; only Close and Abort return nil. The
// results of the handshake and the addresses stay: ConnectionState, Version, Cipher, SessionReused,
// EarlyDataStatus, PSKIdentity, PSKIdentityHint, NetConn, LocalAddr, RemoteAddr and String answer
// as before. The other methods without an error result, MaxEarlyData and RecvMaxEarlyData, panic.
// On a nil or zero Conn all methods without an error result panic, except String, GoString and
// Format.
type Conn struct {
	owned[connRef]
	conn   net.Conn
	server bool
	hooks  *hooks // of the context it was made from
	owner  *any   // likewise, or nil
	padded bool   // of the context, when the connection was made
	// Likewise: libssl has copied the configuration of this moment.
	maxFragment MaxFragmentLength
	configured  uint64
	// hooksWhenMade are the hooks of the context when the connection was made. libssl copies its
	// callbacks for pre-shared keys and early data then: later ones of the context do not count.
	hooksWhenMade *hookTable

	// The locks, in the order in which they are taken.
	earlyReadMu sync.Mutex // one ReadEarlyData, which waits for the transport without handshakeMu
	handshakeMu sync.Mutex // one handshake
	turnMu      waitMutex  // one Write, which gives writeMu back when it waits for a renegotiation
	readMu      sync.Mutex // one reader of conn; guards in, readErr and readAhead
	writeMu     waitMutex  // one writer to conn; guards writeErr
	mu          waitMutex  // one call into libssl; guards the fields from out on

	handshakeErr    error           // guarded by handshakeMu
	handshakeCtx    context.Context // of the handshake that is under way, for its hooks; guarded by writeMu
	closing         atomic.Bool     // Close or Abort was called: a further Close does nothing
	backgroundClose atomic.Bool     // Close does not wait for the peer
	transportClosed atomic.Bool     // conn.Close was called
	cutOff          atomic.Bool     // Close cut the connection off
	inHook          atomic.Bool     // the call that has mu waits for a hook, or after it for the configuration locks
	handshakeDone   atomic.Bool
	flushPending    atomic.Bool   // the last flight of the handshake is not sent yet: it waits for hooks
	hasWritten      atomic.Bool   // data was written
	hasRead         atomic.Bool   // data was read, after the handshake
	askedPeer       atomic.Bool   // libssl of the peer must answer, or had to
	failedWrites    atomic.Uint64 // how many Writes failed; and how many before a Write that did not
	forgivenWrites  atomic.Uint64
	closeNotifyMade atomic.Bool // close_notify was made: libssl takes no more data
	refusedPeer     atomic.Bool // refused is set because of the peer's certificate

	keeper    atomic.Pointer[sessionKeeper] // of a client that has a ClientSessionCache
	idContext string                        // of SetIDContext; guarded by mu

	earlyPhase   earlyPhase // guarded by handshakeMu
	wasEarlyRead bool       // a server has read early data; guarded by handshakeMu
	keptEarly    keptData   // what a hook's panic kept from a ReadEarlyData
	earlyLeft    int        // what a client may still send; guarded by handshakeMu

	in        input
	readErr   error     // what all further reads return
	readAhead readAhead // what a Write read
	keptRead  keptData  // what a hook's panic kept from a Read; it comes before readAhead

	notifier notifier // rings after each call of a reader into libssl, when the reader leaves, and on Close, deadlines and the end of a hook

	writeErr  error       // what all further writes return; guarded by writeMu
	unsent    []byte      // output that met a timeout, in front of out; guarded by writeMu
	hasUnsent atomic.Bool // there is some
	outWaits  atomic.Bool // out has some

	unsentData atomic.Bool // it may have data of a Write

	writing atomic.Int32 // calls of Write under way

	deadlineMu            sync.Mutex
	readDeadline          time.Time
	writeDeadline         time.Time
	applyRead, applyWrite waitMutex   // one call that sets the transport's deadline for reads, or for writes
	closeRead, closeWrite time.Time   // the transport's deadlines once Close has begun
	closeEnd              time.Time   // likewise, when the waits of Close end
	readsUseWriteDeadline bool        // a Write reads conn: its deadline counts there
	closeWriteLimits      bool        // writeDeadline is CloseWrite's, not the caller's
	closeBegun            atomic.Bool // Close has begun: conn gets its last deadlines, and a Read is ErrClosed
	hookWaits             []*hookWait // the waits for hooks
	hookEndErr            error       // why no hook is waited for any more, or nil
	prefetcher            prefetcher

	resultMu   sync.Mutex // guards the next three; held for a moment only
	lastResult callResult
	agreed     *agreed // what else the handshake agreed on, for the time after Close
	lastPeer   peer    // as peer, for the time after Close

	currentTarget atomic.Pointer[hookTarget] // the context that the hello hook chose, or nil

	out          []byte       // ciphertext on its way to conn
	started      bool         // the handshake has begun
	nameErr      error        // what SetServerName failed with: the name that was set before is lost
	named        bool         // a client has a server name, or AcceptAnyName was called
	host         string       // what SetServerName set
	peer         peer         // who is at the other end
	wasEarly     bool         // there was early data; libssl then takes the handshake for done
	fatal        error        // what libssl reported as the end of the connection
	fatalByClose bool         // Close had ended the hook that libssl waited for
	search       *chainSearch // the last for the peer's chain, or nil
	samePeer     bool         // the server must show the same certificate in each handshake
	dialed       bool         // a Dialer made the connection
	refused      error        // why the binding ended the connection although libssl did not
	offered      verifiedBy   // of the session that a client offers
	sslCalls     int          // for tests
	hookEnd      func()       // as in pending
	upcalls      upcalls      // what libssl asks in the middle of a call

	slot           handshakeSlot
	hookCtx        context.Context // for the hooks of the call
	helloAnswered  bool            // the hooks for the ClientHello have answered; guarded by writeMu
	handshakeBytes int             // what the peer has sent in handshakes; guarded by writeMu
}

// connRef is what a handle holds of an SSL.
type connRef struct {
	p    *C.shim_conn
	ctxs *connStates
}

// newConn makes a connection. If the Context is that of a tls.Config, the connection follows the
// rules of crypto/tls: a client verifies the server, whatever servers ask of their clients, a server
// does not renegotiate, and the peer stays the same.
func newConn(done context.Context, fn string, conn net.Conn, from *Context, server bool) (*Conn, error) {
	c, err := makeConn(done, fn, conn, from, server)
	if err != nil || !from.likeTLS {
		return c, err
	}
	c.samePeer = true
	if server {
		_, err = c.SetOptions(OpNoRenegotiation)
	} else {
		err = c.SetVerify(VerifyPeer)
	}
	if !server && err == nil {
		err = c.sendFittingCertificate()
	}
	return c, err
}

// sendFittingCertificate has a client send its certificate only to a server that names no authorities, or one of
// the certificate's.
func (c *Conn) sendFittingCertificate() error {
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	C.shim_SSL_set_cert_cb(r.p)
	return nil
}

// makeConn waits for a call that configures the Context, until done ends.
func makeConn(done context.Context, fn string, conn net.Conn, from *Context, server bool) (*Conn, error) {
	if conn == nil {
		return nil, badArgument(fn, "conn", "is nil")
	}
	owner := from.ownerOf() // before begin: Close forgets it
	var v contextCall
	if err := v.beginUntil(done, from); err == ErrClosed {
		return nil, closedArgument(fn, "c")
	} else if err != nil {
		return nil, err
	}
	defer v.end()
	if err := from.checkRole(fn, server); err != nil {
		return nil, err
	}
	made := C.shim_SSL_new(v.p, boolInt(server))
	if made.p == nil {
		return nil, newError("SSL_new", made.errs)
	}
	c := &Conn{conn: conn, server: server, hooks: from.hooks, owner: owner, padded: v.ctx.padsRecords, idContext: v.ctx.idContext, hooksWhenMade: from.hooks.table.Load(),
		maxFragment: v.ctx.maxFragment, configured: v.ctx.configured.Load(), peer: peer{trust: v.ctx.trustLosses.Load()}, handshakeCtx: context.Background(), hookCtx: context.Background()}
	c.mu.init()
	c.turnMu.init()
	c.writeMu.init()
	c.applyRead.init()
	c.applyWrite.init()
	c.adopt(connRef{made.p, &connStates{sessionCtx: v.ctx}}, forgetConn)
	return c, nil
}

// free gives an SSL back. No call is inside any more. libssl marks the session of a connection that
// was not shut down as not resumable. That would be wrong where Close came in the middle of early
// data or of a hook: the session is kept then. free waits until a time for a call that configures
// the context. Then a goroutine frees the SSL later, and drops the panics of hooks.
func (c *Conn) free(r connRef, until time.Time) *C.shim_event {
	failed := c.fatal != nil && !c.fatalByClose
	keep := c.cutOff.Load() && !failed && (c.wasEarly || c.handshakeDone.Load())
	if r.ctxs.rlockUntil(until) {
		return freeSSL(r, keep)
	}
	go func() {
		r.ctxs.rlock()
		_ = catchPanic(func() { _ = c.runHooks(pending{events: freeSSL(r, keep)}) })
	}()
	return nil
}

// forgetConn gives back an SSL that was dropped without Close. Its session stays resumable.
// forgetConn never waits: the runtime calls it on the goroutine of all cleanups.
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

// freeSSL gives an SSL back, and then the configuration locks, which the caller holds.
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
// The connection takes a reference of its own; s stays the caller's. SetSession publishes s. A
// session of another context is offered as a copy, and so is one that has a ticket and no ID:
// changes that the connection makes do not show in s.
//
// A resumed handshake shows no certificate: the session stands for it. So with VerifyPeer the
// client checks the session when the handshake begins, and makes a full handshake if a check fails.
// The session must have a certificate that was verified ([Conn.VerifyResult]), that is for the name
// of SetServerName, and that has not expired. The certificates are verified again by what this
// context trusts now, unless a connection of this context made the session and verified them. A
// session from [ParseSession] has no chain, only the server's own certificate. If this context does
// not trust the issuer of that certificate, the result that the session stores counts: whoever can
// write that storage can forge it. With VerifyNone any session is offered.
//
// Wraps [SSL_set_session].
//
// [SSL_set_session]: https://docs.openssl.org/3.0/man3/SSL_set_session/
func (c *Conn) SetSession(s *Session) error {
	if c.isOpen() && c.server {
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

// offer sets the session that an SSL of h offers; nil is none.
func offer(ssl *C.SSL, h *ctxState, s *Session) error {
	if s == nil {
		return setSession(ssl, nil, false)
	}
	p, ok := s.enter()
	if !ok {
		return ErrClosed
	}
	defer s.leave(freeSession)
	first, other := s.beginPublish(h)
	if err := setSession(ssl, p, other != nil); err != nil {
		s.endPublish(first, nil)
		return err
	}
	s.endPublish(first, h)
	return nil
}

// setSession passes a session to libssl, or a copy that nobody else has.
func setSession(ssl *C.SSL, p *C.SSL_SESSION, private bool) error {
	ret := C.shim_SSL_set_session(ssl, p, boolInt(private))
	if ret.n == C.SHIM_REFUSED_NO_CIPHER {
		return ErrNoCipher
	}
	return errorIf(ret.n == 1, "SSL_set_session", ret.errs)
}

// SetOptions adds options to those of this connection, and returns all that are set then. A new
// connection has the options of its context ([Context.SetOptions]). Options for the handshake must
// be set before it. It returns ErrClosed after Close.
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

// ClearOptions clears options of this connection, and returns all that are set then. It returns
// ErrClosed after Close.
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

// Options returns the options of this connection. It returns ErrClosed after Close.
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

// SetServerName sets the host that a client wants to talk to, a DNS name or an IP address. With
// VerifyPeer the server's certificate must be for it, and a handshake without a name fails with
// ErrNoServerName unless [Conn.AcceptAnyName] says otherwise. A DNS name is also sent to the
// server. It must come before the handshake: ErrHandshakeStarted.
//
// Names mean what they mean in crypto/tls, except that a label may begin with "-". A dot at the end
// is dropped. An IPv6 address may stand in brackets, and its zone is dropped. An empty label,
// brackets without an address in them, and a name of more than 255 bytes are an ArgumentError. From
// OpenSSL 4.0 on, so is a name that is no host name: one byte alone, a label of more than 63 bytes,
// characters other than letters, digits, "-" and "_".
//
// The name is compared with the certificate's subject alternative names, never with the common name
// of its subject. A "*" stands for one whole label, and at least two labels must follow it.
//
// libssl drops the old name before it checks the new one. So after an error every handshake fails
// until SetServerName succeeds: without a name it would trust any server.
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

// parseHost returns a name as it is sent and compared, and the bytes of an address.
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
