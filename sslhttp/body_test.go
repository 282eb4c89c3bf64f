// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"errors"
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

// TestBodyOfSecondAttempt: a second transport gets the whole body, by GetBody or because nothing of
// it was read, or there is an error.
func TestBodyOfSecondAttempt(t *testing.T) {
	errGetBody := errors.New("there is no other")
	attempts := func(getBody func() (io.ReadCloser, error), between func(*http.Request)) (*http.Request, error) {
		inner := &countingBody{Reader: strings.NewReader("xy")}
		b := &body{request: &http.Request{Body: inner, GetBody: getBody}}
		first, err := b.attempt()
		if err != nil {
			t.Fatal(err)
		}
		between(first)
		return b.attempt()
	}
	readOne := func(r *http.Request) { _, _ = r.Body.Read(make([]byte, 1)); _ = r.Body.Close() }
	closeOnly := func(r *http.Request) { _ = r.Body.Close() }
	other := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("xy")), nil }
	none := func() (io.ReadCloser, error) { return nil, errGetBody }
	for name, c := range map[string]struct {
		getBody func() (io.ReadCloser, error)
		between func(*http.Request)
		err     string
	}{
		"GetBody":           {other, readOne, ""},
		"GetBody, not read": {other, closeOnly, ""},
		"GetBody fails":     {none, readOne, errGetBody.Error()},
		"not read":          {nil, closeOnly, ""},
		"read":              {nil, readOne, "no GetBody"},
	} {
		r, err := attempts(c.getBody, c.between)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := io.ReadAll(r.Body); string(got) != "xy" || err != nil {
			t.Errorf("%s: the body is %q, %v", name, got, err)
		}
	}
}
