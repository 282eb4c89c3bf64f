// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include <stdlib.h>
// #include "cgo_shim.h"
import "C"

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"syscall"
)

// The binding refuses calls that would make libssl corrupt memory or crash. docs/deviations.md
// explains each refusal.
var (
	// ErrForeignContext says that a session is in the cache of another context, or may be: the
	// cache of a context that other code uses ([ContextFromPointer]) cannot be looked at. If one
	// session object is in the caches of two contexts, libssl overwrites the first context. Add a
	// [Session.Dup] of it.
	ErrForeignContext = errors.New("sslctx: session is in the cache of another context; add a Dup of it")

	// ErrPublished says that libssl has a session: it was added, offered by or taken from a
	// connection, or a hook got it when it was removed. So the values by which it is found (ID,
	// protocol version, ID context), and those that connections read, can no longer change. Change
	// a [Session.Dup] of it.
	ErrPublished = errors.New("sslctx: this value of a published session cannot change; change a Dup of the session")

	// ErrNoCipher says that a session has a protocol version and no cipher. A client that asks for
	// such a session crashes libssl.
	ErrNoCipher = errors.New("sslctx: session has a protocol version but no cipher")

	// ErrForeignCallback says that other C code of the process has set a callback on the SSL_CTX,
	// which the binding does not replace. Where libssl does not show the callback, it says that
	// other code may have set one: [ContextFromPointer] lists these.
	ErrForeignCallback = errors.New("sslctx: other code has set this callback")

	// ErrHandshakeStarted says that a setter that must come before the handshake came later. With a
	// session that is set later, for example, libssl would continue without keys for it.
	ErrHandshakeStarted = errors.New("sslctx: the handshake of the connection has begun")
)

// ErrEventLost says that there was no memory to note what libssl reported: a hook of a context did
// not get a session, or a line is missing in a key log. The call did all else.
var ErrEventLost = errors.New("sslctx: there was no memory to tell a hook what happened")

// ErrDataLost says that data that was written to a connection may not have arrived as a whole: see
// [Conn.Close].
var ErrDataLost = errors.New("sslctx: data that was written may be lost")

// ErrUnsupported says that the libssl that the program is linked with lacks a function; the error
// that wraps it names the version that has it.
var ErrUnsupported = errors.New("sslctx: needs a newer OpenSSL")

// unsupported is ErrUnsupported for a function of libssl, which version has.
func unsupported(function, version string) error { return &unsupportedError{function, version} }

type unsupportedError struct{ function, version string }

func (e *unsupportedError) Error() string {
	return "sslctx: " + e.function + ": needs OpenSSL " + e.version
}

func (e *unsupportedError) Unwrap() error { return ErrUnsupported }

// ErrClosed says that a handle was closed, or never made (a zero Session, a nil Context). It also
// matches [net.ErrClosed].
var ErrClosed error = closedError{}

type closedError struct{}

func (closedError) Error() string { return "sslctx: use of a closed or empty handle" }

func (closedError) Is(target error) bool { return target == net.ErrClosed }

// closedArgument is ErrClosed for an argument of a call: a handle that is nil or closed.
func closedArgument(fn, arg string) error { return &closedArgumentError{fn, arg} }

type closedArgumentError struct{ fn, arg string }

func (e *closedArgumentError) Error() string {
	return "sslctx: " + e.fn + ": " + e.arg + " is a closed or empty handle"
}

func (e *closedArgumentError) Unwrap() error { return ErrClosed }

// An ArgumentError says which argument of which call is wrong, and what its limit is. The call did
// nothing.
type ArgumentError struct {
	Func    string // the Go method, such as "SetID"
	Arg     string // the argument, such as "id"
	Problem string // what is wrong, such as "is 33 bytes long, the limit is 32"
}

// Error names the method, the argument and its problem.
func (e *ArgumentError) Error() string {
	return "sslctx: " + e.Func + ": " + e.Arg + " " + e.Problem
}

func badArgument(fn, arg, format string, a ...any) error {
	return &ArgumentError{Func: fn, Arg: arg, Problem: fmt.Sprintf(format, a...)}
}

// An Error is what OpenSSL reported when a call failed: all entries of its error queue, taken in
// the same call into C.
//
// errors.Is finds a [Reason] anywhere in the stack, and the errno of a failed system call
// (fs.ErrNotExist for a missing file).
//
// If a handshake failed because the verification of the peer's certificate failed
// (ReasonCertificateVerifyFailed), the Error also says why. errors.As finds the [tls.AlertError]
// that a peer sent.
type Error struct {
	Op    string  // the C function, such as "SSL_CTX_use_PrivateKey_file"
	Stack []Entry // the oldest entry, the cause, first; empty if OpenSSL gave no reason

	VerifyResult VerifyResult // why the peer's certificate failed verification; VerifyOK otherwise
	Host         string       // the server name that the client had to verify, if any
	Subject      string       // of the certificate, such as "CN=server.example", if it is known
}

// An Entry is one entry of OpenSSL's error queue.
type Entry struct {
	Reason Reason // library and reason code
	Code   uint64 // as ERR_get_error returned it
	Lib    string // the library's name, such as "SSL routines"
	Text   string // the reason's text, such as "no shared cipher"
	Func   string // the C function that queued it, where known
	File   string // its source file, where known
	Line   int
	Data   string // what OpenSSL adds, as a file name
}

// A Reason is one cause: OpenSSL's library number, and the reason code of that library. It is
// comparable, equal on all versions of OpenSSL, and a target for errors.Is.
type Reason struct {
	Library, Code int
}

// Error returns OpenSSL's text for the reason's numbers.
func (r Reason) Error() string {
	return fmt.Sprintf("sslctx: OpenSSL library %d, reason %d", r.Library, r.Code)
}

// Reasons that programs with sessions look for, by OpenSSL's names. For others use a Reason with
// the numbers of OpenSSL's headers: Reason{LibSSL, 156}.
var (
	ReasonAttemptToReuseSessionInDifferentContext = sslReason(C.SSL_R_ATTEMPT_TO_REUSE_SESSION_IN_DIFFERENT_CONTEXT)
	ReasonCertificateVerifyFailed                 = sslReason(C.SSL_R_CERTIFICATE_VERIFY_FAILED)
	ReasonHTTPRequest                             = sslReason(C.SSL_R_HTTP_REQUEST)
	ReasonInconsistentExtMS                       = sslReason(C.SSL_R_INCONSISTENT_EXTMS)
	ReasonNoCipherMatch                           = sslReason(C.SSL_R_NO_CIPHER_MATCH)
	ReasonNoCertificateAssigned                   = sslReason(C.SSL_R_NO_CERTIFICATE_ASSIGNED)
	ReasonNoSharedCipher                          = sslReason(C.SSL_R_NO_SHARED_CIPHER)
	ReasonNoCertificateSet                        = sslReason(C.SSL_R_NO_CERTIFICATE_SET)
	ReasonNoPrivateKeyAssigned                    = sslReason(C.SSL_R_NO_PRIVATE_KEY_ASSIGNED)
	ReasonPeerDidNotReturnACertificate            = sslReason(C.SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
	ReasonPrivateKeyMismatch                      = sslReason(C.SSL_R_PRIVATE_KEY_MISMATCH)
	ReasonProtocolIsShutdown                      = sslReason(C.SSL_R_PROTOCOL_IS_SHUTDOWN)
	ReasonRequiredCipherMissing                   = sslReason(C.SSL_R_REQUIRED_CIPHER_MISSING)
	ReasonSessionIDContextUninitialized           = sslReason(C.SSL_R_SESSION_ID_CONTEXT_UNINITIALIZED)
	ReasonUnexpectedEOFWhileReading               = sslReason(C.SSL_R_UNEXPECTED_EOF_WHILE_READING)
	ReasonUnknownCmdName                          = sslReason(C.SSL_R_UNKNOWN_CMD_NAME)
	ReasonUnsupportedProtocol                     = sslReason(C.SSL_R_UNSUPPORTED_PROTOCOL)
	ReasonWrongSSLVersion                         = sslReason(C.SSL_R_WRONG_SSL_VERSION)
	ReasonWrongVersionNumber                      = sslReason(C.SSL_R_WRONG_VERSION_NUMBER)
	ReasonKeyValuesMismatch                       = Reason{C.ERR_LIB_X509, C.X509_R_KEY_VALUES_MISMATCH}
	ReasonNoStartLine                             = Reason{C.ERR_LIB_PEM, C.PEM_R_NO_START_LINE}
)

// LibSSL is the number of libssl among OpenSSL's libraries, for a [Reason] that has no name here.
const LibSSL = C.ERR_LIB_SSL

// alertReasons is the number that libssl adds to that of an alert that the peer sent.
const alertReasons = C.SSL_AD_REASON_OFFSET

// AlertReason returns the reason of an [Error] for an alert that the peer sent. The numbers of
// alerts are those of RFC 8446: 48 is unknown_ca.
func AlertReason(alert tls.AlertError) Reason { return sslReason(alertReasons + int(alert)) }

func sslReason(code int) Reason { return Reason{C.ERR_LIB_SSL, code} }

// Error names the call and then the entries, from the one nearest to the caller to the cause.
func (e *Error) Error() string {
	if len(e.Stack) == 0 {
		return "sslctx: " + e.Op + " failed without a reason"
	}
	text := "sslctx: " + e.Op
	for i := len(e.Stack) - 1; i >= 0; i-- {
		text += ": " + e.Stack[i].String()
	}
	return text + e.verification()
}

// maxSubjectText is how much of a subject an error text has. The peer chose the subject, and each of
// its bytes may take four in the text.
const maxSubjectText = 256

// verification says why the verification of a certificate failed. Text that the peer chose is
// quoted.
func (e *Error) verification() (text string) {
	if e.VerifyResult == VerifyOK {
		return ""
	}
	text = fmt.Sprintf(": %v (%d)", e.VerifyResult, int(e.VerifyResult))
	if e.Host != "" {
		text += fmt.Sprintf(", host %q", e.Host)
	}
	if e.Subject != "" {
		text += fmt.Sprintf(", certificate %q", e.Subject[:min(len(e.Subject), maxSubjectText)])
	}
	return text
}

// As finds the alert by which the peer ended the connection, for a target that is a
// *[tls.AlertError].
func (e *Error) As(target any) bool {
	alert, ok := target.(*tls.AlertError)
	if !ok {
		return false
	}
	for i := range e.Stack {
		r := e.Stack[i].Reason
		if r.Library == LibSSL && r.Code >= alertReasons && r.Code <= alertReasons+math.MaxUint8 {
			*alert = tls.AlertError(r.Code - alertReasons)
			return true
		}
	}
	return false
}

// Is reports whether target is a Reason of the stack, or the error of a system call of the stack.
func (e *Error) Is(target error) bool {
	for i := range e.Stack {
		if target == error(e.Stack[i].Reason) {
			return true
		}
		if errno, ok := e.Stack[i].errno(); ok && errors.Is(errno, target) {
			return true
		}
	}
	return false
}

// String returns the entry as text, without file names and line numbers.
func (e Entry) String() string {
	text := e.Text
	if errno, ok := e.errno(); ok {
		text = errno.Error()
	}
	if text == "" {
		text = fmt.Sprintf("library %d, reason %d", e.Reason.Library, e.Reason.Code)
	}
	if e.Data != "" {
		text += " (" + strings.TrimSpace(e.Data) + ")"
	}
	return text
}

func (e Entry) errno() (syscall.Errno, bool) {
	return syscall.Errno(e.Reason.Code), e.Reason.Library == C.ERR_LIB_SYS
}

// takeError makes an error of what a call took from the error queue, and frees that. It returns nil
// if there was nothing.
func takeError(op string, errs *C.shim_err) error {
	if errs == nil {
		return nil
	}
	return newError(op, errs)
}

// newError is takeError for a call that is known to have failed: it never returns nil.
func newError(op string, errs *C.shim_err) error {
	e := &Error{Op: op}
	for p := errs; p != nil; p = p.next {
		e.Stack = append(e.Stack, Entry{
			Reason: Reason{int(p.lib), int(p.reason)},
			Code:   uint64(p.code),
			Lib:    C.GoString(p.lib_text),
			Text:   C.GoString(p.reason_text),
			Func:   C.GoString(p._func),
			File:   C.GoString(p.file),
			Line:   int(p.line),
			Data:   C.GoString(p.data),
		})
	}
	C.shim_errs_free(errs)
	return e
}

// errorIf returns nil if ok is true, and newError otherwise.
func errorIf(ok bool, op string, errs *C.shim_err) error {
	if ok {
		return nil
	}
	return newError(op, errs)
}
