// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import "fmt"

// The plaintext that a record may be made to hold at most.
const (
	minFragment = 512
	maxFragment = C.SSL3_RT_MAX_PLAIN_LENGTH
)

// SetMaxSendFragment sets how many bytes of plaintext a record that is sent holds at most, 512 to 16384,
// which is the default. Smaller ones reach a slow peer's application sooner, and cost more.
//
// Wraps [SSL_CTX_set_max_send_fragment].
//
// [SSL_CTX_set_max_send_fragment]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_split_send_fragment/
func (c *Context) SetMaxSendFragment(n int) error {
	return c.setFragment("SetMaxSendFragment", n, func(p *C.SSL_CTX) bool {
		return C.shim_SSL_CTX_set_max_send_fragment(p, C.long(n)) == 1
	})
}

// SetSplitSendFragment sets into pieces of how many bytes a write is split when several records can be
// encrypted at once, which only some engines do: 512 to what SetMaxSendFragment set. Without one nothing
// changes.
//
// Wraps [SSL_CTX_set_split_send_fragment].
//
// [SSL_CTX_set_split_send_fragment]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_split_send_fragment/
func (c *Context) SetSplitSendFragment(n int) error {
	return c.setFragment("SetSplitSendFragment", n, func(p *C.SSL_CTX) bool {
		return C.shim_SSL_CTX_set_split_send_fragment(p, C.long(n)) == 1
	})
}

func (c *Context) setFragment(fn string, n int, set func(*C.SSL_CTX) bool) error {
	return c.configure(func(p *C.SSL_CTX) error {
		if err := checkInt(fn, "n", n, minFragment, maxFragment); err != nil {
			return err
		}
		if !set(p) { // it queues nothing
			return badArgument(fn, "n", "is %d, more than SetMaxSendFragment allows", n)
		}
		return nil
	})
}

// SetBlockPadding has TLS 1.3 pad each record to a multiple of n bytes, so that its length tells less, up
// to 16384; 0 and 1 are no padding.
//
// Wraps [SSL_CTX_set_block_padding].
//
// [SSL_CTX_set_block_padding]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_record_padding_callback/
func (c *Context) SetBlockPadding(n int) error {
	if err := checkInt("SetBlockPadding", "n", n, 0, maxFragment); err != nil {
		return err
	}
	if err := c.notePadding(n > 1); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		C.SSL_CTX_set_block_padding(p, C.size_t(n)) // fails for nothing but n
		return nil
	})
}

// notePadding notes for the connections to come that records will be longer than what is in them.
func (c *Context) notePadding(on bool) error {
	var v contextCall
	if err := v.begin(c, true); err != nil {
		return err
	}
	defer v.end()
	v.ctx.padsRecords = on
	return nil
}

// A MaxFragmentLength is the length of records that a client asks for (RFC 6066).
type MaxFragmentLength int

// The lengths, by the numbers of the extension. MaxFragmentAny is the default of clients, which ask for
// nothing then. A server does what it is asked; set to MaxFragmentAny it ignores the question, from
// OpenSSL 3.0.14 on.
const (
	MaxFragmentAny  MaxFragmentLength = C.TLSEXT_max_fragment_length_DISABLED
	MaxFragment512  MaxFragmentLength = C.TLSEXT_max_fragment_length_512
	MaxFragment1024 MaxFragmentLength = C.TLSEXT_max_fragment_length_1024
	MaxFragment2048 MaxFragmentLength = C.TLSEXT_max_fragment_length_2048
	MaxFragment4096 MaxFragmentLength = C.TLSEXT_max_fragment_length_4096
)

// Bytes returns how much plaintext a record holds at most.
func (m MaxFragmentLength) Bytes() int {
	if m < MaxFragment512 || m > MaxFragment4096 {
		return maxFragment
	}
	return minFragment << (m - MaxFragment512)
}

// String gives the length in bytes.
func (m MaxFragmentLength) String() string {
	if m == MaxFragmentAny {
		return "any"
	}
	return fmt.Sprint(m.Bytes())
}

// SetMaxFragmentLength sets what length of records, in both directions, clients ask the server for. What
// the two ends agreed on is the session's: [Session.MaxFragmentLength].
//
// Wraps [SSL_CTX_set_tlsext_max_fragment_length].
//
// [SSL_CTX_set_tlsext_max_fragment_length]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tlsext_max_fragment_length/
func (c *Context) SetMaxFragmentLength(m MaxFragmentLength) error {
	if err := checkInt("SetMaxFragmentLength", "m", int(m), int(MaxFragmentAny), int(MaxFragment4096)); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		C.SSL_CTX_set_tlsext_max_fragment_length(p, C.uint8_t(m)) // fails for nothing but m
		return nil
	})
}
