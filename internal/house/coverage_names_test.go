// SPDX-License-Identifier: Apache-2.0

package house

// coverageSince has the names of the session family that OpenSSL 1.1.1 lacks, and the version that
// brought them.
var coverageSince = map[string]string{
	"SSL_CTX_flush_sessions_ex":            "3.4",
	"SSL_CTX_set_tlsext_ticket_key_evp_cb": "3.0",
	"SSL_SESSION_get0_peer_rpk":            "3.2",
	"SSL_SESSION_get_time_ex":              "3.3",
	"SSL_SESSION_set_time_ex":              "3.3",
	"SSL_SESS_CACHE_UPDATE_TIME":           "3.0",
	"SSL_new_session_ticket":               "3.0",
	"SSL_set_quic_tls_early_data_enabled":  "3.5",
	"d2i_SSL_SESSION_ex":                   "3.2",
}

const (
	aliasOfSession = "an older name: a macro for the SSL_SESSION_ function"
	forCFiles      = "for a FILE or a BIO of C: Go has bytes and an io.Writer"
	extensionType  = "the number of an extension: ClientHelloInfo of crypto/tls has the numbers"
	ofOneConn      = "for one connection: the hook of its context gets the Conn as an argument"
)

// coverageExcuses has the names that Go does not wrap, with the reason.
var coverageExcuses = map[string]string{
	"BIO_ssl_copy_session_id":             "for connections inside BIOs: a Conn uses a net.Conn",
	"PEM_read_SSL_SESSION":                forCFiles,
	"PEM_write_SSL_SESSION":               forCFiles,
	"SSL_SESSION_print_fp":                forCFiles,
	"d2i_SSL_SESSION_bio":                 forCFiles,
	"i2d_SSL_SESSION_bio":                 forCFiles,
	"SSL_SESSION_ASN1_VERSION":            "the version of the DER format: no function takes or returns it",
	"SSL_SESSION_CACHE_MAX_SIZE_DEFAULT":  "`(*Context).CacheSize` returns it for a new Context",
	"SSL_SESSION_get_app_data":            "slot 0 of ex_data, which all C code of the process shares: `(*Session).ExData` has a separate slot",
	"SSL_SESSION_set_app_data":            "slot 0 of ex_data, which all C code of the process shares: `(*Session).SetExData` has a separate slot",
	"SSL_get_time":                        aliasOfSession,
	"SSL_set_time":                        aliasOfSession,
	"SSL_get_timeout":                     aliasOfSession,
	"SSL_set_timeout":                     aliasOfSession,
	"SSL_copy_session_id":                 "shares a CERT that handshakes write to: `(*Conn).CopySessionID` does the rest (deviations.md)",
	"SSL_cache_hit":                       "another name for SSL_session_reused",
	"SSL_get_session":                     "lends a pointer that dies with the next ticket: `(*Conn).Session` takes a reference (SSL_get1_session)",
	"SSL_get0_session":                    "another name for SSL_get_session",
	"d2i_SSL_SESSION_ex":                  "d2i_SSL_SESSION for another library context: the module uses the default one",
	"SSL_set_quic_tls_early_data_enabled": "for QUIC stacks, which have their own records: a Conn is TLS over a net.Conn",
	"TLSEXT_TYPE_early_data":              extensionType,
	"TLSEXT_TYPE_psk":                     extensionType,
	"TLSEXT_TYPE_psk_kex_modes":           extensionType,
	"TLSEXT_TYPE_session_ticket":          extensionType,

	"SSL_set_allow_early_data_cb":       ofOneConn,
	"SSL_set_psk_client_callback":       ofOneConn,
	"SSL_set_psk_find_session_callback": ofOneConn,
	"SSL_set_psk_server_callback":       ofOneConn,
	"SSL_set_psk_use_session_callback":  ofOneConn,
	"SSL_use_psk_identity_hint":         "for one connection: `(*Context).UsePSKIdentityHint` sets it for all connections of a context",
	"SSL_set_session_secret_cb":         "a client's callback writes the master key into the offered session, which others may have, in the middle of the handshake (deviations.md, known limits)",
}

// coverageOthers has names outside the session family that Go does not wrap, with the reason.
var coverageOthers = map[string]string{
	"SSL_CTX_set_cert_cb":                   "a hook in the middle of the handshake: `(*Context).SetClientHelloCallback` chooses a context with other certificates for each client. After the handshake `(*Conn).AcceptableCAs` returns the authorities that a server named",
	"SSL_CTX_set_client_cert_cb":            "an older form of SSL_CTX_set_cert_cb",
	"SSL_CTX_set_verify's callback":         "a hook in the middle of libssl's verification, which returns a result and an alert. `(*Context).TrustCertPool` adds anchors. After the handshake `(*Conn).VerifyResult` and `(*Conn).ConnectionState` have the facts to decide on",
	"0 of a ticket key callback":            "issues no ticket: `(*Context).SetTicketKeyRing` has no callback. SetNumTickets(0), OpNoTicket and `(*Context).SetNotResumableSessionCallback` issue none",
	"SSL_peek, SSL_peek_ex":                 "returns bytes that stay unread: a bufio.Reader over the Conn has Peek",
	"SSL_CTX_set_tmp_dh_callback":           "deprecated: `(*Context).SetDHAuto`, or `(*Context).Configure` with DHParameters",
	"SSL_CTX_add_client_CA":                 "`(*Context).SetClientCAs` sets the list as a whole",
	"SSL_set1_sigalgs_list":                 "for one connection: `(*Context).SetSigalgs` sets them for all connections of a context",
	"SSL_CTX_set_msg_callback":              "C's view of each message; the key log (`(*Context).SetKeyLogWriter`) and a program such as Wireshark show them",
	"SSL_CTX_set_info_callback":             "C's view of the states of a handshake: `(*Conn).Handshake` returns at its end, with the error",
	"SSL_CTX_set_next_protos_advertised_cb": "the predecessor of ALPN",
}
