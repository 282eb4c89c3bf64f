// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// A countingBody counts how often it is closed. It can be read after that.
type countingBody struct {
	io.Reader
	closed int
}

func (b *countingBody) Close() error {
	b.closed++
	return nil
}

// TestBodyOrder: a transport's goroutines read a body, close it and return from RoundTrip in any
// order. The body is always closed, but only when no other transport can follow.
func TestBodyOrder(t *testing.T) {
	read := func(b *body) { _, _ = b.Read(make([]byte, 1)) }
	closing := func(b *body) { _ = b.Close() }
	again := func(b *body) { _, _ = b.attempt() }
	for name, c := range map[string]struct {
		steps  []func(*body)
		before int // closed before RoundTrip returns
	}{
		"read, closed":            {[]func(*body){read, closing}, 1},
		"closed":                  {[]func(*body){closing}, 0},
		"closed, read too late":   {[]func(*body){closing, read}, 0},
		"closed, sent elsewhere":  {[]func(*body){closing, again, read, closing}, 1},
		"closed twice, elsewhere": {[]func(*body){closing, again, closing}, 0},
	} {
		inner := &countingBody{Reader: strings.NewReader("xy")}
		r, err := http.NewRequestWithContext(t.Context(), "POST", "https://host.example", inner)
		if err != nil {
			t.Fatal(err)
		}
		b := &body{request: r}
		again(b)
		for _, step := range c.steps {
			step(b)
		}
		if inner.closed != c.before {
			t.Errorf("%s: closed %d times before the end", name, inner.closed)
		}
		b.finish()
		if inner.closed != 1 {
			t.Errorf("%s: closed %d times", name, inner.closed)
		}
	}
	b := &body{request: &http.Request{Body: &countingBody{Reader: strings.NewReader("x")}}}
	again(b)
	closing(b)
	if n, err := b.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("Read after Close returns %d, %v", n, err)
	}
}
