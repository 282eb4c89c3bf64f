// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"syscall"
	"unsafe"
)

// askSocket asks a TCP socket how many bytes are unread and unsent, as tcp(7) describes: with
// SIOCINQ and SIOCOUTQ, which have the names for terminals here.
func askSocket(fd uintptr) (unread, unsent int, known bool) {
	unread, read := askNumber(fd, syscall.TIOCINQ)
	unsent, sent := askNumber(fd, syscall.TIOCOUTQ)
	return unread, unsent, read && sent
}

func askNumber(fd, request uintptr) (n int, ok bool) {
	var answer int32
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(&answer)))
	return int(answer), errno == 0
}
