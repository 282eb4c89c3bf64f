// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"unsafe"
)

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
