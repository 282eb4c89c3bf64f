// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"math"
	"strings"
	"time"
	"unsafe"
)

func boolInt(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// bytesPointer returns a pointer for C functions that take a pointer and a length.
func bytesPointer(b []byte) *C.uchar { return (*C.uchar)(unsafe.SliceData(b)) }

// cloneView copies memory that stays libssl's.
func cloneView(v C.shim_view) []byte {
	return bytes.Clone(unsafe.Slice((*byte)(v.p), int(v.n)))
}

// takeBytes copies bytes of C to Go, and wipes and frees those of C.
func takeBytes(op string, r C.shim_bytes) ([]byte, error) {
	if r.p == nil {
		return nil, newError(op, r.errs)
	}
	defer freeBytes(r)
	return bytes.Clone(unsafe.Slice((*byte)(r.p), int(r.n))), nil
}

func freeBytes(r C.shim_bytes) { C.shim_bytes_free(r.p, r.n) }

func stringOrNull(s string) *C.char {
	if s == "" {
		return nil
	}
	return C.CString(s)
}

// seconds converts libssl's seconds to a Duration. A time of more than 292 years becomes the
// longest Duration of its sign.
func seconds(n int64) time.Duration {
	const most = int64(math.MaxInt64 / time.Second)
	switch {
	case n > most:
		return math.MaxInt64
	case n < -most:
		return math.MinInt64
	}
	return time.Duration(n) * time.Second
}

// wholeSeconds converts a Duration to libssl's seconds. It refuses less than a second, because 0
// has a meaning of its own.
func wholeSeconds(fn string, d time.Duration) (int64, error) {
	if d < 0 || d > 0 && d < time.Second {
		return 0, badArgument(fn, "d", "is %v, and must be 0 or at least 1s", d)
	}
	if n := int64(d / time.Second); uint64(n) <= maxSeconds {
		return n, nil
	}
	return 0, badArgument(fn, "d", "is %v, the limit is %d seconds", d, uint64(maxSeconds))
}

// unixSeconds converts a time to libssl's seconds.
func unixSeconds(fn, arg string, t time.Time) (int64, error) {
	n := t.Unix()
	if n < 0 || uint64(n) > maxSeconds {
		return 0, badArgument(fn, arg, "is %v, the limits are 1970 and %d seconds later", t, uint64(maxSeconds))
	}
	return n, nil
}

// unixTime converts libssl's seconds to a Time. Seconds outside of a Time's years become the first
// or the last second of these.
func unixTime(sec int64) time.Time {
	const (
		year1 = -62135596800 // a Time counts from there
		last  = math.MaxInt64 + year1
		first = math.MinInt64 - year1
	)
	return time.Unix(min(max(sec, first), last), 0)
}

// checkString refuses a string that a C string cannot hold.
func checkString(fn, arg, value string) error {
	if strings.IndexByte(value, 0) >= 0 {
		return badArgument(fn, arg, "has a zero byte")
	}
	return nil
}

func checkInt(fn, arg string, n, least, most int) error {
	if n < least || n > most {
		return badArgument(fn, arg, "is %d, the limits are %d and %d", n, least, most)
	}
	return nil
}

const (
	maxInt  = math.MaxInt32
	maxLong = 1<<(8*C.sizeof_long-1) - 1
)

func checkID(fn string, id []byte) error {
	if len(id) > MaxIDLength {
		return badArgument(fn, "id", "is %d bytes long, the limit is %d", len(id), MaxIDLength)
	}
	return nil
}

func checkSize(fn, arg string, data []byte, limit int) error {
	if len(data) == 0 {
		return badArgument(fn, arg, "is empty")
	}
	if len(data) > limit {
		return badArgument(fn, arg, "is %d bytes long, the limit is %d", len(data), limit)
	}
	return nil
}
