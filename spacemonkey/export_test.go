// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

package spacemonkey

import "reflect"

// CheckLayout is what is asked of their types.
func CheckLayout(ctx, ssl, conn reflect.Type) error {
	_, err := findFields(ctx, ssl, conn)
	return err
}
