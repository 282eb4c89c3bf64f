// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"net"
	"syscall"
)

// socketQueues tells what the system holds of a connection's transport.
type socketQueues struct {
	raw    syscall.RawConn // or nil
	resets bool            // it is TCP: with input that nobody has read, closing it drops what is not sent
}

// queuesOf looks for the socket under a transport. What wraps one may hide it, but not its address.
func queuesOf(conn net.Conn) (q socketQueues) {
	if _, q.resets = conn.LocalAddr().(*net.TCPAddr); !q.resets {
		return q
	}
	for {
		if socket, ok := conn.(syscall.Conn); ok {
			q.raw, _ = socket.SyscallConn()
			return q
		}
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return q
		}
		conn = inner.NetConn()
	}
}

// ask returns how many bytes have arrived that nobody has read, and how many the peer's system has not
// acknowledged, the end of the stream counted as one.
func (q socketQueues) ask() (unread, unsent int, known bool) {
	if q.raw == nil {
		return 0, 0, false
	}
	err := q.raw.Control(func(fd uintptr) { unread, unsent, known = askSocket(fd) })
	return unread, unsent, known && err == nil
}
