// SPDX-License-Identifier: Apache-2.0

//go:build cgo && !linux

package sslctx

// queueSizes cannot ask a socket on this system.
func queueSizes(uintptr) (unread, unsent int, known bool) { return 0, 0, false }
