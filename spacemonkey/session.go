// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

package spacemonkey

import (
	"github.com/spacemonkeygo/openssl"

	"sslctx"
)

// Session returns a copy of the session of a connection of theirs: fresh, and the caller's. It is what
// their GetSession serializes, so that it has none of the marks of the original.
func Session(c *openssl.Conn) (*sslctx.Session, error) {
	der, err := c.GetSession()
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return sslctx.ParseSession(der)
}
