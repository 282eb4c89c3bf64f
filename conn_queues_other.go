// SPDX-License-Identifier: Apache-2.0

//go:build cgo && !linux

package sslctx

// askSocket cannot ask a socket on this system.
func askSocket(uintptr) (unread, unsent int, known bool) { return 0, 0, false }
