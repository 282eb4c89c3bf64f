// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"

	"sslctx"
)

// whenClosed is what a method of a closed Conn does.
type whenClosed int

const (
	errClosed whenClosed = iota // it returns ErrClosed
	answers                     // it returns what it returned before Close
	mustPanic                   // it panics with a clear message
	closes                      // it returns nil
	prints                      // it never panics
)

// closedConns has a row for each exported method of a Conn.
var closedConns = map[string]whenClosed{
	"Abort": closes, "Close": closes,
	"Format": prints, "GoString": prints, "String": prints,

	"Cipher": answers, "ConnectionState": answers, "EarlyDataStatus": answers, "LocalAddr": answers,
	"NetConn": answers, "PSKIdentity": answers, "PSKIdentityHint": answers, "RemoteAddr": answers,
	"SessionReused": answers, "Version": answers,

	"MaxEarlyData": mustPanic, "RecvMaxEarlyData": mustPanic,

	"AcceptAnyName": errClosed, "AcceptableCAs": errClosed, "AwaitTicket": errClosed,
	"ClearOptions": errClosed, "ClientRandom": errClosed, "CloseWrite": errClosed,
	"CopySessionID": errClosed, "DefaultTimeout": errClosed, "ExportKeyingMaterial": errClosed,
	"Handshake": errClosed, "HandshakeContext": errClosed, "HandshakeReadEarlyData": errClosed,
	"HandshakeWithEarlyData": errClosed, "HasMatchingSessionID": errClosed, "KeyUpdate": errClosed,
	"NewSessionTicket": errClosed, "NumTickets": errClosed, "Options": errClosed, "Read": errClosed,
	"ReadEarlyData": errClosed, "Renegotiate": errClosed, "ResumedSession": errClosed,
	"ServerRandom": errClosed, "Session": errClosed, "SetDeadline": errClosed,
	"SetIDContext": errClosed, "SetMaxEarlyData": errClosed,
	"SetNotResumableSessionCallback": errClosed, "SetNumTickets": errClosed, "SetOptions": errClosed,
	"SetPostHandshakeAuth": errClosed, "SetQuietShutdown": errClosed, "SetReadDeadline": errClosed,
	"SetRecvMaxEarlyData": errClosed, "SetServerName": errClosed, "SetSession": errClosed,
	"SetSessionIDGenerator": errClosed, "SetSessionTicketExt": errClosed,
	"SetSessionTicketExtCallback": errClosed, "SetVerify": errClosed, "SetWriteDeadline": errClosed,
	"VerifyClientPostHandshake": errClosed, "VerifyResult": errClosed, "Write": errClosed,
	"WriteEarlyData": errClosed,
}

// TestClosedConn calls each exported method of closed, zero and nil Conns. The Conn's doc comment
// has the rule.
func TestClosedConn(t *testing.T) {
	noQueue(t)
	server, client := connPair(t)
	before := map[string]string{}
	for _, end := range []*sslctx.Conn{server, client} {
		for name, kind := range closedConns {
			if kind == answers {
				before[fmt.Sprintf("%p.%s", end, name)] = callConn(end, name).said
			}
		}
	}
	must(t, server.Close())
	must(t, client.Close())
	typ := reflect.TypeFor[*sslctx.Conn]()
	for i := range typ.NumMethod() {
		name := typ.Method(i).Name
		kind, ok := closedConns[name]
		if !ok {
			if name != "Crossings" { // for tests alone
				t.Errorf("Conn.%s has no row in closedConns", name)
			}
			continue
		}
		for _, end := range []*sslctx.Conn{server, client} {
			got := callConn(end, name)
			if want := before[fmt.Sprintf("%p.%s", end, name)]; kind == answers && got.said != want {
				t.Errorf("after Close %s returns %s, before %s", name, got.said, want)
			}
			got.check(t, "closed: "+name, kind)
		}
		if kind == answers {
			kind = mustPanic
		}
		callConn(new(sslctx.Conn), name).check(t, "zero: "+name, kind)
		callConn(nil, name).check(t, "nil: "+name, kind)
	}
	for name := range closedConns {
		if _, ok := typ.MethodByName(name); !ok {
			t.Errorf("there is no Conn.%s", name)
		}
	}
}

// A connAnswer is what a call of a method came to.
type connAnswer struct {
	said     string // its results
	err      error  // its last result, if that is an error
	panicked any
}

func callConn(c *sslctx.Conn, name string) (a connAnswer) {
	defer func() { a.panicked = recover() }()
	if closedConns[name] == prints { // Format needs a fmt.State
		a.said = fmt.Sprintf("%v %#v %x %s", c, c, c, c.String())
		return a
	}
	m := reflect.ValueOf(c).MethodByName(name)
	args := make([]reflect.Value, m.Type().NumIn())
	for i := range args {
		args[i] = someArgument(m.Type().In(i))
	}
	for _, r := range m.Call(args) {
		if state, ok := r.Interface().(fmt.Stringer); ok {
			a.said += state.String() + " "
		} else {
			a.said += fmt.Sprintf("%+v ", r.Interface())
		}
		a.err, _ = r.Interface().(error)
	}
	return a
}

func (a connAnswer) check(t *testing.T, what string, kind whenClosed) {
	t.Helper()
	switch {
	case kind == mustPanic:
		if text := fmt.Sprint(a.panicked); text != "sslctx: use of a closed or nil Conn" {
			t.Errorf("%s panics with %s", what, text)
		}
	case a.panicked != nil:
		t.Errorf("%s panics with %v", what, a.panicked)
	case kind == errClosed && !(errors.Is(a.err, sslctx.ErrClosed) && errors.Is(a.err, net.ErrClosed)):
		t.Errorf("%s returns %v", what, a.err)
	case kind != errClosed && a.err != nil:
		t.Errorf("%s returns %v", what, a.err)
	case kind == prints && !strings.Contains(a.said, "Conn("):
		t.Errorf("%s prints %s", what, a.said)
	}
}

// TestStateAfterClose: what the handshake agreed on stays, also if nobody asked before Close.
func TestStateAfterClose(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		must(t, e.server.SetALPNProtos("h2"))
		must(t, e.client.SetALPNProtos("h2"))
		must(t, e.server.SetOCSPResponse([]byte("a response")))
		must(t, e.client.RequestOCSP(true))
		for _, asked := range []bool{false, true} {
			s, c := tcpPair(t)
			server, client := e.over(t, s, c, nil)
			must(t, client.SetServerName("localhost"))
			exchange(t, server, client)
			before := client.ConnectionState()
			if !asked { // another connection, with the same results
				_, _ = server.Close(), client.Close()
				s, c := tcpPair(t)
				server, client = e.over(t, s, c, nil)
				must(t, client.SetServerName("localhost"))
				exchange(t, server, client)
			}
			_, _ = server.Close(), client.Close()
			after := client.ConnectionState()
			if before.NegotiatedProtocol != "h2" || string(before.OCSPResponse) != "a response" ||
				before.ServerName != "localhost" || len(before.VerifiedChains) != 1 {
				t.Errorf("before Close: %+v", before)
			}
			if got, want := fmt.Sprintf("%+v", after), fmt.Sprintf("%+v", before); got != want {
				t.Errorf("after Close: %s\nbefore: %s", got, want)
			}
			if got := server.ConnectionState().ServerName; got != "localhost" {
				t.Errorf("after Close the server has the name %q", got)
			}
		}
	})
}

// TestPSKAfterClose: the identity of a client can be logged after Close.
func TestPSKAfterClose(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	key := []byte("sixteen bytes or more")
	must(t, e.server.SetCipherList("PSK"))
	must(t, e.client.SetCipherList("PSK"))
	must(t, e.server.UsePSKIdentityHint("who?"))
	must(t, e.server.SetPSKServerCallback(func(context.Context, *sslctx.Conn, string) []byte { return key }))
	must(t, e.client.SetPSKClientCallback(func(context.Context, *sslctx.Conn, string) (string, []byte) {
		return "me", key
	}))
	server, client := e.connect(t, nil)
	must(t, client.Close())
	must(t, server.Close())
	if server.PSKIdentity() != "me" || client.PSKIdentity() != "me" || client.PSKIdentityHint() != "who?" {
		t.Errorf("after Close: %q, %q, %q", server.PSKIdentity(), client.PSKIdentity(), client.PSKIdentityHint())
	}
}
