// SPDX-License-Identifier: Apache-2.0

// Package conformance is the judge of the binding: it runs the same operations through the binding and
// through a C program that knows nothing of it (oracle/oracle.c), and compares after each step what
// both return and all that can be observed of contexts and sessions.
//
// The operations come from scripts (script/*.txt: the sentences of the man page, the behaviour of the
// cache calls row by row, the counters of handshakes) and from a generator of random ones. Scripts c01 to c14
// are what libssl does not survive: it runs them alone, in a process with a watchdog, and by valgrind if there is one,
// and the binding beside it.
package conformance
