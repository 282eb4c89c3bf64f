// SPDX-License-Identifier: Apache-2.0

// Command revoke is an HTTPS server that can end logins. After that no session of the login
// resumes, in TLS 1.2 and in TLS 1.3. A client in the same program tries.
//
// This needs two things:
//
//   - OpNoTicket. By default a ticket holds the session itself, and resumes even if the server
//     forgot the session. With the option it holds the session's ID, and a session that is not in
//     the cache does not resume.
//   - All sessions of a login. In TLS 1.3 each connection, also a resumed one, gives the client a
//     further session, and the older ones stay valid. Each session has the number of its login, and
//     libssl's copies inherit it.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"

	"sslctx"
	"sslctx/sslhttp"
)

// loginKey is the key for the number of a session's login.
type loginKey struct{}

// logins has the cached sessions of each login.
type logins struct {
	context *sslctx.Context

	mu       sync.Mutex
	last     int
	sessions map[int]map[string]*sslctx.Session // by number of the login, and ID
}

// added is the hook for the sessions that the server makes.
func (l *logins) added(_ *sslctx.Conn, s *sslctx.Session) {
	if !l.keep(s) { // the login was revoked while this connection resumed: revoke its session, too
		_, err := l.context.RemoveSession(s)
		check(err)
		check(s.Close())
	}
}

// keep stores a session, unless its login is revoked.
func (l *logins) keep(s *sslctx.Session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	login, ok := s.ExData(loginKey{}).(int)
	if !ok { // from a full handshake: the session is no copy
		l.last++
		login = l.last
		check(s.SetExData(loginKey{}, login))
		l.sessions[login] = map[string]*sslctx.Session{}
	}
	if l.sessions[login] == nil {
		return false
	}
	l.sessions[login][string(s.ID())] = s
	return true
}

// removed is the hook for the sessions that leave the cache, also by expiry.
func (l *logins) removed(s *sslctx.Session) {
	defer s.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	login, _ := s.ExData(loginKey{}).(int)
	if kept := l.sessions[login][string(s.ID())]; kept != nil {
		_ = kept.Close()
		delete(l.sessions[login], string(s.ID()))
		if len(l.sessions[login]) == 0 { // no session is left
			delete(l.sessions, login)
		}
	}
}

// revoke removes all sessions of a login from the cache.
func (l *logins) revoke(login int) (n int, err error) {
	l.mu.Lock()
	var all []*sslctx.Session
	for _, s := range l.sessions[login] {
		all = append(all, s)
	}
	delete(l.sessions, login)
	l.mu.Unlock() // for removed
	for _, s := range all {
		removed, err := l.context.RemoveSession(s)
		if err != nil {
			return n, err
		}
		if removed {
			n++
		}
		_ = s.Close()
	}
	return n, nil
}

// ServeHTTP answers whether the connection is resumed. /logout revokes its login.
func (l *logins) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := sslhttp.Conn(r.Context())
	if r.URL.Path == "/logout" {
		s, err := c.Session()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer s.Close()
		login, _ := s.ExData(loginKey{}).(int)
		n, err := l.revoke(login)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Connection", "close") // also end this connection
		fmt.Fprintf(w, "%d sessions are revoked", n)
		return
	}
	if c.SessionReused() {
		fmt.Fprint(w, "resumed")
	} else {
		fmt.Fprint(w, "full handshake")
	}
}

// newServer makes the context of the server, and the list of its logins.
func newServer(cert tls.Certificate) *logins {
	context, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	check(context.UseCertificate(cert))
	_, err = context.SetOptions(sslctx.OpNoTicket)
	check(err)
	check(context.SetNumTickets(1)) // one session for each connection: that of Conn.Session
	l := &logins{context: context, sessions: map[int]map[string]*sslctx.Session{}}
	check(context.SetNewSessionCallback(l.added))
	check(context.SetRemoveSessionCallback(l.removed))
	return l
}

// client keeps the newest session that a server gave it.
type client struct {
	context *sslctx.Context
	newest  *sslctx.Session
}

func newClient(authority []byte, v sslctx.Version) *client {
	context, err := sslctx.NewContext(sslctx.TLSClientMethod)
	check(err)
	check(context.TrustCertificates(authority))
	check(context.SetVerify(sslctx.VerifyPeer))
	check(context.SetMaxProtoVersion(v))
	_, err = context.SetSessionCacheMode(sslctx.SessCacheClient | sslctx.SessCacheNoInternal)
	check(err)
	c := &client{context: context}
	check(context.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { c.newest = s }))
	return c
}

// get makes a request on a new connection that offers s, used or not. A client of libssl marks a
// used session of TLS 1.3 as not resumable. A hostile client would not, and so get offers a copy.
func (c *client) get(url string, s *sslctx.Session) (answer string, newest *sslctx.Session) {
	dialer := &sslctx.Dialer{Context: c.context}
	if s != nil {
		der, err := s.Bytes()
		check(err)
		dialer.Session, err = sslctx.ParseSession(der) // a copy without the mark
		check(err)
		defer dialer.Session.Close()
	}
	transport := sslhttp.NewTransport(dialer, nil)
	resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Get(url)
	check(err)
	body, err := io.ReadAll(resp.Body)
	check(err)
	check(resp.Body.Close())
	transport.CloseIdleConnections()
	return string(body), c.newest
}

func main() {
	cert, authority := certificate()
	server := newServer(cert)
	listener, err := sslctx.Listen("tcp", "127.0.0.1:0", server.context)
	check(err)
	srv := &http.Server{Handler: server}
	go func() { _ = sslhttp.Serve(srv, listener) }()
	defer srv.Close()
	url := "https://" + listener.Addr().String()

	for _, v := range []sslctx.Version{sslctx.VersionTLS12, sslctx.VersionTLS13} {
		c := newClient(authority, v)
		say := func(what, answer, want string) {
			fmt.Printf("%v, %s: %s\n", v, what, answer)
			if answer != want {
				log.Fatalf("want: %s", want)
			}
		}
		answer, first := c.get(url, nil)
		say("no session", answer, "full handshake")
		answer, second := c.get(url, first)
		say("the session of the first connection", answer, "resumed")
		answer, _ = c.get(url, first)
		say("the same again", answer, "resumed")

		want := "1 sessions are revoked" // in TLS 1.2 all connections have the same session
		if v == sslctx.VersionTLS13 {
			want = "4 sessions are revoked" // three connections, and the one that asks for the logout
		}
		answer, last := c.get(url+"/logout", second)
		say("logout", answer, want)
		for what, s := range map[string]*sslctx.Session{"first": first, "second": second, "last": last} {
			answer, _ = c.get(url, s)
			if answer != "full handshake" {
				log.Fatalf("%v: the %s session of a login that is revoked: %s", v, what, answer)
			}
		}
		say("each session of that login", answer, "full handshake")
	}
}

// certificate makes a self-signed certificate for this machine's loopback.
func certificate() (cert tls.Certificate, authority []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
