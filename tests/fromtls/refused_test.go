// SPDX-License-Identifier: Apache-2.0

package fromtls

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/sslhttp"
)

// fromTLS are the three functions, for configs that they refuse.
var fromTLS = map[string]func(*tls.Config) error{
	"context": func(config *tls.Config) error {
		c, err := sslctx.NewContextFromTLS(config)
		_ = c.Close()
		return err
	},
	"dialer": func(config *tls.Config) error {
		d, err := sslctx.NewDialerFromTLS(config)
		if err == nil {
			_ = d.Context.Close()
		}
		return err
	},
	"listener": func(config *tls.Config) error {
		l, err := sslctx.ListenTLS("tcp", "127.0.0.1:0", config)
		if err == nil {
			_ = l.Close()
		}
		return err
	},
}

type onlySigns struct{ crypto.Signer }

type otherCache struct{ tls.ClientSessionCache }

// TestRefusedFields: each field that libssl has no equal for is an error that names it, in the roles
// that read it, and has no effect in the other one.
func TestRefusedFields(t *testing.T) {
	p := newPKI(t, "authority")
	cert := p.cert(t, "server")
	change := func(set func(*tls.Certificate)) []tls.Certificate {
		changed := cert
		set(&changed)
		return []tls.Certificate{changed}
	}
	const context, dialer, listener = "context", "dialer", "listener"
	all := []string{context, dialer, listener}
	for _, try := range []struct {
		field  string
		config *tls.Config
		by     []string
	}{
		{"Time", &tls.Config{Time: time.Now}, all},
		{"Rand", &tls.Config{Rand: bytes.NewReader(nil)}, all},
		//lint:ignore SA1019 it is refused
		{"NameToCertificate", &tls.Config{NameToCertificate: map[string]*tls.Certificate{}}, []string{context, listener}},
		{"GetClientCertificate", &tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return nil, nil }},
			[]string{context, dialer}},
		//lint:ignore SA1019 it is refused
		{"SessionTicketKey", &tls.Config{SessionTicketKey: [32]byte{1}}, []string{context, listener}},
		{"WrapSession", &tls.Config{WrapSession: func(tls.ConnectionState, *tls.SessionState) ([]byte, error) { return nil, nil }},
			[]string{context, listener}},
		{"UnwrapSession", &tls.Config{UnwrapSession: func([]byte, tls.ConnectionState) (*tls.SessionState, error) { return nil, nil }},
			[]string{context, listener}},
		{"EncryptedClientHelloConfigList", &tls.Config{EncryptedClientHelloConfigList: []byte{1}}, []string{context, dialer}},
		{"EncryptedClientHelloRejectionVerify", &tls.Config{EncryptedClientHelloRejectionVerify: func(tls.ConnectionState) error { return nil }},
			[]string{context, dialer}},
		{"EncryptedClientHelloKeys", &tls.Config{EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{{}}}, []string{context, listener}},
		{"GetEncryptedClientHelloKeys", &tls.Config{GetEncryptedClientHelloKeys: func(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) { return nil, nil }},
			[]string{context, listener}},
		{"ServerName", &tls.Config{ServerName: "localhost"}, []string{context}},
		{"InsecureSkipVerify", &tls.Config{InsecureSkipVerify: true}, []string{context}},
		{"ClientSessionCache", &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(1)}, []string{context}},
		{"ClientSessionCache", &tls.Config{ClientSessionCache: otherCache{tls.NewLRUClientSessionCache(1)}}, []string{context, dialer}},
		{"ClientAuth", &tls.Config{ClientAuth: tls.RequestClientCert}, []string{context, listener}},
		{"ClientAuth", &tls.Config{ClientAuth: tls.RequireAnyClientCert}, []string{context, listener}},
		{"Certificates[0].SupportedSignatureAlgorithms", &tls.Config{Certificates: change(func(c *tls.Certificate) {
			c.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
		})}, all},
		{"Certificates[0].SignedCertificateTimestamps", &tls.Config{Certificates: change(func(c *tls.Certificate) {
			c.SignedCertificateTimestamps = [][]byte{{1}}
		})}, all},
		{"Certificates[0]", &tls.Config{Certificates: change(func(c *tls.Certificate) {
			c.PrivateKey = onlySigns{cert.PrivateKey.(*ecdsa.PrivateKey)}
		})}, all},
		{"Certificates[1]", &tls.Config{Certificates: append([]tls.Certificate{cert}, change(func(c *tls.Certificate) {
			c.PrivateKey = onlySigns{cert.PrivateKey.(*ecdsa.PrivateKey)}
		})...)}, []string{context, listener}},
		{"Certificates", &tls.Config{Certificates: []tls.Certificate{cert, cert}}, []string{dialer}},
	} {
		for name, make := range fromTLS {
			config := try.config.Clone()
			if config.Certificates == nil {
				config.Certificates = []tls.Certificate{cert}
			}
			err := make(config)
			if slices.Contains(try.by, name) {
				isArgument(t, err, "config."+try.field)
			} else if err != nil && len(config.Certificates) == 1 {
				t.Errorf("%s, %s: %v", try.field, name, err)
			}
		}
	}
}

// TestNoConfig: a config is needed, and a server's must have a certificate, or a way to one.
func TestNoConfig(t *testing.T) {
	for _, make := range fromTLS {
		isArgument(t, make(nil), "config")
	}
	isArgument(t, fromTLS["listener"](&tls.Config{}), "config")
	p := newPKI(t, "authority")
	before := ossltest.LiveContexts()
	_, err := sslctx.ListenTLS("none", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{p.cert(t, "x")}})
	if n := ossltest.LiveContexts(); err == nil || n > before {
		t.Errorf("a listener that fails leaves %d contexts, %v", n-before, err)
	}
}

// TestUsedConfig: crypto/tls writes to a config that it uses. That is no reason to refuse it.
func TestUsedConfig(t *testing.T) {
	p := newPKI(t, "authority")
	serverConfig, clientConfig := base(t, p, 0)
	clientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for _, l := range []library{ofGo, ofLibssl} {
		if s, c := meet(t, l, l, serverConfig, clientConfig); s.err != nil || c.err != nil {
			t.Errorf("%s: %v, %v", l.name, s.err, c.err)
		}
	}
}

// TestListenTLSCloses: Close of the listener gives the context back, and connections go on.
func TestListenTLSCloses(t *testing.T) {
	p := newPKI(t, "authority")
	serverConfig, clientConfig := base(t, p, 0)
	serverConfig.Certificates = append(serverConfig.Certificates, p.rsaCert(t, "rsa"))
	before := ossltest.CollectUntil(ossltest.LiveContexts, 0)
	l, err := sslctx.ListenTLS("tcp", "127.0.0.1:0", serverConfig)
	must(t, err)
	accepted := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = c.(*sslctx.Conn).Handshake()
		}
		if err != nil {
			t.Error(err)
		}
		accepted <- c
		_, err = l.Accept()
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept returns %v", err)
		}
		accepted <- nil
	}()
	client, err := tls.Dial("tcp", l.Addr().String(), clientConfig)
	must(t, err)
	server := <-accepted
	must(t, l.Close())
	<-accepted
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close returns %v", err)
	}
	if n := ossltest.LiveContexts(); n != before+1 { // the connection's
		t.Errorf("%d contexts are alive, want %d", n, before+1)
	}
	go func() { _, _ = server.Write([]byte("x")) }()
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	_, _ = client.Close(), server.Close()
	if n := ossltest.LiveContexts(); n != before {
		t.Errorf("%d contexts are alive, want %d", n, before)
	}
}

// TestHTTP: net/http serves a config over HTTP/2.
func TestHTTP(t *testing.T) {
	p := newPKI(t, "authority")
	serverConfig, clientConfig := base(t, p, 0)
	serverConfig.NextProtos = []string{"h2", "http/1.1"}
	l, err := sslctx.ListenTLS("tcp", "127.0.0.1:0", serverConfig)
	must(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })}
	done := make(chan error, 1)
	go func() { done <- sslhttp.Serve(srv, l) }()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: clientConfig, ForceAttemptHTTP2: true}}
	r, err := client.Get("https://" + l.Addr().String())
	must(t, err)
	text, err := io.ReadAll(r.Body)
	must(t, err)
	if string(text) != "HTTP/2.0" {
		t.Errorf("the answer is %q", text)
	}
	must(t, r.Body.Close())
	client.CloseIdleConnections()
	must(t, srv.Close())
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// TestDialerCache: the cache of crypto/tls is not used, and two Dialers of one config share nothing.
func TestDialerCache(t *testing.T) {
	p := newPKI(t, "authority")
	serverConfig, clientConfig := base(t, p, 0)
	clientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	l, err := ofGo.listen(serverConfig)
	srv := serve(t, l, err)
	for range 2 {
		dial, stop, err := ofLibssl.dial(clientConfig)
		must(t, err)
		defer stop()
		for i := range 2 {
			if s, c := srv.use(t, dial); s.err != nil || c.err != nil || s.state.DidResume != (i > 0) {
				t.Errorf("connection %d: %v, %v", i, s, c)
			}
		}
	}
}
