// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// NewContextFromTLS makes a Context that behaves as crypto/tls does with config, for [Client] and
// [Server]. A Dialer needs [NewDialerFromTLS], and a listener is [ListenTLS]. The config is read
// once. Later changes of it, and of the list of its certificates, have no effect.
//
// The caller closes the Context.
//
// A field that libssl has no equal for is an ArgumentError, whose argument is the field, such as
// "config.Rand". So are a field that this package does not know, and ServerName,
// InsecureSkipVerify and ClientSessionCache, which are no part of a Context. The keys of
// SetSessionTicketKeys cannot be seen: use [Context.SetTicketKeyRing]. docs/migrating.md has a row
// for each field.
//
// Clients verify the server, whatever [Context.SetVerify] says, and need [Conn.SetServerName]. One
// Context has one store of trusted certificates. If ClientCAs is set and RootCAs is not, or if there are
// several certificates, the Context is for servers only. If both are set and are not the same pool, it
// returns an ArgumentError.
//
// VerifyPeerCertificate and VerifyConnection run when libssl has completed the first handshake,
// before Handshake returns and before anything more is sent: neither the client's Finished of TLS
// 1.3 nor a server's tickets. In TLS 1.2 a client's Finished is sent by then. They run on a goroutine
// of their own, with no lock of libssl's held, while the goroutine of the handshake waits. They must
// not call methods of the Conn that wait for its handshake. The wait ends with the context of
// HandshakeContext, when a deadline passes, and on Close. If one returns an error, the handshake
// fails with it, and sends no alert. The sessions leave the cache and are not resumed. A panic comes
// out of the call that needed the handshake. As in crypto/tls they do not run in a renegotiation; in
// it the peer must show the same certificate ([ErrPeerChanged]). A Conn with one of them, or with
// GetConfigForClient, has no early data ([Conn.ReadEarlyData]) and no
// [Conn.VerifyClientPostHandshake].
//
// GetConfigForClient and GetCertificate run as the hook of [Context.SetClientHelloCallback] does.
// The contexts for what they return are made once and kept, 256 at most: the pointer of a config
// stands for it, so a config that was returned must not change. Its MinVersion, MaxVersion,
// CurvePreferences and SessionTicketsDisabled must mean the same as those of the first config, since
// libssl does not change these any more. Otherwise the handshake fails with an ArgumentError that
// names the field. GetCertificate also runs when a session of TLS 1.3 is resumed.
// [Context.SetClientHelloCallback] replaces both, and the choice among several certificates.
//
// If servers verify clients, the Context has an ID context of its own. Servers that share sessions or
// ticket keys must set a common one before they serve: [Context.SetIDContext]. A client that is verified
// by an intermediate certificate resumes only where the server has one certificate and no
// GetConfigForClient.
//
// Wraps [SSL_CTX_set_client_hello_cb], SSL_CTX_sess_set_new_cb.
//
// [SSL_CTX_set_client_hello_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_client_hello_cb/
func NewContextFromTLS(config *tls.Config) (*Context, error) {
	const fn = "NewContextFromTLS"
	if config != nil {
		for _, field := range []struct {
			name string
			set  bool
		}{
			{"ServerName", config.ServerName != ""},
			{"InsecureSkipVerify", config.InsecureSkipVerify},
			{"ClientSessionCache", config.ClientSessionCache != nil},
		} {
			if field.set {
				return nil, badArgument(fn, "config."+field.name, "is no part of a Context: use NewDialerFromTLS")
			}
		}
	}
	return newFromTLS(fn, config, tlsBoth)
}

// NewDialerFromTLS makes a [Dialer] with a Context that behaves as crypto/tls does with config for
// clients: see [NewContextFromTLS]. It also takes ServerName, InsecureSkipVerify and
// ClientSessionCache. Fields that crypto/tls does not read in a client have no effect: ClientAuth,
// ClientCAs, GetCertificate, GetConfigForClient and the other ones for servers. The fields of the
// Dialer may be changed before it is used.
//
// The caller closes the Context of the Dialer.
//
// If ClientSessionCache is a cache of tls.NewLRUClientSessionCache, the Dialer gets a
// [ClientSessionCache] of its own, with the default limits. It shares nothing with that cache, nor
// with the Dialer of another call, because crypto/tls cannot hold libssl's sessions. Another
// implementation is an ArgumentError: set Dialer.SessionCache.
//
// Wraps [SSL_CTX_set_client_hello_cb], SSL_CTX_sess_set_new_cb.
//
// [SSL_CTX_set_client_hello_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_client_hello_cb/
func NewDialerFromTLS(config *tls.Config) (*Dialer, error) {
	const fn = "NewDialerFromTLS"
	c, err := newFromTLS(fn, config, tlsClient)
	if err != nil {
		return nil, err
	}
	d := &Dialer{Context: c, ServerName: config.ServerName, InsecureSkipVerify: config.InsecureSkipVerify}
	if config.ClientSessionCache == nil {
		return d, nil
	}
	if reflect.TypeOf(config.ClientSessionCache) != reflect.TypeOf(tls.NewLRUClientSessionCache(1)) {
		_ = c.Close()
		return nil, badArgument(fn, "config.ClientSessionCache",
			"is a %T, which cannot hold libssl's sessions: set Dialer.SessionCache", config.ClientSessionCache)
	}
	if d.SessionCache, err = NewClientSessionCache(ClientSessionCacheConfig{}); err != nil {
		_ = c.Close()
		return nil, err
	}
	return d, nil
}

// ListenTLS is tls.Listen with libssl: its servers behave as those of crypto/tls with config. See
// [NewContextFromTLS] and [Listen]. Fields that crypto/tls does not read in a server have no effect:
// RootCAs, ServerName, InsecureSkipVerify, ClientSessionCache and the other ones for clients. A
// config without Certificates, GetCertificate and GetConfigForClient is an ArgumentError. Each
// connection is a *Conn.
//
// Close of the listener also closes its Context. Connections that it accepted continue. For a
// listener whose Context can be reached, use NewContextFromTLS and Listen.
//
// Wraps [SSL_CTX_set_client_hello_cb], SSL_CTX_sess_set_new_cb.
//
// [SSL_CTX_set_client_hello_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_client_hello_cb/
func ListenTLS(network, laddr string, config *tls.Config) (net.Listener, error) {
	const fn = "ListenTLS"
	if config != nil && len(config.Certificates) == 0 && config.GetCertificate == nil && config.GetConfigForClient == nil {
		return nil, badArgument(fn, "config", "has neither Certificates nor GetCertificate nor GetConfigForClient")
	}
	c, err := newFromTLS(fn, config, tlsServer)
	if err != nil {
		return nil, err
	}
	inner, err := net.Listen(network, laddr)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	l := NewListener(inner, c).(*listener)
	l.closes = c
	return l, nil
}

// A tlsRole says which ends of a connection a config is for.
type tlsRole uint8

const (
	tlsClient tlsRole = 1 << iota
	tlsServer
	tlsBoth = tlsClient | tlsServer
)

// A tlsField says what becomes of a field of tls.Config. docs/migrating.md shows the words.
type tlsField struct {
	name    string
	reads   tlsRole // the ends that read the field in crypto/tls
	refused bool
	words   string
}

// tlsFields has each field of tls.Config. A config with another one is refused.
var tlsFields = []tlsField{
	{"Certificates", tlsBoth, false, "yes. A server with several takes the first that the client supports. A client has one, and sends it if the server names its authority, or none. A key that only signs, SupportedSignatureAlgorithms and SignedCertificateTimestamps are errors"},
	{"NameToCertificate", tlsServer, true, "error: use GetCertificate"},
	{"GetCertificate", tlsServer, false, "yes, and also when a session of TLS 1.3 is resumed"},
	{"GetConfigForClient", tlsServer, false, "yes. The config may differ in all that the chosen context gives, and not in MinVersion, MaxVersion, CurvePreferences and SessionTicketsDisabled"},
	{"GetClientCertificate", tlsClient, true, "error: a client sends the certificate of its context"},
	{"RootCAs", tlsClient, false, "yes; nil is the system's authorities"},
	{"ClientCAs", tlsServer, false, "yes, and their names are sent; nil is the system's authorities. If RootCAs is another pool, use NewDialerFromTLS and ListenTLS"},
	{"ServerName", tlsClient, false, "NewDialerFromTLS"},
	{"InsecureSkipVerify", tlsClient, false, "NewDialerFromTLS"},
	{"ClientAuth", tlsServer, false, "yes; RequestClientCert and RequireAnyClientCert are errors"},
	{"VerifyPeerCertificate", tlsBoth, false, "yes, when libssl's handshake is over. VerifiedChains has one chain"},
	{"VerifyConnection", tlsBoth, false, "yes, when libssl's handshake is over. VerifiedChains has one chain"},
	{"Time", tlsBoth, true, "error: libssl reads the system clock"},
	{"Rand", tlsBoth, true, "error: libssl has its own random source"},
	{"NextProtos", tlsBoth, false, "yes; see below for \"h2\""},
	{"CipherSuites", tlsBoth, false, "yes, in the order of the list; nil is libssl's list. One that libssl does not have is an error"},
	{"PreferServerCipherSuites", tlsServer, false, "no effect, as in crypto/tls: the server's order counts"},
	{"MinVersion", tlsBoth, false, "yes; 0 is TLS 1.2. A lower one is an error if the security level of libssl does not allow it"},
	{"MaxVersion", tlsBoth, false, "yes; 0 is TLS 1.3"},
	{"CurvePreferences", tlsBoth, false, "yes, in the order of the list; nil is libssl's list. One that libssl does not have is an error"},
	{"Renegotiation", tlsClient, false, "yes; RenegotiateOnceAsClient is an error"},
	{"SessionTicketsDisabled", tlsBoth, false, "yes: a server resumes nothing"},
	{"SessionTicketKey", tlsServer, true, "error: use Context.SetTicketKeyRing. The keys of SetSessionTicketKeys cannot be seen"},
	{"ClientSessionCache", tlsClient, false, "NewDialerFromTLS, for a cache of tls.NewLRUClientSessionCache; another one is an error"},
	{"WrapSession", tlsServer, true, "error: use Context.SetSessionTicketCallback"},
	{"UnwrapSession", tlsServer, true, "error: use Context.SetSessionTicketCallback"},
	{"DynamicRecordSizingDisabled", tlsBoth, false, "no effect"},
	{"KeyLogWriter", tlsBoth, false, "yes"},
	{"EncryptedClientHelloConfigList", tlsClient, true, "error: there is no Encrypted Client Hello"},
	{"EncryptedClientHelloRejectionVerify", tlsClient, true, "error: there is no Encrypted Client Hello"},
	{"EncryptedClientHelloKeys", tlsServer, true, "error: there is no Encrypted Client Hello"},
	{"GetEncryptedClientHelloKeys", tlsServer, true, "error: there is no Encrypted Client Hello"},
}

// usedTicketKey begins the SessionTicketKey that crypto/tls itself sets in a config that it has used.
const usedTicketKey = "DEPRECATED"

// checkTLSFields refuses fields that have no equal.
func checkTLSFields(fn string, config *tls.Config, role tlsRole) error {
	v := reflect.ValueOf(config).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if !v.Type().Field(i).IsExported() || v.Field(i).IsZero() {
			continue
		}
		//lint:ignore SA1019 crypto/tls sets it, whatever the program does
		if name == "SessionTicketKey" && strings.HasPrefix(string(config.SessionTicketKey[:]), usedTicketKey) {
			continue
		}
		at := slices.IndexFunc(tlsFields, func(f tlsField) bool { return f.name == name })
		if at < 0 {
			return badArgument(fn, "config."+name, "is set, and sslctx does not know this field of tls.Config")
		}
		if f := tlsFields[at]; f.refused && f.reads&role != 0 {
			return badArgument(fn, "config."+name, "is set: %s", strings.TrimPrefix(f.words, "error: "))
		}
	}
	return nil
}

// badField is the error for a field whose value libssl, or a setter, refuses.
func badField(fn, field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", badArgument(fn, "config."+field, "cannot be set"), err)
}

// lacks is the error for a value of a list that libssl does not have.
func lacks(fn, field, value string, err error) error {
	return fmt.Errorf("%w: %w", badArgument(fn, "config."+field, "has %s, which this libssl does not have", value), err)
}

// newFromTLS makes the Context of one of the exported functions.
func newFromTLS(fn string, config *tls.Config, role tlsRole) (*Context, error) {
	if config == nil {
		return nil, badArgument(fn, "config", "is nil")
	}
	m := tlsMaker{fn: fn, trusts: new(trustIDs)}
	c, err := m.make(cloneTLS(config), role)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// cloneTLS copies a config, with its lists.
func cloneTLS(config *tls.Config) *tls.Config {
	c := config.Clone()
	c.Certificates = slices.Clone(c.Certificates)
	c.NextProtos = slices.Clone(c.NextProtos)
	c.CipherSuites = slices.Clone(c.CipherSuites)
	c.CurvePreferences = slices.Clone(c.CurvePreferences)
	return c
}

// A tlsMaker makes contexts of configs.
type tlsMaker struct {
	fn     string // for errors
	chosen bool   // the config was chosen by the ClientHello: its own hooks have no part in that
	trusts *trustIDs
}

// make makes a context. config is a copy that nobody changes.
func (m *tlsMaker) make(config *tls.Config, role tlsRole) (*Context, error) {
	if err := checkTLSFields(m.fn, config, role); err != nil {
		return nil, err
	}
	role, err := m.narrow(config, role)
	if err != nil {
		return nil, err
	}
	method := map[tlsRole]Method{tlsBoth: TLSMethod, tlsClient: TLSClientMethod, tlsServer: TLSServerMethod}[role]
	c, err := NewContext(method)
	if err != nil {
		return nil, err
	}
	c.likeTLS = true
	for _, step := range []func(*Context, *tls.Config, tlsRole) error{
		m.setVersions, m.setCipherSuites, m.setCurves, m.setProtocols, m.setCertificates, m.setTrust, m.setClientAuth,
		m.setResumption, m.setOptions, m.setKeyLog, m.setChecks, m.setChoice,
	} {
		if err := step(c, config, role); err != nil {
			_ = c.Close()
			return nil, err
		}
	}
	return c, nil
}

// narrow leaves the role that a config can have where a Context cannot have both.
func (m *tlsMaker) narrow(config *tls.Config, role tlsRole) (tlsRole, error) {
	if role != tlsBoth {
		return role, nil
	}
	verifies := config.ClientAuth >= tls.VerifyClientCertIfGiven
	roots, clients := config.RootCAs, config.ClientCAs
	switch {
	case roots != nil && roots != clients && (clients != nil || verifies): // Equal does not see constraints
		return 0, badArgument(m.fn, "config.ClientCAs", "is another pool than RootCAs, and a Context has one store for both: "+
			"use NewDialerFromTLS and ListenTLS")
	case roots == nil && clients != nil, len(config.Certificates) > 1:
		return tlsServer, nil
	}
	return tlsBoth, nil
}

func (m *tlsMaker) setVersions(c *Context, config *tls.Config, _ tlsRole) error {
	low, high, err := tlsVersions(m.fn, config)
	if err != nil {
		return err
	}
	if low < VersionTLS12 && oldVersionsNeedLevel0 && c.SecurityLevel() > 0 {
		return badArgument(m.fn, "config.MinVersion", "is below TLS 1.2, for which this libssl needs the security level 0: "+
			"set it to 0, and call SetSecurityLevel and SetMinProtoVersion of the Context")
	}
	if err := c.SetMinProtoVersion(low); err != nil {
		return badField(m.fn, "MinVersion", err)
	}
	return badField(m.fn, "MaxVersion", c.SetMaxProtoVersion(high))
}

// tlsVersions returns the lowest and the highest version that a config allows.
func tlsVersions(fn string, config *tls.Config) (low, high Version, err error) {
	low, high = VersionTLS12, VersionTLS13
	const oldest = 0x0300 // SSL 3, which neither crypto/tls nor libssl speaks
	for _, bound := range []struct {
		field string
		set   uint16
		to    *Version
	}{{"MinVersion", config.MinVersion, &low}, {"MaxVersion", config.MaxVersion, &high}} {
		switch {
		case bound.set == 0:
		case bound.set < oldest || bound.set > tls.VersionTLS13:
			return 0, 0, badArgument(fn, "config."+bound.field, "is %#04x, no version of TLS", bound.set)
		default:
			*bound.to = max(Version(bound.set), VersionTLS10)
		}
	}
	if config.MaxVersion == oldest || low > high {
		return 0, 0, badArgument(fn, "config.MaxVersion", "is below MinVersion, or below what crypto/tls allows")
	}
	if low < VersionTLS13 && config.CipherSuites != nil && len(suitesOfTLS12(config)) == 0 {
		if high < VersionTLS13 {
			return 0, 0, badArgument(fn, "config.CipherSuites", "has no cipher suite for the versions")
		}
		low = VersionTLS13
	}
	return low, high, nil
}

// suitesOfTLS12 returns the cipher suites of a config that are not of TLS 1.3. Those of TLS 1.3
// cannot be configured in crypto/tls.
func suitesOfTLS12(config *tls.Config) (ids []uint16) {
	for _, id := range config.CipherSuites {
		if id>>8 != tls.TLS_AES_128_GCM_SHA256>>8 {
			ids = append(ids, id)
		}
	}
	return ids
}

func (m *tlsMaker) setCipherSuites(c *Context, config *tls.Config, _ tlsRole) error {
	ids := suitesOfTLS12(config)
	if len(ids) == 0 {
		return nil
	}
	s, err := NewSession() // it knows the names
	if err != nil {
		return err
	}
	defer s.Close()
	var names []string
	for _, id := range ids {
		if err := s.SetCipher(Cipher{ID: id}); err != nil {
			return lacks(m.fn, "CipherSuites", tls.CipherSuiteName(id), err)
		}
		names = append(names, s.Cipher().Name)
	}
	return badField(m.fn, "CipherSuites", c.SetCipherList(strings.Join(names, ":")))
}

// curveNames are libssl's names of the groups that crypto/tls has. The last two are in Go 1.26.
var curveNames = map[tls.CurveID]string{
	tls.CurveP256: "P-256", tls.CurveP384: "P-384", tls.CurveP521: "P-521", tls.X25519: "X25519",
	tls.X25519MLKEM768: "X25519MLKEM768", 4587: "SecP256r1MLKEM768", 4589: "SecP384r1MLKEM1024",
}

func (m *tlsMaker) setCurves(c *Context, config *tls.Config, _ tlsRole) error {
	var names []string
	for _, id := range config.CurvePreferences {
		name := curveNames[id]
		if name == "" {
			name = id.String() // which no libssl has
		}
		if err := c.SetGroups(name); err != nil {
			return lacks(m.fn, "CurvePreferences", id.String(), err)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil
	}
	return badField(m.fn, "CurvePreferences", c.SetGroups(strings.Join(names, ":")))
}

func (m *tlsMaker) setProtocols(c *Context, config *tls.Config, _ tlsRole) error {
	return badField(m.fn, "NextProtos", c.SetALPNProtos(config.NextProtos...))
}

// setCertificates sets the certificate of a client, and the first of a server.
func (m *tlsMaker) setCertificates(c *Context, config *tls.Config, role tlsRole) error {
	for i, cert := range config.Certificates {
		if err := checkTLSCertificate(m.fn, fmt.Sprintf("config.Certificates[%d]", i), cert); err != nil {
			return err
		}
	}
	if role&tlsClient != 0 && len(config.Certificates) > 1 {
		return badArgument(m.fn, "config.Certificates", "has several: a client of libssl does not choose by the authorities that the "+
			"server names, so make a Dialer for each")
	}
	if len(config.Certificates) == 0 {
		return nil
	}
	return badField(m.fn, "Certificates[0]", c.UseCertificate(config.Certificates[0]))
}

// checkTLSCertificate refuses what UseCertificate would not send.
func checkTLSCertificate(fn, arg string, cert tls.Certificate) error {
	switch {
	case len(cert.SupportedSignatureAlgorithms) > 0:
		return badArgument(fn, arg+".SupportedSignatureAlgorithms", "is set: libssl has one list for all certificates")
	case len(cert.SignedCertificateTimestamps) > 0:
		return badArgument(fn, arg+".SignedCertificateTimestamps", "is set, and is not sent")
	}
	return nil
}

// setTrust sets whom the context trusts, and the names that a server sends.
func (m *tlsMaker) setTrust(c *Context, config *tls.Config, role tlsRole) error {
	field, pool := "RootCAs", config.RootCAs
	needed := role&tlsClient != 0 && !config.InsecureSkipVerify
	if role == tlsServer {
		field, pool = "ClientCAs", config.ClientCAs
		needed = config.ClientAuth >= tls.VerifyClientCertIfGiven
	}
	if !needed {
		return nil
	}
	if pool == nil {
		system, err := x509.SystemCertPool()
		if err != nil {
			return badField(m.fn, field, err)
		}
		pool = system
	}
	if err := errors.Join(c.TrustCertPool(pool), c.trustPartialChains()); err != nil {
		return badField(m.fn, field, err)
	}
	if role&tlsServer == 0 || config.ClientCAs == nil {
		return nil
	}
	var names []*x509.Certificate
	//lint:ignore SA1019 crypto/tls sends the same names
	for _, subject := range config.ClientCAs.Subjects() {
		names = append(names, &x509.Certificate{RawSubject: subject})
	}
	return badField(m.fn, "ClientCAs", c.SetClientCAs(names...))
}

func (m *tlsMaker) setClientAuth(c *Context, config *tls.Config, role tlsRole) error {
	if role&tlsServer == 0 {
		return nil
	}
	mode := VerifyPeer
	switch config.ClientAuth {
	case tls.NoClientCert:
		return nil
	case tls.VerifyClientCertIfGiven:
	case tls.RequireAndVerifyClientCert:
		mode |= VerifyFailIfNoPeerCert
	default:
		return badArgument(m.fn, "config.ClientAuth", "is %v: libssl verifies each certificate that it asks for", config.ClientAuth)
	}
	if err := c.SetVerify(mode); err != nil {
		return badField(m.fn, "ClientAuth", err)
	}
	return badField(m.fn, "ClientAuth", c.SetIDContext(m.trusts.idFor(config)))
}

// setResumption makes clients ask for what crypto/tls asks for, and switches resumption off if the
// config does.
func (m *tlsMaker) setResumption(c *Context, config *tls.Config, role tlsRole) error {
	if role&tlsClient != 0 {
		if err := c.RequestOCSP(true); err != nil { // crypto/tls always does
			return err
		}
	}
	if !config.SessionTicketsDisabled {
		return nil
	}
	const field = "SessionTicketsDisabled"
	if _, err := c.SetOptions(OpNoTicket); err != nil {
		return badField(m.fn, field, err)
	}
	if _, err := c.SetSessionCacheMode(SessCacheOff); err != nil {
		return badField(m.fn, field, err)
	}
	return badField(m.fn, field, c.SetNumTickets(0))
}

// setOptions sets what servers of crypto/tls always do, and how clients renegotiate.
func (m *tlsMaker) setOptions(c *Context, config *tls.Config, role tlsRole) error {
	options := OpCipherServerPreference
	switch {
	case role&tlsClient == 0 || config.Renegotiation == tls.RenegotiateNever: // a server never does
		options |= OpNoRenegotiation
	case config.Renegotiation != tls.RenegotiateFreelyAsClient:
		return badArgument(m.fn, "config.Renegotiation", "is %d: libssl cannot count renegotiations", config.Renegotiation)
	}
	_, err := c.SetOptions(options)
	return badField(m.fn, "Renegotiation", err)
}

// A tlsKeyLog is a writer that several contexts share.
type tlsKeyLog struct{ io.Writer }

// tlsKeyLogMu separates the lines of all these writers, as crypto/tls does.
var tlsKeyLogMu sync.Mutex

func (l tlsKeyLog) Write(line []byte) (int, error) {
	tlsKeyLogMu.Lock()
	defer tlsKeyLogMu.Unlock()
	return l.Writer.Write(line)
}

func (m *tlsMaker) setKeyLog(c *Context, config *tls.Config, _ tlsRole) error {
	if config.KeyLogWriter == nil {
		return nil
	}
	return badField(m.fn, "KeyLogWriter", c.SetKeyLogWriter(tlsKeyLog{config.KeyLogWriter}))
}

// setChecks sets the functions that run after libssl's handshake. A chosen context without one has
// an empty check, which takes the place of the first context's.
func (m *tlsMaker) setChecks(c *Context, config *tls.Config, role tlsRole) error {
	chooses := role&tlsServer != 0 && config.GetConfigForClient != nil
	if config.VerifyPeerCertificate == nil && config.VerifyConnection == nil && !chooses && !m.chosen {
		return nil
	}
	return c.setPeerCheck(&peerCheck{
		certificates: config.VerifyPeerCertificate,
		connection:   config.VerifyConnection,
		asksClients:  config.ClientAuth != tls.NoClientCert,
	})
}

// trustIDs are the ID contexts of servers that verify clients. A session is then resumed only under
// the trust by which its client was verified. They are random, since a CertPool cannot list its
// certificates.
type trustIDs struct {
	mu    sync.Mutex
	known []trustID // the first is that of the first config
	base  []byte    // what the program has set by SetIDContext, or nil
}

type trustID struct {
	auth tls.ClientAuthType
	pool *x509.CertPool
	id   []byte
}

// idFor returns the ID context for what a config asks of clients.
func (t *trustIDs) idFor(config *tls.Config) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, k := range t.known {
		if k.auth == config.ClientAuth && k.pool.Equal(config.ClientCAs) {
			return k.derive(t.base, i == 0)
		}
	}
	random := sha256.Sum256([]byte(rand.Text()))
	if len(t.known) >= maxMadeContexts {
		t.known = slices.Delete(t.known, 1, 2)
	}
	var pool *x509.CertPool
	if config.ClientCAs != nil {
		pool = config.ClientCAs.Clone()
	}
	k := trustID{config.ClientAuth, pool, random[:]}
	t.known = append(t.known, k)
	return k.derive(t.base, len(t.known) == 1)
}

// derive returns the ID context. If the program has set one, that of the first config is the program's, and others
// are made of it and of the names of the authorities, so that servers of a fleet have the same. Authorities of the
// same name share one: their sessions are verified again.
func (k *trustID) derive(base []byte, first bool) []byte {
	if base == nil {
		return k.id
	}
	if first {
		return base
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d %x", k.auth, base)
	if k.pool != nil {
		//lint:ignore SA1019 a pool lists nothing else
		for _, subject := range k.pool.Subjects() {
			fmt.Fprintf(h, " %x", subject)
		}
	}
	return h.Sum(nil)
}

// setBase sets the ID context that the program has set.
func (t *trustIDs) setBase(id []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.base = slices.Clone(id)
}
