// SPDX-License-Identifier: Apache-2.0

// Package sslctx binds OpenSSL's libssl for one subject: TLS sessions. It calls
// SSL_CTX_add_session, SSL_CTX_remove_session and everything around them. It behaves exactly like
// the linked libssl, except where docs/deviations.md says so.
//
// # Where things are
//
// A [Context] is an SSL_CTX: configuration, and the cache of sessions. A [Session] is an
// SSL_SESSION: the state that two ends keep of a connection, to resume it later. A [Conn] is an SSL
// over any net.Conn.
//
// The cache:
//   - add and remove: [Context.AddSession], [Context.RemoveSession], [Context.AddSessions],
//     [Context.RemoveSessions]
//   - read it: [Context.Sessions], [Context.CacheStats]
//   - what it keeps, how many and how long: [Context.SetSessionCacheMode], [Context.SetCacheSize],
//     [Context.SetTimeout]
//   - drop what is out of date: [Context.FlushSessions]
//   - learn of changes: [Context.SetNewSessionCallback], [Context.SetRemoveSessionCallback]
//
// A session:
//   - make, copy and compare: [NewSession], [Session.Dup], [Session.Same], [Session.SameKey]
//   - store and read: [Session.Bytes], [Session.PEM], [ParseSession], [ParseSessionPEM]
//   - identity: [Session.ID], [Session.SetID], [Session.IDContext], [Context.SetIDContext],
//     [Context.SetSessionIDPrefix], [Context.SetSessionIDGenerator]
//   - lifetime: [Session.Time], [Session.Timeout], [Session.TicketLifetimeHint],
//     [Session.IsResumable]
//   - what it holds: [Session.Cipher], [Session.MasterKey], [Session.Ticket],
//     [Session.PeerCertificate], [Session.Hostname]
//   - values of the program: [Session.SetExData], [Session.ExData]
//
// Resumption by a client:
//   - by itself: [NewClientSessionCache], [Dialer]; package sslctx/sessionfile keeps sessions in a file
//   - offer a session: [Conn.SetSession]
//   - get the next one: [Conn.Session], [Conn.AwaitTicket], [Context.SetNewSessionCallback]
//   - what happened: [Conn.SessionReused], [Conn.ResumedSession]
//
// Tickets:
//   - keys of a fleet: [Context.SetTicketKeyRing], [NewTicketKey], [ParseTicketKey]
//   - libssl's own key: [Context.TicketKeys], [Context.SetTicketKeys]
//   - how many: [Context.SetNumTickets], [Conn.NewSessionTicket]; none: [OpNoTicket]
//   - data of the program in them: [Context.SetSessionTicketCallback]
//
// External stores:
//   - find a session while the handshake waits: [Context.SetSessionLookup]
//   - the same, inside libssl: [Context.SetGetSessionCallback]
//
// Early data (TLS 1.3):
//   - send: [Conn.HandshakeWithEarlyData], [Conn.WriteEarlyData], [Conn.EarlyDataStatus]
//   - receive: [Conn.HandshakeReadEarlyData], [Conn.ReadEarlyData], [Context.SetMaxEarlyData],
//     [Context.SetAllowEarlyDataCallback]
//
// Pre-shared keys:
//   - TLS 1.3: [Context.SetPSKUseSessionCallback], [Context.SetPSKFindSessionCallback]
//   - TLS 1.2: [Context.SetPSKClientCallback], [Context.SetPSKServerCallback], [Conn.PSKIdentity]
//
// Connections:
//   - make: [Client], [Server], [Dialer], [Dial], [Listen], [NewListener]
//   - of a tls.Config: [ListenTLS], [NewDialerFromTLS], [NewContextFromTLS]
//   - certificates: [Context.UseCertificate], [Context.TrustCertPool], [Context.TrustCertificate]
//   - verify: [Context.SetVerify], [Conn.SetServerName], [Conn.VerifyResult],
//     [Conn.VerifyClientPostHandshake]
//   - protocol: [Context.SetMinProtoVersion], [Context.SetCiphersuites], [Context.SetCipherList],
//     [Context.SetALPNProtos], [Context.Configure]
//   - a context for each name: [Context.SetClientHelloCallback]
//   - about one: [Conn.ConnectionState], [Conn.ExportKeyingMaterial]; after Close: [Conn]
//   - an SSL_CTX of other C code: [ContextFromPointer]
//
// The linked libssl: [LibraryVersions]. HTTP: package sslhttp. Programs that use
// github.com/spacemonkeygo/openssl: package spacemonkey.
//
// # Names and values
//
// Names are libssl's without their prefix: SSL_SESSION_get_timeout is [Session.Timeout],
// SSL_CTX_sess_set_cache_size is [Context.SetCacheSize]. Go returns what C returns. For example,
// the result added of [Context.AddSession] is libssl's 1 or 0. A setter that returns the old value
// in C also returns it in Go. A method may also return an error of Go. It reports what the C
// signature cannot report. Times and durations are whole seconds, as in libssl; fractions are
// dropped.
//
// # Ownership
//
// Every handle owns one C reference, from its constructor until Close or garbage collection. Close
// is safe at any time and more than once. If other goroutines are inside a call, the last of these
// calls frees the object. Go's collector does not see C's memory, so close what you can.
//
// libssl has references of its own: a cached session stays alive when its Session is closed.
// Several handles can have one C object; [Session.Same] compares the objects.
//
// # Sessions that libssl has
//
// A new session is fresh: nobody else has it. It is published when it is added, when a connection
// offers or returns it, and when a hook gets it. From then on libssl has it, too. The values that
// libssl and connections read are then fixed: protocol version, ID, ID context, cipher, master key
// and the like. A setter of these returns ErrPublished. While the cache of one context holds a
// session, no other context accepts it. AddSession returns ErrForeignContext then, because libssl
// would corrupt its memory. [Session.Dup] makes a fresh copy of any session.
//
// # Errors
//
// A failed call returns an *[Error] with everything that OpenSSL queued. The binding takes the
// queue in the same call into C, because the queue belongs to the thread, and goroutines move
// between threads. errors.Is finds a [Reason] in it, or the errno of a failed system call.
//
// A bad argument is an *[ArgumentError], which names the argument and its limit; it never reaches
// libssl. A closed handle is [ErrClosed]. A method without an error result panics on a closed
// handle. Some methods of a closed [Conn] still answer; the comment of Conn lists them.
//
// # Concurrency
//
// Methods can be called from any goroutine at any time, with two exceptions. The fields of a
// [Dialer] must not change while its methods run. [Context.SessionOf] and [Context.SetSessionOf]
// need a connection that nobody else uses.
//
// Where libssl does not lock, the binding does. It configures a Context only while no connection of
// the Context is inside libssl. It changes the time and the timeout of a session only while nobody
// else uses the cache of that session.
//
// # Hooks
//
// libssl calls back at bad moments: with its locks held, and deep inside C. So the C callback only
// notes the event. The Go hook runs when the call has returned, on the goroutine that made the
// call, in libssl's order and with no lock held. A hook for connections of other code
// ([ContextFromPointer]) runs on a goroutine of its own. A hook can call anything, even the call
// that caused the event. The exception is the writer of [Context.SetKeyLogWriter], which must not
// wait for another connection of its context. libssl's output is sent after the hook, so a hook can
// store a session before the peer has it.
//
// A hook whose answer libssl needs, such as the choice of a context by the ClientHello, suspends
// the handshake. Only the goroutine of the handshake waits then, and no thread. Such a hook must
// not call methods of its Conn that wait for the handshake. In some callbacks libssl cannot be
// suspended. There a thread waits for the hook. The number of these threads is limited
// ([ErrTooManyHooks]).
//
// # Secrets
//
// A Session prints, formats and logs without its secrets. [Session.Bytes], [Session.PEM],
// [Session.Print] and [Session.PrintKeylog] return or write them: treat the result like the keys of
// the connection.
//
// JSON, XML and all encoders of text write a description of a Session, [Secret] or [TicketKey] in
// place of its bytes. Binary encoders such as gob return [ErrNotEncoded]. No decoder makes one of
// these values. A program that stores a session calls Bytes or PEM.
//
// [Session.MasterKey] and [Session.Ticket] return a [Secret]. It prints as its length, and its
// Clear overwrites it.
package sslctx
