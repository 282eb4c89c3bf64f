// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"crypto/tls"
	"net"
	"testing"

	"sslctx"
	"sslctx/internal/tlstest"
)

// TestMain lets no test leave a C object alive, nor an entry of a registry or of a thread's error queue.
func TestMain(m *testing.M) {
	tlstest.Main(m, map[string]func() int{"pool": sslctx.LivePools, "values": sslctx.LiveValues})
}

// What most tests here use of tlstest has short names.
var (
	must        = tlstest.Must
	noQueue     = tlstest.CheckErrorQueue
	newContext  = tlstest.NewContext
	newSession  = tlstest.NewSession
	add         = tlstest.AddSession
	remove      = tlstest.RemoveSession
	tcpPair     = tlstest.TCPPair
	wire        = tlstest.Wire
	sessionOf   = tlstest.SessionOf
	exchange    = tlstest.Exchange
	versions    = tlstest.Versions
	eachVersion = tlstest.EachVersion
	isTimeout   = tlstest.IsTimeout
	testPair    = tlstest.SelfSigned
	issue       = tlstest.Issue
	authority   = tlstest.Authority
	poolOf      = tlstest.PoolOf
)

type (
	wireEnd = tlstest.WireEnd
	issued  = tlstest.Issued
)

// ends are tlstest.Ends with more methods, which other files here add.
type ends struct{ server, client *sslctx.Context }

func newEnds(t testing.TB, v sslctx.Version) ends {
	t.Helper()
	e := tlstest.NewEnds(t, v)
	return ends{e.Server, e.Client}
}

// bare are ends of a server with a certificate, and of a client that trusts nothing yet.
func bare(t testing.TB, v sslctx.Version, cert tls.Certificate) ends {
	t.Helper()
	e := tlstest.NewEndsWith(t, v, cert)
	return ends{e.Server, e.Client}
}

func (e ends) shared() tlstest.Ends { return tlstest.Ends{Server: e.server, Client: e.client} }

func (e ends) over(t testing.TB, serverEnd, clientEnd net.Conn, offer *sslctx.Session) (server, client *sslctx.Conn) {
	t.Helper()
	return e.shared().Over(t, serverEnd, clientEnd, offer)
}

func (e ends) connect(t testing.TB, offer *sslctx.Session) (server, client *sslctx.Conn) {
	t.Helper()
	return e.shared().Connect(t, offer)
}

func (e ends) inMemory(t *testing.T, offer *sslctx.Session) (reused bool) {
	t.Helper()
	return e.shared().InMemory(t, offer)
}
