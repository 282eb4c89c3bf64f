// SPDX-License-Identifier: Apache-2.0

package ossltest

// #include "theirs.h"
import "C"

// A Callback is a kind of callback that other C code may set on an SSL_CTX.
type Callback int

// The kinds, by the functions that set them.
const (
	NewSession     Callback = C.THEIRS_NEW
	GetSession     Callback = C.THEIRS_GET
	RemoveSession  Callback = C.THEIRS_REMOVE
	Keylog         Callback = C.THEIRS_KEYLOG
	Info           Callback = C.THEIRS_INFO
	ClientHello    Callback = C.THEIRS_CLIENT_HELLO
	ALPNSelect     Callback = C.THEIRS_ALPN_SELECT
	Status         Callback = C.THEIRS_STATUS
	CertVerify     Callback = C.THEIRS_CERT_VERIFY
	Verify         Callback = C.THEIRS_VERIFY // with SSL_VERIFY_PEER
	GenerateID     Callback = C.THEIRS_GENERATE_ID
	NotResumable   Callback = C.THEIRS_NOT_RESUMABLE
	SessionTicket  Callback = C.THEIRS_SESSION_TICKET
	TicketKey      Callback = C.THEIRS_TICKET_KEY
	AllowEarlyData Callback = C.THEIRS_ALLOW_EARLY_DATA
	PSKFind        Callback = C.THEIRS_PSK_FIND
	PSKUse         Callback = C.THEIRS_PSK_USE
	PSKServer      Callback = C.THEIRS_PSK_SERVER
	PSKClient      Callback = C.THEIRS_PSK_CLIENT
	Password       Callback = C.THEIRS_PASSWORD // it is "secret"
)

// Theirs sets a callback in C that counts, and lets the handshake continue.
func (c Ctx) Theirs(k Callback) { C.ossltest_theirs(c.p, C.int(k)) }

// Calls returns how often callbacks of a kind were called, of all contexts, since the last Calls.
func Calls(k Callback) int { return int(C.ossltest_calls(C.int(k))) }

// A Kept is the session that a client of other C code keeps from one Talk to the next.
type Kept struct{ p *C.SSL_SESSION }

// Free releases it.
func (k *Kept) Free() {
	C.SSL_SESSION_free(k.p)
	k.p = nil
}

// Talk connects a server and a client of other C code, in memory, and reports whether both
// handshakes were completed. The client offers the session in k, with early data if allowed. Then k
// keeps the client's session.
func Talk(server, client Ctx, k *Kept) bool { return C.ossltest_talk(server.p, client.p, &k.p) == 1 }
