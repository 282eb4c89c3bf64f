// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

// maxStaple is what the extension has room for in TLS 1.3, behind a type and a length of three bytes.
const maxStaple = 1<<16 - 1 - 4

// SetOCSPResponse sets the OCSP response, in DER, that a server staples for the clients that ask for
// one, nil for none. OpenSSL before 3.6 sends it as it is, whatever it says and whichever of its
// certificates the server uses. Later versions send nothing unless it is one for that certificate, whose
// issuer stands in the chain ([Context.UseKeyPair]); and their clients end the connection over what they
// cannot read. (A libssl client takes 16 KiB in TLS 1.2.) It can be replaced while connections run; a
// resumed connection carries none.
//
// ErrForeignCallback says that other code set a callback of its own.
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

// hasForeignStaple reports whether other code answers the clients that ask for a response.
func hasForeignStaple(p *C.SSL_CTX) bool {
	return C.shim_SSL_CTX_get_tlsext_status_cb(p) == C.SHIM_REFUSED_FOREIGN_CALLBACK
}

// checkStaple refuses what SetOCSPResponse would refuse of a certificate's staple, and reports whether other code answers
// clients.
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

// RequestOCSP sets whether clients ask the server to staple an OCSP response. What came is the
// OCSPResponse of [Conn.ConnectionState]: nothing looks at it, and a server that sends none is taken. A resumed
// connection has none.
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
