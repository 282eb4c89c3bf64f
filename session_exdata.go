// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"maps"
	"reflect"
	"sync"
)

// SetExData keeps a value of the program with the session, under a key like that of
// [context.WithValue]. Use a type of your own for the key, so that packages do not use the same
// key. A value replaces the old one of the key; nil removes it. It works on a published session,
// and then waits until nobody else is inside libssl with its context.
//
// The value belongs to the C object and not to the handle: every handle of the session has it. It
// stays while libssl keeps the session, for example in a cache, even when all handles are closed. A
// copy begins with the values of the original, also a copy that libssl makes itself: a TLS 1.3
// client's next session is a copy of the one that it resumed. The two share each value, but not
// what is set later. Values are not part of Bytes, PEM or a ticket.
//
// Go's collector does not see what C keeps. If a value refers to an open handle of the session, or
// of its connection or context, the two keep each other alive for ever. So a key or value of a type
// that has a Session, Conn or Context in it is an ArgumentError. SetExData cannot look behind an
// interface or a function: such a handle stays alive until the program calls its Close. A key that
// is nil, or that cannot be compared, is an ArgumentError, too.
//
// Wraps [SSL_SESSION_set_ex_data].
//
// [SSL_SESSION_set_ex_data]: https://docs.openssl.org/3.0/man3/BIO_get_ex_new_index/
func (s *Session) SetExData(key, value any) error {
	const fn = "SetExData"
	if key == nil || !reflect.ValueOf(key).Comparable() {
		return badArgument(fn, "key", "is a %T, which is not comparable", key)
	}
	if leadsToHandle(reflect.TypeOf(key)) {
		return badArgument(fn, "key", "is a %T, which leads to a handle", key)
	}
	if value != nil && leadsToHandle(reflect.TypeOf(value)) {
		return badArgument(fn, "value", "is a %T, which leads to a handle", value)
	}
	a, err := s.begin(true)
	if err != nil {
		return err
	}
	defer a.end()
	n := a.values()
	if n == 0 && value != nil {
		n = exData.add(nil)
		if r := C.shim_SSL_SESSION_set_ex_data(a.p, C.uintptr_t(n)); r.n != 1 {
			exData.remove(n)
			return newError("SSL_SESSION_set_ex_data", r.errs)
		}
	}
	if n != 0 {
		setExData(n, key, value)
	}
	return nil
}

// ExData returns the value that SetExData set in the session, or in the session that it is a copy
// of; nil if there is none.
//
// Wraps [SSL_SESSION_get_ex_data].
//
// [SSL_SESSION_get_ex_data]: https://docs.openssl.org/3.0/man3/BIO_get_ex_new_index/
func (s *Session) ExData(key any) any {
	a := s.mustBegin()
	defer a.end()
	if !reflect.ValueOf(key).Comparable() { // such a key has no value
		return nil
	}
	return exData.get(a.values())[key]
}

// values returns the number by which exData finds the session's values, 0 if it has none.
func (a *sessionCall) values() uintptr { return uintptr(C.shim_SSL_SESSION_get_ex_data(a.p)) }

// exData has the values of all sessions. Copies of a session share a map, which never changes.
var exData registry[map[any]any]

// setExData changes one value. The caller is the only one that changes this number.
func setExData(number uintptr, key, value any) {
	all := maps.Clone(exData.get(number))
	switch {
	case value == nil:
		delete(all, key)
	case all == nil:
		all = map[any]any{key: value}
	default:
		all[key] = value
	}
	exData.set(number, all)
}

var handleTypes = map[reflect.Type]bool{
	reflect.TypeFor[Session](): true, reflect.TypeFor[Conn](): true, reflect.TypeFor[Context](): true,
}

// leading caches the results of leadsToHandle: a bool for each reflect.Type.
var leading sync.Map

// leadsToHandle reports whether a value of the type can have a handle in it. It looks only at
// types, because the value may change meanwhile.
func leadsToHandle(t reflect.Type) bool {
	if known, ok := leading.Load(t); ok {
		return known.(bool)
	}
	leads := typeLeads(t, map[reflect.Type]bool{})
	leading.Store(t, leads)
	return leads
}

func typeLeads(t reflect.Type, seen map[reflect.Type]bool) bool {
	if handleTypes[t] {
		return true
	}
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Map:
		return typeLeads(t.Key(), seen) || typeLeads(t.Elem(), seen)
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Chan:
		return typeLeads(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if typeLeads(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}
