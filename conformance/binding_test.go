// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// binding runs operations through the Go API. Its test is locked to a thread, so that it reads the
// error queue of its own calls.
type binding struct {
	t        testing.TB
	contexts map[string]*boundContext
	sessions map[string]*sslctx.Session
	pairs    map[string]*boundPair
	liveBase int

	mu      sync.Mutex
	events  []string // callbacks since the last trace operation
	removed []string // IDs of sessions that remove hooks got since the last removed operation
	added   []string // results of adding in remove hooks since the last added operation
}

type boundContext struct {
	*sslctx.Context
	name                   string
	onNew, onGet, onRemove int
	answer                 string // the session that the get callback returns
	reAdd                  string // the session that the remove callback adds, once
}

type boundPair struct {
	wire *wire
	end  [2]*sslctx.Conn // server, client; nil after it was freed

	steps [2]*stepped
}

const (
	server = 0
	client = 1
)

func newBinding(t testing.TB) *binding {
	b := &binding{t: t, liveBase: ossltest.LiveSessions()}
	b.forget()
	t.Cleanup(b.reset)
	return b
}

func (b *binding) forget() {
	b.contexts = make(map[string]*boundContext)
	b.sessions = make(map[string]*sslctx.Session)
	b.pairs = make(map[string]*boundPair)
	b.events, b.removed, b.added = nil, nil, nil
}

// reset frees everything, in the oracle's order.
func (b *binding) reset() {
	for _, name := range slices.Sorted(maps.Keys(b.pairs)) {
		for _, c := range b.pairs[name].end {
			if c != nil {
				_ = c.Abort()
			}
		}
	}
	for _, s := range b.sessions {
		_ = s.Close()
	}
	for _, c := range b.contexts {
		_ = c.Close()
	}
	b.forget()
}

// refusal returns the result of a call that the binding refused. libssl never has such a result.
func refusal(err error) (string, bool) {
	for name, target := range map[string]error{
		"ErrForeignContext":   sslctx.ErrForeignContext,
		"ErrPublished":        sslctx.ErrPublished,
		"ErrNoCipher":         sslctx.ErrNoCipher,
		"ErrHandshakeStarted": sslctx.ErrHandshakeStarted,
		"ErrNoEarlyData":      sslctx.ErrNoEarlyData,
	} {
		if errors.Is(err, target) {
			return "refused " + name, true
		}
	}
	if arg := (*sslctx.ArgumentError)(nil); errors.As(err, &arg) {
		return "refused ArgumentError", true
	}
	return "", false
}

// do runs an operation.
func (b *binding) do(op string) (observation, error) {
	words := strings.Fields(op)
	run, ok := operations[words[0]]
	if !ok {
		return observation{}, fmt.Errorf("the binding has no operation %q", op)
	}
	result, err := run(b, words[1:])
	if err != nil {
		r, ok := refusal(err)
		if !ok {
			return observation{}, fmt.Errorf("%s: %w", op, err)
		}
		result = r
	}
	if code := ossltest.PeekError(); code != 0 {
		return observation{}, fmt.Errorf("%s left %#x on the error queue", op, code)
	}
	return observation{result: result, state: b.state()}, nil
}

func (b *binding) state() []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(b.contexts)) {
		c := b.contexts[name]
		s := c.CacheStats()
		lines = append(lines, fmt.Sprintf("ctx %s number=%d connect=%d connect_good=%d "+
			"connect_renegotiate=%d accept=%d accept_good=%d accept_renegotiate=%d hits=%d cb_hits=%d "+
			"misses=%d timeouts=%d cache_full=%d mode=%d size=%d timeout=%d new=%d get=%d remove=%d",
			name, s.Number, s.Connect, s.ConnectGood, s.ConnectRenegotiate, s.Accept, s.AcceptGood,
			s.AcceptRenegotiate, s.Hits, s.CbHits, s.Misses, s.Timeouts, s.CacheFull,
			uint32(c.SessionCacheMode()), c.CacheSize(), int64(c.Timeout().Seconds()), c.onNew, c.onGet, c.onRemove))
	}
	for _, name := range slices.Sorted(maps.Keys(b.sessions)) {
		s := b.sessions[name]
		lines = append(lines, fmt.Sprintf("session %s version=0x%04x cipher=0x%04x id=%s idctx=%s time=%d "+
			"timeout=%d resumable=%d ticket=%d hint=%d%s",
			name, int(s.ProtocolVersion()), s.Cipher().ID, toHex(s.ID()), toHex(s.IDContext()),
			s.Time().Unix(), int64(s.Timeout()/time.Second), toInt(s.IsResumable()), toInt(s.HasTicket()),
			int64(s.TicketLifetimeHint()/time.Second), attributes(s)))
	}
	return append(lines, fmt.Sprintf("live %d", ossltest.LiveSessions()-b.liveBase))
}

func toInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func toHex(b []byte) string {
	if len(b) == 0 {
		return "-"
	}
	return hex.EncodeToString(b)
}

func fromHex(s string) []byte {
	if s == "-" {
		return nil
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // the script is wrong
	}
	return b
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		panic(err) // the script is wrong
	}
	return n
}

// okFail returns the result of a call that makes something: an *sslctx.Error is a failure of
// libssl.
func okFail(err error) (string, error) {
	if e := (*sslctx.Error)(nil); errors.As(err, &e) {
		return "fail", nil
	}
	return "ok", err
}

// oneZero returns the result of a call that returns 1 for success.
func oneZero(err error) (string, error) {
	if e := (*sslctx.Error)(nil); errors.As(err, &e) {
		return "0", nil
	}
	return "1", err
}

func (b *binding) setSession(name string, s *sslctx.Session) {
	if old := b.sessions[name]; old != nil {
		_ = old.Close()
	}
	delete(b.sessions, name)
	if s != nil {
		b.sessions[name] = s
	}
}

// operations are the oracle's operations, by the Go API. a has the operands.
var operations map[string]func(b *binding, a []string) (string, error)

func init() {
	operations = map[string]func(b *binding, a []string) (string, error){
		"ctx": func(b *binding, a []string) (string, error) {
			method := map[string]sslctx.Method{"tls": sslctx.TLSMethod, "client": sslctx.TLSClientMethod,
				"server": sslctx.TLSServerMethod}[a[1]]
			c, err := sslctx.NewContext(method)
			if err == nil {
				b.contexts[a[0]] = &boundContext{Context: c, name: a[0]}
			}
			return okFail(err)
		},
		"ctxfree": func(b *binding, a []string) (string, error) {
			err := b.contexts[a[0]].Close()
			delete(b.contexts, a[0])
			return "ok", err
		},
		"mode": func(b *binding, a []string) (string, error) {
			old, err := b.contexts[a[0]].SetSessionCacheMode(sslctx.CacheMode(number(a[1])))
			return fmt.Sprint(uint32(old)), err
		},
		"size": func(b *binding, a []string) (string, error) {
			old, err := b.contexts[a[0]].SetCacheSize(int(number(a[1])))
			return fmt.Sprint(old), err
		},
		"timeout": func(b *binding, a []string) (string, error) {
			d, err := duration(a[1])
			if err != nil {
				return "", err
			}
			old, err := b.contexts[a[0]].SetTimeout(d)
			return fmt.Sprint(int64(old / time.Second)), err
		},
		"sidctx": func(b *binding, a []string) (string, error) {
			return oneZero(b.contexts[a[0]].SetIDContext(fromHex(a[1])))
		},
		"options": func(b *binding, a []string) (string, error) {
			c, o := b.contexts[a[0]], sslctx.Option(number(a[2]))
			set := c.SetOptions
			if a[1] == "clear" {
				set = c.ClearOptions
			}
			_, err := set(o)
			return "ok", err
		},
		"proto": func(b *binding, a []string) (string, error) {
			least, err := oneZero(b.contexts[a[0]].SetMinProtoVersion(sslctx.Version(number(a[1]))))
			if err != nil {
				return "", err
			}
			most, err := oneZero(b.contexts[a[0]].SetMaxProtoVersion(sslctx.Version(number(a[2]))))
			return least + " " + most, err
		},
		"verify": func(b *binding, a []string) (string, error) {
			return "ok", b.contexts[a[0]].SetVerify(sslctx.VerifyMode(number(a[1])))
		},
		"cipherlist": func(b *binding, a []string) (string, error) {
			return oneZero(b.contexts[a[0]].SetCipherList(a[1]))
		},
		"ciphersuites": func(b *binding, a []string) (string, error) {
			return oneZero(b.contexts[a[0]].SetCiphersuites(a[1]))
		},
		"earlydata": func(b *binding, a []string) (string, error) {
			return oneZero(b.contexts[a[0]].SetMaxEarlyData(int(number(a[1]))))
		},
		"cert": func(b *binding, a []string) (string, error) {
			if err := b.contexts[a[0]].UseCertificateChainFile(a[1]); err != nil {
				return oneZero(err)
			}
			return oneZero(b.contexts[a[0]].UsePrivateKeyFile(a[2]))
		},
		"callbacks": (*binding).callbacks,
		"answer": func(b *binding, a []string) (string, error) {
			b.contexts[a[0]].answer = a[1]
			return "ok", nil
		},
		"trace":   (*binding).trace,
		"removed": func(b *binding, _ []string) (string, error) { return takeWords(&b.removed), nil },
		"session": func(b *binding, a []string) (string, error) { return b.made(a[0], sslctx.NewSession) },
		"parse": func(b *binding, a []string) (string, error) {
			return b.made(a[0], func() (*sslctx.Session, error) { return sslctx.ParseSession(fromHex(a[1])) })
		},
		"readpem": func(b *binding, a []string) (string, error) {
			return b.made(a[0], func() (*sslctx.Session, error) { return sslctx.ParseSessionPEM(fromHex(a[1])) })
		},
		"dup":  func(b *binding, a []string) (string, error) { return b.made(a[0], b.sessions[a[1]].Dup) },
		"free": func(b *binding, a []string) (string, error) { b.setSession(a[0], nil); return "ok", nil },
		"id": func(b *binding, a []string) (string, error) {
			return oneZero(b.sessions[a[0]].SetID(fromHex(a[1])))
		},
		"idctx": func(b *binding, a []string) (string, error) {
			return oneZero(b.sessions[a[0]].SetIDContext(fromHex(a[1])))
		},
		"time": func(b *binding, a []string) (string, error) {
			return a[1], b.sessions[a[0]].SetTime(time.Unix(number(a[1]), 0))
		},
		"stimeout": func(b *binding, a []string) (string, error) {
			d, err := duration(a[1])
			if err != nil {
				return "", err
			}
			return oneZero(b.sessions[a[0]].SetTimeout(d))
		},
		"version": func(b *binding, a []string) (string, error) {
			if len(a) == 0 {
				return anyResult, nil
			}
			return oneZero(b.sessions[a[0]].SetProtocolVersion(sslctx.Version(number(a[1]))))
		},
		"add": func(b *binding, a []string) (string, error) {
			ok, err := b.contexts[a[0]].AddSession(b.sessions[a[1]])
			return fmt.Sprint(toInt(ok)), err
		},
		"remove": func(b *binding, a []string) (string, error) {
			ok, err := b.contexts[a[0]].RemoveSession(b.sessions[a[1]])
			return fmt.Sprint(toInt(ok)), err
		},
		"addall":    func(b *binding, a []string) (string, error) { return b.all(b.contexts[a[0]].AddSessions, a[1:]) },
		"removeall": func(b *binding, a []string) (string, error) { return b.all(b.contexts[a[0]].RemoveSessions, a[1:]) },
		"flush": func(b *binding, a []string) (string, error) {
			return "ok", b.contexts[a[0]].FlushSessions(time.Unix(number(a[1]), 0))
		},
		"der": func(b *binding, a []string) (string, error) { return hexResult(b.sessions[a[0]].Bytes()) },
		"pem": func(b *binding, a []string) (string, error) { return hexResult(b.sessions[a[0]].PEM()) },
		"print": func(b *binding, a []string) (string, error) {
			var text bytes.Buffer
			err := b.sessions[a[0]].Print(&text)
			return hexResult(text.Bytes(), err)
		},
		"same": func(b *binding, a []string) (string, error) {
			return fmt.Sprint(toInt(b.sessions[a[0]].Same(b.sessions[a[1]]))), nil
		},
		"pair":      (*binding).pair,
		"handshake": (*binding).handshake,
		"ping":      func(b *binding, a []string) (string, error) { return b.pairs[a[0]].byte(server) },
		"pong":      func(b *binding, a []string) (string, error) { return b.pairs[a[0]].byte(client) },
		"take": func(b *binding, a []string) (string, error) {
			s, err := b.pairs[a[1]].end[side(a[2])].Session()
			b.setSession(a[0], s)
			if errors.Is(err, sslctx.ErrNoSession) {
				return "none", nil
			}
			return "ok", err
		},
		"quiet": func(b *binding, a []string) (string, error) {
			return "ok", b.pairs[a[0]].end[side(a[1])].SetQuietShutdown(true)
		},
		"close": func(b *binding, a []string) (string, error) {
			return anyResult, b.drop(a[0], side(a[1]), (*sslctx.Conn).Close)
		},
		"drop": func(b *binding, a []string) (string, error) {
			return "ok", b.drop(a[0], side(a[1]), (*sslctx.Conn).Abort)
		},
		"shutdown": func(b *binding, a []string) (string, error) {
			return anyResult, b.pairs[a[0]].end[side(a[1])].CloseWrite()
		},
		"cut": func(b *binding, a []string) (string, error) {
			b.pairs[a[0]].wire.setCut(side(a[1]))
			return "ok", nil
		},
		"step":     func(b *binding, a []string) (string, error) { return b.pairs[a[0]].step(side(a[1])) },
		"readpeer": func(b *binding, a []string) (string, error) { return b.pairs[a[0]].readPeer(side(a[1])) },
		"live": func(b *binding, a []string) (string, error) {
			return fmt.Sprint(ossltest.LiveSessions() - b.liveBase), nil
		},
		"reset": func(b *binding, a []string) (string, error) { b.reset(); return "ok", nil },
	}
	maps.Copy(operations, attributeOperations)
	maps.Copy(operations, hazardOperations)
}

func side(name string) int {
	if name == "server" {
		return server
	}
	return client
}

// duration refuses a number that Go's type cannot express.
func duration(s string) (time.Duration, error) {
	n := number(s)
	d := time.Duration(n) * time.Second
	if int64(d/time.Second) != n {
		return 0, &sslctx.ArgumentError{Func: "time.Duration", Arg: s, Problem: "does not fit"}
	}
	return d, nil
}

func hexResult(data []byte, err error) (string, error) {
	if e := (*sslctx.Error)(nil); errors.As(err, &e) {
		return "fail", nil
	}
	return toHex(data), err
}

// made gives a name to a new session. It frees the session that had the name, even if it fails.
func (b *binding) made(name string, makeIt func() (*sslctx.Session, error)) (string, error) {
	s, err := makeIt()
	if err != nil {
		s = nil
	}
	b.setSession(name, s)
	if arg := (*sslctx.ArgumentError)(nil); errors.As(err, &arg) {
		return "fail", nil // the binding refuses it before libssl sees it
	}
	return okFail(err)
}

func (b *binding) all(call func([]*sslctx.Session) ([]bool, error), names []string) (string, error) {
	list := make([]*sslctx.Session, len(names))
	for i, name := range names {
		list[i] = b.sessions[name]
	}
	done, err := call(list)
	words := make([]string, len(done))
	for i, ok := range done {
		words[i] = fmt.Sprint(toInt(ok))
	}
	return strings.Join(words, " "), err
}

// callbacks adds hooks to those that are set; "none" removes all.
func (b *binding) callbacks(a []string) (string, error) {
	c, words := b.contexts[a[0]], strings.Split(a[1], ",")
	onNew := func(_ *sslctx.Conn, s *sslctx.Session) {
		_ = s.Close()
		b.record(c, &c.onNew, "new")
	}
	onRemove := func(s *sslctx.Session) {
		b.record(c, &c.onRemove, "remove")
		b.noteRemoved(c, s.ID())
		_ = s.Close()
		b.addAgain(c)
	}
	onGet := func(context.Context, []byte) *sslctx.Session {
		b.record(c, &c.onGet, "get")
		return b.sessions[c.answer]
	}
	if a[1] == "none" {
		onNew, onRemove, onGet, words = nil, nil, nil, []string{"new", "get", "remove"}
	}
	for _, word := range words {
		err := map[string]func() error{
			"new":    func() error { return c.SetNewSessionCallback(onNew) },
			"get":    func() error { return c.SetGetSessionCallback(onGet) },
			"remove": func() error { return c.SetRemoveSessionCallback(onRemove) },
		}[word]()
		if err != nil {
			return "", err
		}
	}
	return "ok", nil
}

// record counts a callback of a context that still has its name.
func (b *binding) record(c *boundContext, count *int, what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.contexts[c.name] == c {
		*count++
		b.events = append(b.events, c.name+"."+what)
	}
}

// noteRemoved keeps the ID of a session that a remove hook got. An ID that libssl chose is 32
// random bytes.
func (b *binding) noteRemoved(c *boundContext, id []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.contexts[c.name] != c {
		return
	}
	word := hex.EncodeToString(id)
	switch len(id) {
	case 0:
		word = "empty"
	case 32:
		word = "random"
	}
	b.removed = append(b.removed, word)
}

// addAgain adds the session that the operation onremove names.
func (b *binding) addAgain(c *boundContext) {
	if c.reAdd == "" {
		return
	}
	s := b.sessions[c.reAdd]
	c.reAdd = ""
	ok, err := c.AddSession(s)
	word := fmt.Sprint(toInt(ok))
	if errors.Is(err, sslctx.ErrClosed) {
		word = "closed"
	} else if err != nil {
		word = err.Error()
	}
	b.added = append(b.added, word)
}

func (b *binding) trace([]string) (string, error) { return takeWords(&b.events), nil }

// takeWords returns a list of words and empties it; "-" is an empty list.
func takeWords(words *[]string) string {
	defer func() { *words = nil }()
	if len(*words) == 0 {
		return "-"
	}
	return strings.Join(*words, " ")
}

func (b *binding) pair(a []string) (string, error) {
	w, ends := newWire()
	s, err := sslctx.Server(ends[server], b.contexts[a[1]].Context)
	if err != nil {
		return "", err
	}
	c, err := sslctx.Client(ends[client], b.contexts[a[2]].Context)
	if err != nil {
		return "", err
	}
	if err := c.AcceptAnyName(); err != nil { // the oracle's clients expect none
		return "", err
	}
	if len(a) > 3 {
		if err := c.SetSession(b.sessions[a[3]]); err != nil {
			_, _ = s.Abort(), c.Abort()
			return "", err
		}
	}
	b.pairs[a[0]] = &boundPair{wire: w, end: [2]*sslctx.Conn{s, c}}
	return "1", nil
}

// handshake drives both ends.
func (b *binding) handshake(a []string) (string, error) {
	return b.pairs[a[0]].shake(func(c *sslctx.Conn, _ int) error { return c.Handshake() }), nil
}

// shake drives both ends in turns, the client first, as the oracle does. So what their hooks write
// down has one order. When one end fails, the other reads what was sent, and then waits no longer.
func (p *boundPair) shake(how func(c *sslctx.Conn, side int) error) string {
	var ends [2]*stepped
	p.wire.hold(server, true)
	p.wire.hold(client, true)
	for !ends[server].isDone() || !ends[client].isDone() {
		for _, i := range []int{client, server} {
			if ends[i] == nil {
				ends[i] = p.steps[i]
			}
			if ends[i] == nil {
				ends[i] = p.start(i, how)
			}
			if p.goOn(i, ends[i]); ends[i].isDone() && ends[i].err != nil {
				p.wire.setDry(1-i, true)
			}
		}
	}
	p.wire.setDry(server, false)
	p.wire.setDry(client, false)
	p.wire.hold(server, false)
	p.wire.hold(client, false)
	if ends[server].err != nil || ends[client].err != nil {
		return fmt.Sprintf("fail server=%s client=%s", reason(ends[server].err), reason(ends[client].err))
	}
	c := p.end[client]
	return fmt.Sprintf("ok reused=%d,%d version=0x%04x cipher=%s", toInt(p.end[server].SessionReused()),
		toInt(c.SessionReused()), int(c.Version()), c.Cipher().Name)
}

// stepped is a handshake that goes on step by step.
type stepped struct {
	done bool // guarded by the wire, until goOn returns
	err  error
}

func (at *stepped) isDone() bool { return at != nil && at.done }

// start begins an end's handshake, on a goroutine of its own.
func (p *boundPair) start(s int, how func(c *sslctx.Conn, side int) error) *stepped {
	at := new(stepped)
	go func() {
		at.err = how(p.end[s], s)
		p.wire.note(&at.done)
	}()
	return at
}

// goOn lets one end go on as far as it can. Then the handshake waits in the transport, or is done,
// and its hooks have run.
func (p *boundPair) goOn(s int, at *stepped) {
	p.wire.hold(s, false)
	p.wire.awaitWant(s, &at.done)
	p.wire.hold(s, true)
}

// step lets one end go on as far as it can. The handshake waits for the next step in the transport.
func (p *boundPair) step(s int) (string, error) {
	if p.steps[s] == nil {
		p.steps[s] = p.start(s, func(c *sslctx.Conn, _ int) error { return c.Handshake() })
	}
	at := p.steps[s]
	p.goOn(s, at)
	switch {
	case !at.done:
		return "want", nil
	case at.err == io.ErrUnexpectedEOF:
		return "cut", nil
	case at.err != nil:
		return "error " + reason(at.err), nil
	}
	p.wire.hold(s, false)
	return "done", nil
}

func reason(err error) string {
	if e := (*sslctx.Error)(nil); errors.As(err, &e) && len(e.Stack) > 0 {
		last := e.Stack[len(e.Stack)-1]
		return fmt.Sprintf("%d:%d", last.Reason.Library, last.Reason.Code)
	}
	return "0:0"
}

// byte sends one byte from one side to the other.
func (p *boundPair) byte(from int) (string, error) {
	if _, err := p.end[from].Write([]byte("x")); err != nil {
		return "0", nil
	}
	p.wire.setDry(1-from, true)
	defer p.wire.setDry(1-from, false)
	n, _ := p.end[1-from].Read(make([]byte, 1))
	return fmt.Sprint(n), nil
}

func (p *boundPair) readPeer(s int) (string, error) {
	p.wire.setDry(s, true)
	defer p.wire.setDry(s, false)
	n, err := p.end[s].Read(make([]byte, 16))
	switch {
	case n > 0:
		return fmt.Sprintf("data %d", n), nil
	case errors.Is(err, io.EOF):
		return "eof", nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "want", nil
	case err == io.ErrUnexpectedEOF:
		return "cut", nil
	}
	return "error " + reason(err), nil
}

func (b *binding) drop(name string, s int, how func(*sslctx.Conn) error) error {
	p := b.pairs[name]
	err := how(p.end[s])
	p.end[s] = nil
	if p.end[1-s] == nil {
		delete(b.pairs, name)
	}
	return err
}
