// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import "sync"

// home is what the handles of one SSL_CTX share: its Context, the Conns made from it, and the
// sessions that are, or may be, in its cache.
//
// It holds no C reference and no handle, so that it never keeps one alive. A session keeps its home for
// ever, also when the context is gone: several handles may have one session, and a home that changes
// in one of them would not in the others.
type home struct {
	// gate keeps apart what libssl does not. Calls that use the context or its cache, among them
	// each crossing of a Conn, hold it for reading. Held for writing: configuration, which libssl
	// does not lock against connections; the time and timeout of a session that may be cached, where
	// libssl looks at the session's owner before it takes the owner's lock (from 3.0 on); and adding
	// a session that may have been cached before, because libssl walks the sessions that it evicts,
	// after it gave its lock back, through links that adding one of them rewires (4.0, and 3.6.5: it
	// comes with patch releases, so that the version is not asked).
	gate sync.RWMutex

	// padded says that records may be much longer than what is in them: a Conn makes room for the
	// longest. libssl cannot be asked. Guarded by gate.
	padded bool
}

// lock holds the gate: alone for writing, otherwise for reading.
func (h *home) lock(alone bool) {
	if alone {
		h.gate.Lock()
	} else {
		h.gate.RLock()
	}
}

func (h *home) unlock(alone bool) {
	if alone {
		h.gate.Unlock()
	} else {
		h.gate.RUnlock()
	}
}
