// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import "fmt"

// dupPSK makes a copy that libssl may have for itself: a client writes to it. It fails with ErrBadPSK if s is no
// pre-shared key.
func (s *Session) dupPSK() (*Session, error) {
	p, err := s.dup()
	if err != nil {
		return nil, err
	}
	missing := C.shim_session_is_psk(p)
	if missing == 0 {
		return adoptSession(p, nil), nil
	}
	freeSession(p)
	what := map[C.int]string{
		C.SHIM_PSK_VERSION: "its protocol version is not TLS 1.3",
		C.SHIM_PSK_CIPHER:  "it has no cipher suite of TLS 1.3",
		C.SHIM_PSK_KEY:     "it has no master key",
	}[missing]
	return nil, fmt.Errorf("%w: %s", ErrBadPSK, what)
}

// release gives the reference of a handle away that nobody else has; nil gives nil.
func (s *Session) release() (p *C.SSL_SESSION) {
	if s != nil {
		s.close(func(released *C.SSL_SESSION) { p = released })
	}
	return p
}
