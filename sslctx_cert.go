// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include <stdlib.h>
// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"slices"
	"unsafe"
)

// UseCertificateChainFile reads the certificate, and the chain after it, from a PEM file.
//
// Wraps [SSL_CTX_use_certificate_chain_file].
//
// [SSL_CTX_use_certificate_chain_file]: https://docs.openssl.org/3.0/man3/SSL_CTX_use_certificate/
func (c *Context) UseCertificateChainFile(file string) error {
	return c.setString("UseCertificateChainFile", "file", file, "SSL_CTX_use_certificate_chain_file",
		func(p *C.SSL_CTX, s *C.char) C.shim_long { return C.shim_SSL_CTX_use_certificate_chain_file(p, s) })
}

// UsePrivateKeyFile reads the key of the certificate from a PEM file. It returns an *Error for an
// encrypted key: nothing asks for a password.
//
// Wraps [SSL_CTX_use_PrivateKey_file].
//
// [SSL_CTX_use_PrivateKey_file]: https://docs.openssl.org/3.0/man3/SSL_CTX_use_certificate/
func (c *Context) UsePrivateKeyFile(file string) error {
	return c.setString("UsePrivateKeyFile", "file", file, "SSL_CTX_use_PrivateKey_file",
		func(p *C.SSL_CTX, s *C.char) C.shim_long { return C.shim_SSL_CTX_use_PrivateKey_file(p, s) })
}

// CheckPrivateKey returns an *Error if there is no certificate or no key, or if they do not belong
// together.
//
// Wraps [SSL_CTX_check_private_key].
//
// [SSL_CTX_check_private_key]: https://docs.openssl.org/3.0/man3/SSL_CTX_use_certificate/
func (c *Context) CheckPrivateKey() error {
	var v contextCall
	if err := v.begin(c, false); err != nil {
		return err
	}
	defer v.end()
	ret := C.shim_SSL_CTX_check_private_key(v.p)
	return errorIf(ret.n == 1, "SSL_CTX_check_private_key", ret.errs)
}

// UseKeyPair sets certificate, chain and key from PEM, in the order of tls.X509KeyPair. It sets
// nothing unless all of it is good and the key is the certificate's. libssl reads the PEM, and
// differs from tls.X509KeyPair. It also accepts blocks of the types TRUSTED CERTIFICATE and X509
// CERTIFICATE. It refuses what libssl cannot read, such as the bytes of PKCS #1 or SEC 1 in a block
// PRIVATE KEY, a block with headers, or a broken block before a good one.
//
// Wraps [SSL_CTX_use_cert_and_key].
//
// [SSL_CTX_use_cert_and_key]: https://docs.openssl.org/3.0/man3/SSL_CTX_use_certificate/
func (c *Context) UseKeyPair(certPEM, keyPEM []byte) error {
	if err := checkSize("UseKeyPair", "certPEM", certPEM, maxInt); err != nil {
		return err
	}
	if err := checkSize("UseKeyPair", "keyPEM", keyPEM, maxInt); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		r := C.shim_SSL_CTX_use_cert_and_key(p, bytesPointer(certPEM), C.size_t(len(certPEM)),
			bytesPointer(keyPEM), C.size_t(len(keyPEM)))
		return errorIf(r.n == 1, "SSL_CTX_use_cert_and_key", r.errs)
	})
}

// UseCertificate is [Context.UseKeyPair] for a certificate of crypto/tls, and
// [Context.SetOCSPResponse] with its OCSPStaple. An empty OCSPStaple removes the response for the
// certificate before, which is none for this one. If other code set a callback that answers
// clients, it stays: for a certificate that has a staple UseCertificate then returns
// ErrForeignCallback. It returns an ArgumentError for a key that crypto/x509 cannot write, such as
// one in hardware that only signs, and for SupportedSignatureAlgorithms: libssl has a list for all
// certificates of a context, which [Context.Configure] sets by "SignatureAlgorithms". It does not
// send the SignedCertificateTimestamps.
//
// Wraps [SSL_CTX_get_tlsext_status_cb].
//
// [SSL_CTX_get_tlsext_status_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tlsext_status_cb/
func (c *Context) UseCertificate(cert tls.Certificate) error {
	if len(cert.Certificate) == 0 {
		return badArgument("UseCertificate", "cert", "has no certificate")
	}
	foreign, err := c.checkStaple(cert.OCSPStaple)
	if err != nil {
		return err
	}
	if cert.PrivateKey == nil {
		return badArgument("UseCertificate", "cert", "has no private key")
	}
	if len(cert.SupportedSignatureAlgorithms) > 0 {
		return badArgument("UseCertificate", "cert", "has SupportedSignatureAlgorithms: use Configure(\"SignatureAlgorithms\", ...)")
	}
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return badArgument("UseCertificate", "cert", "has a private key that cannot be written: %v", err)
	}
	defer clear(der)
	var chain []byte
	for _, c := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	key := pemOfKey(der)
	defer clear(key)
	if err := c.UseKeyPair(chain, key); err != nil {
		return err
	}
	if foreign {
		return nil
	}
	return c.SetOCSPResponse(cert.OCSPStaple)
}

// pemOfKey writes a key of PKCS #8 as PEM, and leaves no other copy of it in memory: the buffers of
// encoding/pem would stay.
func pemOfKey(der []byte) []byte {
	const begin, end = "-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----\n"
	const inLine = 48 // bytes, which 64 characters stand for
	text := make([]byte, 0, len(begin)+len(end)+(len(der)/inLine+1)*(base64.StdEncoding.EncodedLen(inLine)+1))
	text = append(text, begin...)
	for part := range slices.Chunk(der, inLine) {
		text = append(base64.StdEncoding.AppendEncode(text, part), '\n')
	}
	return append(text, end...)
}

// checkServes refuses a context whose servers fail every handshake for want of a certificate.
// It waits for a call that configures the context, until done ends.
func (c *Context) checkServes(done context.Context, fn string) error {
	var v contextCall
	if err := v.beginUntil(done, c); err == ErrClosed {
		return closedArgument(fn, "c")
	} else if err != nil {
		return err
	}
	defer v.end()
	hooks := c.hooks.table.Load()
	if err := c.checkRole(fn, true); err != nil {
		return err
	}
	if c.foreign || hooks.clientHello != nil || hooks.findPSK != nil || hooks.serverPSK != nil ||
		C.shim_SSL_CTX_get0_certificate(v.p) != 0 {
		return nil
	}
	return badArgument(fn, "c", "has no certificate, and nothing that serves without one: see Context.UseKeyPair")
}

// LoadVerifyLocations trusts the certificates of a PEM file, of a directory of files with hashed
// names, or of both. An empty name is none. It returns an ArgumentError if both are empty.
//
// Wraps [SSL_CTX_load_verify_locations].
//
// [SSL_CTX_load_verify_locations]: https://docs.openssl.org/3.0/man3/SSL_CTX_load_verify_locations/
func (c *Context) LoadVerifyLocations(file, dir string) error {
	if file == "" && dir == "" {
		return badArgument("LoadVerifyLocations", "file", "and dir are both empty")
	}
	if err := checkString("LoadVerifyLocations", "file", file); err != nil {
		return err
	}
	if err := checkString("LoadVerifyLocations", "dir", dir); err != nil {
		return err
	}
	f, d := stringOrNull(file), stringOrNull(dir)
	defer C.free(unsafe.Pointer(f))
	defer C.free(unsafe.Pointer(d))
	return c.configure(func(p *C.SSL_CTX) error {
		r := C.shim_SSL_CTX_load_verify_locations(p, f, d)
		return errorIf(r.n == 1, "SSL_CTX_load_verify_locations", r.errs)
	})
}

// SetDefaultVerifyPaths trusts the certificates at the paths that OpenSSL was built with. It is no
// error if these do not exist.
//
// Wraps [SSL_CTX_set_default_verify_paths].
//
// [SSL_CTX_set_default_verify_paths]: https://docs.openssl.org/3.0/man3/SSL_CTX_load_verify_locations/
func (c *Context) SetDefaultVerifyPaths() error {
	return c.configure(func(p *C.SSL_CTX) error {
		r := C.shim_SSL_CTX_set_default_verify_paths(p)
		return errorIf(r.n == 1, "SSL_CTX_set_default_verify_paths", r.errs)
	})
}

// TrustCertificates trusts the certificates of a PEM text, in addition to those that are trusted.
// It trusts none of them unless it can read all.
//
// Wraps [X509_STORE_add_cert].
//
// [X509_STORE_add_cert]: https://docs.openssl.org/3.0/man3/X509_STORE_add_cert/
func (c *Context) TrustCertificates(pem []byte) error {
	if err := checkSize("TrustCertificates", "pem", pem, maxInt); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		r := C.shim_X509_STORE_add_cert(p, bytesPointer(pem), C.size_t(len(pem)))
		return errorIf(r.n == 1, "X509_STORE_add_cert", r.errs)
	})
}

// maxCANames is how many bytes of names fit into a certificate request, beside the rest of it.
const maxCANames = 1<<16 - 1<<10

// SetClientCAs sets the authorities whose names a server sends when it asks a client for its
// certificate, so that the client can choose a suitable one. Without certificates it sends no
// names, and any certificate is suitable. The names are a hint, and trust nobody:
// [Context.TrustCertificate] does, and [Context.SetVerify] asks. Only the subjects of the
// certificates are used. It returns an ArgumentError for more than 64,512 bytes of these. A client
// gets the names from [Conn.AcceptableCAs].
//
// Wraps [SSL_CTX_set_client_CA_list].
//
// [SSL_CTX_set_client_CA_list]: https://docs.openssl.org/3.0/man3/SSL_CTX_set0_CA_list/
func (c *Context) SetClientCAs(certs ...*x509.Certificate) error {
	var names []byte
	size := 0 // each name has a length of two bytes before it
	for _, cert := range certs {
		if cert == nil || len(cert.RawSubject) == 0 {
			return badArgument("SetClientCAs", "certs", "has a certificate that was not parsed")
		}
		names = append(names, cert.RawSubject...)
		size += 2 + len(cert.RawSubject)
	}
	if size > maxCANames {
		return badArgument("SetClientCAs", "certs", "have subjects of %d bytes, the limit is %d", size, maxCANames)
	}
	return c.configure(func(p *C.SSL_CTX) error {
		r := C.shim_SSL_CTX_set_client_CA_list(p, bytesPointer(names), C.size_t(len(names)))
		return errorIf(r.n == 1, "SSL_CTX_set_client_CA_list", r.errs)
	})
}

// maxStaple is how many bytes fit into the extension of TLS 1.3, behind a type and a length of
// three bytes.
const maxStaple = 1<<16 - 1 - 4

// SetOCSPResponse sets the OCSP response, in DER, that a server staples for the clients that ask
// for one, nil for none. OpenSSL before 3.6 sends it as it is, whatever it says and whichever of
// its certificates the server uses. Later versions send it only if it is for that certificate, and
// if the issuer of that is in the chain ([Context.UseKeyPair]). Clients of these versions end the
// connection over a response that they cannot read. (A libssl client accepts 16 KiB in TLS 1.2.) It
// can be replaced while connections run. A resumed connection carries none.
//
// It returns ErrForeignCallback if other code set a callback of its own.
//
// Wraps [SSL_CTX_set_tlsext_status_cb], SSL_set_tlsext_status_ocsp_resp.
//
// [SSL_CTX_set_tlsext_status_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tlsext_status_cb/
func (c *Context) SetOCSPResponse(der []byte) error {
	if err := checkStapleSize("SetOCSPResponse", "der", der); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		if hasForeignStaple(p) {
			return ErrForeignCallback
		}
		r := C.shim_SSL_CTX_set_tlsext_status_cb(p, bytesPointer(der), C.size_t(len(der)))
		return errorIf(r.n == 1, "SSL_CTX_set_tlsext_status_cb", r.errs)
	})
}

func checkStapleSize(fn, arg string, der []byte) error {
	if len(der) > maxStaple {
		return badArgument(fn, arg, "is %d bytes long, the limit is %d", len(der), maxStaple)
	}
	return nil
}

// hasForeignStaple reports whether a callback of other code answers the clients that ask for a
// response.
func hasForeignStaple(p *C.SSL_CTX) bool {
	return C.shim_SSL_CTX_get_tlsext_status_cb(p) == C.SHIM_REFUSED_FOREIGN_CALLBACK
}

// checkStaple refuses a staple that SetOCSPResponse would refuse, and reports whether other code
// answers clients.
func (c *Context) checkStaple(der []byte) (foreign bool, err error) {
	if err := checkStapleSize("UseCertificate", "cert.OCSPStaple", der); err != nil {
		return false, err
	}
	err = c.configure(func(p *C.SSL_CTX) error {
		foreign = hasForeignStaple(p)
		return nil
	})
	if err == nil && foreign && len(der) > 0 {
		err = ErrForeignCallback
	}
	return foreign, err
}

// RequestOCSP sets whether clients ask the server to staple an OCSP response. The response is the
// OCSPResponse of [Conn.ConnectionState]. Nothing checks it, and a server that sends none is
// accepted. A resumed connection has none.
//
// Wraps [SSL_CTX_set_tlsext_status_type].
//
// [SSL_CTX_set_tlsext_status_type]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tlsext_status_cb/
func (c *Context) RequestOCSP(on bool) error {
	return c.configure(func(p *C.SSL_CTX) error {
		C.shim_SSL_CTX_set_tlsext_status_type(p, boolInt(on))
		return nil
	})
}
