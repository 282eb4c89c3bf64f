// SPDX-License-Identifier: Apache-2.0

package side

import "net"

// A Fork is github.com/spacemonkeygo/openssl or a fork of it: all give the same methods to types of their own. They have no
// function for the protocol: that is in the file that OPENSSL_CONF names.
type Fork struct {
	// Accept and Connect are its Server and DialSession.
	Accept  func(raw net.Conn) (net.Conn, error)
	Connect func(addr string, session []byte) (net.Conn, error)

	offer []byte
}

type forkConn interface {
	GetSession() ([]byte, error)
	SessionReused() bool
}

// ForkHas says whether a fork has what a row needs: there are no callbacks for sessions.
func ForkHas(a Args) bool {
	resume := a.Get("resume", "full")
	return a.Int("hear", 0) == 0 && (resume == "full" || resume == "id" || resume == "ticket")
}

// Server implements Peer.
func (f *Fork) Server(raw net.Conn) (net.Conn, error) { return f.Accept(raw) }

// Dial implements Peer.
func (f *Fork) Dial(addr string) (net.Conn, error) { return f.Connect(addr, f.offer) }

// Keep implements Peer.
func (f *Fork) Keep(client net.Conn) (err error) {
	f.offer, err = client.(forkConn).GetSession()
	return err
}

// Reused implements Peer.
func (f *Fork) Reused(client net.Conn) bool { return client.(forkConn).SessionReused() }
