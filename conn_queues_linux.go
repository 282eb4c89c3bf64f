// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"syscall"
	"unsafe"
)

// queueSizes asks a TCP socket how many bytes are unread and unsent, as tcp(7) describes: with
// SIOCINQ and SIOCOUTQ, which have the names for terminals here.
func queueSizes(fd uintptr) (unread, unsent int, known bool) {
	unread, read := ioctlInt(fd, syscall.TIOCINQ)
	unsent, sent := ioctlInt(fd, syscall.TIOCOUTQ)
	return unread, unsent, read && sent
}

func ioctlInt(fd, request uintptr) (n int, ok bool) {
	var answer int32
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(&answer)))
	return int(answer), errno == 0
}
