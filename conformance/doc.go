// SPDX-License-Identifier: Apache-2.0

// Package conformance checks the binding against a C program that uses libssl alone: the oracle
// (oracle/oracle.c). It runs the same operations through both. After each step it compares what both
// return, and all that can be observed of contexts and sessions.
//
// The operations come from scripts and from a generator of random ones. The scripts (script/*.txt)
// are about the sentences of the man page, the behaviour of the cache calls row by row, and the
// counters of handshakes.
//
// In scripts c01 to c10 and c14, libssl alone runs what the binding refuses, delays by a lock, or
// does differently. It runs in a separate process with a watchdog, and by valgrind if there is one.
// The binding runs beside it.
package conformance
