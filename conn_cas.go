// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import "encoding/asn1"

// AcceptableCAs returns the names of the authorities that the peer said it accepts certificates of, each as DER, which is
// the RawSubject of a certificate of crypto/x509: in a client those of the server's certificate request, in a server those
// that a client of TLS 1.3 sent, which few do. None at all says that the peer named none, or did not ask. They are known
// after the handshake, and until the next certificate request. It is ErrClosed after Close; want of memory is an *Error.
//
// Wraps [SSL_get0_peer_CA_list].
//
// [SSL_get0_peer_CA_list]: https://docs.openssl.org/3.0/man3/SSL_CTX_set0_CA_list/
func (c *Conn) AcceptableCAs() ([][]byte, error) {
	r, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer c.end(r)
	got := C.shim_SSL_get0_peer_CA_list(r.p)
	if got.p == nil && got.errs == nil {
		return nil, nil
	}
	der, err := takeBytes("SSL_get0_peer_CA_list", got)
	if err != nil {
		return nil, err
	}
	var names [][]byte
	for len(der) > 0 {
		var name asn1.RawValue
		if der, err = asn1.Unmarshal(der, &name); err != nil { // libssl wrote it
			return nil, err
		}
		names = append(names, name.FullBytes)
	}
	return names, nil
}
