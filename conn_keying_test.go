// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/testcert"
)

// againstTheirs makes a connection of ours with a peer of crypto/tls, in both roles.
func againstTheirs(t *testing.T, e ends, config *tls.Config, run func(t *testing.T, ours *sslctx.Conn, theirs *tls.Conn)) {
	t.Helper()
	cert, err := tls.X509KeyPair(testPairs(t))
	must(t, err)
	for _, server := range []bool{false, true} {
		a, b := tcpPair(t)
		config := config.Clone()
		config.InsecureSkipVerify = true
		config.Certificates = []tls.Certificate{cert}
		var ours *sslctx.Conn
		var theirs *tls.Conn
		if server {
			ours, err = sslctx.Server(a, e.server)
			theirs = tls.Client(b, config)
		} else {
			ours, err = sslctx.Client(b, e.client)
			theirs = tls.Server(a, config)
		}
		must(t, err)
		done := make(chan error, 1)
		go func() { done <- theirs.Handshake() }()
		must(t, ours.Handshake())
		must(t, <-done)
		run(t, ours, theirs)
		_, _ = ours.Close(), theirs.Close()
	}
}

func testPairs(t *testing.T) (cert, key []byte) {
	p := testPair(t)
	return p.Cert, p.Key
}

// TestExportKeyingMaterial: both ends have the same keying material as crypto/tls, for every label and context.
func TestExportKeyingMaterial(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		must(t, e.client.SetVerify(sslctx.VerifyNone))
		config := &tls.Config{MinVersion: uint16(v), MaxVersion: uint16(v)}
		againstTheirs(t, e, config, func(t *testing.T, ours *sslctx.Conn, theirs *tls.Conn) {
			seen := map[string]bool{}
			state := theirs.ConnectionState()
			for _, label := range []string{"EXPORTER-one", "EXPORTER-two", "EXPORTER-\x00"} {
				for _, context := range [][]byte{nil, {}, []byte("context"), bytes.Repeat([]byte{7}, 500)} {
					for _, n := range []int{1, 32, 1000} {
						want, err := state.ExportKeyingMaterial(label, context, n)
						must(t, err)
						got, err := ours.ExportKeyingMaterial(label, context, n)
						if err != nil || !bytes.Equal(got, want) {
							t.Errorf("%q, %d bytes of context, length %d: %x, %v", label, len(context), n, got, err)
						}
						seen[string(got)] = true
					}
				}
			}
			// An empty context is none in TLS 1.3; single bytes may be the same by chance.
			if len(seen) < 3*3*2 {
				t.Errorf("%d different values", len(seen))
			}
			wantArgument(t, second(ours.ExportKeyingMaterial("x", nil, 0)), "length")
			wantArgument(t, second(ours.ExportKeyingMaterial("x", make([]byte, 65536), 1)), "context")
			if v == sslctx.VersionTLS12 {
				var ssl *sslctx.Error
				if err := second(ours.ExportKeyingMaterial("master secret", nil, 32)); !errors.As(err, &ssl) {
					t.Errorf("a label of TLS itself gives %v", err)
				}
			}
		})
		s, c := tcpPair(t)
		_, client := e.over(t, s, c, nil)
		wantArgument(t, second(client.ExportKeyingMaterial("x", nil, 1)), "receiver")
	})
}

func second[T any](_ T, err error) error { return err }

// TestExportNeedsExtendedMasterSecret: without it the material is not the connection's alone.
func TestExportNeedsExtendedMasterSecret(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS12)
	if err := e.client.Configure("Options", "-ExtendedMasterSecret"); err != nil {
		t.Skip("this libssl insists on it:", err)
	}
	server, client := e.connect(t, nil)
	for _, c := range []*sslctx.Conn{server, client} {
		if m, err := c.ExportKeyingMaterial("EXPORTER-one", nil, 32); m != nil || !errors.Is(err, sslctx.ErrNoKeyingMaterial) {
			t.Errorf("it gives %d bytes, %v", len(m), err)
		}
	}
}

// TestStateExportsNothing: the method of a ConnectionState returns an error and does not panic, at any time, and nothing
// else is in a state that is not there.
func TestStateExportsNothing(t *testing.T) {
	_, client := connPair(t)
	s, c := tcpPair(t)
	_, before := newEnds(t, sslctx.VersionTLS13).over(t, s, c, nil)
	states := []tls.ConnectionState{before.ConnectionState(), client.ConnectionState()}
	must(t, client.Close())
	for _, state := range append(states, client.ConnectionState()) {
		if m, err := state.ExportKeyingMaterial("EXPORTER-one", nil, 32); m != nil || err == nil {
			t.Errorf("it gives %d bytes, %v", len(m), err)
		}
	}
	v := reflect.ValueOf(states[0])
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && !v.Field(i).IsZero() {
			t.Errorf("before the handshake %s is %v", f.Name, v.Field(i))
		}
	}
}

// TestCurveID: the group of the key exchange is what crypto/tls says.
func TestCurveID(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		groups := map[string]tls.CurveID{"P-256": tls.CurveP256, "P-384": tls.CurveP384, "P-521": tls.CurveP521, "X25519": tls.X25519}
		if v == sslctx.VersionTLS13 && ossltest.LinkedVersion() >= 0x30500000 {
			groups["X25519MLKEM768"] = tls.X25519MLKEM768
		}
		for name, want := range groups {
			e := newEnds(t, v)
			must(t, e.client.SetVerify(sslctx.VerifyNone))
			list := name
			if name != "P-256" { // that of their certificate
				list += ":P-256"
			}
			rsa, err := testcert.NewRSA()
			must(t, err)
			must(t, e.server.UseKeyPair(rsa.Cert, rsa.Key))
			must(t, e.client.SetGroups(list))
			must(t, e.server.SetGroups(list))
			config := &tls.Config{MinVersion: uint16(v), MaxVersion: uint16(v), CurvePreferences: []tls.CurveID{want}}
			server := false // againstTheirs begins with a client
			againstTheirs(t, e, config, func(t *testing.T, ours *sslctx.Conn, _ *tls.Conn) {
				got := ours.ConnectionState().CurveID
				unknown := server && v == sslctx.VersionTLS12 && ossltest.LinkedVersion() < 0x30000000
				if got != want && !(unknown && got == 0) {
					t.Errorf("%s, a server is %v: CurveID is %v", name, server, got)
				}
				server = true
			})
		}
	})
}

// TestAlertsHaveNames: errors.As finds the alert that ended a connection, in both directions.
func TestAlertsHaveNames(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.client.SetVerify(sslctx.VerifyNone))
	must(t, e.server.SetALPNProtos("h2"))
	must(t, e.client.SetALPNProtos("x"))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	_, err := greet(server, client)
	var alert tls.AlertError
	if !errors.As(err, &alert) || alert != 120 || !errors.Is(err, sslctx.AlertReason(120)) {
		t.Errorf("%v has alert %v", err, alert)
	}
	if !strings.Contains(alert.Error(), "no application protocol") {
		t.Errorf("%q", alert.Error())
	}
	// What is no alert has none.
	far, near := net.Pipe()
	ours, err := sslctx.Client(near, e.client)
	must(t, err)
	go func() {
		_, _ = far.Read(make([]byte, 1<<14)) // all of a hello, which has 1,468 bytes with 4.0
		_, _ = io.WriteString(far, "HTTP/1.1 400 Bad Request\r\n")
	}()
	if err := ours.Handshake(); err == nil || errors.As(err, &alert) {
		t.Errorf("%v has alert %v", err, alert)
	}
	_, _ = ours.Close(), far.Close()
}
