// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

var (
	// ErrNoEarlyData says that a client offers no session that allows early data on this connection, so that none
	// can be sent before the handshake.
	ErrNoEarlyData = errors.New("sslctx: the connection offers no session that allows early data on it")

	// ErrEarlyDataLeft says that a server has begun to read early data and has not come to its end, which must
	// be before the handshake goes on.
	ErrEarlyDataLeft = errors.New("sslctx: early data has not been read to its end")
)

// An EarlyDataStatus says what became of early data (TLS 1.3).
type EarlyDataStatus int

// The states of early data. A client's is EarlyDataRejected from when it begins to send until the server has
// accepted.
const (
	EarlyDataNotSent  EarlyDataStatus = C.SSL_EARLY_DATA_NOT_SENT
	EarlyDataRejected EarlyDataStatus = C.SSL_EARLY_DATA_REJECTED
	EarlyDataAccepted EarlyDataStatus = C.SSL_EARLY_DATA_ACCEPTED
)

// String returns the state as words.
func (s EarlyDataStatus) String() string {
	switch s {
	case EarlyDataNotSent:
		return "not sent"
	case EarlyDataRejected:
		return "rejected"
	case EarlyDataAccepted:
		return "accepted"
	}
	return fmt.Sprintf("EarlyDataStatus(%d)", int(s))
}

// earlyPhase is how far a connection is with early data.
type earlyPhase int

const (
	earlyNone      earlyPhase = iota
	earlyAccepting            // a server, before its answer to the ClientHello is made
	earlyReading
	earlyWriting
	earlyOver
)

// Early data is sealed in pieces for each of which libssl has room: what it could not finish it would count twice. A
// piece is one record where records may be padded, and otherwise 32 small records at most.
const (
	earlyRoom        = 2 * recordRoom
	earlyPiece       = 16384
	earlyPaddedPiece = 512
)

// EarlyDataStatus returns what became of early data: what this end sent as a client, or was sent as a server. A client
// knows it when the handshake is over: what the server rejected nobody has read, and it is for the client to
// send it again, if that is what it wants ([Conn.HandshakeWithEarlyData] does). Until then it is
// EarlyDataRejected. A server knows it after its first ReadEarlyData, or after its handshake.
//
// Wraps [SSL_get_early_data_status].
//
// [SSL_get_early_data_status]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) EarlyDataStatus() EarlyDataStatus { return c.lastCallResult().early }

// MaxEarlyData returns how many bytes of early data a server's tickets allow; and in a client that has begun to send
// early data, how many its session allowed.
//
// Wraps [SSL_get_max_early_data].
//
// [SSL_get_max_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) MaxEarlyData() int {
	n, err := c.maxEarlyData(waitLimit{untilClosed: true})
	if err != nil {
		panic("sslctx: use of a closed or nil Conn")
	}
	return n
}

func (c *Conn) maxEarlyData(limit waitLimit) (int, error) {
	r, err := c.beginWithin(limit)
	if err != nil {
		return 0, err
	}
	defer c.end(r)
	return int(C.SSL_get_max_early_data(r.p.ssl)), nil
}

// SetMaxEarlyData is [Context.SetMaxEarlyData] for one server: 0 has it reject early data. It means nothing in a client,
// whose session has the limit.
//
// Wraps [SSL_set_max_early_data].
//
// [SSL_set_max_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) SetMaxEarlyData(n int) error {
	if err := checkInt("SetMaxEarlyData", "n", n, 0, maxEarlyData); err != nil {
		return err
	}
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	ok := C.SSL_set_max_early_data(r.p.ssl, C.uint32_t(n))
	return errorIf(ok == 1, "SSL_set_max_early_data", nil)
}

// RecvMaxEarlyData returns how many bytes of early data a server takes, or passes over.
//
// Wraps [SSL_get_recv_max_early_data].
//
// [SSL_get_recv_max_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) RecvMaxEarlyData() int {
	r, err := c.begin()
	if err != nil {
		panic("sslctx: use of a closed or nil Conn")
	}
	defer c.end(r)
	return int(C.SSL_get_recv_max_early_data(r.p.ssl))
}

// SetRecvMaxEarlyData is [Context.SetRecvMaxEarlyData] for one server.
//
// Wraps [SSL_set_recv_max_early_data].
//
// [SSL_set_recv_max_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) SetRecvMaxEarlyData(n int) error {
	if err := checkInt("SetRecvMaxEarlyData", "n", n, 0, maxEarlyData); err != nil {
		return err
	}
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	ok := C.SSL_set_recv_max_early_data(r.p.ssl, C.uint32_t(n))
	return errorIf(ok == 1, "SSL_set_recv_max_early_data", nil)
}

// ReadEarlyData reads what a client sent before the handshake was over (TLS 1.3), in a server, in place of Handshake and
// before it; it waits for the ClientHello, and runs the hooks that a handshake runs. It returns io.EOF when
// there is no more, or never was any, and only then the handshake can go on: by Handshake, or by the first Read
// or Write; before, they return ErrEarlyDataLeft. A server that never calls it rejects early data.
//
// Early data is weaker than what follows: it has no forward secrecy, and whoever recorded it can send it again. libssl
// lets each session be used once, as long as all servers that share its sessions have one cache (see
// SetMaxEarlyData); with OpNoAntiReplay, and for keys of SetPSKFindSessionCallback, it lets all replays in. Do
// with early data only what may be done twice.
//
// A deadline that passes can be set anew, and reading goes on. It comes too late when a handshake has begun
// otherwise: ErrHandshakeStarted.
//
// Wraps [SSL_read_early_data].
//
// [SSL_read_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) ReadEarlyData(p []byte) (int, error) {
	if c.state.Load() < stateOpen {
		return 0, ErrClosed
	}
	if !c.server {
		return 0, badArgument("ReadEarlyData", "receiver", "is a client")
	}
	if len(p) == 0 {
		return 0, nil
	}
	return c.readEarlyData(context.Background(), p)
}

// readEarlyData is ReadEarlyData whose hooks have ctx.
func (c *Conn) readEarlyData(ctx context.Context, p []byte) (int, error) {
	k := connCall{c: c}
	for {
		n, err := k.readEarly(ctx, p)
		reported := k.any()
		hookErr := k.finishKeeping(p[:n], &c.keptEarly)
		if hookErr != nil && err == nil {
			return n, c.failHandshake(hookErr)
		}
		if n > 0 || err != nil {
			if reported {
				c.flushAlert()
			}
			return n, err
		}
	}
}

// readEarly is continueHandshake for ReadEarlyData.
func (k *connCall) readEarly(ctx context.Context, p []byte) (n int, err error) {
	c := k.c
	c.handshakeMu.Lock()
	defer c.handshakeMu.Unlock()
	if n := c.keptEarly.take(p); n > 0 {
		return n, nil
	}
	switch {
	case c.handshakeErr != nil:
		return 0, c.handshakeErr
	case c.earlyPhase == earlyOver:
		return 0, io.EOF
	case c.earlyPhase == earlyNone && c.hasStarted():
		return 0, ErrHandshakeStarted
	}
	if c.earlyPhase == earlyNone {
		c.earlyPhase = earlyAccepting
	}
	c.handshakeErr = errHookEnded // unless it comes back from there
	n, err = k.driveHandshake(ctx, opReadEarlyData, p)
	c.handshakeErr = nil
	switch {
	case n > 0:
		c.earlyPhase = earlyReading
	case err == io.EOF:
		c.earlyPhase = earlyOver
	case err != nil && !isTimeout(err):
		c.handshakeErr = err
	}
	return n, err
}

// HandshakeReadEarlyData runs a server's handshake and returns the early data that the client sent, which is none if
// it sent none or libssl rejected it: the counterpart of [Conn.HandshakeWithEarlyData]. There is no more of
// it than RecvMaxEarlyData. When ctx is done before the handshake is over, the transport is closed and ctx's
// error is returned. What was read before an error is returned with it.
//
// It returns when the client has proved that it is there, by the end of its handshake. Early data that someone
// recorded and sends again does not get that far: without an error the data is no replay, unlike what
// ReadEarlyData returns before. It has no forward secrecy all the same.
//
// Wraps [SSL_read_early_data].
//
// [SSL_read_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) HandshakeReadEarlyData(ctx context.Context) (data []byte, err error) {
	if c.state.Load() < stateOpen {
		return nil, ErrClosed
	}
	if !c.server {
		return nil, badArgument("HandshakeReadEarlyData", "receiver", "is a client")
	}
	data, err = c.readAllEarly(ctx)
	if err != nil {
		return data, err
	}
	returned := false
	defer func() { c.keepEarly(returned, data) }()
	err = c.HandshakeContext(ctx)
	returned = true
	return data, err
}

// keepEarly keeps early data for the next call if a hook's panic kept this one from returning it. What is kept already
// came later.
func (c *Conn) keepEarly(returned bool, data []byte) {
	if !returned && len(data) > 0 {
		c.keptEarly.putFirst(data)
	}
}

// readAllEarly reads early data to its end.
func (c *Conn) readAllEarly(ctx context.Context) (data []byte, err error) {
	ctx, stop := c.endWith(ctx)
	defer func() {
		if ended := stop(); ended != nil {
			err = ended
		}
	}()
	returned := false
	defer func() { c.keepEarly(returned, data) }()
	for {
		data = slices.Grow(data, earlyReadSize)
		n, err := c.readEarlyData(ctx, data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			returned = true
			return data, nil
		}
		if err != nil {
			returned = true
			return data, err
		}
	}
}

// earlyReadSize is how much early data there is room for at first.
const earlyReadSize = 512

func (c *Conn) hasStarted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.started
}

// WriteEarlyData sends data before the handshake is over (TLS 1.3).
//
// A client sends it with its ClientHello, before Handshake, if it offers a session ([Conn.SetSession]) that allows early
// data on this connection: TLS 1.3 and the session's cipher suite are enabled, its ticket has not expired, and
// the connection asks for its server name and offers its application protocol, if it has them. Otherwise it
// is ErrNoEarlyData, nothing is sent, and the connection and the session are as before: the session may still be
// resumed. The application protocols that other code has set (ContextFromPointer) are not known, and a session that
// has one then does not suit. Without such a session the hook of SetPSKUseSessionCallback is asked at once, and what
// it gives is used, with or without early data.
//
// More than the session allows in all is an ArgumentError, and nothing of it is
// sent. WriteEarlyData can be called again until Handshake, Read or Write has the handshake go on. Whether the
// server accepted what was sent is known when the handshake is over: see [Conn.EarlyDataStatus]. Early data has
// no forward secrecy, and whoever records it can send it to the server again.
//
// A server sends it to a client that has proved nothing yet, after its first ReadEarlyData and before Handshake.
//
// After a handshake that began otherwise, or that is over, it is ErrHandshakeStarted. When the deadline passes, n is
// how much of p libssl took: it is sent before what comes next.
//
// Wraps [SSL_write_early_data].
//
// [SSL_write_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) WriteEarlyData(p []byte) (n int, err error) {
	if c.state.Load() < stateOpen {
		return 0, ErrClosed
	}
	k := connCall{c: c}
	for {
		wrote, err := k.writeEarly(p[n:])
		n += wrote
		if err == nil || isTimeout(err) { // after other errors there is nothing to close, or nothing was sent
			c.noteWritten(wrote, len(p), err)
		}
		reported := k.any()
		hookErr := k.finish()
		switch {
		case hookErr != nil && err == nil:
			return n, c.failHandshake(hookErr)
		case reported && err != nil:
			c.flushAlert()
			return n, err
		case !reported:
			return n, err
		}
	}
}

// writeEarly sends, until libssl reports something: then what it made is not sent yet.
func (k *connCall) writeEarly(p []byte) (n int, err error) {
	c := k.c
	c.handshakeMu.Lock()
	defer c.handshakeMu.Unlock()
	c.writeMu.Lock()
	defer func() {
		if k.any() {
			c.writeMu.Unlock()
			return
		}
		c.unlockWrite()
	}()
	began := c.earlyPhase == earlyNone
	if err = k.beginEarly(); k.any() || err != nil {
		return 0, err
	}
	if !c.server && len(p) > c.earlyLeft {
		return 0, badArgument("WriteEarlyData", "p", "is %d bytes long, the session allows %d more", len(p), c.earlyLeft)
	}
	piece := earlyPiece
	if c.padded {
		piece = earlyPaddedPiece
	}
	for n < len(p) {
		if !began { // otherwise the ClientHello and the data go out together
			if err := c.readyToWrite(); err != nil {
				return n, err
			}
		}
		began = false
		r, err := k.callEarly(p[n:min(n+piece, len(p))])
		n += r.n
		c.earlyLeft -= r.n
		if r.reported > 0 || err != nil {
			return n, err
		}
	}
	return n, c.flush()
}

// beginEarly has a client make its ClientHello, and learns how much it may send.
func (k *connCall) beginEarly() (err error) {
	c := k.c
	switch {
	case c.handshakeErr != nil:
		return c.handshakeErr
	case c.handshakeDone.Load():
		return ErrHandshakeStarted
	case c.server && c.earlyPhase <= earlyAccepting:
		return badArgument("WriteEarlyData", "receiver", "is a server whose ReadEarlyData has not come back")
	case c.server || c.earlyPhase == earlyWriting:
		return nil
	case c.hasStarted():
		return ErrHandshakeStarted
	}
	if err := c.readyToWrite(); err != nil {
		return err
	}
	r, err := k.callEarly(nil)
	if err == nil {
		err = r.earlyRefused
	}
	if err != nil {
		return err
	}
	c.earlyPhase = earlyWriting
	c.earlyLeft, err = c.maxEarlyData(waitLimit{ctx: c.handshakeCtx})
	return err
}

// noEarlyData is the error of a client that sends none; errs are what kept the shim from finding out whether it could.
func noEarlyData(errs *C.shim_err) error {
	if errs != nil {
		return newError("SSL_get1_supported_ciphers", errs)
	}
	return ErrNoEarlyData
}

// callEarly has libssl seal a piece to its end. Its error stays the error of the connection.
func (k *connCall) callEarly(p []byte) (r callResult, err error) {
	c := k.c
	c.handshakeErr = errHookEnded
	for {
		r, _, err = k.callSSL(opWriteEarlyData, nil, false, p)
		if err != nil || r.sslError != C.SSL_ERROR_WANT_WRITE {
			break
		}
	}
	if err == nil && r.sslError != C.SSL_ERROR_NONE {
		err = r.failure(opWriteEarlyData)
		if !k.any() {
			_ = c.flush() // the alert
		}
	}
	c.handshakeErr = err
	return r, err
}

// HandshakeWithEarlyData runs a client's handshake and sends p, so that the server reads it once: as early data if the
// session that is offered allows that much, and otherwise, or if the server rejected it, when the handshake is
// over. EarlyDataStatus says which. What the server accepted may still be replayed by others: see
// [Conn.WriteEarlyData]. When ctx is done before the handshake is over, the transport is closed and ctx's error
// is returned.
func (c *Conn) HandshakeWithEarlyData(ctx context.Context, p []byte) error {
	if c.state.Load() < stateOpen {
		return ErrClosed
	}
	if c.server {
		return badArgument("HandshakeWithEarlyData", "receiver", "is a server")
	}
	sent, err := c.sendEarly(ctx, p)
	if err != nil {
		return err
	}
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	if sent && c.EarlyDataStatus() == EarlyDataAccepted {
		return nil
	}
	_, err = c.Write(p)
	return err
}

// sendEarly sends all of p or nothing.
func (c *Conn) sendEarly(ctx context.Context, p []byte) (sent bool, err error) {
	_, stop := c.endWith(ctx)
	defer func() { // also if a hook panics
		if ended := stop(); ended != nil {
			sent, err = false, ended
		}
	}()
	_, err = c.WriteEarlyData(p)
	tooMuch := (*ArgumentError)(nil)
	if errors.Is(err, ErrNoEarlyData) || errors.As(err, &tooMuch) {
		return false, nil
	}
	return err == nil, err
}
