// SPDX-License-Identifier: Apache-2.0

//go:build race || asan || valgrind || forcegc

package tlstest

// Instrumented says that the program runs with a sanitizer or a race detector, which takes more
// memory and time than the program.
const Instrumented = true
