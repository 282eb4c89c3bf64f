// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto/x509"
	"fmt"
	"unsafe"
)

// answerVerify has a pool judge the chain for which a client's handshake is suspended. The locks of the handshake are
// held, c.mu is not.
func (c *Conn) answerVerify(ctx context.Context) error {
	chain, pool, err := c.takeChain()
	if err != nil || pool == nil { // it was replaced: libssl asks again, and gets the new one
		return err
	}
	ctx, stop := c.startWait(ctx)
	defer stop()
	r := runHook(ctx, func(context.Context) ([]byte, error) { return anchorsOf(pool, chain), nil })
	if r.err != nil {
		return fmt.Errorf("sslctx: the certificate pool: %w", r.err)
	}
	return c.giveAnchors(r.answer, r.end == nil)
}

// takeChain copies the chain that waits for a verdict, and returns the pool that is to judge it.
func (c *Conn) takeChain() (chain []byte, pool *x509.CertPool, err error) {
	r, err := c.begin()
	if err != nil {
		return nil, nil, err
	}
	defer c.end(r)
	return C.GoBytes(unsafe.Pointer(r.p.chain), C.int(r.p.chain_len)), pools.get(uintptr(r.p.pool)), nil
}

// giveAnchors leaves the verdict for the next crossing. known is false if a constraint ended without one.
func (c *Conn) giveAnchors(der []byte, known bool) error {
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	n := C.long(len(der))
	if !known {
		n = -1
	}
	C.shim_SSL_set_retry_verify(r.p, (*C.uchar)(C.CBytes(der)), n)
	return nil
}

// askPool gives the certificates of a pool that a chain ends in, where libssl cannot be suspended. It reports whether that
// could be found out.
func (c *Conn) askPool(pool *x509.CertPool, chain []byte) (der []byte, ok bool) {
	der, err := runPoolUpcall(c, func(context.Context) ([]byte, error) { return anchorsOf(pool, chain), nil })
	if err != nil {
		c.upcalls.fail("the certificate pool", err)
	}
	return der, err == nil
}
