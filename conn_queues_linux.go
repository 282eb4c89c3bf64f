// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"syscall"
	"unsafe"
)

// askSocket asks a TCP socket, as tcp(7) has it: SIOCINQ and SIOCOUTQ, by the names of terminals.
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
