// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"crypto/tls"
	"net"
	"testing"

	"sslctx"
	"sslctx/internal/tlstest"
)

// TestMain checks that no test leaves a C object, an entry of a registry, or an entry on a thread's
// error queue.
func TestMain(m *testing.M) {
	tlstest.Main(m, map[string]func() int{"pool": sslctx.LivePools, "values": sslctx.LiveValues})
}

// Short names for the parts of tlstest that most tests use.
var (
	unsupported  = tlstest.IsUnsupported
	wantArgument = tlstest.WantArgument
	wantReason   = tlstest.WantReason
	waitingPool  = tlstest.WaitingPool
	must         = tlstest.Must
	noQueue      = tlstest.CheckErrorQueue
	newContext   = tlstest.NewContext
	newSession   = tlstest.NewSession
	add          = tlstest.AddSession
	remove       = tlstest.RemoveSession
	tcpPair      = tlstest.TCPPair
	wire         = tlstest.Wire
	sessionOf    = tlstest.SessionOf
	echoOnce     = tlstest.Echo
	exchange     = tlstest.Exchange
	versions     = tlstest.Versions
	eachVersion  = tlstest.EachVersion
	isTimeout    = tlstest.IsTimeout
	testPair     = tlstest.SelfSigned
	issue        = tlstest.Issue
	authority    = tlstest.Authority
	poolOf       = tlstest.PoolOf
	pskKey       = tlstest.PSKKey
	pskDER       = tlstest.PSKDER
	pskSession   = tlstest.PSKSession
	parseSession = tlstest.ParseSession
	readEarly    = tlstest.ReadEarlyData
)

type (
	store   = tlstest.Store
	wireEnd = tlstest.WireEnd
	issued  = tlstest.Issued
)

// ends are tlstest.Ends with more methods, which other files here add.
type ends struct{ server, client *sslctx.Context }

func fromShared(e tlstest.Ends) ends { return ends{e.Server, e.Client} }

func newEnds(t testing.TB, v sslctx.Version) ends {
	t.Helper()
	return fromShared(tlstest.NewEnds(t, v))
}

// withIDs makes ends whose server finds its sessions by their IDs.
func withIDs(t testing.TB, v sslctx.Version) ends {
	t.Helper()
	return fromShared(tlstest.NewEndsWithIDs(t, v))
}

// renegotiating makes ends whose server lets clients renegotiate.
func renegotiating(t testing.TB) ends {
	t.Helper()
	return fromShared(tlstest.NewRenegotiatingEnds(t))
}

// bare makes ends: a server with a certificate, and a client that trusts nothing yet.
func bare(t testing.TB, v sslctx.Version, cert tls.Certificate) ends {
	t.Helper()
	return fromShared(tlstest.NewEndsWith(t, v, cert))
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

func (e ends) session(t testing.TB) *sslctx.Session {
	t.Helper()
	return e.shared().Session(t)
}

func (e ends) withPSK(t testing.TB, identity string, ofServer, ofClient *sslctx.Session) {
	t.Helper()
	e.shared().SetPSK(t, identity, ofServer, ofClient)
}

func meet(t testing.TB, e ends) (server, client *sslctx.Conn, serverErr, clientErr error) {
	t.Helper()
	return e.shared().Meet(t)
}
