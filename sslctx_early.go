// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"math"
)

// maxEarlyData is the largest limit that fits into a ticket.
const maxEarlyData = min(math.MaxUint32, math.MaxInt)

// RecvMaxEarlyData returns how many bytes of early data (TLS 1.3) a server accepts, or skips.
//
// Wraps [SSL_CTX_get_recv_max_early_data].
//
// [SSL_CTX_get_recv_max_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Context) RecvMaxEarlyData() int {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	return int(C.SSL_CTX_get_recv_max_early_data(v.p))
}

// SetRecvMaxEarlyData sets how many bytes of early data (TLS 1.3) a server accepts, or skips if it
// rejects them; 16384 at first. The smaller limit counts, this one or that of the session's ticket:
// a client that sends more ends its connection. n should not be less than SetMaxEarlyData, and not
// less than before as long as older tickets exist. Connections that exist keep their limit.
//
// Wraps [SSL_CTX_set_recv_max_early_data].
//
// [SSL_CTX_set_recv_max_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Context) SetRecvMaxEarlyData(n int) error {
	if err := checkInt("SetRecvMaxEarlyData", "n", n, 0, maxEarlyData); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		ok := C.SSL_CTX_set_recv_max_early_data(p, C.uint32_t(n))
		return errorIf(ok == 1, "SSL_CTX_set_recv_max_early_data", nil)
	})
}

// SetAllowEarlyDataCallback sets the hook that a server asks whether it accepts early data, when
// all other checks have passed. With it an application that keeps its own record of used sessions
// can refuse a replay. libssl then rejects the early data; the session is resumed all the same. A
// connection has the hook that its context had when it was made; nil is none.
//
// The hook runs like that of [Context.SetGetSessionCallback], in the middle of ReadEarlyData. If
// the limit of waiting threads is reached, the hook does not run, and early data is rejected. Use c
// only for its addresses and to tell connections apart. The hook must not call the other methods of
// c, because they wait until the hook has returned.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
//
// Wraps [SSL_CTX_set_allow_early_data_cb].
//
// [SSL_CTX_set_allow_early_data_cb]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Context) SetAllowEarlyDataCallback(hook func(ctx context.Context, c *Conn) bool) error {
	return c.replaceCallback(C.SHIM_CALLBACK_ALLOW_EARLY_DATA, hook != nil, func(p *C.SSL_CTX) error {
		C.shim_SSL_CTX_set_allow_early_data_cb(p, boolInt(hook != nil))
		c.hooks.change(func(t *hookTable) { t.allowEarlyData = hook })
		return nil
	})
}
