// SPDX-License-Identifier: Apache-2.0

// Package conformance checks the binding against a C program that uses libssl alone: the oracle
// (oracle/oracle.c). It runs the same operations through both. After each step it compares both
// results, and the visible state of contexts and sessions.
//
// The operations come from scripts (script/*.txt: the sentences of the man page, the behaviour of
// the cache calls row by row, the counters of handshakes) and from a generator of random ones.
// libssl does not survive scripts c01 to c14. libssl runs them alone, in a process with a watchdog,
// and under valgrind if it is installed. The binding runs them in another process.
package conformance
