// SPDX-License-Identifier: Apache-2.0

package tlstest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"encoding/asn1"
	"testing"
	"time"

	"sslctx"
)

// PSKKey is the key of PSKSession.
var PSKKey = bytes.Repeat([]byte{0x1a, 0x2b}, 16)

// PSKDER encodes an external pre-shared key as a session: protocol version, cipher suite, key and
// the limit of early data.
func PSKDER(t testing.TB, version sslctx.Version, cipher uint16, key []byte, early int) []byte {
	t.Helper()
	der, err := asn1.Marshal(struct {
		Format, Version int
		Cipher, ID, Key []byte
		Time            int `asn1:"explicit,tag:1"`
		Timeout         int `asn1:"explicit,tag:2"`
		Early           int `asn1:"explicit,optional,tag:15"`
	}{1, int(version), []byte{byte(cipher >> 8), byte(cipher)}, nil, key, int(time.Now().Unix()), 300, early})
	Must(t, err)
	return der
}

// PSKSession is a pre-shared key of TLS 1.3 that allows some early data.
func PSKSession(t testing.TB, early int) *sslctx.Session {
	t.Helper()
	return ParseSession(t, PSKDER(t, sslctx.VersionTLS13, tls.TLS_AES_128_GCM_SHA256, PSKKey, early))
}

// ParseSession decodes a session. It is closed when the test ends.
func ParseSession(t testing.TB, der []byte) *sslctx.Session {
	t.Helper()
	s, err := sslctx.ParseSession(der)
	Must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// SetPSK sets the hooks for pre-shared keys of TLS 1.3 at both ends, for one identity.
func (e Ends) SetPSK(t testing.TB, identity string, ofServer, ofClient *sslctx.Session) {
	t.Helper()
	Must(t, e.Server.SetCiphersuites("TLS_AES_128_GCM_SHA256")) // another hash needs another key
	Must(t, e.Server.SetPSKFindSessionCallback(func(_ context.Context, _ *sslctx.Conn, id []byte) *sslctx.Session {
		if string(id) != identity {
			return nil
		}
		return ofServer
	}))
	Must(t, e.Client.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) {
		return []byte(identity), ofClient
	}))
}
