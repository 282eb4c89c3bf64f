// SPDX-License-Identifier: Apache-2.0

//go:build cgo && !forcegc

package sslctx

// watch does nothing without the build tag forcegc: see owned_forcegc.go.
type watch struct{}

func watched[P any](_ *watch, collect func(P)) func(P) { return collect }

func (*watch) entered() {}

func (*watch) left() {}

func collectGarbage() {}
