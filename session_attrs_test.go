// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

func TestSessionAttributes(t *testing.T) {
	noQueue(t)
	s := newSession(t, "id")
	if s.Hostname() != "" || s.ALPNSelected() != "" || s.TicketAppData() != nil || s.MaxEarlyData() != 0 ||
		s.CompressID() != 0 || s.MasterKey().Len() != 0 || s.Ticket().Len() != 0 || s.MaxFragmentLength() != sslctx.MaxFragmentAny {
		t.Errorf("a new session has attributes: %v", s)
	}
	if cert, err := s.PeerCertificate(); cert != nil || err != nil {
		t.Errorf("PeerCertificate of a new session: %v, %v", cert, err)
	}
	for _, n := range []int{1, 255, 70000} {
		text := strings.Repeat("a", n)
		must(t, s.SetHostname(text))
		must(t, s.SetALPNSelected(text))
		must(t, s.SetTicketAppData([]byte(text)))
		if s.Hostname() != text || s.ALPNSelected() != text || string(s.TicketAppData()) != text {
			t.Errorf("attributes of %d bytes do not come back", n)
		}
	}
	must(t, s.SetHostname(""))
	must(t, s.SetALPNSelected(""))
	must(t, s.SetTicketAppData(nil))
	if s.Hostname() != "" || s.ALPNSelected() != "" || s.TicketAppData() != nil {
		t.Error("attributes do not go away")
	}
	wantArgument(t, s.SetHostname("a\x00b"), "name")
	wantArgument(t, s.SetMaxEarlyData(-1), "n")
	wantArgument(t, s.SetMaxEarlyData(1<<32), "n")
	must(t, s.SetMaxEarlyData(1<<32-1))
	if got := s.MaxEarlyData(); got != 1<<32-1 {
		t.Errorf("MaxEarlyData is %d", got)
	}
}

// TestSessionAttributesArePublished: libssl reads attributes without a lock. So they cannot change
// in a session that libssl has. Those of a copy can change, and the original's stay.
func TestSessionAttributesArePublished(t *testing.T) {
	noQueue(t)
	c, s := newContext(t, sslctx.TLSMethod), newSession(t, "id")
	must(t, s.SetHostname("example.com"))
	add(t, c, s)
	set := func(s *sslctx.Session) map[string]error {
		return map[string]error{
			"SetCipher": s.SetCipher(sslctx.Cipher{ID: tls.TLS_AES_128_GCM_SHA256}), "SetMasterKey": s.SetMasterKey([]byte("key")),
			"SetHostname": s.SetHostname("other"), "SetALPNSelected": s.SetALPNSelected("h2"),
			"SetTicketAppData": s.SetTicketAppData([]byte("data")),
		}
	}
	for what, err := range set(s) {
		if !errors.Is(err, sslctx.ErrPublished) {
			t.Errorf("%s of a published session returns %v", what, err)
		}
	}
	must(t, s.SetMaxEarlyData(5))
	d, err := s.Dup()
	must(t, err)
	defer d.Close()
	for what, err := range set(d) {
		if err != nil {
			t.Errorf("%s of a copy returns %v", what, err)
		}
	}
	if s.Hostname() != "example.com" || d.Hostname() != "other" || s.MasterKey().Len() != 0 || d.MaxEarlyData() != 5 {
		t.Errorf("the copy and the original are one: %q, %q", s.Hostname(), d.Hostname())
	}
}

func TestSetCipher(t *testing.T) {
	noQueue(t)
	s := newSession(t, "id")
	for _, id := range []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_CBC_SHA} {
		must(t, s.SetCipher(sslctx.Cipher{ID: id}))
		if got := s.Cipher(); got.ID != id || got.StandardName != tls.CipherSuiteName(id) || got.Name == "" {
			t.Errorf("the cipher is %+v, want %s", got, tls.CipherSuiteName(id))
		}
		must(t, s.SetCipher(s.Cipher()))
	}
	must(t, s.SetCipher(sslctx.Cipher{}))
	if got := s.Cipher(); got != (sslctx.Cipher{}) {
		t.Errorf("the cipher is %v, want none", got)
	}
	wantArgument(t, s.SetCipher(sslctx.Cipher{ID: 0xfafa}), "c")
	wantArgument(t, s.SetCipher(sslctx.Cipher{ID: 0x00ff}), "c")
	wantArgument(t, s.SetCipher(sslctx.Cipher{ID: 0x5600}), "c")
	wantArgument(t, s.SetCipher(sslctx.Cipher{Name: "AES128-SHA"}), "c")
}

// TestMadeSession puts a session together from its parts: a connection resumes it.
func TestMadeSession(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	made := func() *sslctx.Session {
		s := newSession(t, strings.Repeat("i", 32))
		must(t, s.SetProtocolVersion(sslctx.VersionTLS12))
		must(t, s.SetCipher(sslctx.Cipher{ID: tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}))
		must(t, s.SetMasterKey(bytes.Repeat([]byte{7}, 48)))
		return s
	}
	for _, c := range []*sslctx.Context{e.server, e.client} {
		if err := c.Configure("Options", "-ExtendedMasterSecret"); err != nil {
			t.Skip("this libssl insists on the extended master secret, which a made session has not:", err)
		}
	}
	add(t, e.server, made())
	must(t, e.client.SetVerify(sslctx.VerifyNone)) // no certificate stands for such a session
	server, client := e.connect(t, made())
	if !server.SessionReused() || !client.SessionReused() {
		t.Error("the session is not resumed")
	}
}

func TestMasterKey(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		server, client := newEnds(t, v).connect(t, nil)
		of, and := sessionOf(t, server), sessionOf(t, client)
		key := of.MasterKey()
		if key.Len() != 48 && key.Len() != 32 || bytes.Equal(key.Bytes(), make([]byte, key.Len())) {
			t.Fatalf("a master key of %d bytes", key.Len())
		}
		if v == sslctx.VersionTLS12 && !bytes.Equal(key.Bytes(), and.MasterKey().Bytes()) {
			t.Error("the ends have different master keys")
		}
		key.Clear()
		if got := of.MasterKey().Bytes(); bytes.Equal(got, key.Bytes()) || len(got) != key.Len() {
			t.Error("Clear of a copy has cleared the session's key, or not cleared the copy")
		}
	})
	s := newSession(t, "id")
	must(t, s.SetMasterKey(bytes.Repeat([]byte{1}, sslctx.MaxMasterKeyLength)))
	if n := s.MasterKey().Len(); n != sslctx.MaxMasterKeyLength {
		t.Errorf("the longest key has %d bytes", n)
	}
	wantArgument(t, s.SetMasterKey(make([]byte, sslctx.MaxMasterKeyLength+1)), "key")
	must(t, s.SetMasterKey(nil))
	if key := s.MasterKey(); key.Len() != 0 || key.Bytes() != nil {
		t.Errorf("no key is %v", key)
	}
}

type secretHolder struct{ Key sslctx.Secret }

// TestSecretOnlyByBytes: only Bytes returns the secret. No format, log or marshaller does, also not
// inside other values.
func TestSecretOnlyByBytes(t *testing.T) {
	s := newSession(t, "id")
	const text = "0123456789abcdef"
	must(t, s.SetMasterKey([]byte(text)))
	key := s.MasterKey()
	type holder struct {
		Public  sslctx.Secret
		private sslctx.Secret
		p       *sslctx.Secret
	}
	h := holder{key, key, &key}
	var out strings.Builder
	for _, v := range []any{key, &key, h, &h, []sslctx.Secret{key}, map[string]sslctx.Secret{"k": key}, h.p} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%T", "%100.3v"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		j, err := json.Marshal(v)
		must(t, err)
		out.Write(j)
		for _, l := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(l).Info("m", "v", v)
		}
		fmt.Fprintln(&out, fmt.Errorf("wrapped: %v", v))
	}
	x, err := xml.Marshal(secretHolder{key})
	must(t, err)
	out.Write(x)
	told := strings.ToLower(out.String())
	for _, secret := range []string{text, hex.EncodeToString([]byte(text)), "48 49 50", "30 31 32", "0x30, 0x31", "mdeymz", "['0'", "[48", "60 61 62"} {
		if i := strings.Index(told, strings.ToLower(secret)); i >= 0 {
			t.Errorf("%q is told: %q", secret, told[max(0, i-60):i+60])
		}
	}
	if !strings.Contains(told, "secret(16 bytes)") {
		t.Errorf("nothing says what it is: %.300s", told)
	}
	for _, err := range []error{s.SetMasterKey(make([]byte, 9999)), s.SetHostname(text + "\x00")} {
		if strings.Contains(err.Error(), text) {
			t.Errorf("an error tells: %v", err)
		}
	}
	if string(key.Bytes()) != text {
		t.Errorf("Bytes gives %q", key.Bytes())
	}
	key.Clear()
	if !bytes.Equal(h.Public.Bytes(), make([]byte, 16)) || (sslctx.Secret{}).Bytes() != nil {
		t.Error("Clear leaves a copy")
	}
	sslctx.Secret{}.Clear()
}

func TestTicket(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		server, client := newEnds(t, v).connect(t, nil)
		if s := sessionOf(t, client); s.Ticket().Len() == 0 || s.HasTicket() != (s.Ticket().Len() > 0) {
			t.Errorf("the client's ticket is %v", s.Ticket())
		}
		if s := sessionOf(t, server); s.HasTicket() != (s.Ticket().Len() > 0) {
			t.Errorf("the server's ticket is %v", s.Ticket())
		}
	})
}

func TestPeerCertificate(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		pair := testPair(t)
		must(t, e.client.UseKeyPair(pair.Cert, pair.Key))
		must(t, e.server.TrustCertificates(pair.Cert))
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, e.server.SetIDContext([]byte("id")))
		server, client := e.connect(t, nil)
		for name, c := range map[string]*sslctx.Conn{"server": server, "client": client} {
			cert, err := sessionOf(t, c).PeerCertificate()
			must(t, err)
			if cert == nil || !cert.Equal(c.ConnectionState().PeerCertificates[0]) {
				t.Errorf("%s: the peer's certificate is %v", name, cert)
			}
			if r, err := c.VerifyResult(); r != sslctx.VerifyOK || err != nil {
				t.Errorf("%s: VerifyResult is %v, %v", name, r, err)
			}
		}
	})
}

func TestPeerRawPublicKey(t *testing.T) {
	noQueue(t)
	key, err := newSession(t, "id").PeerRawPublicKey()
	const text = "sslctx: SSL_SESSION_get0_peer_rpk: needs OpenSSL 3.2"
	if key != nil || err != nil && !(errors.Is(err, sslctx.ErrUnsupported) && err.Error() == text) {
		t.Errorf("%x, %v", key, err)
	}
	if ossltest.LinkedVersion() < 0x30200000 != (err != nil) {
		t.Errorf("%#x says %v", ossltest.LinkedVersion(), err)
	}
}

func TestPrintKeylog(t *testing.T) {
	noQueue(t)
	s := newSession(t, "\x01\x02")
	var e *sslctx.Error
	if err := s.PrintKeylog(io.Discard); !errors.As(err, &e) || e.Op != "SSL_SESSION_print_keylog" {
		t.Errorf("without a key: %v", err)
	}
	must(t, s.SetMasterKey([]byte{0xab}))
	var text bytes.Buffer
	must(t, s.PrintKeylog(&text))
	if text.String() != "RSA Session-ID:0102 Master-Key:AB\n" {
		t.Errorf("%q", &text)
	}
	if err := s.PrintKeylog(failingWriter{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("to a bad writer: %v", err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestVerifyResult(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	c := newContext(t, sslctx.TLSClientMethod) // trusts no server, and verifies nothing
	_, client := ends{e.server, c}.connect(t, nil)
	r, err := client.VerifyResult()
	must(t, err)
	if r == sslctx.VerifyOK || !strings.Contains(r.String(), "self") {
		t.Errorf("VerifyResult is %d, %v", int(r), r)
	}
	if sslctx.VerifyOK.String() != "ok" || sslctx.VerifyUnspecified == sslctx.VerifyOK || sslctx.VerifyResult(99999).String() == "" {
		t.Error("texts of results")
	}
}

// TestRandoms: both ends have the same two randoms, and no two connections have the same ones.
func TestRandoms(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		seen := map[string]bool{}
		for range 2 {
			var got [][]byte
			server, client := e.connect(t, nil)
			for _, c := range []*sslctx.Conn{server, client} {
				r, err := c.ClientRandom()
				must(t, err)
				q, err := c.ServerRandom()
				must(t, err)
				got = append(got, r, q)
			}
			if len(got[0]) != 32 || len(got[1]) != 32 || !bytes.Equal(got[0], got[2]) || !bytes.Equal(got[1], got[3]) {
				t.Errorf("randoms are %x", got)
			}
			seen[string(got[0])], seen[string(got[1])] = true, true
		}
		if len(seen) != 4 {
			t.Errorf("two connections have %d randoms", len(seen))
		}
	})
}

// TestSessions reads a cache while other goroutines change it. Its sessions are still usable when
// the cache is gone.
func TestSessions(t *testing.T) {
	noQueue(t)
	c := newContext(t, sslctx.TLSMethod)
	ids := func() (ids []string) {
		sessions, err := c.Sessions()
		must(t, err)
		for _, s := range sessions {
			ids = append(ids, string(s.ID()))
			must(t, s.Close())
		}
		slices.Sort(ids)
		return ids
	}
	if got := ids(); got != nil {
		t.Errorf("an empty cache has %q", got)
	}
	a, b := newSession(t, "a"), newSession(t, "b")
	add(t, c, a)
	add(t, c, b)
	if got := ids(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the cache has %q", got)
	}
	sessions, err := c.Sessions()
	must(t, err)
	for _, s := range sessions {
		if !s.Same(a) && !s.Same(b) {
			t.Errorf("%v is neither", s)
		}
		if err := s.SetID(nil); !errors.Is(err, sslctx.ErrPublished) {
			t.Errorf("SetID of a cached session returns %v", err)
		}
		other := newContext(t, sslctx.TLSMethod)
		if _, err := other.AddSession(s); !errors.Is(err, sslctx.ErrForeignContext) {
			t.Errorf("AddSession to another context returns %v", err)
		}
	}

	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				s := newSession(t, fmt.Sprint(g, i))
				_, _ = c.AddSession(s)
				if i%3 == 0 {
					_, _ = c.RemoveSession(s)
				}
			}
		})
	}
	for range 50 {
		_ = ids()
	}
	wg.Wait()
	if got, want := len(ids()), c.CacheStats().Number; got != want {
		t.Errorf("%d sessions, the counter says %d", got, want)
	}
	must(t, c.Close())
	for _, s := range sessions {
		if id := string(s.ID()); id != "a" && id != "b" {
			t.Errorf("after Close the ID is %q", id)
		}
		must(t, s.Close())
	}
}

func TestConnIDContext(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	a, b := tcpPair(t)
	server, client := e.over(t, a, b, nil)
	wantArgument(t, server.SetIDContext(make([]byte, 33)), "id")
	must(t, server.SetIDContext([]byte("mine")))
	go func() { _ = client.Handshake() }()
	must(t, server.Handshake())
	if got := sessionOf(t, server).IDContext(); string(got) != "mine" {
		t.Errorf("the session's ID context is %q", got)
	}
	if d, err := server.DefaultTimeout(); d.Hours() != 2 || err != nil {
		t.Errorf("DefaultTimeout is %v, %v", d, err)
	}
}

type valueKey struct{}

// TestExData: values belong to the session and not to a handle. A copy begins with those of the
// original. Nothing is left after a session is freed.
func TestExData(t *testing.T) {
	noQueue(t)
	base := sslctx.LiveValues()
	wantValues := func(want int) {
		t.Helper()
		if got := ossltest.CollectUntil(sslctx.LiveValues, base+want); got != base+want {
			t.Errorf("%d sessions have values, want %d", got-base, want)
		}
	}
	s := newSession(t, "id")
	if v := s.ExData(valueKey{}); v != nil {
		t.Errorf("a new session has %v", v)
	}
	must(t, s.SetExData(valueKey{}, nil)) // nothing to remove, nothing to keep
	wantValues(0)
	must(t, s.SetExData(valueKey{}, "mine"))
	must(t, s.SetExData("key", 1))
	must(t, s.SetExData("key", 2))
	if s.ExData(valueKey{}) != "mine" || s.ExData("key") != 2 || s.ExData("no") != nil || s.ExData(nil) != nil ||
		s.ExData([]int{}) != nil {
		t.Errorf("values are %v, %v", s.ExData(valueKey{}), s.ExData("key"))
	}
	wantValues(1)

	d, err := s.Dup()
	must(t, err)
	wantValues(2)
	must(t, d.SetExData("key", 3))
	must(t, d.SetExData(valueKey{}, nil))
	if s.ExData("key") != 2 || s.ExData(valueKey{}) != "mine" || d.ExData("key") != 3 || d.ExData(valueKey{}) != nil {
		t.Error("a copy shares what was set later")
	}
	must(t, d.Close())
	wantValues(1)

	// The session is in the cache, without a handle, and is found again.
	c := newContext(t, sslctx.TLSMethod)
	add(t, c, s)
	must(t, s.SetExData("key", 4)) // a published session can get a value
	must(t, s.Close())
	wantValues(1)
	found, err := c.Sessions()
	must(t, err)
	if len(found) != 1 || found[0].ExData("key") != 4 {
		t.Errorf("found %v", found)
	}
	must(t, found[0].Close())
	must(t, c.FlushSessions(time.Time{}))
	wantValues(0)

	// A call that runs out of memory leaves no values. tests/faults makes all calls fail, but
	// cannot see this.
	s = newSession(t, "id")
	for nth := 1; ; nth++ {
		stop := ossltest.Failing{Nth: nth}.Fail()
		err := s.SetExData(valueKey{}, 1)
		stop()
		if err == nil {
			break
		}
		wantValues(0)
	}
	wantValues(1)
	must(t, s.Close())
	wantValues(0)
}

// TestExDataOfReplacedSession: libssl frees a replaced session under the lock of its cache.
func TestExDataOfReplacedSession(t *testing.T) {
	base := sslctx.LiveValues()
	c := newContext(t, sslctx.TLSMethod)
	_, err := c.SetCacheSize(3)
	must(t, err)
	for i := range 20 {
		s := newSession(t, fmt.Sprint("id", i/2)) // each one is replaced once, then evicted
		must(t, s.SetExData(valueKey{}, i))
		add(t, c, s)
		must(t, s.Close())
	}
	if n := sslctx.LiveValues() - base; n < 2 || n > 3 {
		t.Errorf("%d sessions have values", n)
	}
	must(t, c.Close())
	if n := sslctx.LiveValues() - base; n != 0 {
		t.Errorf("%d sessions have values after the end", n)
	}
}

// TestExDataFollowsCopies: copies that libssl makes itself have the values, and so do copies that
// the binding makes.
func TestExDataFollowsCopies(t *testing.T) {
	noQueue(t)
	base := sslctx.LiveValues()
	t.Cleanup(func() {
		if n := ossltest.CollectUntil(sslctx.LiveValues, base); n != base {
			t.Errorf("%d sessions have values after the end", n-base)
		}
	})
	e := newEnds(t, sslctx.VersionTLS13)
	_, client := e.connect(t, nil)
	s := sessionOf(t, client)
	must(t, s.SetExData(valueKey{}, "mine"))
	_, client = e.connect(t, s)
	if next := sessionOf(t, client); next.Same(s) || next.ExData(valueKey{}) != "mine" {
		t.Errorf("the next session has %v", next.ExData(valueKey{}))
	}

	// Offered to another context: a copy.
	other := newEnds(t, sslctx.VersionTLS13)
	end, _ := tcpPair(t)
	c, err := sslctx.Client(end, other.client)
	must(t, err)
	must(t, c.AcceptAnyName())
	defer c.Close()
	must(t, c.SetSession(s))
	if offered := sessionOf(t, c); offered.Same(s) || offered.ExData(valueKey{}) != "mine" {
		t.Errorf("the offered copy has %v", offered.ExData(valueKey{}))
	}

	// A ticket and no ID: a copy by DER.
	d, err := s.Dup()
	must(t, err)
	defer d.Close()
	must(t, d.SetID(nil))
	must(t, c.SetSession(d))
	offered, err := c.Session()
	must(t, err)
	if offered.Same(d) || offered.ExData(valueKey{}) != "mine" {
		t.Errorf("the copy by DER has %v", offered.ExData(valueKey{}))
	}
	must(t, offered.Close())
	must(t, c.SetSession(nil)) // the copy is gone
	if d.ExData(valueKey{}) != "mine" {
		t.Errorf("what was copied by DER has %v", d.ExData(valueKey{}))
	}
}

type linked struct {
	M map[string][]*struct{ C chan *sslctx.Conn }
}

type recursive struct {
	Next *recursive
	All  map[int]recursive
}

type behind struct{ Any any }

// TestExDataRefusesCycles: a value whose type can refer to a handle would keep the session alive
// for ever.
func TestExDataRefusesCycles(t *testing.T) {
	noQueue(t)
	s := newSession(t, "id")
	for _, v := range []any{s, *new(*sslctx.Session), &s, []*sslctx.Session{s}, newContext(t, sslctx.TLSMethod), linked{}, &linked{},
		sslctx.Dialer{}, func() any { return map[*sslctx.Conn]int{} }()} {
		wantArgument(t, s.SetExData(valueKey{}, v), "value")
	}
	wantArgument(t, s.SetExData(s, 1), "key")
	wantArgument(t, s.SetExData(nil, 1), "key")
	wantArgument(t, s.SetExData([]int{}, 1), "key")
	wantArgument(t, s.SetExData(behind{[]int{}}, 1), "key")
	for _, v := range []any{1, "text", []byte{1}, &recursive{}, map[string]any{}, t, error(nil), behind{}, sslctx.Secret{}} {
		must(t, s.SetExData(valueKey{}, v))
	}
	if n := sslctx.LiveValues(); n == 0 {
		t.Error("no session has values")
	}
}

// TestExDataHoldsNoHandle: a dropped session with a value is collected, and then the value is. A
// cycle through an interface ends with Close.
func TestExDataHoldsNoHandle(t *testing.T) {
	base, sessions := sslctx.LiveValues(), ossltest.LiveSessions()
	value := func() weak.Pointer[[100]byte] {
		s, err := sslctx.NewSession()
		must(t, err)
		v := new([100]byte)
		must(t, s.SetExData(valueKey{}, v))
		return weak.Make(v)
	}()
	if n := ossltest.CollectUntil(sslctx.LiveValues, base); n != base || ossltest.LiveSessions() > sessions {
		t.Errorf("%d sessions, %d with values are alive", ossltest.LiveSessions()-sessions, n-base)
	}
	runtime.GC()
	if value.Value() != nil {
		t.Error("the value is alive")
	}

	s, err := sslctx.NewSession()
	must(t, err)
	b := &behind{s}
	must(t, s.SetExData(valueKey{}, b))
	cycle := weak.Make(b)
	must(t, s.Close())
	s, b = nil, nil
	runtime.GC()
	if n := sslctx.LiveValues(); n != base || cycle.Value() != nil {
		t.Errorf("%d sessions with values after Close", n-base)
	}
}

// TestExDataAtOnce: values, copies and connections from many goroutines; the same session is
// offered to two contexts, of which one has a copy. libssl itself is written to only by the first
// value of a session: each round has a fresh one. TestMain counts what is left.
func TestExDataAtOnce(t *testing.T) {
	e, other := newEnds(t, sslctx.VersionTLS13), newEnds(t, sslctx.VersionTLS13)
	for range 8 {
		exDataAtOnce(t, e, other)
	}
}

func exDataAtOnce(t *testing.T, e, other ends) {
	_, client := e.connect(t, nil)
	s := sessionOf(t, client)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 20 {
				if err := s.SetExData(g, i); err != nil || s.ExData(g) != i {
					t.Errorf("%v, %v", s.ExData(g), err)
				}
				d, err := s.Dup()
				must(t, err)
				if d.ExData(g) != i {
					t.Errorf("the copy has %v", d.ExData(g))
				}
				must(t, d.Close())
			}
		})
		wg.Go(func() {
			for range 10 {
				end, far := tcpPair(t)
				c, err := sslctx.Client(end, other.client)
				must(t, err)
				must(t, c.AcceptAnyName())
				must(t, c.SetSession(s))
				_, _ = c.Abort(), far.Close()
			}
		})
	}
	wg.Go(func() {
		for range 2 {
			e.connect(t, s)
		}
	})
	wg.Wait()
}

// TestSettersWait: what changes a published session, and what libssl reads of it without a lock,
// waits until nobody else is inside libssl with its context; what reads it does not.
func TestSettersWait(t *testing.T) {
	noQueue(t)
	c := newContext(t, sslctx.TLSMethod)
	s := newSession(t, "id")
	add(t, c, s)
	for name, call := range map[string]struct {
		call  func() error
		waits bool
	}{
		"SetTime":         {func() error { return s.SetTime(time.Unix(1, 0)) }, true},
		"SetTimeout":      {func() error { return s.SetTimeout(time.Hour) }, true},
		"SetMaxEarlyData": {func() error { return s.SetMaxEarlyData(1) }, true},
		"SetExData":       {func() error { return s.SetExData(valueKey{}, 1) }, true},
		"Sessions": {func() error {
			all, err := c.Sessions()
			for _, s := range all {
				must(t, s.Close())
			}
			return err
		}, true},
		"AddSession": {func() error { _, err := c.AddSession(s); return err }, true},
		"Dup":        {func() error { d, err := s.Dup(); return errors.Join(err, d.Close()) }, false},
		"Timeout":    {func() error { _ = s.Timeout(); return nil }, false},
	} {
		leave := sslctx.BeInside(c)
		done := make(chan error, 1)
		go func() { done <- call.call() }()
		var err error
		waits := true
		for waits && !sslctx.IsAwaited(c) {
			select {
			case err = <-done:
				waits = false
			default:
				runtime.Gosched()
			}
		}
		leave()
		if waits {
			err = <-done
		}
		if waits != call.waits || err != nil {
			t.Errorf("%s waits: %v, %v", name, waits, err)
		}
	}
}

// TestPeerCertificateUnread: the certificate in a session may be one that crypto/x509 does not
// read. Its error says so.
func TestPeerCertificateUnread(t *testing.T) {
	noQueue(t)
	der, err := asn1.Marshal(struct {
		Format, Version int
		Cipher, ID, Key []byte
		Peer            asn1.RawValue
	}{1, 0x0303, []byte{0xc0, 0x2f}, []byte("id"), make([]byte, 48), asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 3, IsCompound: true, Bytes: tlstest.Unreadable(t)}})
	must(t, err)
	s := parseSession(t, der)
	cert, err := s.PeerCertificate()
	var ssl *sslctx.Error
	_, why := x509.ParseCertificate(tlstest.Unreadable(t))
	if cert != nil || err == nil || errors.As(err, &ssl) || !strings.Contains(err.Error(), why.Error()) {
		t.Errorf("PeerCertificate returns %v, %v; want crypto/x509's %v", cert, err, why)
	}
}
