// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"io"
	"sync"
)

// The ciphertext buffers of connections: small ones for handshakes and idle connections, large ones
// for bulk data. A large one takes four records of the largest size, and any record that a peer may
// send. A write fills half of one: then the records are still in the processor's cache when the
// kernel copies them, which is worth more than fewer calls into C.
const (
	recordOverhead = 512 // SHIM_RECORD_OVERHEAD
	recordRoom     = 16384 + recordOverhead
	writeRoom      = 2 * recordRoom
	messageRoom    = 1024 // an alert, a key update, a ticket
	smallBuffer    = 4608
	largeBuffer    = 4 * recordRoom
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// getBuffer returns an empty buffer.
func getBuffer(large bool) []byte {
	if large {
		return largeBuffers.Get().(*[largeBuffer]byte)[:0]
	}
	return smallBuffers.Get().(*[smallBuffer]byte)[:0]
}

// putBuffer gives back a buffer of getBuffer that still has its front.
func putBuffer(b []byte) {
	switch cap(b) {
	case smallBuffer:
		smallBuffers.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	case largeBuffer:
		largeBuffers.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	}
}

const (
	headerLen     = 5
	maxRecordLen  = 16384 + 2048 // TLS 1.2's limit; that of TLS 1.3 is smaller
	firstType     = 20           // change_cipher_spec
	lastType      = 24           // heartbeat
	protocolMajor = 3
)

// wholeRecords returns how many bytes at the front of b are complete records. libssl gets only
// whole records, since a call with half a record makes no progress. Bytes that are no record count
// as they stand, so that libssl reports an error at once.
func wholeRecords(b []byte) int {
	whole := 0
	for {
		rest := b[whole:]
		if len(rest) > 0 && (rest[0] < firstType || rest[0] > lastType) ||
			len(rest) > 1 && rest[1] != protocolMajor {
			return len(b)
		}
		if len(rest) < headerLen {
			return whole
		}
		n := int(rest[3])<<8 | int(rest[4])
		if n > maxRecordLen {
			return len(b)
		}
		if len(rest) < headerLen+n {
			return whole
		}
		whole += headerLen + n
	}
}

// input is ciphertext that arrived and that libssl has not taken yet.
type input struct {
	fills uint64 // how often the transport was read
	buf   []byte // from getBuffer, or nil
	used  int    // bytes at the front that libssl took
	bulk  bool   // the last read filled the buffer, and not with whole records: more will come
	eof   bool   // the transport has ended
}

// ready returns the input that libssl can use: complete records, or all there is when libssl waits
// for the rest of a record or nothing more will come.
func (in *input) ready(partial bool) []byte {
	b := in.buf[in.used:]
	if partial || in.eof {
		return b
	}
	return b[:wholeRecords(b)]
}

func (in *input) advance(n int) {
	in.used += n
	if in.buf != nil && in.used == len(in.buf) {
		putBuffer(in.buf)
		in.buf, in.used = nil, 0
	}
}

// fill reads from the transport. The end of the transport is no error here: libssl decides what it
// means.
func (in *input) fill(r io.Reader) error {
	in.makeRoom()
	for range 100 { // as in bufio: a reader may return nothing now and then
		n, err := r.Read(in.buf[len(in.buf):cap(in.buf)])
		in.buf = in.buf[:len(in.buf)+n]
		in.bulk = len(in.buf) == cap(in.buf) && wholeRecords(in.buf[in.used:]) < len(in.buf)-in.used
		switch {
		case n > 0:
			in.fills++
			return nil // the next read reports the error again
		case err == io.EOF:
			in.fills++
			in.eof = true
			return nil
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// makeRoom makes room behind the input: it moves the input to the front, or to a larger buffer.
func (in *input) makeRoom() {
	if in.buf == nil {
		in.buf = getBuffer(in.bulk)
		return
	}
	rest := in.buf[in.used:]
	if len(in.buf) < cap(in.buf) && in.used == 0 {
		return
	}
	if cap(in.buf) == smallBuffer && len(rest) > smallBuffer/2 {
		large := append(getBuffer(true), rest...)
		putBuffer(in.buf)
		in.buf, in.used = large, 0
		return
	}
	in.buf, in.used = append(in.buf[:0], rest...), 0
}
