// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

package spacemonkey_test

import (
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	"sslctx"
	"sslctx/spacemonkey"
)

//lint:file-ignore U1000 reflection alone looks at these fields

// Types like theirs, one with the right layout and others with layouts that another version could
// have.
type (
	_Ctype_struct_ssl_ctx_st struct{}
	_Ctype_struct_ssl_st     struct{}

	goodCtx  struct{ ctx *_Ctype_struct_ssl_ctx_st }
	goodSSL  struct{ ssl *_Ctype_struct_ssl_st }
	goodConn struct {
		*goodSSL
		is_shutdown bool
		mtx         sync.Mutex
	}
	handleCtx  struct{ ctx uintptr }
	swappedCtx struct{ ctx *_Ctype_struct_ssl_st }
	renamedSSL struct{ s *_Ctype_struct_ssl_st }
	rwConn     struct {
		is_shutdown bool
		mtx         sync.RWMutex
	}
	inner     struct{ mtx sync.Mutex }
	innerConn struct {
		*inner
		is_shutdown bool
	}
	stateConn struct {
		is_shutdown int32
		mtx         sync.Mutex
	}
)

func TestLayout(t *testing.T) {
	ctx, ssl, conn := reflect.TypeFor[goodCtx](), reflect.TypeFor[goodSSL](), reflect.TypeFor[goodConn]()
	must(t, spacemonkey.CheckLayout(ctx, ssl, conn))
	for want, types := range map[string][3]reflect.Type{
		"handleCtx has no field ctx of type *C.SSL_CTX":                   {reflect.TypeFor[handleCtx](), ssl, conn},
		"swappedCtx has no field ctx of type *C.SSL_CTX":                  {reflect.TypeFor[swappedCtx](), ssl, conn},
		"renamedSSL has no field ssl of type *C.SSL":                      {ctx, reflect.TypeFor[renamedSSL](), conn},
		"rwConn has no field mtx of type sync.Mutex":                      {ctx, ssl, reflect.TypeFor[rwConn]()},
		"innerConn has no field mtx of type sync.Mutex":                   {ctx, ssl, reflect.TypeFor[innerConn]()},
		"stateConn has no field is_shutdown of type bool":                 {ctx, ssl, reflect.TypeFor[stateConn]()},
		"goodSSL has no field mtx of type sync.Mutex":                     {ctx, ssl, ssl},
		"goodConn has no field ctx of type *C.SSL_CTX":                    {conn, ssl, conn},
		"goodCtx has no field ssl of type *C.SSL":                         {ctx, ctx, conn},
		"struct { mtx sync.Mutex } has no field is_shutdown of type bool": {ctx, ssl, reflect.TypeFor[struct{ mtx sync.Mutex }]()},
	} {
		err := spacemonkey.CheckLayout(types[0], types[1], types[2])
		if !errors.Is(err, spacemonkey.ErrLayout) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestAnotherVersion: with types that the adapter does not know all of it is refused.
func TestAnotherVersion(t *testing.T) {
	server, client := newServer(t, sslctx.VersionTLS12), newClient(t, sslctx.VersionTLS12)
	s, c := connect(t, server, client, nil)
	spacemonkey.SetAnotherVersion(true)
	defer spacemonkey.SetAnotherVersion(false)
	for name, call := range map[string]func() error{
		"Context":    func() error { _, err := spacemonkey.Context(server); return err },
		"Session":    func() error { _, err := spacemonkey.Session(s); return err },
		"SetSession": func() error { return spacemonkey.SetSession(c, nil) },
	} {
		if err := call(); !errors.Is(err, spacemonkey.ErrLayout) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
