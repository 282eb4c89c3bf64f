// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// A body is the body of a request that several transports may get before one sends it. All of them
// close it. With GetBody each gets its own body. Without it the body stays open while nothing was
// read and another transport may follow.
type body struct {
	request  *http.Request
	attempts int

	mu     sync.Mutex
	over   bool // the last attempt
	read   bool
	closed bool // the attempt's transport closed it
	shut   bool // the request's own body is closed
}

// attempt returns the request for a transport.
func (b *body) attempt() (*http.Request, error) {
	b.attempts++
	r := b.request
	switch {
	case r.Body == nil || r.Body == http.NoBody || r.GetBody != nil && b.attempts == 1:
		return r, nil // net/http looks at the body's type
	case r.GetBody != nil:
		again, err := r.GetBody()
		return withBody(r, again), err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read {
		return nil, errors.New("sslhttp: the connection was lost after some of the request's body was read, and it has no GetBody")
	}
	b.closed = false
	return withBody(r, b), nil
}

func withBody(r *http.Request, b io.ReadCloser) *http.Request {
	with := *r
	with.Body = b
	return &with
}

// Read reads the request's body.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return 0, errBodyClosed
	}
	b.read = true
	b.mu.Unlock()
	return b.request.Body.Read(p)
}

var errBodyClosed = errors.New("sslhttp: the request's body is closed")

// Close closes the request's body, now or with finish.
func (b *body) Close() error {
	b.mu.Lock()
	b.closed = true
	now := b.over || b.read
	b.shut = b.shut || now
	b.mu.Unlock()
	if !now {
		return nil
	}
	return b.request.Body.Close()
}

// finish must follow the last attempt. It closes the body if that is still open, also if no
// transport got it.
func (b *body) finish() {
	b.mu.Lock()
	b.over = true
	now := b.attempts == 0 || b.closed && !b.shut
	b.shut = b.shut || now
	b.mu.Unlock()
	if now {
		closeBody(b.request)
	}
}

// closeBody is for an attempt that no transport of net/http gets.
func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}
