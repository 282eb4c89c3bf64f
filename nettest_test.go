// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"net"
	"testing"

	"golang.org/x/net/nettest"

	"sslctx"
)

// TestNetConn runs the tests that Go's own project has for any net.Conn, with the server's end first and
// with the client's end first.
func TestNetConn(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, clientFirst := range []bool{false, true} {
			name := map[bool]string{false: "server", true: "client"}[clientFirst]
			t.Run(name, func(t *testing.T) {
				e := newEnds(t, v)
				nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
					server, client := e.connect(t, nil)
					stop = func() { _, _ = server.Close(), client.Close() }
					if clientFirst {
						return client, server, stop, nil
					}
					return server, client, stop, nil
				})
			})
		}
	})
}
