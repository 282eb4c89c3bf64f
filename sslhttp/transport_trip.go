// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
)

// maxDials is how many connections a request makes in turn before it gives up. One is enough,
// unless the server closes each connection before a request.
const maxDials = 10

// maxShared is how many of these it shares with requests that come meanwhile. These requests may
// fill every shared connection first; so the next connection is the request's own.
const maxShared = 3

var errTooManyDials = errors.New("sslhttp: the server ends every connection before a request, or allows none")

// errNeedsConn says that a transport of net/http would have to connect to send the request. It has sent
// nothing.
var errNeedsConn = errors.New("sslhttp: no connection")

// errBusy is an errNeedsConn: the time limit ended the wait for the request that goes first.
var errBusy = fmt.Errorf("%w in time", errNeedsConn)

// A trip is a request on its way to its response.
type trip struct {
	t   *Transport
	ctx context.Context // ends its waits
	to  target

	private bool // no other request may ever use its connection
	alone   bool // it uses no connection that others have made
	early   bool // it may go as early data
	dials   int
	refused []*http2Client // nil stands for HTTP/1.1's transport

	// What the request has found and not yet used; at most one is not nil.
	shared *http2Client // other requests may use it now
	own    *http2Client // nobody else knows it
	spare  *conn        // of HTTP/1.1
}

// find finds a connection for the request. If it finds none, HTTP/1.1's transport has one or
// connects.
func (w *trip) find() (err error) {
	if w.own != nil {
		return nil
	}
	if !w.alone {
		var http1 bool
		if w.shared, http1 = w.t.sharedConn(w.to, w.refused); w.shared != nil || http1 {
			return nil
		}
	}
	if w.dials++; w.dials > maxDials {
		return errTooManyDials
	}
	if w.alone || w.dials > maxShared {
		return nil
	}
	w.shared, w.spare, err = w.t.dialTogether(w.ctx, w.to, w.early)
	return err
}

// mark prepares an attempt to send the request for what becomes of its early data.
func (w *trip) mark(r *http.Request) (*http.Request, *earlyUse) {
	if !w.t.early.Load() {
		return r, nil
	}
	use := &earlyUse{allowed: w.early}
	return r.WithContext(context.WithValue(r.Context(), useKey{}, use)), use
}

// send sends the request by what find has found. With errNeedsConn it has sent nothing, and find
// looks for something else.
func (w *trip) send(r *http.Request) (resp *http.Response, err error) {
	shared, own, spare := w.shared, w.own, w.spare
	w.shared, w.own, w.spare = nil, nil, nil
	switch {
	case own != nil:
		resp, err = w.sendFirst(own, r)
	case shared != nil:
		resp, err = shared.roundTrip(w.ctx, r)
	default:
		resp, w.own, err = w.t.roundTripHTTP1(r, w.to, spare)
	}
	if errors.Is(err, errNeedsConn) {
		w.refused = append(w.refused, cmp.Or(own, shared))
	}
	if errors.Is(err, errBusy) {
		w.alone = true // other connections may be busy, too
	}
	return resp, err
}

// sendFirst sends the request by a client that nobody else knows. From now on other requests know
// the client, but this request goes first. The caller's GetBody has run before, because nobody may
// wait for c while it runs.
func (w *trip) sendFirst(c *http2Client, r *http.Request) (resp *http.Response, err error) {
	c.hold()
	if !w.private {
		w.t.keepProven(c.conn, c)
		return c.roundTripHeld(r)
	}
	defer func() {
		if resp == nil { // also if a hook panics or ends the goroutine
			c.drop()
		}
	}()
	return c.roundTripHeld(r)
}

// leave gives up what the request has found and not used.
func (w *trip) leave() {
	w.shared.leave()
	w.own.drop()
	w.t.dropSpare(w.to, w.spare)
}
