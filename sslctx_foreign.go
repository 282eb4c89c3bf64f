// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

// replaceCallback is configure for a setter of a callback for which libssl has no getter. A Context of
// ContextFromPointer is refused, because the owner may have a callback there; but not if the callback that is there is
// known to be this package's. which is a SHIM_CALLBACK_ number, and on says whether a callback is there after set.
func (c *Context) replaceCallback(which C.int, on bool, set func(*C.SSL_CTX) error) error {
	return c.configure(func(p *C.SSL_CTX) error {
		if c.mayBeForeign(p, which) {
			return ErrForeignCallback
		}
		if err := set(p); err != nil {
			return err
		}
		C.shim_SSL_CTX_note_own_callback(p, which, boolInt(on))
		return nil
	})
}

// mayBeForeign reports whether a callback of other code may be there. The gate is held.
func (c *Context) mayBeForeign(p *C.SSL_CTX, which C.int) bool {
	return c.foreign && C.shim_SSL_CTX_has_own_callback(p, which) == 0
}
