// SPDX-License-Identifier: Apache-2.0

//go:build forcegc

package sslctx_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"time"

	"sslctx"
)

// The calls of forcegc_test.go: one of each exported method, with arguments that bring it into C.

type (
	sessionC = *sslctx.Session
	contextC = *sslctx.Context
	connC    = *sslctx.Conn
)

var forcedSession = map[string]forced{
	"ALPNSelected":       onSession(func(_ *maker, s sessionC) { s.ALPNSelected() }),
	"Bytes":              onSession(func(_ *maker, s sessionC) { _, _ = s.Bytes() }),
	"Cipher":             onSession(func(_ *maker, s sessionC) { s.Cipher() }),
	"Close":              onSession(func(_ *maker, s sessionC) { _ = s.Close() }).inside(),
	"CompressID":         onSession(func(_ *maker, s sessionC) { s.CompressID() }),
	"Dup":                onSession(func(_ *maker, s sessionC) { _, _ = s.Dup() }),
	"ExData":             onSession(func(_ *maker, s sessionC) { s.ExData("key") }),
	"GoString":           onSession(func(_ *maker, s sessionC) { _ = s.GoString() }),
	"HasTicket":          onSession(func(_ *maker, s sessionC) { s.HasTicket() }),
	"Hostname":           onSession(func(_ *maker, s sessionC) { s.Hostname() }),
	"ID":                 onSession(func(_ *maker, s sessionC) { s.ID() }),
	"IDContext":          onSession(func(_ *maker, s sessionC) { s.IDContext() }),
	"IsResumable":        onSession(func(_ *maker, s sessionC) { s.IsResumable() }),
	"LogValue":           onSession(func(_ *maker, s sessionC) { s.LogValue() }),
	"Format":             onSession(func(_ *maker, s sessionC) { _, _ = fmt.Fprint(io.Discard, s) }),
	"MarshalBinary":      onSession(func(_ *maker, s sessionC) { _, _ = s.MarshalBinary() }).inside(),
	"MarshalJSON":        onSession(func(_ *maker, s sessionC) { _, _ = s.MarshalJSON() }),
	"MarshalText":        onSession(func(_ *maker, s sessionC) { _, _ = s.MarshalText() }),
	"MasterKey":          onSession(func(_ *maker, s sessionC) { s.MasterKey() }),
	"MaxEarlyData":       onSession(func(_ *maker, s sessionC) { s.MaxEarlyData() }),
	"MaxFragmentLength":  onSession(func(_ *maker, s sessionC) { s.MaxFragmentLength() }),
	"PEM":                onSession(func(_ *maker, s sessionC) { _, _ = s.PEM() }),
	"PeerCertificate":    onSession(func(_ *maker, s sessionC) { _, _ = s.PeerCertificate() }),
	"PeerRawPublicKey":   onSession(func(_ *maker, s sessionC) { _, _ = s.PeerRawPublicKey() }).since(0x30200000),
	"Print":              onSession(func(_ *maker, s sessionC) { _ = s.Print(io.Discard) }),
	"PrintKeylog":        onSession(func(_ *maker, s sessionC) { _ = s.PrintKeylog(io.Discard) }),
	"ProtocolVersion":    onSession(func(_ *maker, s sessionC) { s.ProtocolVersion() }),
	"SameKey":            onSession(func(m *maker, s sessionC) { s.SameKey(m.session()) }),
	"Same":               onSession(func(m *maker, s sessionC) { s.Same(m.session()) }),
	"SetALPNSelected":    onSession(func(_ *maker, s sessionC) { _ = s.SetALPNSelected("h2") }),
	"SetCipher":          onSession(func(_ *maker, s sessionC) { _ = s.SetCipher(someCipher) }),
	"SetExData":          onSession(func(_ *maker, s sessionC) { _ = s.SetExData("key", 1) }),
	"SetHostname":        onSession(func(_ *maker, s sessionC) { _ = s.SetHostname("x.test") }),
	"SetID":              onSession(func(_ *maker, s sessionC) { _ = s.SetID([]byte("id")) }),
	"SetIDContext":       onSession(func(_ *maker, s sessionC) { _ = s.SetIDContext([]byte("id")) }),
	"SetMasterKey":       onSession(func(_ *maker, s sessionC) { _ = s.SetMasterKey([]byte("key")) }),
	"SetMaxEarlyData":    onSession(func(_ *maker, s sessionC) { _ = s.SetMaxEarlyData(1) }),
	"SetProtocolVersion": onSession(func(_ *maker, s sessionC) { _ = s.SetProtocolVersion(sslctx.VersionTLS12) }),
	"SetTicketAppData":   onSession(func(_ *maker, s sessionC) { _ = s.SetTicketAppData([]byte("data")) }),
	"SetTime":            onSession(func(_ *maker, s sessionC) { _ = s.SetTime(time.Now()) }),
	"SetTimeout":         onSession(func(_ *maker, s sessionC) { _ = s.SetTimeout(time.Hour) }),
	"String":             onSession(func(_ *maker, s sessionC) { _ = s.String() }),
	"Ticket":             onSession(func(_ *maker, s sessionC) { s.Ticket() }),
	"TicketAppData":      onSession(func(_ *maker, s sessionC) { s.TicketAppData() }),
	"TicketLifetimeHint": onSession(func(_ *maker, s sessionC) { s.TicketLifetimeHint() }),
	"Time":               onSession(func(_ *maker, s sessionC) { s.Time() }),
	"Timeout":            onSession(func(_ *maker, s sessionC) { s.Timeout() }),
	"UnmarshalBinary":    onSession(func(_ *maker, s sessionC) { _ = s.UnmarshalBinary(nil) }).inside(),
	"UnmarshalJSON":      onSession(func(_ *maker, s sessionC) { _ = s.UnmarshalJSON(nil) }).inside(),
	"UnmarshalText":      onSession(func(_ *maker, s sessionC) { _ = s.UnmarshalText(nil) }).inside(),
}

// someCipher is TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.
var someCipher = sslctx.Cipher{ID: 0xc02b}

var forcedContext = map[string]forced{
	"AddSession":          onContext(func(m *maker, c contextC) { _, _ = c.AddSession(m.session()) }),
	"AllowALPNMismatch":   onContext(func(_ *maker, c contextC) { _ = c.AllowALPNMismatch(true) }),
	"AddSessions":         onContext(func(m *maker, c contextC) { _, _ = c.AddSessions([]sessionC{m.session(), m.session()}) }),
	"CacheSize":           onContext(func(_ *maker, c contextC) { c.CacheSize() }),
	"CacheStats":          onContext(func(_ *maker, c contextC) { c.CacheStats() }),
	"CheckPrivateKey":     onContext(func(_ *maker, c contextC) { _ = c.CheckPrivateKey() }),
	"ClearMode":           onContext(func(_ *maker, c contextC) { _, _ = c.ClearMode(0) }),
	"ClearOptions":        onContext(func(_ *maker, c contextC) { _, _ = c.ClearOptions(0) }),
	"Close":               onContext(func(_ *maker, c contextC) { _ = c.Close() }).inside(),
	"Configure":           onContext(func(_ *maker, c contextC) { _ = c.Configure("MinProtocol", "TLSv1.2") }),
	"Format":              onContext(func(_ *maker, c contextC) { _, _ = fmt.Fprint(io.Discard, c) }).inside(),
	"GoString":            onContext(func(_ *maker, c contextC) { _ = c.GoString() }).inside(),
	"String":              onContext(func(_ *maker, c contextC) { _ = c.String() }).inside(),
	"FlushSessions":       onContext(func(_ *maker, c contextC) { _ = c.FlushSessions(time.Now()) }),
	"LoadVerifyLocations": onContext(func(m *maker, c contextC) { _ = c.LoadVerifyLocations(m.certFile, "") }),
	"MaxEarlyData":        onContext(func(_ *maker, c contextC) { c.MaxEarlyData() }),
	"MaxProtoVersion":     onContext(func(_ *maker, c contextC) { c.MaxProtoVersion() }),
	"MinProtoVersion":     onContext(func(_ *maker, c contextC) { c.MinProtoVersion() }),
	"Mode":                onContext(func(_ *maker, c contextC) { c.Mode() }),
	"NumTickets":          onContext(func(_ *maker, c contextC) { c.NumTickets() }),
	"Options":             onContext(func(_ *maker, c contextC) { c.Options() }),
	"RecvMaxEarlyData":    onContext(func(_ *maker, c contextC) { c.RecvMaxEarlyData() }),
	"RemoveSession":       onContext(func(m *maker, c contextC) { _, _ = c.RemoveSession(m.session()) }),
	"RemoveSessions":      onContext(func(m *maker, c contextC) { _, _ = c.RemoveSessions([]sessionC{m.session(), m.session()}) }),
	"RequestOCSP":         onContext(func(_ *maker, c contextC) { _ = c.RequestOCSP(true) }),
	"SecurityLevel":       onContext(func(_ *maker, c contextC) { c.SecurityLevel() }),
	"SessionCacheMode":    onContext(func(_ *maker, c contextC) { c.SessionCacheMode() }),
	"SessionOf": onContext(func(m *maker, c contextC) {
		ssl := m.foreign()
		_, _ = c.SessionOf(ssl.Pointer())
		ssl.Free()
	}),
	"Sessions":      onContext(func(_ *maker, c contextC) { _, _ = c.Sessions() }),
	"SetALPNProtos": onContext(func(_ *maker, c contextC) { _ = c.SetALPNProtos("h2") }),
	"SetAllowEarlyDataCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetAllowEarlyDataCallback(func(context.Context, connC) bool { return true })
	}),
	"SetBlockPadding": onContext(func(_ *maker, c contextC) { _ = c.SetBlockPadding(16) }),
	"SetCacheSize":    onContext(func(_ *maker, c contextC) { _, _ = c.SetCacheSize(1) }),
	"SetCipherList":   onContext(func(_ *maker, c contextC) { _ = c.SetCipherList("HIGH") }),
	"SetCiphersuites": onContext(func(_ *maker, c contextC) { _ = c.SetCiphersuites("TLS_AES_128_GCM_SHA256") }),
	"SetClientHelloCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (contextC, error) { return nil, nil })
	}),
	"SetClientCAs":          onContext(func(m *maker, c contextC) { _ = c.SetClientCAs(m.leaf) }),
	"SetClientSigalgs":      onContext(func(_ *maker, c contextC) { _ = c.SetClientSigalgs("ECDSA+SHA256") }),
	"SetDHAuto":             onContext(func(_ *maker, c contextC) { _ = c.SetDHAuto(true) }),
	"SetSigalgs":            onContext(func(_ *maker, c contextC) { _ = c.SetSigalgs("ECDSA+SHA256") }),
	"SetDefaultVerifyPaths": onContext(func(_ *maker, c contextC) { _ = c.SetDefaultVerifyPaths() }),
	"SetGetSessionCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetGetSessionCallback(func(context.Context, []byte) sessionC { return nil })
	}),
	"SetGroups":             onContext(func(_ *maker, c contextC) { _ = c.SetGroups("P-256") }),
	"SetIDContext":          onContext(func(_ *maker, c contextC) { _ = c.SetIDContext([]byte("id")) }),
	"SetKeyLogWriter":       onContext(func(_ *maker, c contextC) { _ = c.SetKeyLogWriter(io.Discard) }),
	"SetMaxEarlyData":       onContext(func(_ *maker, c contextC) { _ = c.SetMaxEarlyData(1) }),
	"SetMaxFragmentLength":  onContext(func(_ *maker, c contextC) { _ = c.SetMaxFragmentLength(sslctx.MaxFragment512) }),
	"SetMaxProtoVersion":    onContext(func(_ *maker, c contextC) { _ = c.SetMaxProtoVersion(sslctx.VersionTLS12) }),
	"SetMaxSendFragment":    onContext(func(_ *maker, c contextC) { _ = c.SetMaxSendFragment(512) }),
	"SetMinProtoVersion":    onContext(func(_ *maker, c contextC) { _ = c.SetMinProtoVersion(sslctx.VersionTLS12) }),
	"SetMode":               onContext(func(_ *maker, c contextC) { _, _ = c.SetMode(0) }),
	"SetNewSessionCallback": onContext(func(_ *maker, c contextC) { _ = c.SetNewSessionCallback(func(connC, sessionC) {}) }),
	"SetNotResumableSessionCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetNotResumableSessionCallback(func(context.Context, connC, bool) bool { return true })
	}),
	"SetNumTickets":   onContext(func(_ *maker, c contextC) { _ = c.SetNumTickets(1) }),
	"SetOCSPResponse": onContext(func(_ *maker, c contextC) { _ = c.SetOCSPResponse([]byte{0x30, 0}) }),
	"SetOptions":      onContext(func(_ *maker, c contextC) { _, _ = c.SetOptions(0) }),
	"SetPSKClientCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetPSKClientCallback(func(context.Context, connC, string) (string, []byte) { return "", nil })
	}),
	"SetPSKFindSessionCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetPSKFindSessionCallback(func(context.Context, connC, []byte) sessionC { return nil })
	}),
	"SetPSKServerCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetPSKServerCallback(func(context.Context, connC, string) []byte { return nil })
	}),
	"SetPSKUseSessionCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetPSKUseSessionCallback(func(context.Context, connC, crypto.Hash) ([]byte, sessionC) { return nil, nil })
	}),
	"SetRecvMaxEarlyData":      onContext(func(_ *maker, c contextC) { _ = c.SetRecvMaxEarlyData(1) }),
	"SetRemoveSessionCallback": onContext(func(_ *maker, c contextC) { _ = c.SetRemoveSessionCallback(func(sessionC) {}) }),
	"SetSecurityLevel":         onContext(func(_ *maker, c contextC) { _ = c.SetSecurityLevel(1) }),
	"SetSessionCacheMode":      onContext(func(_ *maker, c contextC) { _, _ = c.SetSessionCacheMode(sslctx.SessCacheServer) }),
	"SetSessionIDGenerator": onContext(func(_ *maker, c contextC) {
		_ = c.SetSessionIDGenerator(func(context.Context, connC, int) ([]byte, error) { return nil, nil })
	}),
	"SetSessionIDPrefix": onContext(func(_ *maker, c contextC) { _ = c.SetSessionIDPrefix([]byte("id")) }),
	"SetSessionLookup": onContext(func(_ *maker, c contextC) {
		_ = c.SetSessionLookup(&sslctx.SessionLookup{Find: func(context.Context, sslctx.SessionQuery) (sessionC, error) { return nil, nil }})
	}),
	"SetSessionOf": onContext(func(m *maker, c contextC) {
		ssl := m.foreign()
		_ = c.SetSessionOf(ssl.Pointer(), m.session())
		ssl.Free()
	}),
	"SetSessionTicketCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetSessionTicketCallback(func(context.Context, sslctx.SessionTicket) ([]byte, error) { return nil, nil }, nil)
	}),
	"SetSplitSendFragment": onContext(func(_ *maker, c contextC) { _ = c.SetSplitSendFragment(512) }),
	"SetTicketKeyRing": onContext(func(_ *maker, c contextC) {
		_ = c.SetTicketKeyRing(ringOf(sslctx.NewTicketKey(), nil, nil))
	}),
	"SetTicketKeys": onContext(func(m *maker, c contextC) {
		back := m.aside()
		keys, _ := m.context().TicketKeys()
		back()
		_ = c.SetTicketKeys(keys)
	}),
	"SetTimeout":              onContext(func(_ *maker, c contextC) { _, _ = c.SetTimeout(time.Hour) }),
	"SetVerify":               onContext(func(_ *maker, c contextC) { _ = c.SetVerify(sslctx.VerifyPeer) }),
	"SetVerifyDepth":          onContext(func(_ *maker, c contextC) { _ = c.SetVerifyDepth(1) }),
	"TicketKeys":              onContext(func(_ *maker, c contextC) { _, _ = c.TicketKeys() }),
	"Timeout":                 onContext(func(_ *maker, c contextC) { c.Timeout() }),
	"TrustCertPool":           onContext(func(_ *maker, c contextC) { _ = c.TrustCertPool(x509.NewCertPool()) }),
	"TrustCertificate":        onContext(func(m *maker, c contextC) { _ = c.TrustCertificate(m.leaf) }),
	"TrustCertificates":       onContext(func(m *maker, c contextC) { _ = c.TrustCertificates(m.pair.Cert) }),
	"UseCertificate":          onContext(func(m *maker, c contextC) { _ = c.UseCertificate(m.cert) }),
	"UseCertificateChainFile": onContext(func(m *maker, c contextC) { _ = c.UseCertificateChainFile(m.certFile) }),
	"UseKeyPair":              onContext(func(m *maker, c contextC) { _ = c.UseKeyPair(m.pair.Cert, m.pair.Key) }),
	"UsePSKIdentityHint":      onContext(func(_ *maker, c contextC) { _ = c.UsePSKIdentityHint("hint") }),
	"UsePrivateKeyFile":       onContext(func(m *maker, c contextC) { _ = c.UsePrivateKeyFile(m.keyFile) }),
	"SetPostHandshakeAuth":    onContext(func(_ *maker, c contextC) { _ = c.SetPostHandshakeAuth(true) }),
	"VerifyDepth":             onContext(func(_ *maker, c contextC) { c.VerifyDepth() }),
	"VerifyMode":              onContext(func(_ *maker, c contextC) { c.VerifyMode() }),
}

// ended is a context that is done.
var ended = func() context.Context {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	return ctx
}()

var forcedConn = map[string]forced{
	"AcceptableCAs":          onConn(client13, func(_ *maker, c connC) { _, _ = c.AcceptableCAs() }),
	"ClearOptions":           onConn(newServer, func(_ *maker, c connC) { _, _ = c.ClearOptions(0) }),
	"Options":                onConn(newServer, func(_ *maker, c connC) { _, _ = c.Options() }),
	"SetOptions":             onConn(newServer, func(_ *maker, c connC) { _, _ = c.SetOptions(0) }),
	"Abort":                  onConn(client13, func(_ *maker, c connC) { _ = c.Abort() }).inside(),
	"AwaitTicket":            onConn(client13, func(_ *maker, c connC) { _ = c.AwaitTicket(ended) }),
	"Cipher":                 onConn(client13, func(_ *maker, c connC) { c.Cipher() }).inside(),
	"ClientRandom":           onConn(client13, func(_ *maker, c connC) { _, _ = c.ClientRandom() }),
	"Close":                  onConn(client13, func(_ *maker, c connC) { _ = c.Close() }),
	"CloseWrite":             onConn(client13, func(_ *maker, c connC) { _ = c.CloseWrite() }),
	"ConnectionState":        onConn(client13, func(_ *maker, c connC) { c.ConnectionState() }),
	"CopySessionID":          onConn(newClient, func(m *maker, c connC) { _ = c.CopySessionID(m.conn(client13)) }),
	"DefaultTimeout":         onConn(newClient, func(_ *maker, c connC) { _, _ = c.DefaultTimeout() }),
	"EarlyDataStatus":        onConn(client13, func(_ *maker, c connC) { c.EarlyDataStatus() }).inside(),
	"Format":                 onConn(newClient, func(_ *maker, c connC) { _, _ = fmt.Fprint(io.Discard, c) }).inside(),
	"GoString":               onConn(newClient, func(_ *maker, c connC) { _ = c.GoString() }).inside(),
	"String":                 onConn(newClient, func(_ *maker, c connC) { _ = c.String() }).inside(),
	"Handshake":              onConn(newClient, func(_ *maker, c connC) { _ = c.Handshake() }),
	"HandshakeContext":       onConn(newServer, func(m *maker, c connC) { _ = c.HandshakeContext(m.tb.Context()) }),
	"HandshakeReadEarlyData": onConn(newServer, func(m *maker, c connC) { _, _ = c.HandshakeReadEarlyData(m.tb.Context()) }),
	"HandshakeWithEarlyData": onConn(newClient, func(m *maker, c connC) { _ = c.HandshakeWithEarlyData(m.tb.Context(), []byte{1}) }),
	"HasMatchingSessionID":   onConn(server13, func(_ *maker, c connC) { _, _ = c.HasMatchingSessionID([]byte("id")) }),
	"KeyUpdate":              onConn(server13, func(_ *maker, c connC) { _ = c.KeyUpdate(true) }),
	"LocalAddr":              onConn(newClient, func(_ *maker, c connC) { c.LocalAddr() }).inside(),
	"MaxEarlyData":           onConn(newServer, func(_ *maker, c connC) { c.MaxEarlyData() }),
	"NetConn":                onConn(newClient, func(_ *maker, c connC) { c.NetConn() }).inside(),
	"NewSessionTicket":       onConn(server13, func(_ *maker, c connC) { _ = c.NewSessionTicket() }).since(0x30000000),
	"NumTickets":             onConn(newServer, func(_ *maker, c connC) { _, _ = c.NumTickets() }),
	"PSKIdentity":            onConn(client12, func(_ *maker, c connC) { c.PSKIdentity() }),
	"PSKIdentityHint":        onConn(client12, func(_ *maker, c connC) { c.PSKIdentityHint() }),
	"Read":                   onConn(client13, func(_ *maker, c connC) { _, _ = c.Read(make([]byte, 1)) }),
	"ReadEarlyData":          onConn(newServer, func(_ *maker, c connC) { _, _ = c.ReadEarlyData(make([]byte, 1)) }),
	"RecvMaxEarlyData":       onConn(newServer, func(_ *maker, c connC) { c.RecvMaxEarlyData() }),
	"RemoteAddr":             onConn(newClient, func(_ *maker, c connC) { c.RemoteAddr() }).inside(),
	"Renegotiate":            onConn(client12, func(_ *maker, c connC) { _ = c.Renegotiate() }),
	"ResumedSession":         onConn(client12, func(_ *maker, c connC) { _, _ = c.ResumedSession() }),
	"ServerRandom":           onConn(server12, func(_ *maker, c connC) { _, _ = c.ServerRandom() }),
	"Session":                onConn(client12, func(_ *maker, c connC) { _, _ = c.Session() }),
	"SessionReused":          onConn(client12, func(_ *maker, c connC) { c.SessionReused() }).inside(),
	"SetDeadline":            onConn(newClient, func(_ *maker, c connC) { _ = c.SetDeadline(time.Time{}) }).inside(),
	"SetIDContext":           onConn(newServer, func(_ *maker, c connC) { _ = c.SetIDContext([]byte("id")) }),
	"SetMaxEarlyData":        onConn(newServer, func(_ *maker, c connC) { _ = c.SetMaxEarlyData(1) }),
	"SetNotResumableSessionCallback": onConn(newServer, func(_ *maker, c connC) {
		_ = c.SetNotResumableSessionCallback(func(context.Context, connC, bool) bool { return true })
	}),
	"SetNumTickets":       onConn(newServer, func(_ *maker, c connC) { _ = c.SetNumTickets(1) }),
	"SetQuietShutdown":    onConn(newClient, func(_ *maker, c connC) { _ = c.SetQuietShutdown(true) }),
	"SetReadDeadline":     onConn(newClient, func(_ *maker, c connC) { _ = c.SetReadDeadline(time.Time{}) }).inside(),
	"SetRecvMaxEarlyData": onConn(newServer, func(_ *maker, c connC) { _ = c.SetRecvMaxEarlyData(1) }),
	"SetServerName":       onConn(newClient, func(_ *maker, c connC) { _ = c.SetServerName("x.test") }),
	"SetSession":          onConn(newClient, func(m *maker, c connC) { _ = c.SetSession(m.session()) }),
	"SetSessionIDGenerator": onConn(newServer, func(_ *maker, c connC) {
		_ = c.SetSessionIDGenerator(func(context.Context, connC, int) ([]byte, error) { return nil, nil })
	}),
	"SetSessionTicketExt": onConn(newClient, func(_ *maker, c connC) { _ = c.SetSessionTicketExt([]byte("ticket")) }),
	"SetSessionTicketExtCallback": onConn(newServer, func(_ *maker, c connC) {
		_ = c.SetSessionTicketExtCallback(func(context.Context, []byte) error { return nil })
	}),
	"SetWriteDeadline":          onConn(newClient, func(_ *maker, c connC) { _ = c.SetWriteDeadline(time.Time{}) }).inside(),
	"VerifyClientPostHandshake": onConn(server13, func(_ *maker, c connC) { _ = c.VerifyClientPostHandshake() }),
	"AcceptAnyName":             onConn(newClient, func(_ *maker, c connC) { _ = c.AcceptAnyName() }),
	"SetVerify":                 onConn(newClient, func(_ *maker, c connC) { _ = c.SetVerify(sslctx.VerifyPeer) }),
	"SetPostHandshakeAuth":      onConn(newClient, func(_ *maker, c connC) { _ = c.SetPostHandshakeAuth(true) }),
	"ExportKeyingMaterial":      onConn(client13, func(_ *maker, c connC) { _, _ = c.ExportKeyingMaterial("EXPORTER-x", nil, 1) }),
	"VerifyResult":              onConn(client13, func(_ *maker, c connC) { _, _ = c.VerifyResult() }),
	"Version":                   onConn(client13, func(_ *maker, c connC) { c.Version() }).inside(),
	"Write":                     onConn(server12, func(_ *maker, c connC) { _, _ = c.Write([]byte{1}) }),
	"WriteEarlyData":            onConn(newClient, func(_ *maker, c connC) { _, _ = c.WriteEarlyData([]byte{1}) }),
}

var forcedFunctions = map[string]forced{
	"Client":      onContext(func(_ *maker, c contextC) { _, _ = sslctx.Client(newSilent(), c) }),
	"Server":      onContext(func(_ *maker, c contextC) { _, _ = sslctx.Server(newSilent(), c) }),
	"NewListener": onContext(func(_ *maker, c contextC) { sslctx.NewListener(nowhere, c) }).inside(),
	"Dial":        onContext(func(_ *maker, c contextC) { _, _ = sslctx.Dial("unix", "/nowhere", c) }).inside(),
	"Listen":      onContext(func(_ *maker, c contextC) { _, _ = sslctx.Listen("unix", "/nowhere/at/all", c) }),
}

var nowhere net.Listener
