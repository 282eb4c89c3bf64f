// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
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

// Session returns the connection's session, ErrNoSession if it has none. A client has one that resumes
// after the handshake (TLS 1.2), or after it read the server's tickets, which come with the first
// Read, or with AwaitTicket (TLS 1.3). What libssl will still write to is given as a copy: while a
// handshake runs, and in a TLS 1.3 server that has sent no ticket.
//
// Each TLS 1.3 ticket is a session of its own, and Session returns that of the last one. It is not the
// session that was resumed, which is ResumedSession, and not that of the other tickets of the
// connection, which the hook of SetNewSessionCallback hears of: who revokes a client's sessions must
// remove all of these.
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
	s, err := sessionOf(r.p.ssl, r.ctxs.sessionCtx, c.fatal != nil)
	if err == nil && c.handshakeDone.Load() {
		c.markVerified(s)
	}
	return s, err
}

// ResumedSession returns a copy of the session that the first handshake of the connection resumed, ErrNoSession
// if it was a full one, or is not that far. Session is the same one before TLS 1.3, unless the server gave the
// client a new ticket; with TLS 1.3 it is that of the new ticket, with another ID.
//
// In a server it is what was found in the cache, or what a hook gave, or what the ticket or the pre-shared
// key held. It has the ID under which the client can offer it again, except for a
// stateless ticket of TLS 1.3: there is no ID in that, and only [SessionTicket] data of the application
// tells such sessions apart. [Context.RemoveSession] of it, which goes by the ID, removes the cached object
// and ends its resumption, where the server keeps sessions and not tickets ([OpNoTicket]); a server that takes
// early data has removed it already. In a client it is what was offered. Values of [Session.SetExData] are not
// in it; the sessions of new tickets have them.
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

// sessionOf takes the session of an SSL whose home is h; broken says that its handshake failed.
func sessionOf(ssl *C.SSL, h *ctxState, broken bool) (*Session, error) {
	return ownedSession(C.shim_SSL_get1_session(ssl, boolInt(broken)), h)
}

// ownedSession makes a handle of a connection's session; the reference is its own then.
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
func (c *Conn) SessionReused() bool { return c.handshakeDone.Load() && c.lastCallResult().reused }

// Version returns the protocol that the handshake agreed on, VersionAny before.
//
// Wraps [SSL_version].
//
// [SSL_version]: https://docs.openssl.org/3.0/man3/SSL_get_version/
func (c *Conn) Version() Version {
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
	if !c.handshakeDone.Load() {
		return Cipher{}
	}
	return newCipher(C.shim_cipher_of(c.lastCallResult().cipher))
}

// NetConn returns the transport. Reading from it or writing to it breaks the connection.
func (c *Conn) NetConn() net.Conn { return c.conn }

// LocalAddr returns the transport's local address.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr returns the transport's remote address.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// ConnectionState returns what the handshake agreed on, in the form of crypto/tls: version, cipher suite, key exchange,
// resumption, application protocol, server name, the peer's certificates, the chain that they were verified by, and the
// OCSP response. Before the handshake all is zero; after Close only version, cipher suite and resumption are known.
// SignedCertificateTimestamps and TLSUnique are never set, and a resumed connection has no OCSPResponse.
//
// PeerCertificates are all that libssl has. A handshake whose certificates Go cannot read has failed (CertificateError).
// A session that was read from storage, or that came in a ticket to a server, has the peer's own certificate and not the
// others.
//
// VerifiedChains has one chain if the peer showed a certificate and it was verified because VerifyPeer or a Dialer asked
// for it, and nothing otherwise. That is so of resumed connections, too: the result is kept with the session (see
// [Conn.SetSession], [Context.SetVerify]). The chain is not: ConnectionState makes it again from what the session has and
// what the context trusts, when it is first asked. Where that is not enough (an intermediate is missing, or has expired
// since), and beyond a trusted certificate that Go cannot read, the chain is incomplete: it has the peer's certificates.
//
// The server name is what the client asked for, without a dot at its end. CurveID is 0 where libssl does not know the group: in a TLS 1.2
// server before OpenSSL 3.0.
//
// The method ExportKeyingMaterial of the result returns an error, which is crypto/tls's for a connection that may
// renegotiate: only crypto/tls can supply it. Use [Conn.ExportKeyingMaterial].
//
// Wraps [SSL_get0_alpn_selected], SSL_get_servername, SSL_get_peer_cert_chain, SSL_get0_verified_chain,
// SSL_get_tlsext_status_ocsp_resp, SSL_get_negotiated_group.
//
// [SSL_get0_alpn_selected]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_alpn_select_cb/
func (c *Conn) ConnectionState() tls.ConnectionState {
	state := emptyState()
	if !c.handshakeDone.Load() {
		return state
	}
	state.Version = uint16(c.Version())
	state.HandshakeComplete = true
	state.DidResume = c.SessionReused()
	state.CipherSuite = c.Cipher().ID
	certs, chain := c.peerCertificates() // before the locks: a pool of Go's may have to look for the chain
	r, err := c.begin()
	if err != nil {
		return state
	}
	defer c.end(r)
	state.NegotiatedProtocol = string(cloneView(C.shim_SSL_get0_alpn_selected(r.p)))
	//lint:ignore SA1019 net/http still looks at it
	state.NegotiatedProtocolIsMutual = true
	state.ServerName = c.serverName(r)
	state.CurveID = tls.CurveID(C.shim_SSL_get_negotiated_group(r.p))
	state.OCSPResponse = cloneView(C.shim_SSL_get_tlsext_status_ocsp_resp(r.p))
	state.PeerCertificates = slices.Clone(certs)
	if chain != nil {
		state.VerifiedChains = [][]*x509.Certificate{slices.Clone(chain)}
	}
	return state
}

// serverName is whom the client asks for. libssl has no name where a server resumed a session of TLS 1.2; the ClientHello
// had one.
func (c *Conn) serverName(r connRef) string {
	if n := int(r.p.asked_name_len); c.server && n > 0 {
		ext := wire(unsafe.Slice((*byte)(&r.p.asked_name[0]), n))
		return serverName(ext.vector(2))
	}
	return strings.TrimSuffix(C.GoString(C.SSL_get_servername(r.p.ssl, C.TLSEXT_NAMETYPE_host_name)), ".")
}

// emptyState is the zero state, except that its method ExportKeyingMaterial returns an error where that of the zero value
// panics. crypto/tls gives such a one to a client that allows renegotiation, before its handshake.
var emptyState = sync.OnceValue(func() tls.ConnectionState {
	never := &tls.Config{InsecureSkipVerify: true, Renegotiation: tls.RenegotiateOnceAsClient} // it never connects
	state := tls.Client(nil, never).ConnectionState()
	//lint:ignore SA1019 the zero value has it so
	state.NegotiatedProtocolIsMutual = false
	state.TLSUnique = nil
	return state
})

// randomLength is that of the randoms of every version of TLS.
const randomLength = C.SSL3_RANDOM_SIZE

// ClientRandom returns the random number of the ClientHello, 32 bytes, by which key logs name connections. It is
// all zero before the handshake. It is ErrClosed after Close.
//
// Wraps [SSL_get_client_random].
//
// [SSL_get_client_random]: https://docs.openssl.org/3.0/man3/SSL_get_client_random/
func (c *Conn) ClientRandom() ([]byte, error) {
	return c.random(func(ssl *C.SSL, out *C.uchar, n C.size_t) C.size_t {
		return C.SSL_get_client_random(ssl, out, n)
	})
}

// ServerRandom returns the random number of the ServerHello, 32 bytes, all zero before the handshake. It is
// ErrClosed after Close.
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
	r, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer c.end(r)
	random := make([]byte, randomLength)
	n := get(r.p.ssl, bytesPointer(random), randomLength)
	return random[:n], nil
}

// VerifyResult returns what libssl found when it verified the peer's certificate; of a resumed session, what it
// found when the session was made. With VerifyNone a connection goes on whatever it is. VerifyOK is also
// the result if there was no certificate to verify. It is ErrClosed after Close.
//
// Wraps [SSL_get_verify_result].
//
// [SSL_get_verify_result]: https://docs.openssl.org/3.0/man3/SSL_get_verify_result/
func (c *Conn) VerifyResult() (VerifyResult, error) {
	r, err := c.begin()
	if err != nil {
		return 0, err
	}
	defer c.end(r)
	return VerifyResult(C.SSL_get_verify_result(r.p.ssl)), nil
}

// DefaultTimeout returns for how long sessions may be resumed where [Context.SetTimeout] says nothing: 2 hours. It
// is ErrClosed after Close.
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

// SetIDContext sets the ID context of this connection's sessions in place of its context's
// ([Context.SetIDContext]), 0 to 32 bytes. A longer one is an ArgumentError. Handshakes look at it: the next one
// is a renegotiation, if it is set later.
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
	return errorIf(ret.n == 1, "SSL_set_session_id_context", ret.errs)
}

// AcceptableCAs returns the names of the authorities that the peer said it accepts certificates of, each as DER, which is
// the RawSubject of a certificate of crypto/x509: in a client those of the server's certificate request, in a server those
// that a client of TLS 1.3 sent, which few do. None at all says that the peer named none, or did not ask. They are known
// after the handshake, and until the next certificate request. It is ErrClosed after Close; want of memory is an *Error.
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
		if der, err = asn1.Unmarshal(der, &name); err != nil { // libssl wrote it
			return nil, err
		}
		names = append(names, name.FullBytes)
	}
	return names, nil
}

// ErrNoKeyingMaterial says that a connection of TLS 1.2 or before has no keying material to export that is its alone: the
// ends did not agree on the extended master secret (RFC 7627).
var ErrNoKeyingMaterial = errors.New("sslctx: keying material cannot be exported without the extended master secret")

// ExportKeyingMaterial returns length bytes that both ends of this connection, and nobody else, can make for the label
// and the context (RFC 5705, RFC 8446 section 7.5): what crypto/tls calls by the same name, and with the same result at
// both ends. A context that is nil is another one than an empty one before TLS 1.3.
//
// In TLS 1.2 and before it needs the extended master secret, otherwise it is ErrNoKeyingMaterial, as with crypto/tls: a
// peer in the middle could have the same secret with both ends. After a renegotiation the bytes are others.
//
// Before the handshake is over, for a length below 1 and for a context of more than 65535 bytes it is an ArgumentError,
// after Close ErrClosed. libssl's limits (labels that TLS itself uses, and contexts of about a kilobyte, before TLS 1.3; more
// than 255 hashes in TLS 1.3) are an *Error. The bytes are a secret.
//
// Wraps [SSL_export_keying_material].
//
// [SSL_export_keying_material]: https://docs.openssl.org/3.0/man3/SSL_export_keying_material/
func (c *Conn) ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error) {
	if c.state.Load() < stateOpen {
		return nil, ErrClosed
	}
	if err := checkInt("ExportKeyingMaterial", "length", length, 1, maxInt); err != nil {
		return nil, err
	}
	if len(context) > math.MaxUint16 { // libssl writes the length in two bytes, whatever it is
		return nil, badArgument("ExportKeyingMaterial", "context", "is %d bytes long, the limit is 65535", len(context))
	}
	r, err := c.begin()
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

// PSKIdentity returns the identity of the pre-shared key that the ends used, or "": of TLS 1.2 and before. It is ""
// after Close.
//
// Wraps [SSL_get_psk_identity].
//
// [SSL_get_psk_identity]: https://docs.openssl.org/3.0/man3/SSL_get_psk_identity/
func (c *Conn) PSKIdentity() string {
	r, err := c.begin()
	if err != nil {
		return ""
	}
	defer c.end(r)
	return C.GoString(C.SSL_get_psk_identity(r.p.ssl))
}

// PSKIdentityHint returns the identity hint that a client was told, or that a server told, or "": of TLS 1.2 and
// before. It is "" after Close.
//
// Wraps [SSL_get_psk_identity_hint].
//
// [SSL_get_psk_identity_hint]: https://docs.openssl.org/3.0/man3/SSL_get_psk_identity/
func (c *Conn) PSKIdentityHint() string {
	r, err := c.begin()
	if err != nil {
		return ""
	}
	defer c.end(r)
	return C.GoString(C.SSL_get_psk_identity_hint(r.p.ssl))
}
