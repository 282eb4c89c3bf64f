// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include <stdlib.h>
// #include "cgo_shim.h"
import "C"

import "unsafe"

// Sessions returns the sessions of the internal cache, in no order, as they are at one moment. libssl does not
// lock what SSL_CTX_sessions lends: so Sessions waits until nobody else is inside libssl with this context,
// and holds all others up while it looks through the cache, a few milliseconds for 20,000 sessions.
//
// Each reference is the caller's. The cache of an SSL_CTX of [ContextFromPointer], which other C code may use at
// the same time, is not looked at: an ArgumentError.
//
// Wraps [SSL_CTX_sessions].
//
// [SSL_CTX_sessions]: https://docs.openssl.org/3.0/man3/SSL_CTX_sessions/
func (c *Context) Sessions() ([]*Session, error) {
	if c != nil && c.foreign {
		return nil, badArgument("Sessions", "receiver", "is of ContextFromPointer: other code may use its cache meanwhile")
	}
	var v contextCall
	if err := v.begin(c, true); err != nil {
		return nil, err
	}
	r := C.shim_SSL_CTX_sessions(v.p)
	v.end()
	defer C.free(unsafe.Pointer(r.p))
	if r.ok == 0 {
		return nil, newError("SSL_CTX_sessions", nil)
	}
	sessions := make([]*Session, int(r.n))
	for i, p := range unsafe.Slice(r.p, int(r.n)) {
		sessions[i] = adoptSession(p, v.ctx)
	}
	return sessions, nil
}

// A VerifyResult is what libssl found when it verified the peer's certificate: an X509_V_ code.
type VerifyResult int

// Results of verification; others have numbers in OpenSSL's headers.
const (
	VerifyOK          VerifyResult = C.X509_V_OK              // also if the peer showed no certificate
	VerifyUnspecified VerifyResult = C.X509_V_ERR_UNSPECIFIED // nobody verified, as for a session of NewSession
)

// String returns OpenSSL's text for the result.
//
// Wraps [X509_verify_cert_error_string].
//
// [X509_verify_cert_error_string]: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
func (r VerifyResult) String() string {
	return C.GoString(C.X509_verify_cert_error_string(C.long(r)))
}

// isUntrusted reports whether the result is that no chain leads to a certificate that is trusted.
func (r VerifyResult) isUntrusted() bool {
	switch r {
	case C.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, C.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
		C.X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, C.X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
		C.X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		return true
	}
	return false
}
