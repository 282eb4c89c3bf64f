// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

package spacemonkey_test

import (
	"bytes"
	"net"
	"testing"

	"github.com/spacemonkeygo/openssl"

	"sslctx"
	"sslctx/internal/testcert"
	"sslctx/spacemonkey"
)

// TestSession takes the session of a server of theirs and compares it with what our client has.
func TestSession(t *testing.T) {
	theirs, ours := handshake(t)
	got, err := spacemonkey.Session(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	want, err := ours.Session()
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	if len(want.ID()) == 0 || !bytes.Equal(got.ID(), want.ID()) {
		t.Errorf("their server has session %x, our client %x", got.ID(), want.ID())
	}
	if got.Cipher() != want.Cipher() {
		t.Errorf("their server has %v, our client %v", got.Cipher(), want.Cipher())
	}
}

// handshake connects a server of theirs with a client of ours, by TLS 1.2 with a session ID.
func handshake(t *testing.T) (*openssl.Conn, *sslctx.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	made := make(chan *openssl.Conn)
	go func() { made <- accept(t, l) }()

	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := sslctx.NewContext(sslctx.TLSClientMethod)
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	if err := ctx.SetMaxProtoVersion(sslctx.VersionTLS12); err != nil {
		t.Fatal(err)
	}
	ours, err := sslctx.Client(raw, ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close() })
	if err := ours.Handshake(); err != nil {
		t.Fatal(err)
	}
	theirs := <-made
	if theirs == nil {
		t.FailNow()
	}
	t.Cleanup(func() { _ = theirs.Close() })
	return theirs, ours
}

func accept(t *testing.T, l net.Listener) *openssl.Conn {
	raw, err := l.Accept()
	if err != nil {
		t.Error(err)
		return nil
	}
	c, err := openssl.Server(raw, serverContext(t))
	if err != nil {
		t.Error(err)
		return nil
	}
	if err := c.Handshake(); err != nil {
		t.Error(err)
		return nil
	}
	return c
}

func serverContext(t *testing.T) *openssl.Ctx {
	pair, err := testcert.New()
	if err != nil {
		t.Error(err)
		return nil
	}
	cert, err := openssl.LoadCertificateFromPEM(pair.Cert)
	if err != nil {
		t.Error(err)
		return nil
	}
	key, err := openssl.LoadPrivateKeyFromPEM(pair.Key)
	if err != nil {
		t.Error(err)
		return nil
	}
	ctx, err := openssl.NewCtx()
	if err != nil {
		t.Error(err)
		return nil
	}
	ctx.SetOptions(openssl.NoTicket)
	if err := ctx.UseCertificate(cert); err != nil {
		t.Error(err)
	}
	if err := ctx.UsePrivateKey(key); err != nil {
		t.Error(err)
	}
	return ctx
}
