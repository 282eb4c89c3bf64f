// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"testing"
	"testing/synctest"

	"sslctx"
	"sslctx/internal/ossltest"
)

// A role says which end a test is about; the other is the peer.
type role string

const (
	serverRole role = "server"
	clientRole role = "client"
)

// eachRole runs a test for both roles and versions, in a bubble of synctest: deadlines cost no time. The
// contexts are made outside, where the certificate's time is the true one.
func eachRole(t *testing.T, run func(t *testing.T, e ends, r role)) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, r := range []role{serverRole, clientRole} {
			t.Run(string(r), func(t *testing.T) {
				e := newEnds(t, v)
				before := ossltest.LiveSSLs()
				synctest.Test(t, func(t *testing.T) { run(t, e, r) })
				if n := ossltest.LiveSSLs(); n > before {
					t.Errorf("%d SSLs are alive, %d before", n, before)
				}
			})
		}
	})
}

// conn makes the Conn of a role over its end of a wire; the other end is the peer's.
func (r role) conn(t *testing.T, e ends) (c *sslctx.Conn, peer *wireEnd) {
	t.Helper()
	serverEnd, clientEnd := wire()
	var err error
	if r == serverRole {
		c, err = sslctx.Server(serverEnd, e.server)
		peer = clientEnd
	} else {
		c, err = sslctx.Client(clientEnd, e.client)
		peer = serverEnd
	}
	must(t, err)
	if peer == serverEnd {
		must(t, c.AcceptAnyName())
	}
	return c, peer
}

// pair makes both Conns over a wire: that of the role, and its peer.
func (r role) pair(t *testing.T, e ends) (c, peer *sslctx.Conn) {
	t.Helper()
	serverEnd, clientEnd := wire()
	server, err := sslctx.Server(serverEnd, e.server)
	must(t, err)
	client, err := sslctx.Client(clientEnd, e.client)
	must(t, err)
	must(t, client.AcceptAnyName())
	if r == serverRole {
		return server, client
	}
	return client, server
}
