// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"errors"
	"io"
	"testing"

	"sslctx"
)

// TestConnOptions: options of a connection are its own.
func TestConnOptions(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetMinProtoVersion(sslctx.VersionTLS12))
	must(t, e.client.SetMinProtoVersion(sslctx.VersionTLS12))
	before := e.client.Options()
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	if got, err := client.Options(); got != before || err != nil {
		t.Errorf("a new connection has the options %v, %v, want those of its context, %v", got, err, before)
	}
	const added = sslctx.OpNoTLSv13 | sslctx.OpNoTicket
	if now, err := client.SetOptions(added); now != before|added || err != nil {
		t.Errorf("SetOptions returns %v, %v, want %v", now, err, before|added)
	}
	if now, err := client.ClearOptions(sslctx.OpNoTicket); now != before|sslctx.OpNoTLSv13 || err != nil {
		t.Errorf("ClearOptions returns %v, %v, want %v", now, err, before|sslctx.OpNoTLSv13)
	}
	if e.client.Options() != before {
		t.Errorf("the context's options became %v", e.client.Options())
	}
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	must(t, client.Handshake())
	must(t, <-done)
	if client.Version() != sslctx.VersionTLS12 {
		t.Errorf("the version is %v without TLS 1.3", client.Version())
	}
	must(t, client.Close())
	_, set := client.SetOptions(0)
	_, cleared := client.ClearOptions(0)
	_, got := client.Options()
	for _, err := range []error{set, cleared, got} {
		if !errors.Is(err, sslctx.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// TestIgnoreUnexpectedEOF: a transport that ends without close_notify is the end of the data for a connection that says so.
func TestIgnoreUnexpectedEOF(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, o := range []sslctx.Option{0, sslctx.OpIgnoreUnexpectedEOF} {
			server, client := newEnds(t, v).connect(t, nil)
			_, err := client.SetOptions(o)
			must(t, err)
			must(t, server.NetConn().Close())
			want := io.EOF
			if o == 0 { // also before OpenSSL 3.0
				want = io.ErrUnexpectedEOF
			}
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, want) {
				t.Errorf("with the options %v Read returns %v, want %v", o, err, want)
			}
		}
	})
}

func TestOptionNames(t *testing.T) {
	for o, want := range map[sslctx.Option]string{
		sslctx.OpNoTLSv1 | sslctx.OpNoTLSv13:                    "NO_TLSv1|NO_TLSv1_3",
		sslctx.OpNoCompression | sslctx.OpEnableMiddleboxCompat: "NO_COMPRESSION|ENABLE_MIDDLEBOX_COMPAT",
		sslctx.OpNoEncryptThenMac:                               "NO_ENCRYPT_THEN_MAC",
		sslctx.OpPrioritizeChaCha:                               "PRIORITIZE_CHACHA",
	} {
		if o.String() != want {
			t.Errorf("%#x is %v, want %s", uint64(o), o, want)
		}
	}
	if o := sslctx.OpIgnoreUnexpectedEOF; o != 0 && o.String() != "IGNORE_UNEXPECTED_EOF" {
		t.Errorf("OpIgnoreUnexpectedEOF is %v", o)
	}
	if got := sslctx.ModeNoAutoChain.String(); got != "NO_AUTO_CHAIN" {
		t.Errorf("ModeNoAutoChain is %s", got)
	}
}
