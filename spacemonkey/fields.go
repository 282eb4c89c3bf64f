// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

package spacemonkey

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"unsafe"

	"github.com/spacemonkeygo/openssl"
)

// ErrLayout says that the program has a version of github.com/spacemonkeygo/openssl whose types
// have other fields than the adapter expects. The error that wraps it names the first such field.
var ErrLayout = errors.New("spacemonkey: unknown layout of github.com/spacemonkeygo/openssl")

// fields has the offsets in bytes of the unexported fields that the adapter needs.
type fields struct {
	ctx    uintptr // of a Ctx: the *C.SSL_CTX
	ssl    uintptr // of an SSL: the *C.SSL
	mutex  uintptr // of a Conn: they hold it while they are inside libssl with its SSL
	closed uintptr // of a Conn: whether it was closed
}

var theirs = sync.OnceValues(func() (fields, error) {
	return findFields(reflect.TypeFor[openssl.Ctx](), reflect.TypeFor[openssl.SSL](), reflect.TypeFor[openssl.Conn]())
})

func findFields(ctx, ssl, conn reflect.Type) (f fields, err error) {
	for _, want := range []struct {
		in    reflect.Type
		name  string
		is    func(reflect.Type) bool
		what  string
		place *uintptr
	}{
		{ctx, "ctx", isPointerToC("ssl_ctx_st"), "*C.SSL_CTX", &f.ctx},
		{ssl, "ssl", isPointerToC("ssl_st"), "*C.SSL", &f.ssl},
		{conn, "mtx", is[sync.Mutex], "sync.Mutex", &f.mutex},
		{conn, "is_shutdown", is[bool], "bool", &f.closed},
	} {
		field, ok := want.in.FieldByName(want.name)
		if !ok || len(field.Index) != 1 || !want.is(field.Type) {
			return fields{}, fmt.Errorf("%w: %v has no field %s of type %s", ErrLayout, want.in, want.name, want.what)
		}
		*want.place = field.Offset
	}
	return f, nil
}

func is[T any](t reflect.Type) bool { return t == reflect.TypeFor[T]() }

// isPointerToC recognizes a C type by its name, because cgo makes a separate type for each package.
func isPointerToC(tag string) func(reflect.Type) bool {
	return func(t reflect.Type) bool {
		return t.Kind() == reflect.Pointer && t.Elem().Name() == "_Ctype_struct_"+tag
	}
}

// field returns a pointer to the field at an offset in *p.
func field[F, T any](p *T, place uintptr) *F { return (*F)(unsafe.Add(unsafe.Pointer(p), place)) }
