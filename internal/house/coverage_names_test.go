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
	forCFiles      = "for a FILE or a BIO of C: in Go, bytes and an io.Writer"
	extensionType  = "the number of an extension: in Go, crypto/tls and its ClientHelloInfo have them"
	ofOneConn      = "for one connection: the hook of its context is told which Conn it is asked for"
)

// coverageExcuses has the names that Go does not have, with the reason.
var coverageExcuses = map[string]string{
	"BIO_ssl_copy_session_id":             "for connections inside of BIOs: a Conn is over a net.Conn",
	"PEM_read_SSL_SESSION":                forCFiles,
	"PEM_write_SSL_SESSION":               forCFiles,
	"SSL_SESSION_print_fp":                forCFiles,
	"d2i_SSL_SESSION_bio":                 forCFiles,
	"i2d_SSL_SESSION_bio":                 forCFiles,
	"SSL_SESSION_ASN1_VERSION":            "the version of the DER format: no function takes or gives it",
	"SSL_SESSION_CACHE_MAX_SIZE_DEFAULT":  "what `(*Context).CacheSize` says of a new Context",
	"SSL_SESSION_get_app_data":            "slot 0 of ex_data, which all C code of the process shares: `(*Session).ExData` has a slot of its own",
	"SSL_SESSION_set_app_data":            "slot 0 of ex_data, which all C code of the process shares: `(*Session).SetExData` has a slot of its own",
	"SSL_get_time":                        aliasOfSession,
	"SSL_set_time":                        aliasOfSession,
	"SSL_get_timeout":                     aliasOfSession,
	"SSL_set_timeout":                     aliasOfSession,
	"SSL_copy_session_id":                 "shares a CERT that handshakes write to: `(*Conn).CopySessionID` does the rest of it (deviations.md)",
	"SSL_cache_hit":                       "another name for SSL_session_reused",
	"SSL_get_session":                     "lends a pointer that dies with the next ticket: `(*Conn).Session` takes a reference (SSL_get1_session)",
	"SSL_get0_session":                    "another name for SSL_get_session",
	"d2i_SSL_SESSION_ex":                  "d2i_SSL_SESSION for a library context other than the default one, which is the module's",
	"SSL_set_quic_tls_early_data_enabled": "for QUIC stacks that have their own records: a Conn is TLS over a net.Conn",
	"TLSEXT_TYPE_early_data":              extensionType,
	"TLSEXT_TYPE_psk":                     extensionType,
	"TLSEXT_TYPE_psk_kex_modes":           extensionType,
	"TLSEXT_TYPE_session_ticket":          extensionType,

	"SSL_set_allow_early_data_cb":       ofOneConn,
	"SSL_set_psk_client_callback":       ofOneConn,
	"SSL_set_psk_find_session_callback": ofOneConn,
	"SSL_set_psk_server_callback":       ofOneConn,
	"SSL_set_psk_use_session_callback":  ofOneConn,
	"SSL_use_psk_identity_hint":         "for one connection: `(*Context).UsePSKIdentityHint` is for all of a context",
	"SSL_set_session_secret_cb":         "a client has it write the master key into the session that it offers, in the middle of the handshake, which others may have (deviations.md, known limits)",
}

// coverageOthers has names that are not of the session family, and that Go does not have, with the
// reason.
var coverageOthers = map[string]string{
	"SSL_CTX_set_cert_cb":                   "a hook in the middle of the handshake: `(*Context).SetClientHelloCallback` chooses a context with other certificates for each client, and `(*Conn).AcceptableCAs` says after the handshake what a server asked for",
	"SSL_CTX_set_client_cert_cb":            "an older form of SSL_CTX_set_cert_cb",
	"SSL_CTX_set_verify's callback":         "a hook in the middle of libssl's verification, with a verdict and an alert of its own: `(*Context).TrustCertPool` adds anchors, and after the handshake `(*Conn).VerifyResult` and `(*Conn).ConnectionState` have what there is to judge",
	"0 of a ticket key callback":            "which issues no ticket: `(*Context).SetTicketKeyRing` has no callback; SetNumTickets(0), OpNoTicket and `(*Context).SetNotResumableSessionCallback` issue none",
	"SSL_peek, SSL_peek_ex":                 "bytes that stay to be read: a bufio.Reader over the Conn has Peek",
	"SSL_CTX_set_tmp_dh_callback":           "deprecated: `(*Context).SetDHAuto`, or `(*Context).Configure` with DHParameters",
	"SSL_CTX_add_client_CA":                 "`(*Context).SetClientCAs` sets the list as a whole",
	"SSL_set1_sigalgs_list":                 "for one connection: `(*Context).SetSigalgs` is for all of a context",
	"SSL_CTX_set_msg_callback":              "C's view of each message; the key log (`(*Context).SetKeyLogWriter`) and a program such as Wireshark show them",
	"SSL_CTX_set_info_callback":             "C's view of the states of a handshake: `(*Conn).Handshake` returns when it is over, with the error",
	"SSL_CTX_set_next_protos_advertised_cb": "the predecessor of ALPN",
}
