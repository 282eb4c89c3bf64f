// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"unsafe"
)

// ConnectionState returns what the handshake agreed on, in the form of crypto/tls: version, cipher suite,
// resumption, application protocol, server name, the peer's certificates, the chain that libssl
// verified them by, and its OCSP response. Before the handshake all is zero; after Close only version,
// cipher suite and resumption are known. The server name is what SSL_get_servername says: a server has
// none of a resumed TLS 1.2 session.
//
// Its method ExportKeyingMaterial does not work: crypto/tls alone can supply it.
//
// Wraps [SSL_get0_alpn_selected], SSL_get_servername, SSL_get_peer_cert_chain, SSL_get0_verified_chain,
// SSL_get_tlsext_status_ocsp_resp.
//
// [SSL_get0_alpn_selected]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_alpn_select_cb/
func (c *Conn) ConnectionState() tls.ConnectionState {
	if !c.done.Load() {
		return tls.ConnectionState{}
	}
	state := tls.ConnectionState{
		Version:           uint16(c.Version()),
		HandshakeComplete: true,
		DidResume:         c.SessionReused(),
		CipherSuite:       c.Cipher().ID,
	}
	r, err := c.begin()
	if err != nil {
		return state
	}
	defer c.end(r)
	state.NegotiatedProtocol = string(cloneView(C.shim_SSL_get0_alpn_selected(r.p)))
	//lint:ignore SA1019 net/http still looks at it
	state.NegotiatedProtocolIsMutual = true
	state.ServerName = C.GoString(C.SSL_get_servername(r.p.ssl, C.TLSEXT_NAMETYPE_host_name))
	state.OCSPResponse = cloneView(C.shim_SSL_get_tlsext_status_ocsp_resp(r.p))
	state.PeerCertificates = parseCertificates(C.shim_SSL_get_peer_cert_chain(r.p))
	if chain := parseCertificates(C.shim_SSL_get0_verified_chain(r.p)); chain != nil {
		state.VerifiedChains = [][]*x509.Certificate{chain}
	}
	return state
}

// parseCertificates reads certificates that libssl has read. Go's reader is stricter: what it refuses is
// left out as a whole.
func parseCertificates(der C.shim_bytes) []*x509.Certificate {
	if der.p == nil {
		_ = takeError("", der.errs) // there are none
		return nil
	}
	defer freeBytes(der)
	// A certificate keeps the bytes it was read from: they must be Go's.
	certs, err := x509.ParseCertificates(bytes.Clone(unsafe.Slice((*byte)(der.p), int(der.n))))
	if err != nil {
		return nil
	}
	return certs
}
