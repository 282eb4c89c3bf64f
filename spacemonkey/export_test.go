// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

package spacemonkey

import (
	"reflect"
	"sync"

	"github.com/spacemonkeygo/openssl"
)

// CheckLayout checks the layout of their types.
func CheckLayout(ctx, ssl, conn reflect.Type) error {
	_, err := findFields(ctx, ssl, conn)
	return err
}

// MutexOf returns the mutex that they hold while they are inside libssl with c.
func MutexOf(c *openssl.Conn) *sync.Mutex {
	f, err := theirs()
	if err != nil {
		panic(err)
	}
	return field[sync.Mutex](c, f.mutex)
}

// SetAnotherVersion has the adapter find their types to be others, or what they are again.
func SetAnotherVersion(is bool) {
	theirs = realTheirs
	if is {
		theirs = func() (fields, error) {
			return findFields(reflect.TypeFor[openssl.SSL](), reflect.TypeFor[openssl.SSL](), reflect.TypeFor[openssl.Conn]())
		}
	}
}

var realTheirs = theirs
