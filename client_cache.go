// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"container/list"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A ClientSessionCache keeps the sessions of clients, so that the connections of a [Dialer] resume by
// themselves. Several Dialers and Contexts may share one. All methods may be called from any
// goroutine.
//
// A session is offered only to the server that made it: under the same server name and port, and by
// a connection with the same verification, client certificate, ALPN protocols, versions, cipher suites,
// options, record length and ID context. When the trust of the Context has changed, libssl verifies the server's certificates again,
// and the session is offered only if that succeeds. So Contexts that trust different authorities need
// a cache each: what one of them takes and does not trust is lost to the others. A Context with a hook
// for a client's pre-shared keys, or of [ContextFromPointer], shares sessions with no other Context, and
// with no other run, because nothing tells who the client is. So does a Context that checks servers by a
// function of a tls.Config. Whatever configures such a Context also ends
// the sessions that the cache has for it.
//
// A session of TLS 1.3 is offered once, the newest first, since whoever watches the network could
// otherwise link two connections. A session of TLS 1.2 is offered until the server declines it. Each
// connection gets an object of its own: a connection that ends badly marks nobody else's session.
//
// The cache gets each session that a connection may resume: with TLS 1.2 at the end of the handshake,
// with TLS 1.3 when the client reads the server's tickets, which come with the first Read. Close also
// takes those that have arrived. A Context whose cache mode is [SessCacheOff] neither offers nor keeps
// sessions.
//
// It holds the secrets of connections, in the memory of Go. Clear wipes them.
type ClientSessionCache struct {
	config ClientSessionCacheConfig

	mu      sync.Mutex
	servers map[string]*list.Element // of *cachedServer, by key
	recent  list.List                // the server that was used last is the first
	stats   ClientSessionStats
}

// ClientSessionCacheConfig configures a [ClientSessionCache]. The zero value has the defaults.
type ClientSessionCacheConfig struct {
	// TicketsPerServer is how many sessions of TLS 1.3 are kept for each server. 0 is 4. As many
	// connections to a server can begin at the same time and all resume.
	TicketsPerServer int

	// MaxServers is how many servers have sessions in the cache. The server that was not used for the
	// longest time is dropped first. 0 is 1024. A Store has its own limit.
	MaxServers int

	// MaxBytes is how many bytes all sessions have, with the certificates that the servers sent: 2 to
	// 8 KiB for each. 0 is 16 MiB. A Store has its own limit.
	MaxBytes int

	// Store, if it is set, keeps the sessions instead of this process. Package sessionfile has one
	// that keeps them in a file.
	Store ClientSessionStore

	// StoreTimeout bounds each call of Store. 0 is one second. After it the handshake is a full one,
	// or a session is not kept. The time counts in DialContext, Read and Close. A Store that does not
	// end then goes on, on a goroutine of its own.
	StoreTimeout time.Duration
}

// A ClientSessionStore keeps sessions outside of the process, such as in a file. What it keeps holds
// the secrets of connections. An attacker who can write to it can take the place of any server: keep
// it like a private key. Its method may be called from any goroutine.
type ClientSessionStore interface {
	// Update replaces the value of a key by what change returns; an empty value is none. No other
	// Update of the key, in this process or in another, may come between change and the end of
	// Update. change may be called again if the store must try again. A session is offered only after
	// Update has removed it. ctx bounds the call.
	Update(ctx context.Context, key string, change func(value []byte) []byte) error
}

// ClientSessionStats are counters of a [ClientSessionCache].
type ClientSessionStats struct {
	Offered  uint64 // connections that offered a session
	Resumed  uint64 // connections that resumed it
	Declined uint64 // connections that did not: the server declined it, or it was withheld, not being trusted
	Expired  uint64 // sessions that were dropped because their time was over
	Kept     uint64 // sessions that were put into the cache
	Failed   uint64 // calls of the Store that failed, and values of it that nobody can read

	Servers, Sessions, Bytes int // what the cache holds now; 0 with a Store
}

// A cachedServer has the sessions of one key. The newest is the last.
type cachedServer struct {
	of       string // the key
	sessions []cachedSession
}

// A cachedSession is a session in this process. A Store has the rest of it: it cannot say who verified
// the server, so the certificates are verified again.
type cachedSession struct {
	storedSession
	verifiedBy verifiedBy
}

// A storedSession is what a Store has of a session.
type storedSession struct {
	Session []byte // DER
	Chain   []byte // the certificates that the server sent, DER
	Expires int64  // Unix time
	Single  bool   // it is offered once
}

func (s *storedSession) size() int { return len(s.Session) + len(s.Chain) }

const (
	defaultTickets      = 4
	defaultServers      = 1024
	defaultCacheBytes   = 16 << 20
	defaultStoreTimeout = time.Second
	maxTicketLife       = 7 * 24 * time.Hour // RFC 8446, 4.6.1
)

// NewClientSessionCache makes an empty cache. A limit below 0 is an ArgumentError.
func NewClientSessionCache(config ClientSessionCacheConfig) (*ClientSessionCache, error) {
	for _, limit := range []struct {
		name   string
		value  *int
		preset int
	}{
		{"TicketsPerServer", &config.TicketsPerServer, defaultTickets},
		{"MaxServers", &config.MaxServers, defaultServers},
		{"MaxBytes", &config.MaxBytes, defaultCacheBytes},
	} {
		if *limit.value < 0 {
			return nil, badArgument("NewClientSessionCache", limit.name, "is %d, below 0", *limit.value)
		}
		if *limit.value == 0 {
			*limit.value = limit.preset
		}
	}
	if config.StoreTimeout < 0 {
		return nil, badArgument("NewClientSessionCache", "StoreTimeout", "is %v, below 0", config.StoreTimeout)
	}
	if config.StoreTimeout == 0 {
		config.StoreTimeout = defaultStoreTimeout
	}
	return &ClientSessionCache{config: config, servers: make(map[string]*list.Element)}, nil
}

// Stats returns the counters.
func (c *ClientSessionCache) Stats() ClientSessionStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.stats
	now.Servers = len(c.servers)
	return now
}

// Clear drops all sessions, and wipes them. Those of a Store stay.
func (c *ClientSessionCache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.recent.Front(); e != nil; e = c.recent.Front() {
		c.replace(e.Value.(*cachedServer).of, nil)
	}
}

// count changes a counter.
func (c *ClientSessionCache) count(counter *uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*counter++
}

// ---- Where the sessions are ----

// update changes the sessions of a server. change may be called more than once.
func (c *ClientSessionCache) update(ctx context.Context, key string, change func([]cachedSession) []cachedSession) (err error) {
	if c.config.Store != nil {
		return c.updateStore(ctx, key, change)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var sessions []cachedSession
	if e := c.servers[key]; e != nil {
		sessions = e.Value.(*cachedServer).sessions
	}
	c.replace(key, change(slices.Clone(sessions)))
	for len(c.servers) > c.config.MaxServers || c.stats.Bytes > c.config.MaxBytes {
		c.replace(c.recent.Back().Value.(*cachedServer).of, nil)
	}
	return nil
}

// updateStore is update with a Store, which may be slower than its context. What it does later changes
// nothing.
func (c *ClientSessionCache) updateStore(ctx context.Context, key string, change func([]cachedSession) []cachedSession) error {
	ctx, stop := context.WithTimeout(ctx, c.config.StoreTimeout)
	defer stop()
	var mu sync.Mutex
	over := false
	r := runHook(ctx, func(ctx context.Context) (none struct{}, err error) {
		return none, c.config.Store.Update(ctx, key, func(value []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			if over {
				return value
			}
			return encodeSessions(change(c.decodeSessions(value)))
		})
	})
	mu.Lock()
	defer mu.Unlock()
	over = true
	if r.end != nil {
		r.end() // the Store panicked, or ended its goroutine
	}
	if r.err != nil {
		c.count(&c.stats.Failed)
	}
	return r.err
}

// replace replaces the sessions of a server, and wipes those that are gone. mu is held.
func (c *ClientSessionCache) replace(key string, sessions []cachedSession) {
	e := c.servers[key]
	if e == nil && len(sessions) == 0 {
		return
	}
	if e == nil {
		e = c.recent.PushFront(&cachedServer{of: key})
		c.servers[key] = e
	}
	c.recent.MoveToFront(e)
	server := e.Value.(*cachedServer)
	for i := range server.sessions {
		old := &server.sessions[i]
		c.stats.Bytes -= old.size()
		if !slices.ContainsFunc(sessions, func(s cachedSession) bool { return &s.Session[0] == &old.Session[0] }) {
			clear(old.Session)
		}
	}
	for i := range sessions {
		c.stats.Bytes += sessions[i].size()
	}
	c.stats.Sessions += len(sessions) - len(server.sessions)
	server.sessions = sessions
	if len(sessions) == 0 {
		c.recent.Remove(e)
		delete(c.servers, key)
	}
}

// A storedSessions is the value of a key in a Store.
type storedSessions struct {
	Version  int
	Sessions []storedSession
}

const storedVersion = 1

func encodeSessions(sessions []cachedSession) []byte {
	if len(sessions) == 0 {
		return nil
	}
	stored := storedSessions{Version: storedVersion}
	for _, s := range sessions {
		stored.Sessions = append(stored.Sessions, s.storedSession)
	}
	value, err := asn1.Marshal(stored)
	if err != nil {
		return nil // all fields have an encoding
	}
	return value
}

// decodeSessions reads a value of a Store. One that nobody can read is an empty one.
func (c *ClientSessionCache) decodeSessions(value []byte) (sessions []cachedSession) {
	if len(value) == 0 {
		return nil
	}
	var stored storedSessions
	rest, err := asn1.Unmarshal(value, &stored)
	if err != nil || len(rest) > 0 || stored.Version != storedVersion {
		c.count(&c.stats.Failed)
		return nil
	}
	for _, s := range stored.Sessions {
		sessions = append(sessions, cachedSession{storedSession: s})
	}
	return sessions
}

// ---- Connections ----

// A sessionKeeper connects a client's Conn with the cache.
type sessionKeeper struct {
	cache    *ClientSessionCache
	key      string
	ofCaller bool   // the caller's session is offered, which may be of another identity
	offered  []byte // the session that was offered, DER, or nil
	noted    atomic.Bool

	mu     sync.Mutex
	puts   int       // how often the connection has put sessions into the cache
	lastAt time.Time // when it did last
}

// A connection may put sessions into the cache as often as maxQuickPuts, and then once in putInterval: a server
// may send tickets without end, and a Store may be slow or wear out.
const (
	maxQuickPuts = 16
	putInterval  = time.Second
)

// mayPut reports whether the connection may put sessions into the cache, and counts that.
func (k *sessionKeeper) mayPut() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.puts >= maxQuickPuts && time.Since(k.lastAt) < putInterval {
		return false
	}
	k.puts++
	k.lastAt = time.Now()
	return true
}

// attach has a connection keep its sessions, and if offers is true offers one that the cache has. The connection's
// name and verification are set.
func (c *ClientSessionCache) attach(ctx context.Context, conn *Conn, name, addr string, offers bool) error {
	if name == "" && addr == "" {
		return nil // nothing tells servers apart
	}
	key, err := conn.startKeeping(name, addr)
	if err != nil || key == "" {
		return err
	}
	k := &sessionKeeper{cache: c, key: key, ofCaller: !offers}
	conn.keeper.Store(k)
	if k.ofCaller {
		return nil
	}
	s, ok := c.take(ctx, key)
	switch {
	case !ok:
	case conn.offerCached(&s) == nil:
		k.offered = s.Session
	default:
		clear(s.Session)
		c.drop(ctx, key, nil)
	}
	return nil
}

// take returns a session to offer. It removes one that is offered once, and those whose time is over.
func (c *ClientSessionCache) take(ctx context.Context, key string) (taken cachedSession, ok bool) {
	var expired uint64
	err := c.update(ctx, key, func(sessions []cachedSession) []cachedSession {
		before := len(sessions)
		now := time.Now().Unix()
		sessions = slices.DeleteFunc(sessions, func(s cachedSession) bool { return s.Expires <= now })
		expired = uint64(before - len(sessions))
		if ok = len(sessions) > 0; !ok {
			return nil
		}
		last := len(sessions) - 1
		taken = sessions[last]
		taken.Session = bytes.Clone(taken.Session) // replace wipes the other
		if taken.Single {
			sessions = sessions[:last]
		}
		return sessions
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Expired += expired
	return taken, ok && err == nil
}

// put adds sessions, the newest last. One of TLS 1.2 takes the place of the last one.
func (c *ClientSessionCache) put(key string, added []cachedSession) {
	err := c.update(context.Background(), key, func(sessions []cachedSession) []cachedSession {
		for _, s := range added {
			sessions = slices.DeleteFunc(sessions, func(old cachedSession) bool { return !old.Single && !s.Single })
			sessions = append(sessions, s)
		}
		if n := len(sessions) - c.config.TicketsPerServer; n > 0 {
			sessions = slices.Delete(sessions, 0, n)
		}
		return sessions
	})
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stats.Kept += uint64(len(added))
	}
}

// note notes what became of a connection's handshake. A session that did not resume is dropped, and so
// are all of a server whose handshake failed in libssl.
func (k *sessionKeeper) note(ctx context.Context, conn *Conn, err error) {
	if k == nil || k.offered == nil || k.noted.Swap(true) {
		return
	}
	c := k.cache
	defer clear(k.offered)
	resumed := err == nil && conn.SessionReused()
	c.mu.Lock()
	if !conn.lastCallResult().withheld {
		c.stats.Offered++
	}
	if resumed {
		c.stats.Resumed++
	} else if err == nil {
		c.stats.Declined++
	}
	c.mu.Unlock()
	if resumed {
		return
	}
	only := k.offered
	if failed := (*Error)(nil); errors.As(err, &failed) {
		only = nil
	}
	c.drop(ctx, k.key, only)
}

// drop removes a session of a server; nil is all.
func (c *ClientSessionCache) drop(ctx context.Context, key string, only []byte) {
	_ = c.update(context.WithoutCancel(ctx), key, func(sessions []cachedSession) []cachedSession {
		return slices.DeleteFunc(sessions, func(s cachedSession) bool { return only == nil || bytes.Equal(s.Session, only) })
	})
}

// startKeeping has libssl report the sessions of the connection. key is that of its server. It is "" if
// the connection uses no cache: the context's mode keeps no sessions, nothing names the server, or the
// context was configured after the connection was made, which goes by the configuration before.
func (c *Conn) startKeeping(name, addr string) (key string, err error) {
	r, err := c.beginSetup()
	if err != nil {
		return "", err
	}
	defer c.end(r)
	state := r.ctxs.sessionCtx
	if cacheModeOf(r.p.session_ctx) == SessCacheOff || state.configured.Load() != c.configured {
		return "", nil
	}
	var settings [sha256.Size]byte
	if ret := C.shim_SSL_keep_sessions(r.p, (*C.uchar)(&settings[0])); ret.n != 1 {
		return "", newError("SSL_set_info_callback", ret.errs)
	}
	target := addr
	if _, port, err := net.SplitHostPort(addr); err == nil && name != "" {
		target = port
	}
	sum := sha256.New()
	for _, part := range []string{c.host, target, c.idContext, string(settings[:]), c.maxFragment.String(), c.unknownIdentity(state)} {
		fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// unknownIdentity distinguishes a Context whose client's identity, or whose check of the server, nobody can tell from
// all others, and from itself with another hook.
func (c *Conn) unknownIdentity(h *ctxState) string {
	if hooks := c.hooksWhenMade; hooks.usePSK == nil && hooks.clientPSK == nil && hooks.check == nil && !h.foreign.Load() {
		return ""
	}
	return fmt.Sprintf("%s %d %d", thisProcess, h.number, c.configured)
}

// thisProcess distinguishes this process from others with the same Store.
var thisProcess = rand.Text()

// offerCached offers a session of a cache.
func (c *Conn) offerCached(cached *cachedSession) error {
	s, err := ParseSession(cached.Session)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := cached.checkChain(s); err != nil {
		return err
	}
	r, err := c.beginSetup()
	if err != nil {
		return err
	}
	defer c.end(r)
	if len(cached.Chain) > 0 {
		ret := C.shim_SSL_set_offered_chain(r.p, bytesPointer(cached.Chain), C.size_t(len(cached.Chain)))
		if ret.n != 1 {
			return newError("d2i_X509", ret.errs)
		}
	}
	if err := offer(r.p.ssl, r.ctxs.sessionCtx, s); err != nil {
		return err
	}
	c.offered = cached.verifiedBy
	return nil
}

// checkChain checks that the certificates of a session can be read, and that the first is the session's
// own. Those of a Store may be anything.
func (s *storedSession) checkChain(session *Session) error {
	own, err := session.PeerCertificate()
	if err != nil {
		return err
	}
	if own != nil && len(s.Chain) == 0 {
		return errOtherCertificate
	}
	for rest, first := s.Chain, true; len(rest) > 0; first = false {
		cert, after, err := firstCertificate(rest)
		if err != nil {
			return err
		}
		if first && (own == nil || !cert.Equal(own)) {
			return errOtherCertificate
		}
		rest = after
	}
	return nil
}

var errOtherCertificate = errors.New("sslctx: the certificates are not those of the session")

// keepSessions puts sessions that libssl reported into the cache: not more than it keeps, since a server may
// send any number.
func (c *Conn) keepSessions(reported []*Session) {
	if len(reported) == 0 {
		return
	}
	k := c.keeper.Load()
	_, known, _ := c.outcome()
	var kept []cachedSession
	for i, s := range reported {
		if k != nil && !c.refusedPeer.Load() && !(k.ofCaller && c.SessionReused()) && i >= len(reported)-k.cache.config.TicketsPerServer {
			if entry, err := c.cachedSession(s, known); err == nil && entry.Expires > time.Now().Unix() {
				kept = append(kept, entry)
			}
		}
		_ = s.Close()
	}
	if len(kept) == 0 {
		return
	}
	if k.mayPut() {
		k.cache.put(k.key, kept)
		return
	}
	for _, s := range kept {
		clear(s.Session)
	}
}

// cachedSession makes an entry of a session. known is the peer that made it.
func (c *Conn) cachedSession(s *Session, known peer) (entry cachedSession, err error) {
	der, err := s.Bytes()
	if err != nil {
		return entry, err
	}
	entry = cachedSession{storedSession: storedSession{Session: der, Expires: expiryOf(s).Unix(), Single: s.ProtocolVersion() >= VersionTLS13}}
	for _, cert := range known.certs {
		entry.Chain = append(entry.Chain, cert.Raw...)
	}
	if known.verified {
		entry.verifiedBy = verifiedBy{c.p.ctxs.sessionCtx, known.trust}
	}
	return entry, nil
}

// expiryOf returns when a session's time is over: by its timeout, by what the server said of the
// ticket, and for TLS 1.3 after a week. In TLS 1.2 a server that says 0 says nothing; in TLS 1.3 it says
// that the time is over.
func expiryOf(s *Session) time.Time {
	life, hint := s.Timeout(), s.TicketLifetimeHint()
	isTLS13 := s.ProtocolVersion() >= VersionTLS13
	if isTLS13 || hint > 0 {
		life = min(life, hint)
	}
	if isTLS13 {
		life = min(life, maxTicketLife)
	}
	return s.Time().Add(life)
}
