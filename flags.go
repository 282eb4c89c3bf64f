// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"fmt"
	"strings"
)

// hasNewSessionTicket depends on the version of libssl.
const hasNewSessionTicket = C.SHIM_HAS_NEW_SESSION_TICKET == 1

// hasPeerRPK depends on the version of libssl.
const hasPeerRPK = C.SHIM_HAS_PEER_RPK == 1

// oldVersionsNeedLevel0 says that TLS 1.0 and TLS 1.1 need the security level 0.
const oldVersionsNeedLevel0 = C.SHIM_OLD_VERSIONS_NEED_LEVEL_0 == 1

// A Method says which ends of a connection a Context is for.
type Method int

// The methods, by OpenSSL's names. All negotiate any version of TLS.
const (
	TLSMethod       Method = C.SHIM_METHOD_TLS        // both ends
	TLSClientMethod Method = C.SHIM_METHOD_TLS_CLIENT // clients only
	TLSServerMethod Method = C.SHIM_METHOD_TLS_SERVER // servers only
)

// A Version is a protocol version, with the numbers of the wire and of crypto/tls.
type Version int

// The protocol versions. VersionAny as a bound means no bound.
const (
	VersionAny   Version = 0
	VersionTLS10 Version = C.TLS1_VERSION
	VersionTLS11 Version = C.TLS1_1_VERSION
	VersionTLS12 Version = C.TLS1_2_VERSION
	VersionTLS13 Version = C.TLS1_3_VERSION
)

// String returns OpenSSL's name of the version.
func (v Version) String() string {
	switch v {
	case VersionAny:
		return "any"
	case VersionTLS10:
		return "TLSv1"
	case VersionTLS11:
		return "TLSv1.1"
	case VersionTLS12:
		return "TLSv1.2"
	case VersionTLS13:
		return "TLSv1.3"
	}
	return fmt.Sprintf("0x%04x", int(v))
}

// A CacheMode is a set of flags. It says what libssl does with the session cache automatically.
type CacheMode uint32

// The cache modes. SessCacheServer is the default.
const (
	SessCacheOff    CacheMode = C.SSL_SESS_CACHE_OFF    // nothing is cached automatically
	SessCacheClient CacheMode = C.SSL_SESS_CACHE_CLIENT // clients cache their sessions
	SessCacheServer CacheMode = C.SSL_SESS_CACHE_SERVER // servers cache their sessions
	SessCacheBoth   CacheMode = C.SSL_SESS_CACHE_BOTH   // both do

	// SessCacheNoAutoClear switches off the flush of expired sessions in every 256th handshake.
	SessCacheNoAutoClear CacheMode = C.SSL_SESS_CACHE_NO_AUTO_CLEAR

	// SessCacheNoInternalLookup keeps servers from looking for sessions in the internal cache.
	SessCacheNoInternalLookup CacheMode = C.SSL_SESS_CACHE_NO_INTERNAL_LOOKUP

	// SessCacheNoInternalStore keeps connections from storing sessions in the internal cache;
	// AddSession still does. With OpNoTicket only the sessions that were added resume then.
	// Otherwise stateless tickets resume, too, without the cache.
	SessCacheNoInternalStore CacheMode = C.SSL_SESS_CACHE_NO_INTERNAL_STORE

	// SessCacheNoInternal is both of these.
	SessCacheNoInternal CacheMode = C.SSL_SESS_CACHE_NO_INTERNAL

	// SessCacheUpdateTime makes AddSession set the session's time to now. OpenSSL 1.1.1 ignores it.
	SessCacheUpdateTime CacheMode = C.SSL_SESS_CACHE_UPDATE_TIME
)

// String returns the names of the flags.
func (m CacheMode) String() string {
	return flagString(uint64(m), "OFF", []flagName{
		{uint64(SessCacheBoth), "BOTH"},
		{uint64(SessCacheClient), "CLIENT"},
		{uint64(SessCacheServer), "SERVER"},
		{uint64(SessCacheNoAutoClear), "NO_AUTO_CLEAR"},
		{uint64(SessCacheNoInternal), "NO_INTERNAL"},
		{uint64(SessCacheNoInternalLookup), "NO_INTERNAL_LOOKUP"},
		{uint64(SessCacheNoInternalStore), "NO_INTERNAL_STORE"},
		{uint64(SessCacheUpdateTime), "UPDATE_TIME"},
	})
}

// A VerifyMode is a set of flags. It says how the peer's certificate is verified.
type VerifyMode int

// The verify modes. VerifyNone is the default, for clients, too: set VerifyPeer, and
// [Conn.SetServerName], or use a [Dialer].
const (
	VerifyNone             VerifyMode = C.SSL_VERIFY_NONE
	VerifyPeer             VerifyMode = C.SSL_VERIFY_PEER
	VerifyFailIfNoPeerCert VerifyMode = C.SSL_VERIFY_FAIL_IF_NO_PEER_CERT // server, with VerifyPeer
	VerifyClientOnce       VerifyMode = C.SSL_VERIFY_CLIENT_ONCE          // server, with VerifyPeer
	VerifyPostHandshake    VerifyMode = C.SSL_VERIFY_POST_HANDSHAKE       // server, TLS 1.3
)

// String returns the names of the flags.
func (m VerifyMode) String() string {
	return flagString(uint64(m), "NONE", []flagName{
		{uint64(VerifyPeer), "PEER"},
		{uint64(VerifyFailIfNoPeerCert), "FAIL_IF_NO_PEER_CERT"},
		{uint64(VerifyClientOnce), "CLIENT_ONCE"},
		{uint64(VerifyPostHandshake), "POST_HANDSHAKE"},
	})
}

// An Option is a set of OpenSSL's SSL_OP flags. Those that most programs need have names here.
// Others are given by number, or by name to [Context.Configure] ("Options").
type Option uint64

// Options by OpenSSL's names.
const (
	// OpNoTicket makes servers issue session IDs (TLS 1.2) and stateful tickets (TLS 1.3) instead
	// of stateless tickets: sessions resume from the cache. Without it (the default) a server's
	// sessions are in the tickets that its clients have. What the cache holds, and what
	// RemoveSession removed, does not matter to these.
	OpNoTicket Option = C.SSL_OP_NO_TICKET

	// OpNoAntiReplay lets sessions that allow early data be used more than once.
	OpNoAntiReplay Option = C.SSL_OP_NO_ANTI_REPLAY

	// OpNoSessionResumptionOnRenegotiation makes servers create a new session when they
	// renegotiate.
	OpNoSessionResumptionOnRenegotiation Option = C.SSL_OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION

	// OpNoRenegotiation refuses renegotiation (TLS 1.2 and before).
	OpNoRenegotiation Option = C.SSL_OP_NO_RENEGOTIATION

	// OpAllowClientRenegotiation lets clients renegotiate. Without it a server refuses, which ends
	// the client's connection. Before OpenSSL 3.0 it is 0, and servers allow it.
	OpAllowClientRenegotiation Option = C.SSL_OP_ALLOW_CLIENT_RENEGOTIATION

	// OpAllowNoDheKex allows TLS 1.3 resumption without a new key exchange.
	OpAllowNoDheKex Option = C.SSL_OP_ALLOW_NO_DHE_KEX

	// OpPreferNoDheKex makes servers resume without a new key exchange, if OpAllowNoDheKex lets
	// them and the client offers both. Before OpenSSL 3.3 it is 0.
	OpPreferNoDheKex Option = C.SSL_OP_PREFER_NO_DHE_KEX

	// OpCipherServerPreference makes servers choose the cipher suite by their own order.
	OpCipherServerPreference Option = C.SSL_OP_CIPHER_SERVER_PREFERENCE

	// OpPrioritizeChaCha makes these servers choose ChaCha20-Poly1305 for clients that prefer it.
	OpPrioritizeChaCha Option = C.SSL_OP_PRIORITIZE_CHACHA

	// OpIgnoreUnexpectedEOF takes an end of the transport without close_notify for the end of the
	// data: Read returns io.EOF. Only a protocol that knows its own lengths is safe then, because
	// an attacker may have cut the data off. Before OpenSSL 3.0 it is 0, and Read returns
	// io.ErrUnexpectedEOF.
	OpIgnoreUnexpectedEOF Option = C.SSL_OP_IGNORE_UNEXPECTED_EOF

	// OpNoTLSv1 and the next three disable a version. [Context.SetMinProtoVersion] and
	// SetMaxProtoVersion are better.
	OpNoTLSv1  Option = C.SSL_OP_NO_TLSv1
	OpNoTLSv11 Option = C.SSL_OP_NO_TLSv1_1
	OpNoTLSv12 Option = C.SSL_OP_NO_TLSv1_2
	OpNoTLSv13 Option = C.SSL_OP_NO_TLSv1_3

	// OpNoExtendedMasterSecret disables the extended master secret (TLS 1.2 and before). A session
	// that was made with it is not resumed without it. This is less secure. Before OpenSSL 3.0 the
	// option is 0.
	OpNoExtendedMasterSecret Option = C.SSL_OP_NO_EXTENDED_MASTER_SECRET

	// OpNoEncryptThenMac disables encrypt-then-MAC (TLS 1.2 and before). This is less secure.
	OpNoEncryptThenMac Option = C.SSL_OP_NO_ENCRYPT_THEN_MAC

	// OpNoCompression disables compression. The option is on by default.
	OpNoCompression Option = C.SSL_OP_NO_COMPRESSION

	// OpEnableMiddleboxCompat makes TLS 1.3 look like TLS 1.2 to devices between the ends: clients
	// then send a session ID that names no session. It is on by default.
	OpEnableMiddleboxCompat Option = C.SSL_OP_ENABLE_MIDDLEBOX_COMPAT

	// OpLegacyServerConnect lets clients continue with servers that cannot renegotiate securely. It
	// is on by default before OpenSSL 3.0.
	OpLegacyServerConnect Option = C.SSL_OP_LEGACY_SERVER_CONNECT

	// OpAllowUnsafeLegacyRenegotiation allows renegotiation with peers that cannot do it securely.
	OpAllowUnsafeLegacyRenegotiation Option = C.SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION

	// OpCleansePlaintext makes libssl overwrite plaintext in its buffers after it was read. Before
	// OpenSSL 3.0 it is 0.
	OpCleansePlaintext Option = C.SSL_OP_CLEANSE_PLAINTEXT
)

// String returns the names of the options that have names here, and the rest as a number.
func (o Option) String() string {
	return flagString(uint64(o), "0", []flagName{
		{uint64(OpNoTicket), "NO_TICKET"},
		{uint64(OpNoAntiReplay), "NO_ANTI_REPLAY"},
		{uint64(OpNoSessionResumptionOnRenegotiation), "NO_SESSION_RESUMPTION_ON_RENEGOTIATION"},
		{uint64(OpNoRenegotiation), "NO_RENEGOTIATION"},
		{uint64(OpAllowClientRenegotiation), "ALLOW_CLIENT_RENEGOTIATION"},
		{uint64(OpAllowNoDheKex), "ALLOW_NO_DHE_KEX"},
		{uint64(OpPreferNoDheKex), "PREFER_NO_DHE_KEX"},
		{uint64(OpCipherServerPreference), "CIPHER_SERVER_PREFERENCE"},
		{uint64(OpPrioritizeChaCha), "PRIORITIZE_CHACHA"},
		{uint64(OpIgnoreUnexpectedEOF), "IGNORE_UNEXPECTED_EOF"},
		{uint64(OpNoTLSv1), "NO_TLSv1"},
		{uint64(OpNoTLSv11), "NO_TLSv1_1"},
		{uint64(OpNoTLSv12), "NO_TLSv1_2"},
		{uint64(OpNoTLSv13), "NO_TLSv1_3"},
		{uint64(OpNoExtendedMasterSecret), "NO_EXTENDED_MASTER_SECRET"},
		{uint64(OpNoEncryptThenMac), "NO_ENCRYPT_THEN_MAC"},
		{uint64(OpNoCompression), "NO_COMPRESSION"},
		{uint64(OpEnableMiddleboxCompat), "ENABLE_MIDDLEBOX_COMPAT"},
		{uint64(OpLegacyServerConnect), "LEGACY_SERVER_CONNECT"},
		{uint64(OpAllowUnsafeLegacyRenegotiation), "ALLOW_UNSAFE_LEGACY_RENEGOTIATION"},
		{uint64(OpCleansePlaintext), "CLEANSE_PLAINTEXT"},
	})
}

// A Mode is a set of OpenSSL's SSL_MODE flags. A Conn adds those that it needs.
type Mode uint32

// Modes that affect a Conn's memory and behaviour.
const (
	ModeReleaseBuffers Mode = C.SSL_MODE_RELEASE_BUFFERS // idle connections keep no buffers
	ModeAutoRetry      Mode = C.SSL_MODE_AUTO_RETRY      // on by default

	// ModeSendFallbackSCSV is for a client that tries again with a lower version.
	ModeSendFallbackSCSV Mode = C.SSL_MODE_SEND_FALLBACK_SCSV

	// ModeNoAutoChain sends the chain that was set, and adds none of the trusted certificates.
	ModeNoAutoChain Mode = C.SSL_MODE_NO_AUTO_CHAIN
)

// String returns the names of the modes that have names here, and the rest as a number.
func (m Mode) String() string {
	return flagString(uint64(m), "0", []flagName{
		{uint64(ModeReleaseBuffers), "RELEASE_BUFFERS"},
		{uint64(ModeAutoRetry), "AUTO_RETRY"},
		{uint64(ModeSendFallbackSCSV), "SEND_FALLBACK_SCSV"},
		{uint64(ModeNoAutoChain), "NO_AUTO_CHAIN"},
	})
}

type flagName struct {
	bits uint64
	name string
}

// flagString joins the names of the flags that are set, larger sets before their parts, and the
// rest as a number.
func flagString(v uint64, none string, names []flagName) string {
	if v == 0 {
		return none
	}
	var parts []string
	for _, f := range names {
		if f.bits != 0 && v&f.bits == f.bits {
			parts = append(parts, f.name)
			v &^= f.bits
		}
	}
	if v != 0 {
		parts = append(parts, fmt.Sprintf("0x%x", v))
	}
	return strings.Join(parts, "|")
}

// A Cipher is a cipher suite. The zero Cipher is none.
type Cipher struct {
	ID           uint16 // the number on the wire, as in crypto/tls
	Name         string // OpenSSL's name, such as "ECDHE-RSA-AES128-GCM-SHA256"
	StandardName string // the RFC's name, such as "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
}

// String returns OpenSSL's name, or "none".
func (c Cipher) String() string {
	if c.Name == "" {
		return "none"
	}
	return c.Name
}

func newCipher(c C.shim_cipher) Cipher {
	if c.name == nil {
		return Cipher{}
	}
	return Cipher{ID: uint16(c.id), Name: C.GoString(c.name), StandardName: C.GoString(c.standard_name)}
}

// A LibVersion is a version of OpenSSL. A Version is one of a protocol.
type LibVersion struct {
	Text   string // as "OpenSSL 3.0.19 27 Jan 2026"
	Number uint64 // MNNFFPP0 in hexadecimal
}

// String returns the text.
func (v LibVersion) String() string { return v.Text }

// LibraryVersions returns the version of the libssl that the program runs with, and that of the
// headers that this package was compiled with. They may differ by an update of libssl. A program in
// which they differ by more than OpenSSL keeps compatible (the major version, and before 3.0 the
// first three numbers) does not start: the package's init panics with a sentence that says so.
//
// Wraps [OpenSSL_version], OpenSSL_version_num.
//
// [OpenSSL_version]: https://docs.openssl.org/3.0/man3/OpenSSL_version/
func LibraryVersions() (linked, compiled LibVersion) {
	return linkedVersion(), LibVersion{C.SHIM_VERSION_TEXT, C.SHIM_VERSION_NUMBER}
}

func linkedVersion() LibVersion {
	return LibVersion{C.GoString(C.OpenSSL_version(C.OPENSSL_VERSION)), uint64(C.OpenSSL_version_num())}
}

// init makes the first call into libssl: no variable of the package makes one.
func init() {
	if problem := mismatch(LibraryVersions()); problem != "" {
		panic(problem)
	}
}

// mismatch returns what is wrong with a pair of versions, and what may be done; "" if nothing is
// wrong.
func mismatch(linked, compiled LibVersion) string {
	if series(linked.Number) == series(compiled.Number) {
		return ""
	}
	return fmt.Sprintf("sslctx: compiled for %s, but running with %s: either objects in Go's build cache are older than "+
		"the installed libssl, because the go command does not look into system headers (run `go clean -cache` and build "+
		"again), or another libssl was loaded at run time (see LD_LIBRARY_PATH and LD_PRELOAD)", compiled, linked)
}

// series returns what compatible versions have in common: 0x10101 for 1.1.1, 3 for all of 3.x.
func series(number uint64) uint64 {
	if number < 3<<28 {
		return number >> 12
	}
	return number >> 28
}
