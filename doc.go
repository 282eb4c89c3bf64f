// SPDX-License-Identifier: Apache-2.0

// Package sslctx binds OpenSSL's libssl for one subject: sessions. It puts SSL_CTX_add_session and
// SSL_CTX_remove_session, and what is around them, into Go's hands, with exactly the behaviour of the
// libssl that the program is linked with, but for what docs/deviations.md lists.
//
// # Nouns
//
// A [Context] is an SSL_CTX: configuration, and the cache of sessions. A [Session] is an SSL_SESSION:
// what two ends keep of a connection to resume it. A [Conn] is an SSL over any net.Conn: the
// connections that make sessions and resume them.
//
// Names are libssl's without their prefix: SSL_SESSION_get_timeout is [Session.Timeout],
// SSL_CTX_sess_set_cache_size is [Context.SetCacheSize]. What C returns, Go returns: the added of
// [Context.AddSession] is libssl's 1 or 0, and a setter that returns the old value in C does so in Go.
// The error beside it is for what the C signature cannot say. Times and durations are libssl's whole
// seconds; what is finer is dropped.
//
// # Ownership
//
// Every handle owns one C reference, from its constructor until Close or garbage collection. Close is
// safe at any time, more than once, and while other goroutines are inside a call: the object is freed
// when the last of them has left. Go's collector does not see C's memory: close what you can.
//
// libssl's own references are its own: a session that was added to a cache lives there whether the
// Session is closed or not. Several handles may have one C object; [Session.Same] compares the
// objects.
//
// # Sessions that libssl has
//
// A new session is fresh: nobody else has it. Once it is published (added, offered by or taken from a connection, or heard
// of by a hook) libssl has it too. Then its key, the protocol version and the ID, is fixed (ErrPublished), and while the
// cache of one context holds it no other context takes it (ErrForeignContext): libssl corrupts its memory
// otherwise. [Session.Dup] makes a fresh copy of any session. All places where the binding does not do
// what libssl would are listed in docs/deviations.md.
//
// # Errors
//
// A failed call returns an *[Error] with all that OpenSSL had to say, taken in the same crossing into C:
// the queue belongs to the thread, and goroutines move. errors.Is finds a [Reason] in it, or the errno
// of a failed system call. Bad arguments are an *[ArgumentError], which names the argument and its
// limit, and never reach libssl. A closed handle is [ErrClosed]; methods that have no error to return
// panic then.
//
// # Concurrency
//
// All methods of all types may be called from any goroutine at any time. Where libssl does not lock, the
// binding does: a Context is configured while no connection of it is inside libssl, and the time and
// timeout of a session change while nobody is at its cache.
//
// # Events
//
// libssl calls back at bad moments: from under its locks, and from deep inside C. Here a callback of C's only notes
// what it was told. The hook that was set in Go runs when the call has returned, on the goroutine that made it,
// in libssl's order and with no lock held: it may call anything, the call that it hears of included. What libssl has to
// send is sent after it, so that a hook can store a session before the peer has it.
// What must have an answer, the choice of a context by the ClientHello, suspends the handshake: its goroutine
// waits, and no thread.
//
// # Secrets
//
// A Session prints, formats and logs without its secrets. [Session.Bytes], [Session.PEM], [Session.Print] and
// [Session.PrintKeylog] give them away; what they return is as good as the keys of the connection. Encoders never do:
// JSON, XML and all that ask for text write the description of a Session, [Secret] or [TicketKey], binary encodings
// such as gob fail, and no decoder makes one ([ErrNotEncoded]): a program that stores a session calls Bytes or PEM.
// [Session.MasterKey] and [Session.Ticket] are a [Secret], which prints as its length, and which Clear overwrites.
package sslctx
