// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include <stdlib.h>
// #include "cgo_shim.h"
import "C"

import (
	"fmt"
	"math"
	"strings"
	"unsafe"
)

// SetVerify sets how the peer's certificate is verified. The default of both ends is VerifyNone. A
// client that must know its server sets VerifyPeer here, and [Conn.SetServerName] on each
// connection: without a name the handshake fails (ErrNoServerName). A [Dialer] does both by itself.
//
// The mode also holds for sessions that are resumed, even for those that were made before. A client
// offers no session that was made without verification: see [Conn.SetSession]. A server resumes no
// session without a certificate where it must have one (VerifyFailIfNoPeerCert), and none whose
// certificate has expired. It verifies the certificate again if another trust configuration than
// today's may have verified it. That can be so with a hook for the ClientHello, after
// [Context.TrustCertPool] has replaced a pool, and for a session that is older than the Context.
//
// Servers that share sessions or ticket keys, and trust different clients, need different ID
// contexts. An example is a fleet that stops trusting an authority, one server after the other. A
// server that still trusts the authority makes tickets, and the other servers accept and renew
// these tickets, also later. So set a new ID context when you change whom a server trusts.
//
// If a session came in a ticket or from a hook and must not be resumed, the handshake is a full
// one. libssl asks nobody about a session that it finds in its own cache. Then the handshake fails
// with ErrUnverifiedSession, and the session leaves the cache. The client's next handshake is a
// full one.
//
// A server keeps a client's certificate in the session. A ticket can hold 65,280 bytes of that. For
// a client with a larger certificate the server's handshake fails with "internal error", unless the
// sessions are in the cache (OpNoTicket).
//
// A server with VerifyPeer needs an ID context, [Context.SetIDContext]. Otherwise each client's
// second connection fails (ReasonSessionIDContextUninitialized). With VerifyPeer alone a session
// that was made without a certificate resumes without one. Such a session was made before
// SetVerify, or by another server with the same sessions or ticket keys and the same ID context.
// Set another ID context when you change what you ask of clients.
//
// The other modes are additions to VerifyPeer. It returns an ArgumentError for them without
// VerifyPeer, and for unknown bits.
//
// Wraps [SSL_CTX_set_verify].
//
// [SSL_CTX_set_verify]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_verify/
func (c *Context) SetVerify(m VerifyMode) error {
	if err := checkVerify(m); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		C.shim_SSL_CTX_set_verify(p, C.int(m))
		return nil
	})
}

// checkVerify refuses a mode that asks for nothing, and looks as if it asked for a certificate.
func checkVerify(m VerifyMode) error {
	const known = VerifyPeer | VerifyFailIfNoPeerCert | VerifyClientOnce | VerifyPostHandshake
	switch {
	case m&^known != 0:
		return badArgument("SetVerify", "m", "is %#x, which has unknown bits", int(m))
	case m != VerifyNone && m&VerifyPeer == 0:
		return badArgument("SetVerify", "m", "is %v without VerifyPeer: a server would ask for nothing", m)
	}
	return nil
}

// VerifyMode returns how the peer's certificate is verified.
//
// Wraps [SSL_CTX_get_verify_mode].
//
// [SSL_CTX_get_verify_mode]: https://docs.openssl.org/3.0/man3/SSL_CTX_get_verify_mode/
func (c *Context) VerifyMode() VerifyMode {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	return VerifyMode(C.SSL_CTX_get_verify_mode(v.p))
}

// SetPostHandshakeAuth sets whether a client of TLS 1.3 says that it can show its certificate after
// the handshake, when the server asks for it. By default it does not say so. It is
// [Conn.SetPostHandshakeAuth] for all connections.
//
// Wraps [SSL_CTX_set_post_handshake_auth].
//
// [SSL_CTX_set_post_handshake_auth]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_verify/
func (c *Context) SetPostHandshakeAuth(on bool) error {
	return c.configure(func(p *C.SSL_CTX) error {
		C.SSL_CTX_set_post_handshake_auth(p, boolInt(on))
		return nil
	})
}

// SetVerifyDepth sets how many certificates may stand between the peer's and a trusted one.
//
// Wraps [SSL_CTX_set_verify_depth].
//
// [SSL_CTX_set_verify_depth]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_verify/
func (c *Context) SetVerifyDepth(n int) error {
	if err := checkInt("SetVerifyDepth", "n", n, 0, maxInt); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		C.SSL_CTX_set_verify_depth(p, C.int(n))
		return nil
	})
}

// VerifyDepth returns how many certificates may stand between the peer's and a trusted one, -1 for
// libssl's default of 100.
//
// Wraps [SSL_CTX_get_verify_depth].
//
// [SSL_CTX_get_verify_depth]: https://docs.openssl.org/3.0/man3/SSL_CTX_get_verify_mode/
func (c *Context) VerifyDepth() int {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	return int(C.SSL_CTX_get_verify_depth(v.p))
}

// SetMinProtoVersion sets the lowest version that connections negotiate. VersionAny is the lowest
// that libssl has.
//
// Wraps [SSL_CTX_set_min_proto_version].
//
// [SSL_CTX_set_min_proto_version]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_min_proto_version/
func (c *Context) SetMinProtoVersion(v Version) error {
	if err := checkInt("SetMinProtoVersion", "v", int(v), 0, math.MaxUint16); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		r := C.shim_SSL_CTX_set_min_proto_version(p, C.int(v))
		return versionError("SetMinProtoVersion", "SSL_CTX_set_min_proto_version", v, r)
	})
}

// MinProtoVersion returns the lowest version that connections negotiate.
//
// Wraps [SSL_CTX_get_min_proto_version].
//
// [SSL_CTX_get_min_proto_version]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_min_proto_version/
func (c *Context) MinProtoVersion() Version {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	return Version(C.shim_SSL_CTX_get_min_proto_version(v.p))
}

// SetMaxProtoVersion sets the highest version that connections negotiate. VersionAny is the highest
// that libssl has.
//
// Wraps [SSL_CTX_set_max_proto_version].
//
// [SSL_CTX_set_max_proto_version]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_min_proto_version/
func (c *Context) SetMaxProtoVersion(v Version) error {
	if err := checkInt("SetMaxProtoVersion", "v", int(v), 0, math.MaxUint16); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		r := C.shim_SSL_CTX_set_max_proto_version(p, C.int(v))
		return versionError("SetMaxProtoVersion", "SSL_CTX_set_max_proto_version", v, r)
	})
}

// MaxProtoVersion returns the highest version that connections negotiate.
//
// Wraps [SSL_CTX_get_max_proto_version].
//
// [SSL_CTX_get_max_proto_version]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_min_proto_version/
func (c *Context) MaxProtoVersion() Version {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	return Version(C.shim_SSL_CTX_get_max_proto_version(v.p))
}

// versionError explains a refusal for which libssl queues no reason.
func versionError(fn, op string, v Version, r C.shim_long) error {
	if r.n != 1 && r.errs == nil {
		return badArgument(fn, "v", "is %v, which this libssl does not have for the method", v)
	}
	return errorIf(r.n == 1, op, r.errs)
}

// SetCipherList sets the cipher suites of TLS 1.2 and before, in OpenSSL's syntax.
//
// Wraps [SSL_CTX_set_cipher_list].
//
// [SSL_CTX_set_cipher_list]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_cipher_list/
func (c *Context) SetCipherList(list string) error {
	return c.setString("SetCipherList", "list", list, "SSL_CTX_set_cipher_list",
		func(p *C.SSL_CTX, s *C.char) C.shim_long { return C.shim_SSL_CTX_set_cipher_list(p, s) })
}

// SetCiphersuites sets the cipher suites of TLS 1.3, as names with colons between them.
//
// Wraps [SSL_CTX_set_ciphersuites].
//
// [SSL_CTX_set_ciphersuites]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_cipher_list/
func (c *Context) SetCiphersuites(list string) error {
	return c.setString("SetCiphersuites", "list", list, "SSL_CTX_set_ciphersuites",
		func(p *C.SSL_CTX, s *C.char) C.shim_long { return C.shim_SSL_CTX_set_ciphersuites(p, s) })
}

// SetGroups sets the groups of the key exchange, the best first, as names with colons between them.
//
// Wraps [SSL_CTX_set1_groups_list].
//
// [SSL_CTX_set1_groups_list]: https://docs.openssl.org/3.0/man3/SSL_CTX_set1_curves/
func (c *Context) SetGroups(list string) error {
	return c.setString("SetGroups", "list", list, "SSL_CTX_set1_groups_list",
		func(p *C.SSL_CTX, s *C.char) C.shim_long { return C.shim_SSL_CTX_set1_groups_list(p, s) })
}

// SetSigalgs sets the signature algorithms that this end accepts from its peer, and makes its own
// signatures by. The best comes first, as names with colons between them:
// "ECDSA+SHA256:RSA-PSS+SHA256", or the names of TLS 1.3, such as "rsa_pss_rsae_sha256".
//
// Wraps [SSL_CTX_set1_sigalgs_list].
//
// [SSL_CTX_set1_sigalgs_list]: https://docs.openssl.org/3.0/man3/SSL_CTX_set1_sigalgs/
func (c *Context) SetSigalgs(list string) error {
	return c.setString("SetSigalgs", "list", list, "SSL_CTX_set1_sigalgs_list",
		func(p *C.SSL_CTX, s *C.char) C.shim_long { return C.shim_SSL_CTX_set1_sigalgs_list(p, s) })
}

// SetClientSigalgs sets the signature algorithms for the certificates of clients, in the form of
// SetSigalgs. A server asks for these, and a client answers with these. Without it the algorithms
// of SetSigalgs count.
//
// Wraps [SSL_CTX_set1_client_sigalgs_list].
//
// [SSL_CTX_set1_client_sigalgs_list]: https://docs.openssl.org/3.0/man3/SSL_CTX_set1_sigalgs/
func (c *Context) SetClientSigalgs(list string) error {
	return c.setString("SetClientSigalgs", "list", list, "SSL_CTX_set1_client_sigalgs_list",
		func(p *C.SSL_CTX, s *C.char) C.shim_long { return C.shim_SSL_CTX_set1_client_sigalgs_list(p, s) })
}

// SetDHAuto sets whether a server uses built-in parameters for the DHE key exchange of TLS 1.2 and
// before. They are as strong as the key of its certificate. Without them, and without
// Configure("DHParameters", file), the DHE cipher suites are not used, unless this libssl has
// groups for them. crypto/tls has none of these suites, but old clients may want them. ECDHE needs
// nothing.
//
// Wraps [SSL_CTX_set_dh_auto].
//
// [SSL_CTX_set_dh_auto]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tmp_dh_callback/
func (c *Context) SetDHAuto(on bool) error {
	return c.configure(func(p *C.SSL_CTX) error {
		C.shim_SSL_CTX_set_dh_auto(p, boolInt(on)) // cannot fail
		return nil
	})
}

// SetALPNProtos sets the application protocols, the best first, such as "h2" and "http/1.1". A
// client offers them. A server chooses from them, by its own order. If a server's list has nothing
// in common with a client's, the handshake fails, unless [Context.AllowALPNMismatch] lets it
// continue. Without a name there is no ALPN. A name is 1 to 255 bytes long.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
//
// Wraps [SSL_CTX_set_alpn_protos], SSL_CTX_set_alpn_select_cb.
//
// [SSL_CTX_set_alpn_protos]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_alpn_select_cb/
func (c *Context) SetALPNProtos(protos ...string) error {
	var wire []byte
	for _, p := range protos {
		if len(p) == 0 || len(p) > math.MaxUint8 {
			return badArgument("SetALPNProtos", "protos", "has a name of %d bytes, the limits are 1 and 255", len(p))
		}
		wire = append(append(wire, byte(len(p))), p...)
	}
	if len(wire) > math.MaxUint16 {
		return badArgument("SetALPNProtos", "protos", "take %d bytes, the limit is 65535", len(wire))
	}
	return c.replaceCallback(C.SHIM_CALLBACK_ALPN_SELECT, len(wire) > 0, func(p *C.SSL_CTX) error {
		r := C.shim_SSL_CTX_set_alpn_protos(p, bytesPointer(wire), C.size_t(len(wire)))
		return errorIf(r.n == 1, "SSL_CTX_set_alpn_protos", r.errs)
	})
}

// AllowALPNMismatch sets whether a server continues without a protocol if its list
// ([Context.SetALPNProtos]) has nothing in common with a client's. [Conn.ConnectionState] then has
// no protocol, and the application must cope with that. The default is false, as in crypto/tls: the
// handshake fails with the alert no_application_protocol. Otherwise the ends could treat a
// connection for one protocol as one for another. crypto/tls makes one exception, and libssl does
// not: if the server's list has "h2" and not "http/1.1", a client that offers only "http/1.1"
// continues without a protocol. Here that needs AllowALPNMismatch.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
//
// Wraps [SSL_CTX_set_alpn_select_cb].
//
// [SSL_CTX_set_alpn_select_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_alpn_select_cb/
func (c *Context) AllowALPNMismatch(allow bool) error {
	return c.configure(func(p *C.SSL_CTX) error {
		if c.mayBeForeign(p, C.SHIM_CALLBACK_ALPN_SELECT) {
			return ErrForeignCallback
		}
		r := C.shim_SSL_CTX_set_alpn_select_cb(p, boolInt(allow))
		return errorIf(r.n == 1, "SSL_CTX_set_alpn_select_cb", r.errs)
	})
}

// SetOptions adds options to those that are set, and returns all that are set then.
//
// Wraps [SSL_CTX_set_options].
//
// [SSL_CTX_set_options]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_options/
func (c *Context) SetOptions(o Option) (now Option, err error) {
	err = c.configure(func(p *C.SSL_CTX) error {
		now = Option(C.shim_SSL_CTX_set_options(p, C.uint64_t(o)))
		return nil
	})
	return now, err
}

// ClearOptions clears options, and returns all that are set then.
//
// Wraps [SSL_CTX_clear_options].
//
// [SSL_CTX_clear_options]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_options/
func (c *Context) ClearOptions(o Option) (now Option, err error) {
	err = c.configure(func(p *C.SSL_CTX) error {
		now = Option(C.shim_SSL_CTX_clear_options(p, C.uint64_t(o)))
		return nil
	})
	return now, err
}

// Options returns the options that are set.
//
// Wraps [SSL_CTX_get_options].
//
// [SSL_CTX_get_options]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_options/
func (c *Context) Options() Option {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	return Option(C.shim_SSL_CTX_get_options(v.p))
}

// SetMode adds modes to those that are set, and returns all that are set then.
//
// Wraps [SSL_CTX_set_mode].
//
// [SSL_CTX_set_mode]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_mode/
func (c *Context) SetMode(m Mode) (now Mode, err error) {
	err = c.configure(func(p *C.SSL_CTX) error {
		now = Mode(C.shim_SSL_CTX_set_mode(p, C.long(m)))
		return nil
	})
	return now, err
}

// ClearMode clears modes, and returns all that are set then.
//
// Wraps [SSL_CTX_clear_mode].
//
// [SSL_CTX_clear_mode]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_mode/
func (c *Context) ClearMode(m Mode) (now Mode, err error) {
	err = c.configure(func(p *C.SSL_CTX) error {
		now = Mode(C.shim_SSL_CTX_clear_mode(p, C.long(m)))
		return nil
	})
	return now, err
}

// Mode returns the modes that are set.
//
// Wraps [SSL_CTX_get_mode].
//
// [SSL_CTX_get_mode]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_mode/
func (c *Context) Mode() Mode {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	return Mode(C.shim_SSL_CTX_get_mode(v.p))
}

// SetSecurityLevel sets how weak keys and algorithms may be, 0 (anything) to 5.
//
// Wraps [SSL_CTX_set_security_level].
//
// [SSL_CTX_set_security_level]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_security_level/
func (c *Context) SetSecurityLevel(level int) error {
	if err := checkInt("SetSecurityLevel", "level", level, 0, 5); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		C.SSL_CTX_set_security_level(p, C.int(level))
		return nil
	})
}

// SecurityLevel returns how weak keys and algorithms may be.
//
// Wraps [SSL_CTX_get_security_level].
//
// [SSL_CTX_get_security_level]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_security_level/
func (c *Context) SecurityLevel() int {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	return int(C.SSL_CTX_get_security_level(v.p))
}

// Configure runs a command of OpenSSL's configuration language, as a [ssl_sect] of openssl.cnf has
// it: Configure("Options", "-SessionTicket") or Configure("MinProtocol", "TLSv1.2"). The commands
// are those of the page "SUPPORTED CONFIGURATION FILE COMMANDS". It returns an *Error for an
// unknown command (ReasonUnknownCmdName), and for a value that libssl does not accept.
//
// Wraps [SSL_CONF_cmd].
//
// [SSL_CONF_cmd]: https://docs.openssl.org/3.0/man3/SSL_CONF_cmd/
func (c *Context) Configure(cmd, value string) error {
	if err := checkString("Configure", "cmd", cmd); err != nil {
		return err
	}
	if strings.EqualFold(cmd, "RecordPadding") {
		if err := c.notePadding(true); err != nil {
			return err
		}
	}
	return c.setString("Configure", "value", value, "SSL_CONF_cmd",
		func(p *C.SSL_CTX, v *C.char) C.shim_long {
			n := C.CString(cmd)
			defer C.free(unsafe.Pointer(n))
			r := C.shim_SSL_CONF_cmd(p, n, v)
			r.n = min(r.n, 1)       // 2 is a command with a value
			if replacesTrust(cmd) { // also after an error: the store is replaced by then
				c.loseTrust(p, true)
			}
			return r
		})
}

// replacesTrust reports whether a configuration command makes libssl verify by another store:
// VerifyCAFile, VerifyCAPath and VerifyCAStore do.
func replacesTrust(cmd string) bool {
	const prefix = "VerifyCA"
	return len(cmd) >= len(prefix) && strings.EqualFold(cmd[:len(prefix)], prefix)
}

// setString is configure for a call that takes a string and returns 1 for success.
func (c *Context) setString(fn, arg, value, op string, set func(*C.SSL_CTX, *C.char) C.shim_long) error {
	if err := checkString(fn, arg, value); err != nil {
		return err
	}
	v := C.CString(value)
	defer C.free(unsafe.Pointer(v))
	return c.configure(func(p *C.SSL_CTX) error {
		r := set(p, v)
		return errorIf(r.n == 1, op, r.errs)
	})
}

// The bounds for the limit of plaintext in a record.
const (
	minFragment = 512
	maxFragment = C.SSL3_RT_MAX_PLAIN_LENGTH
)

// SetMaxSendFragment sets how many bytes of plaintext a record that is sent has at most, 512 to
// 16384. The default is 16384. Smaller records reach the application of a slow peer sooner, and
// cost more.
//
// Wraps [SSL_CTX_set_max_send_fragment].
//
// [SSL_CTX_set_max_send_fragment]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_split_send_fragment/
func (c *Context) SetMaxSendFragment(n int) error {
	return c.setFragment("SetMaxSendFragment", n, func(p *C.SSL_CTX) bool {
		return C.shim_SSL_CTX_set_max_send_fragment(p, C.long(n)) == 1
	})
}

// SetSplitSendFragment sets the size of the pieces into which a write is split when several records
// can be encrypted at once: from 512 to what SetMaxSendFragment set. Only some engines can do that.
// Without one nothing changes.
//
// Wraps [SSL_CTX_set_split_send_fragment].
//
// [SSL_CTX_set_split_send_fragment]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_split_send_fragment/
func (c *Context) SetSplitSendFragment(n int) error {
	return c.setFragment("SetSplitSendFragment", n, func(p *C.SSL_CTX) bool {
		return C.shim_SSL_CTX_set_split_send_fragment(p, C.long(n)) == 1
	})
}

func (c *Context) setFragment(fn string, n int, set func(*C.SSL_CTX) bool) error {
	return c.configure(func(p *C.SSL_CTX) error {
		if err := checkInt(fn, "n", n, minFragment, maxFragment); err != nil {
			return err
		}
		if !set(p) { // libssl queues no reason
			return badArgument(fn, "n", "is %d, more than SetMaxSendFragment allows", n)
		}
		return nil
	})
}

// SetBlockPadding makes TLS 1.3 pad each record to a multiple of n bytes, up to 16384, so that its
// length reveals less; 0 and 1 are no padding.
//
// Wraps [SSL_CTX_set_block_padding].
//
// [SSL_CTX_set_block_padding]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_record_padding_callback/
func (c *Context) SetBlockPadding(n int) error {
	if err := checkInt("SetBlockPadding", "n", n, 0, maxFragment); err != nil {
		return err
	}
	if err := c.notePadding(n > 1); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		C.SSL_CTX_set_block_padding(p, C.size_t(n)) // fails only for a wrong n
		return nil
	})
}

// notePadding notes, for connections made later, whether records will be longer than their
// contents.
func (c *Context) notePadding(on bool) error {
	var v contextCall
	if err := v.begin(c, true); err != nil {
		return err
	}
	defer v.end()
	v.ctx.padsRecords = on
	return nil
}

// A MaxFragmentLength is a record length that a client asks for (RFC 6066).
type MaxFragmentLength int

// The lengths, by the numbers of the extension. MaxFragmentAny is the default of clients: they then
// ask for nothing. A server does what the client asks. If it is set to MaxFragmentAny it ignores
// the question, from OpenSSL 3.0.14 on.
const (
	MaxFragmentAny  MaxFragmentLength = C.TLSEXT_max_fragment_length_DISABLED
	MaxFragment512  MaxFragmentLength = C.TLSEXT_max_fragment_length_512
	MaxFragment1024 MaxFragmentLength = C.TLSEXT_max_fragment_length_1024
	MaxFragment2048 MaxFragmentLength = C.TLSEXT_max_fragment_length_2048
	MaxFragment4096 MaxFragmentLength = C.TLSEXT_max_fragment_length_4096
)

// Bytes returns how many bytes of plaintext a record has at most.
func (m MaxFragmentLength) Bytes() int {
	if m < MaxFragment512 || m > MaxFragment4096 {
		return maxFragment
	}
	return minFragment << (m - MaxFragment512)
}

// String returns the length in bytes.
func (m MaxFragmentLength) String() string {
	if m == MaxFragmentAny {
		return "any"
	}
	return fmt.Sprint(m.Bytes())
}

// SetMaxFragmentLength sets the record length, in both directions, that clients ask the server for.
// The session has the length that both ends agreed on: [Session.MaxFragmentLength].
//
// Wraps [SSL_CTX_set_tlsext_max_fragment_length].
//
// [SSL_CTX_set_tlsext_max_fragment_length]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tlsext_max_fragment_length/
func (c *Context) SetMaxFragmentLength(m MaxFragmentLength) error {
	if err := checkInt("SetMaxFragmentLength", "m", int(m), int(MaxFragmentAny), int(MaxFragment4096)); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		C.SSL_CTX_set_tlsext_max_fragment_length(p, C.uint8_t(m)) // fails for nothing but m
		c.p.ctx.maxFragment = m
		return nil
	})
}
