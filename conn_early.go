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
	// ErrNoEarlyData says that a client offers no session that allows early data on this
	// connection.
	ErrNoEarlyData = errors.New("sslctx: the connection offers no session that allows early data on it")

	// ErrEarlyDataLeft says that a server has begun to read early data and has not reached its end.
	// The handshake cannot continue before that.
	ErrEarlyDataLeft = errors.New("sslctx: early data has not been read to its end")
)

// An EarlyDataStatus is the result of early data (TLS 1.3).
type EarlyDataStatus int

// The states of early data. While a client sends early data its state is EarlyDataRejected, until
// the server accepts it.
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

// earlyPhase is the progress of early data on a connection.
type earlyPhase int

const (
	earlyNone      earlyPhase = iota
	earlyAccepting            // a server that has not answered the ClientHello
	earlyReading
	earlyWriting
	earlyOver
)

// Early data is sealed in pieces for which libssl always has room: it would count a piece twice
// that it could not finish. A piece is one record where records may be padded, and otherwise 32
// small records at most.
const (
	earlyRoom        = 2 * recordRoom
	earlyPiece       = 16384
	earlyPaddedPiece = 512
)

// EarlyDataStatus returns the result of early data that this client sent or this server got. In a
// client it is final when the handshake is over, and EarlyDataRejected before. The server has not
// read rejected data: send it again if you want to ([Conn.HandshakeWithEarlyData] does). In a
// server it is final after the first ReadEarlyData, or after the handshake.
//
// Wraps [SSL_get_early_data_status].
//
// [SSL_get_early_data_status]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) EarlyDataStatus() EarlyDataStatus {
	c.mustExist()
	return c.lastCallResult().early
}

// MaxEarlyData returns how many bytes of early data a server's tickets allow. In a client that has
// begun to send early data it returns how many bytes its session allowed. It panics after Close.
//
// Wraps [SSL_get_max_early_data].
//
// [SSL_get_max_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) MaxEarlyData() int {
	n, err := c.maxEarlyData(waitLimit{untilClosed: true})
	if err != nil {
		panic(closedConn)
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

// SetMaxEarlyData is [Context.SetMaxEarlyData] for one server: with 0 it rejects early data. It has
// no effect in a client, whose session has the limit.
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

// RecvMaxEarlyData returns how many bytes of early data a server reads, or skips when it rejects
// them. It panics after Close.
//
// Wraps [SSL_get_recv_max_early_data].
//
// [SSL_get_recv_max_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) RecvMaxEarlyData() int {
	r, err := c.begin()
	if err != nil {
		panic(closedConn)
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

// ReadEarlyData reads, in a server, data that a client sent before the handshake was over (TLS
// 1.3). Call it before Handshake: it waits for the ClientHello, and runs the hooks of a handshake.
// It returns io.EOF when there is no more early data, or none at all. Only then can Handshake, or
// the first Read or Write, carry the handshake on; before, they return ErrEarlyDataLeft. A server
// that never calls ReadEarlyData rejects early data.
//
// Early data is weaker than other data: it has no forward secrecy, and an attacker who recorded it
// can send it again. libssl accepts the early data of each session once, if all servers that share
// its sessions have one cache, and no store returns the session again (see
// [Context.SetMaxEarlyData]). With OpNoAntiReplay, and for keys of SetPSKFindSessionCallback, it
// accepts every replay. Use early data only for requests that may run twice.
//
// After the first data [Conn.ConnectionState] has what the ClientHello decided, and WriteEarlyData
// answers. Another goroutine can write while ReadEarlyData waits for the client.
//
// After a deadline has passed, set a new one, and reading continues. If the handshake has begun
// without ReadEarlyData, it returns ErrHandshakeStarted.
//
// Wraps [SSL_read_early_data].
//
// [SSL_read_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) ReadEarlyData(p []byte) (int, error) {
	if !c.isOpen() {
		return 0, ErrClosed
	}
	if !c.server {
		return 0, badArgument("ReadEarlyData", "receiver", "is a client")
	}
	if len(p) == 0 {
		return 0, nil
	}
	if c.peerCheck() != nil {
		return 0, errEarlyUnchecked
	}
	return c.readEarlyData(context.Background(), p)
}

// readEarlyData is ReadEarlyData with a context for its hooks.
func (c *Conn) readEarlyData(ctx context.Context, p []byte) (int, error) {
	c.earlyReadMu.Lock()
	defer c.earlyReadMu.Unlock()
	k := connCall{c: c}
	for {
		n, err := k.readEarly(ctx, p)
		reported := k.any()
		hookErr := k.finishKeeping(p[:n], &c.keptEarly, func() {})
		if hookErr != nil && (err == nil || err == io.EOF) {
			return n, c.failHandshake(hookErr)
		}
		if err == errEarlyInput {
			if err = k.awaitEarlyInput(false); err == nil {
				continue
			}
		}
		if n > 0 || err != nil {
			if reported {
				c.flushAlert()
			}
			return n, err
		}
	}
}

// errEarlyInput says that a server needs more of the transport to read early data, or to complete the handshake
// after it. Meanwhile it can write.
var errEarlyInput = errors.New("sslctx: early data is not here yet")

// awaitEarlyInput reads the transport, unless another call has done so since. It does not hold the locks that
// WriteEarlyData needs. As in a handshake, an error is final; a timeout may be none.
func (k *connCall) awaitEarlyInput(timeoutIsFinal bool) error {
	c := k.c
	err := c.fillInput(k.fills)
	if err == nil || isTimeout(err) && !timeoutIsFinal {
		return err
	}
	c.handshakeMu.Lock()
	defer c.handshakeMu.Unlock()
	if c.handshakeErr == nil {
		c.handshakeErr = err
	}
	return c.handshakeErr
}

// fillInput reads the transport, or waits for another call that does.
func (c *Conn) fillInput(fills uint64) error {
	progress := c.notifier.Wait()
	if c.ready() {
		return nil
	}
	if !c.readMu.TryLock() {
		<-progress
		return nil
	}
	defer c.notifier.Broadcast()
	defer c.unlockRead()
	if c.in.fills != fills {
		return nil
	}
	return c.in.fill(c.conn)
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
	timedOut := isTimeout(err) // may panic, too: it asks the transport's error
	c.handshakeErr = nil
	switch {
	case n > 0:
		c.earlyPhase, c.wasEarlyRead = earlyReading, true
	case err == io.EOF:
		c.earlyPhase = earlyOver
	case err != nil && err != errEarlyInput && !timedOut:
		c.handshakeErr = err
	}
	return n, err
}

// HandshakeReadEarlyData runs a server's handshake and returns the client's early data: the
// counterpart of [Conn.HandshakeWithEarlyData]. The data is empty if the client sent none or libssl
// rejected it, and never longer than RecvMaxEarlyData. If ctx is done before the handshake is over,
// it closes the transport and returns ctx's error. With an error it returns the data that it read
// before.
//
// It returns when the client has completed its handshake. A replay of recorded early data never
// gets that far: without an error the data is no replay, unlike data from ReadEarlyData. But it has
// no forward secrecy.
//
// Wraps [SSL_read_early_data].
//
// [SSL_read_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) HandshakeReadEarlyData(ctx context.Context) (data []byte, err error) {
	if !c.isOpen() {
		return nil, ErrClosed
	}
	if !c.server {
		return nil, badArgument("HandshakeReadEarlyData", "receiver", "is a client")
	}
	if c.peerCheck() != nil {
		return nil, errEarlyUnchecked
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

// keepEarly keeps early data for the next call if a hook's panic kept this call from returning it.
// Data that is kept already came later.
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

// earlyReadSize is the room for early data at first.
const earlyReadSize = 512

func (c *Conn) hasStarted() bool {
	if c.lockWithin(&c.mu, waitLimit{untilClosed: true}) != nil {
		return true
	}
	defer c.mu.Unlock()
	return c.started
}

// WriteEarlyData sends data before the handshake is over (TLS 1.3).
//
// A client sends it with its ClientHello, before Handshake. It must offer a session
// ([Conn.SetSession]) that allows early data on this connection: TLS 1.3 and the session's cipher
// suite are enabled, its ticket has not expired, and the connection has the session's server name
// and application protocol, if it has these. Otherwise WriteEarlyData returns ErrNoEarlyData and
// sends nothing; the session may still be resumed. Application protocols that other code has set
// (ContextFromPointer) are not known; a session with a protocol is then refused. Without a session
// the hook of SetPSKUseSessionCallback runs at once, and its key is used, with or without early
// data.
//
// More bytes than the session allows in all are an ArgumentError, and none of them is sent.
// WriteEarlyData can be called again until Handshake, Read or Write carries the handshake on. When
// the handshake is over, [Conn.EarlyDataStatus] tells whether the server accepted the data. Early
// data has no forward secrecy, and an attacker who records it can send it again.
//
// A server can send data after its first ReadEarlyData and before Handshake, to a client that has
// not yet proved anything.
//
// If the handshake has begun without early data, or is over, it returns ErrHandshakeStarted. When
// the deadline passes, n is how much of p libssl took; that part is sent before later data.
//
// Wraps [SSL_write_early_data].
//
// [SSL_write_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (c *Conn) WriteEarlyData(p []byte) (n int, err error) {
	if !c.isOpen() {
		return 0, ErrClosed
	}
	k := connCall{c: c}
	for {
		failed := c.failedWrites.Load()
		wrote, err := k.writeEarly(p[n:])
		n += wrote
		if err == nil || isTimeout(err) { // after other errors nothing was sent, or the connection has ended
			c.noteWritten(wrote, len(p), err, failed)
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

// writeEarly sends data until libssl reports something. Then libssl's output is not sent yet.
func (k *connCall) writeEarly(p []byte) (n int, err error) {
	c := k.c
	c.handshakeMu.Lock()
	defer c.handshakeMu.Unlock()
	if err := c.lockWithin(&c.writeMu, waitLimit{what: opWrite}); err != nil {
		return 0, err
	}
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
		if !began { // the first time the ClientHello and the data go out together
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

// beginEarly makes a client's ClientHello, and learns how many bytes it may send.
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
	case c.peerCheck() != nil: // it must come before the first data
		return ErrNoEarlyData
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
	c.earlyLeft, err = c.maxEarlyData(waitLimit{ctx: c.handshakeCtx, handshake: true})
	return err
}

// noEarlyData is the error of a client that sends no early data. errs are the errors of the shim's
// check, if that failed.
func noEarlyData(errs *C.shim_err) error {
	if errs != nil {
		return newError("SSL_get1_supported_ciphers", errs)
	}
	return ErrNoEarlyData
}

// callEarly makes libssl seal a whole piece. Its error stays the error of the connection.
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

// HandshakeWithEarlyData runs a client's handshake and sends p so that the server reads it once. It
// sends p as early data if the offered session allows that much. Otherwise, or if the server
// rejected it, it sends p after the handshake. EarlyDataStatus tells which. An attacker may replay
// accepted early data: see [Conn.WriteEarlyData]. If ctx is done before the handshake is over, it
// closes the transport and returns ctx's error.
func (c *Conn) HandshakeWithEarlyData(ctx context.Context, p []byte) error {
	if !c.isOpen() {
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
