// SPDX-License-Identifier: Apache-2.0

package side

import "net"

// A Fork is github.com/spacemonkeygo/openssl or a fork of it. They have different types with the
// same methods. They have no function for the protocol version, so the file that OPENSSL_CONF names
// sets it.
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

// ForkHas reports whether a fork can do a row: forks have no callbacks for sessions.
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
