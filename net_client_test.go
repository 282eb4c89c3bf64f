// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"net"
	"testing"

	"sslctx"
)

// TestClientContext makes the handshake over connections that lead somewhere already. A connection that it does not
// take is closed.
func TestClientContext(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	addr := serve(t, e.server)
	untrusting := newContext(t, sslctx.TLSClientMethod)
	for name, c := range map[string]struct {
		d    sslctx.Dialer
		addr string
		fine bool
	}{
		"the host":          {sslctx.Dialer{Context: e.client}, "localhost:443", true},
		"another host":      {sslctx.Dialer{Context: e.client}, "elsewhere.example:443", false},
		"told to":           {sslctx.Dialer{Context: e.client, ServerName: "localhost"}, "elsewhere.example:443", true},
		"told to, no port":  {sslctx.Dialer{Context: e.client, ServerName: "localhost"}, "", true},
		"no port":           {sslctx.Dialer{Context: e.client}, "localhost", false},
		"nobody is trusted": {sslctx.Dialer{Context: untrusting}, "localhost:443", false},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := net.Dial("tcp", addr)
			must(t, err)
			defer raw.Close()
			conn, err := c.d.ClientContext(t.Context(), raw, c.addr)
			if c.fine {
				must(t, err)
				echoOnce(t, conn)
				must(t, conn.Close())
			} else if err == nil || conn != nil {
				t.Errorf("ClientContext returns %v, %v", conn, err)
			}
			if _, err := raw.Write([]byte("x")); err == nil {
				t.Error("the connection is left open")
			}
		})
	}
}
