// SPDX-License-Identifier: Apache-2.0

// Package sslhttp makes net/http speak HTTP/1.1 and HTTP/2 over connections of [sslctx]. [Serve] runs an
// http.Server on a listener of sslctx, a [Transport] sends requests by a [sslctx.Dialer].
//
// # The protocol
//
// ALPN decides, and its list is the Context's, at both ends:
//
//	err := ctx.SetALPNProtos("h2", "http/1.1")
//
// Connections that agree on "h2" speak HTTP/2, all others HTTP/1.1: without a list everything is HTTP/1.1.
//
// A program whose net/http does not speak HTTP/2 (GODEBUG=http2server=0 or http2client=0) must leave "h2" out:
// connections that agree on it end, and the error says so.
//
// # Trust
//
// A Transport's connection is for the host of the URL, or for the Dialer's ServerName: the certificate must be,
// unless the Dialer says InsecureSkipVerify. An http.Transport's TLSClientConfig has no part in that: see [NewTransport].
//
// # Early data
//
// [ServeWithEarlyData] and [Transport.SetEarlyData] let requests go with the ClientHello, where a session is
// resumed. The answer comes a round trip sooner, and an attacker can have such a request handled twice: see there.
//
// # How
//
// net/http speaks HTTP/2 over TLS for crypto/tls alone, but over any connection whose client is known to speak
// it (Protocols.SetUnencryptedHTTP2). This package makes the handshake, asks what was agreed on, and tells
// net/http. Nothing is unencrypted. What net/http knows of HTTP/2, http.HTTP2Config and timeouts among it,
// holds here too; only the list of cipher suites that RFC 9113 advises against is not looked at:
// [sslctx.Context.SetCipherList] is the place for it.
package sslhttp
