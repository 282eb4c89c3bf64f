// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include <stdlib.h>
// #include "cgo_shim.h"
import "C"

import (
	"net/netip"
	"strings"
	"unsafe"
)

// maxServerName is libssl's TLSEXT_MAXLEN_host_name.
const maxServerName = C.TLSEXT_MAXLEN_host_name

// SetServerName sets the host that a client wants to talk to, a DNS name or an IP address. With VerifyPeer
// the server's certificate must be for it, and a handshake without a name fails with ErrNoServerName unless
// [Conn.AcceptAnyName] says otherwise. A DNS name is also sent to the server. It must come before the handshake:
// ErrHandshakeStarted.
//
// Names are taken as crypto/tls takes them. A dot at the end is not sent, and a name is the same with it and without. An
// IPv6 address may stand in brackets and have a zone, which does not count. What names nothing (only a dot, a dot at the
// front, no address in the brackets), or has more than 255 bytes, is an ArgumentError. From OpenSSL 4.0 on, so is a name
// that is no host name: one byte alone, a label of more than 63, other characters than letters, digits, "-" and "_".
//
// Of the certificate the names and addresses in its subject alternative name count, and not the common name of its
// subject; "*" stands for one whole label, and has two more behind it.
//
// libssl drops the name that it has before it looks at another. So when it refuses one, there is no handshake
// until SetServerName succeeds: it would trust any name.
//
// Wraps [SSL_set_tlsext_host_name], X509_VERIFY_PARAM_set1_host, X509_VERIFY_PARAM_set1_ip.
//
// [SSL_set_tlsext_host_name]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tlsext_servername_callback/
func (c *Conn) SetServerName(name string) error {
	host, address, err := parseHost(name)
	if err != nil {
		return err
	}
	r, err := c.beginSetup()
	if err != nil {
		return err
	}
	defer c.end(r)
	s := C.CString(host)
	defer C.free(unsafe.Pointer(s))
	ret := C.shim_SSL_set_tlsext_host_name(r.p, s, bytesPointer(address), C.size_t(len(address)))
	c.nameErr = errorIf(ret.n == 1, "SSL_set_tlsext_host_name", ret.errs)
	if ret.n == C.SHIM_REFUSED_NAME {
		c.nameErr = badArgument("SetServerName", "name", "is no host name to libssl")
	}
	c.named, c.host = ret.n == 1, host
	return c.nameErr
}

// parseHost returns a name as it is sent and compared, and its bytes if it is an address.
func parseHost(name string) (host string, address []byte, err error) {
	if err := checkString("SetServerName", "name", name); err != nil {
		return "", nil, err
	}
	host = name
	bracketed := strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")
	if bracketed {
		host = host[1 : len(host)-1]
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.WithZone("").Unmap()
		return ip.String(), ip.AsSlice(), nil
	}
	host = strings.TrimSuffix(host, ".")
	switch {
	case name == "" || host == "":
		return "", nil, badArgument("SetServerName", "name", "is empty")
	case bracketed:
		return "", nil, badArgument("SetServerName", "name", "has brackets around what is no address")
	case len(host) > maxServerName:
		return "", nil, badArgument("SetServerName", "name", "is %d bytes long, the limit is %d", len(host), maxServerName)
	case host[0] == '.' || host[len(host)-1] == '.' || strings.Contains(host, ".."):
		return "", nil, badArgument("SetServerName", "name", "has an empty label")
	}
	return host, nil, nil
}
