// SPDX-License-Identifier: Apache-2.0

// Package conformance checks the binding against a C program that uses libssl alone: the oracle
// (oracle/oracle.c). It runs the same operations through both. After each step it compares what both
// return, and all that can be observed of contexts and sessions.
//
// The operations come from scripts (script/*.txt: the sentences of the man page, the behaviour of
// the cache calls row by row, the counters of handshakes) and from a generator of random ones.
// libssl does not survive scripts c01 to c14. It runs them alone, in a process with a watchdog, and
// by valgrind if there is one. The binding runs beside it.
package conformance
