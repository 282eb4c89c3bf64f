// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// Session returns the connection's session, or ErrNoSession. A client's session can resume after
// the handshake (TLS 1.2), or after the client has read the server's tickets (TLS 1.3), which come
// with the first Read or with AwaitTicket. Session returns a copy while libssl may still write to
// the session: in a handshake, and in a TLS 1.3 server that has sent no ticket.
//
// In TLS 1.3 each ticket is a session of its own. Session returns that of the last ticket, not the
// one that was resumed, which is ResumedSession. The hook of SetNewSessionCallback gets the
// sessions of all tickets: to revoke a client's sessions, remove all of these.
//
// After the binding has refused the peer, as with ErrPeerChanged, it returns that error.
//
// The reference is the caller's; the session belongs to the connection's context.
//
// Wraps [SSL_get1_session].
//
// [SSL_get1_session]: https://docs.openssl.org/3.0/man3/SSL_get_session/
func (c *Conn) Session() (*Session, error) {
	r, err := c.beginUnlessRefused()
	if err != nil {
		return nil, err
	}
	defer c.end(r)
	s, err := sessionOf(r.p.ssl, r.ctxs.sessionCtx, c.fatal != nil)
	if err == nil && c.handshakeDone.Load() {
		c.markVerified(s)
	}
	return s, err
}

// ResumedSession returns a copy of the session that the first handshake of the connection resumed.
// It returns ErrNoSession if that handshake was a full one, or has not come that far. Before TLS
// 1.3 Session returns the same session, unless the server sent a new ticket. In TLS 1.3 Session
// returns that of the new ticket, with another ID.
//
// In a server it comes from the cache, a hook, the ticket or the pre-shared key. It has the ID
// under which the client can offer it again. A stateless ticket of TLS 1.3 has no ID: only
// application data ([SessionTicket]) tells such sessions apart. [Context.RemoveSession] goes by the
// ID. So it removes the cached object and ends its resumption where the server keeps sessions
// instead of tickets ([OpNoTicket]); a server that accepts early data has removed it already. In a
// client it is the offered session. Values of [Session.SetExData] are not in it; the sessions of
// new tickets have them.
//
// The reference is the caller's.
//
// Wraps [SSL_session_reused].
//
// [SSL_session_reused]: https://docs.openssl.org/3.0/man3/SSL_session_reused/
func (c *Conn) ResumedSession() (*Session, error) {
	r, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer c.end(r)
	return ownedSession(C.shim_SSL_get1_resumed_session(r.p), r.ctxs.sessionCtx)
}

// sessionOf takes the session of an SSL of h; broken says that the handshake failed.
func sessionOf(ssl *C.SSL, h *ctxState, broken bool) (*Session, error) {
	return ownedSession(C.shim_SSL_get1_session(ssl, boolInt(broken)), h)
}

// ownedSession makes a handle of a connection's session, with a reference of its own.
func ownedSession(got C.shim_session, h *ctxState) (*Session, error) {
	switch {
	case got.p == nil && got.errs == nil:
		return nil, ErrNoSession
	case got.p == nil:
		return nil, newError("SSL_SESSION_dup", got.errs)
	case got.copied != 0:
		return adoptSession(got.p, nil), nil
	}
	return adoptSession(got.p, h), nil
}

// SessionReused reports whether the handshake resumed a session. It is false before the handshake.
//
// Wraps [SSL_session_reused].
//
// [SSL_session_reused]: https://docs.openssl.org/3.0/man3/SSL_session_reused/
func (c *Conn) SessionReused() bool {
	c.mustExist()
	return c.handshakeDone.Load() && c.lastCallResult().reused
}

// Version returns the protocol version that the handshake agreed on, VersionAny before.
//
// Wraps [SSL_version].
//
// [SSL_version]: https://docs.openssl.org/3.0/man3/SSL_get_version/
func (c *Conn) Version() Version {
	c.mustExist()
	if !c.handshakeDone.Load() {
		return VersionAny
	}
	return c.lastCallResult().version
}

// Cipher returns the cipher suite that the handshake agreed on, the zero Cipher before.
//
// Wraps [SSL_get_current_cipher].
//
// [SSL_get_current_cipher]: https://docs.openssl.org/3.0/man3/SSL_get_current_cipher/
func (c *Conn) Cipher() Cipher {
	c.mustExist()
	if !c.handshakeDone.Load() {
		return Cipher{}
	}
	r := c.lastCallResult()
	return r.cipherSuite()
}

func (r *callResult) cipherSuite() Cipher { return newCipher(C.shim_cipher_of(r.cipher)) }

// NetConn returns the transport. To read from it or to write to it breaks the connection.
func (c *Conn) NetConn() net.Conn {
	c.mustExist()
	return c.conn
}

// LocalAddr returns the transport's local address.
func (c *Conn) LocalAddr() net.Addr { return c.NetConn().LocalAddr() }

// RemoteAddr returns the transport's remote address.
func (c *Conn) RemoteAddr() net.Addr { return c.NetConn().RemoteAddr() }

// ConnectionState returns the results of the handshake in the form of crypto/tls: version, cipher
// suite, key exchange, resumption, application protocol, server name, the peer's certificates,
// their verified chain, and the OCSP response. Before the handshake all fields are zero. A server that
// has read early data ([Conn.ReadEarlyData]) has them before its handshake is over, but for the
// certificates and HandshakeComplete: the client has proved nothing, and may be a replay.
// SignedCertificateTimestamps, TLSUnique and HelloRetryRequest are never set, and a resumed
// connection has no OCSPResponse.
//
// PeerCertificates has all certificates that libssl has. If Go cannot read one, the handshake has
// failed (CertificateError). A session from storage, and one from a server's ticket, has only the
// peer's own certificate.
//
// VerifiedChains has one chain if the peer showed a certificate and VerifyPeer or a Dialer verified
// it. Otherwise it is empty. The same holds for a resumed connection: the session keeps the result
// (see [Conn.SetSession], [Context.SetVerify]). It does not keep the chain. The first call of
// ConnectionState makes the chain again from the session's certificates and those that the context
// trusts. If an intermediate is missing or has expired, or Go cannot read a trusted certificate,
// the chain is incomplete: it has the peer's certificates. It is also incomplete if the first call
// comes after Close; all else is the same then. A CertPool may have constraints, which run then, on
// another goroutine. If one panics, the chain is incomplete. ConnectionState waits for them until
// Close, until a deadline passes, or until they have run for a second, and for 50 ms at least. Until
// they have returned, the chain is incomplete.
//
// The application protocol is that of the first handshake, also after a renegotiation (TLS 1.2): all
// else is then that of the last one. The server name is the one that the client sent, without a dot
// at its end. CurveID is 0 in a TLS 1.2 server before OpenSSL 3.0, which does not know the group.
//
// The method ExportKeyingMaterial of the result always returns an error, since only crypto/tls can
// provide it. Use [Conn.ExportKeyingMaterial].
//
// Wraps [SSL_get0_alpn_selected], SSL_get_servername, SSL_get_tlsext_status_ocsp_resp,
// SSL_get_negotiated_group.
//
// [SSL_get0_alpn_selected]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_alpn_select_cb/
func (c *Conn) ConnectionState() tls.ConnectionState {
	c.mustExist()
	if c.handshakeDone.Load() {
		return c.handshakeState()
	}
	r, _, a := c.outcome()
	if a == nil || !a.early {
		return emptyState()
	}
	return a.state(&r)
}

// handshakeState is ConnectionState for a handshake that libssl has completed.
func (c *Conn) handshakeState() tls.ConnectionState {
	r, p, a := c.outcome()
	if a == nil { // before libssl has ended a handshake
		a = c.agreement()
	}
	state := a.state(&r)
	state.HandshakeComplete = true
	state.PeerCertificates = slices.Clone(p.certs)
	if chain := c.verifiedChain(p); chain != nil {
		state.VerifiedChains = [][]*x509.Certificate{slices.Clone(chain)}
	}
	return state
}

// state returns the state of a connection, without its peer.
func (a *agreed) state(r *callResult) tls.ConnectionState {
	state := emptyState()
	state.Version = uint16(r.version)
	state.DidResume = r.reused
	state.CipherSuite = r.cipherSuite().ID
	state.NegotiatedProtocol = a.protocol
	//lint:ignore SA1019 net/http still looks at it
	state.NegotiatedProtocolIsMutual = true
	state.ServerName = a.serverName
	state.CurveID = a.curve
	state.OCSPResponse = bytes.Clone(a.ocspResponse)
	return state
}

// agreed is what a handshake agreed on, beside what each callResult has.
type agreed struct {
	early        bool // the first was noted with early data, before the end of the handshake
	protocol     string
	serverName   string
	curve        tls.CurveID
	ocspResponse []byte
	pskIdentity  string
	pskHint      string
}

// noted copies what shim_note_agreed has written down. c.mu is held.
func (c *Conn) noted(p *C.shim_conn) *agreed {
	return &agreed{
		early:        p.finished == 0,
		protocol:     string(cloneView(p.agreed_alpn)),
		serverName:   c.serverName(p),
		curve:        tls.CurveID(p.agreed_group),
		ocspResponse: cloneView(p.agreed_ocsp),
		pskIdentity:  C.GoString(p.agreed_psk),
		pskHint:      C.GoString(p.agreed_psk_hint),
	}
}

// agreement returns what the last complete handshake agreed on, and in the first one what libssl
// says now. In a later one that is what the peer claims.
func (c *Conn) agreement() *agreed {
	r, err := c.begin()
	if err == nil {
		defer c.end(r)
		if r.p.finished == 0 {
			C.shim_note_agreed(r.p)
			return c.noted(r.p)
		}
	}
	_, _, a := c.outcome()
	if a == nil {
		return new(agreed)
	}
	return a
}

// serverName returns the name that the client sent. When a server resumed a TLS 1.2 session, libssl
// does not know it; then it comes from the ClientHello.
func (c *Conn) serverName(p *C.shim_conn) string {
	if n := int(p.asked_name_len); c.server && n > 0 {
		ext := wire(unsafe.Slice((*byte)(&p.sent_name[0]), n))
		return serverName(ext.vector(2))
	}
	return strings.TrimSuffix(C.GoString(p.agreed_name), ".")
}

// emptyState is the zero state, but its method ExportKeyingMaterial returns an error, where that of
// the zero value panics. crypto/tls gives this state to a client that allows renegotiation, before
// its handshake.
var emptyState = sync.OnceValue(func() tls.ConnectionState {
	never := &tls.Config{InsecureSkipVerify: true, Renegotiation: tls.RenegotiateOnceAsClient} // this client never connects
	state := tls.Client(nil, never).ConnectionState()
	//lint:ignore SA1019 the zero value has the same
	state.NegotiatedProtocolIsMutual = false
	state.TLSUnique = nil
	return state
})

// randomLength is the length of the random numbers in every version of TLS.
const randomLength = C.SSL3_RANDOM_SIZE

// ClientRandom returns the random number of the ClientHello, 32 bytes, all zero before the
// handshake. Key logs name connections by it. After Close it returns ErrClosed. After the binding
// has refused the peer, as with ErrPeerChanged, it returns that error.
//
// Wraps [SSL_get_client_random].
//
// [SSL_get_client_random]: https://docs.openssl.org/3.0/man3/SSL_get_client_random/
func (c *Conn) ClientRandom() ([]byte, error) {
	return c.random(func(ssl *C.SSL, out *C.uchar, n C.size_t) C.size_t {
		return C.SSL_get_client_random(ssl, out, n)
	})
}

// ServerRandom returns the random number of the ServerHello, 32 bytes, all zero before the
// handshake. After Close it returns ErrClosed. After the binding has refused the peer, as with
// ErrPeerChanged, it returns that error.
//
// Wraps [SSL_get_server_random].
//
// [SSL_get_server_random]: https://docs.openssl.org/3.0/man3/SSL_get_client_random/
func (c *Conn) ServerRandom() ([]byte, error) {
	return c.random(func(ssl *C.SSL, out *C.uchar, n C.size_t) C.size_t {
		return C.SSL_get_server_random(ssl, out, n)
	})
}

func (c *Conn) random(get func(*C.SSL, *C.uchar, C.size_t) C.size_t) ([]byte, error) {
	r, err := c.beginUnlessRefused()
	if err != nil {
		return nil, err
	}
	defer c.end(r)
	random := make([]byte, randomLength)
	n := get(r.p.ssl, bytesPointer(random), randomLength)
	return random[:n], nil
}

// VerifyResult returns libssl's result for the peer's certificate; for a resumed session, the
// result when the session was made. With VerifyNone the connection continues with any result.
// Without a certificate the result is VerifyOK, too. After Close it returns ErrClosed. After the
// binding has refused the peer, as with ErrPeerChanged, it returns that error.
//
// Wraps [SSL_get_verify_result].
//
// [SSL_get_verify_result]: https://docs.openssl.org/3.0/man3/SSL_get_verify_result/
func (c *Conn) VerifyResult() (VerifyResult, error) {
	r, err := c.beginUnlessRefused()
	if err != nil {
		return 0, err
	}
	defer c.end(r)
	return VerifyResult(C.shim_SSL_get_verify_result(r.p)), nil
}

// DefaultTimeout returns how long sessions may be resumed without [Context.SetTimeout]: 2 hours.
// After Close it returns ErrClosed.
//
// Wraps [SSL_get_default_timeout].
//
// [SSL_get_default_timeout]: https://docs.openssl.org/3.0/man3/SSL_get_default_timeout/
func (c *Conn) DefaultTimeout() (time.Duration, error) {
	r, err := c.begin()
	if err != nil {
		return 0, err
	}
	defer c.end(r)
	return seconds(int64(C.SSL_get_default_timeout(r.p.ssl))), nil
}

// SetIDContext sets the ID context of this connection's sessions, 0 to 32 bytes, in place of its
// context's ([Context.SetIDContext]). A longer one is an ArgumentError. It takes effect in the next
// handshake: after the first, that is a renegotiation.
//
// Wraps [SSL_set_session_id_context].
//
// [SSL_set_session_id_context]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_session_id_context/
func (c *Conn) SetIDContext(id []byte) error {
	if err := checkID("SetIDContext", id); err != nil {
		return err
	}
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	ret := C.shim_SSL_set_session_id_context(r.p, bytesPointer(id), C.size_t(len(id)))
	if ret.n == 1 {
		c.idContext = string(id)
	}
	return errorIf(ret.n == 1, "SSL_set_session_id_context", ret.errs)
}

// AcceptableCAs returns the names of the authorities that the peer accepts, each as DER, as
// RawSubject of crypto/x509 is. A client has those of the server's certificate request. A server
// has those of a TLS 1.3 client, few of which send any. The list is empty if the peer named none or
// did not ask. It is set after the handshake, until the next certificate request. After Close it
// returns ErrClosed, without memory an *Error, and if a peer's name is no DER the error of
// encoding/asn1.
//
// Wraps [SSL_get0_peer_CA_list].
//
// [SSL_get0_peer_CA_list]: https://docs.openssl.org/3.0/man3/SSL_CTX_set0_CA_list/
func (c *Conn) AcceptableCAs() ([][]byte, error) {
	r, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer c.end(r)
	got := C.shim_SSL_get0_peer_CA_list(r.p)
	if got.p == nil && got.errs == nil {
		return nil, nil
	}
	der, err := takeBytes("SSL_get0_peer_CA_list", got)
	if err != nil {
		return nil, err
	}
	var names [][]byte
	for len(der) > 0 {
		var name asn1.RawValue
		if der, err = asn1.Unmarshal(der, &name); err != nil { // libssl keeps a name as the peer sent it
			return nil, err
		}
		names = append(names, name.FullBytes)
	}
	return names, nil
}

// ErrNoKeyingMaterial says that a connection of TLS 1.2 or before has no keying material of its own
// to export: the ends did not agree on the extended master secret (RFC 7627).
var ErrNoKeyingMaterial = errors.New("sslctx: keying material cannot be exported without the extended master secret")

// ExportKeyingMaterial returns length bytes that only the two ends of this connection can make for
// the label and the context (RFC 5705, RFC 8446 section 7.5). crypto/tls has it under the same
// name, with the same result. Before TLS 1.3 a nil context and an empty one give different results.
//
// In TLS 1.2 and before it needs the extended master secret, since without it a peer in the middle
// can have the same secret with both ends. Otherwise it returns ErrNoKeyingMaterial, as in
// crypto/tls an error. After a renegotiation the bytes are different.
//
// It returns an ArgumentError before the handshake is over, for a length below 1 and for a context
// of more than 65535 bytes, and ErrClosed after Close. After the binding has refused the peer, as
// with ErrPeerChanged, it returns that error. libssl's own limits are an *Error: before
// TLS 1.3 labels that TLS itself uses and contexts of about a kilobyte, in TLS 1.3 more than 255
// hashes. The bytes are a secret.
//
// Wraps [SSL_export_keying_material].
//
// [SSL_export_keying_material]: https://docs.openssl.org/3.0/man3/SSL_export_keying_material/
func (c *Conn) ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error) {
	if !c.isOpen() {
		return nil, ErrClosed
	}
	if err := checkInt("ExportKeyingMaterial", "length", length, 1, maxInt); err != nil {
		return nil, err
	}
	if len(context) > math.MaxUint16 { // libssl writes the length in two bytes without a check
		return nil, badArgument("ExportKeyingMaterial", "context", "is %d bytes long, the limit is 65535", len(context))
	}
	r, err := c.beginUnlessRefused()
	if err != nil {
		return nil, err
	}
	defer c.end(r)
	if !c.handshakeDone.Load() {
		return nil, badArgument("ExportKeyingMaterial", "receiver", "has not completed its handshake")
	}
	out := make([]byte, length)
	// The label need not end with a zero byte.
	ret := C.shim_SSL_export_keying_material(r.p, bytesPointer(out), C.size_t(length),
		(*C.char)(unsafe.Pointer(unsafe.StringData(label))), C.size_t(len(label)),
		bytesPointer(context), C.size_t(len(context)), boolInt(context != nil))
	if ret.n == C.SHIM_REFUSED_NO_EXTMS {
		return nil, ErrNoKeyingMaterial
	}
	if err := errorIf(ret.n == 1, "SSL_export_keying_material", ret.errs); err != nil {
		return nil, err
	}
	return out, nil
}

// PSKIdentity returns the identity of the pre-shared key of a connection of TLS 1.2 or before, or
// "".
//
// Wraps [SSL_get_psk_identity].
//
// [SSL_get_psk_identity]: https://docs.openssl.org/3.0/man3/SSL_get_psk_identity/
func (c *Conn) PSKIdentity() string {
	c.mustExist()
	return c.agreement().pskIdentity
}

// PSKIdentityHint returns the identity hint that the server sent (TLS 1.2 and before), or "".
//
// Wraps [SSL_get_psk_identity_hint].
//
// [SSL_get_psk_identity_hint]: https://docs.openssl.org/3.0/man3/SSL_get_psk_identity/
func (c *Conn) PSKIdentityHint() string {
	c.mustExist()
	return c.agreement().pskHint
}
