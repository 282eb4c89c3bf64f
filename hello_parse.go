// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"bytes"
	"crypto/tls"
	"slices"
)

// The extensions that are read, by their numbers at IANA.
const (
	extServerName          = 0
	extSupportedGroups     = 10
	extPointFormats        = 11
	extSignatureAlgorithms = 13
	extALPN                = 16
	extSessionTicket       = 35
	extPreSharedKey        = 41
	extSupportedVersions   = 43
)

// clientHello has the fields that are read of a ClientHello.
type clientHello struct {
	info      *tls.ClientHelloInfo
	copied    []byte // what the shim copied
	sessionID []byte
	hasTicket bool   // of TLS 1.2
	identity  []byte // of the first pre-shared key, empty if it is not complete
}

// offersTLS13 reports whether the client offers TLS 1.3. A client that does not say which versions
// it supports does not.
func (h *clientHello) offersTLS13() bool {
	return slices.Contains(h.info.SupportedVersions, tls.VersionTLS13)
}

// parseHello reads what the shim copied of a ClientHello. libssl has checked its form and not yet
// its extensions: parseHello leaves out a malformed one, and libssl will refuse it.
func parseHello(b []byte) (h clientHello) {
	h.copied = b
	r := wire(b)
	version := r.number(2)
	h.sessionID = r.vector(1)
	h.info = &tls.ClientHelloInfo{CipherSuites: numbers[uint16](r.vector(2), 2)}
	for len(r) > 0 {
		kind := uint16(r.number(2))
		ext := r.vector(2)
		h.info.Extensions = append(h.info.Extensions, kind)
		h.read(kind, ext)
	}
	if h.info.SupportedVersions == nil {
		h.info.SupportedVersions = versionsUpTo(version)
	}
	return h
}

func (h *clientHello) read(kind uint16, ext wire) {
	info := h.info
	switch kind {
	case extServerName:
		info.ServerName = serverName(ext.whole(2))
	case extALPN:
		info.SupportedProtos = protocols(ext.whole(2))
	case extSupportedVersions:
		info.SupportedVersions = numbers[uint16](ext.whole(1), 2)
	case extSupportedGroups:
		info.SupportedCurves = numbers[tls.CurveID](ext.whole(2), 2)
	case extPointFormats:
		info.SupportedPoints = numbers[uint8](ext.whole(1), 1)
	case extSignatureAlgorithms:
		info.SignatureSchemes = numbers[tls.SignatureScheme](ext.whole(2), 2)
	case extSessionTicket:
		h.hasTicket = len(ext) > 0
	case extPreSharedKey:
		identities := ext.vector(2)
		h.identity = identities.vector(2)
	}
}

// serverName returns the first host name of the list, without a dot at its end.
func serverName(list wire) string {
	for len(list) > 0 {
		if kind, name := list.number(1), list.vector(2); kind == 0 && bytes.IndexByte(name, 0) < 0 {
			if name = bytes.TrimSuffix(name, []byte{'.'}); bytes.HasSuffix(name, []byte{'.'}) {
				return "" // an empty label
			}
			return string(name)
		}
	}
	return ""
}

// protocols reads the list of ALPN. An empty name is malformed.
func protocols(list wire) (all []string) {
	for len(list) > 0 {
		name := string(list.vector(1))
		if name == "" {
			return nil
		}
		all = append(all, name)
	}
	return all
}

// versionsUpTo returns the versions of a client that does not say which it supports. crypto/tls
// assumes the same.
func versionsUpTo(version uint64) (versions []uint16) {
	for v := min(version, tls.VersionTLS12); v >= tls.VersionTLS10; v-- {
		versions = append(versions, uint16(v))
	}
	return versions
}

// wire is bytes in the form of RFC 8446, section 3. A read beyond the end is empty, and so are all
// reads after it.
type wire []byte

// number takes a number of n bytes.
func (w *wire) number(n int) (v uint64) {
	for _, b := range w.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

// vector takes a vector whose length has n bytes.
func (w *wire) vector(n int) wire { return w.take(int(w.number(n))) }

// whole returns a vector that has all of the bytes, or nothing.
func (w wire) whole(n int) wire {
	v := w.vector(n)
	if len(w) > 0 {
		return nil
	}
	return v
}

func (w *wire) take(n int) wire {
	if n > len(*w) {
		*w = nil
		return nil
	}
	taken := (*w)[:n]
	*w = (*w)[n:]
	return taken
}

// numbers reads a list of numbers of n bytes.
func numbers[T ~uint8 | ~uint16](list wire, n int) (all []T) {
	if len(list)%n != 0 {
		return nil
	}
	for len(list) > 0 {
		all = append(all, T(list.number(n)))
	}
	return all
}
