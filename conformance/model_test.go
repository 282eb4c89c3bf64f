// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"slices"
	"strings"
)

// model predicts which operations the binding refuses. It applies the rules of docs/deviations.md
// to names and objects. It does not know which cache holds an object: only libssl knows that.
type model struct {
	contexts map[string]*modelContext
	sessions map[string]*modelSession
	client   string // the contexts of the connection
	server   string
	holds    func(context, session string) bool
}

type modelContext struct {
	name  string
	hears bool // it has a remove hook
}

// modelSession is one C object; names share it.
type modelSession struct {
	places  map[*modelContext]bool // connections of these contexts may have it
	version string
	cipher  bool
}

func newModel() *model {
	return &model{contexts: make(map[string]*modelContext), sessions: make(map[string]*modelSession)}
}

func (s *modelSession) published() bool { return len(s.places) > 0 }

func (s *modelSession) withoutCipher() bool { return s.version != "0" && !s.cipher }

// mayOffer reports whether a client offers the object itself and not a copy, so that libssl alone
// shows the same.
func (m *model) mayOffer(session, context string) bool {
	s := m.sessions[session]
	return s != nil && (!s.published() || s.places[m.contexts[context]])
}

// isCachedElsewhere reports whether the cache of another context holds the object itself.
func (m *model) isCachedElsewhere(session, context string) bool {
	for other := range m.contexts {
		if other != context && m.holds(other, session) {
			return true
		}
	}
	return false
}

// refusal returns the result of an operation that the binding refuses, "" for others.
func (m *model) refusal(op string) string {
	w := strings.Fields(op)
	switch w[0] {
	case "id", "idctx", "version", "cipher", "masterkey", "host", "alpn", "appdata":
		if m.sessions[w[1]].published() {
			return "refused ErrPublished"
		}
	case "add", "addall":
		for _, name := range w[2:] {
			if m.isCachedElsewhere(name, w[1]) {
				return "refused ErrForeignContext"
			}
		}
		for _, name := range w[2:] {
			if m.sessions[name].withoutCipher() {
				return "refused ErrNoCipher"
			}
		}
	case "pair":
		if len(w) > 4 && m.sessions[w[4]].withoutCipher() {
			return "refused ErrNoCipher"
		}
	}
	return ""
}

// note updates the model after an operation that was not refused.
func (m *model) note(op, result string, b *binding) {
	w := strings.Fields(op)
	switch w[0] {
	case "ctx":
		m.contexts[w[1]] = &modelContext{name: w[1]}
	case "ctxfree":
		delete(m.contexts, w[1])
	case "session":
		m.sessions[w[1]] = &modelSession{version: "0"}
	case "parse":
		delete(m.sessions, w[1])
		if result == "ok" {
			m.sessions[w[1]] = &modelSession{version: "parsed", cipher: true}
		}
	case "dup":
		from := *m.sessions[w[2]]
		m.sessions[w[1]] = &modelSession{version: from.version, cipher: from.cipher}
	case "free":
		delete(m.sessions, w[1])
	case "version":
		m.sessions[w[1]].version = w[2]
	case "cipher":
		m.sessions[w[1]].cipher = w[2] != "0"
	case "callbacks":
		m.contexts[w[1]].hears = w[2] != "none" && (m.contexts[w[1]].hears || strings.Contains(w[2], "remove"))
	case "add", "addall":
		for _, name := range w[2:] {
			m.publish(name, m.contexts[w[1]])
		}
	case "remove", "removeall":
		m.removed(m.contexts[w[1]], w[2:], b)
	case "pair":
		m.server, m.client = w[2], w[3]
		if len(w) > 4 {
			m.publish(w[4], m.contexts[m.client])
		}
	case "take":
		m.take(w[1], w[3], result, b)
	case "reset":
		*m = model{newModel().contexts, newModel().sessions, "", "", m.holds}
	}
}

func (m *model) publish(name string, c *modelContext) {
	s := m.sessions[name]
	if s.places == nil {
		s.places = make(map[*modelContext]bool)
	}
	s.places[c] = true
}

// removed: a fresh session stays fresh, unless a hook gets it. libssl calls the hook for a session
// that has an ID.
func (m *model) removed(c *modelContext, names []string, b *binding) {
	heard := c.hears && slices.ContainsFunc(names, func(name string) bool { return len(b.sessions[name].ID()) > 0 })
	for _, name := range names {
		if heard && !m.sessions[name].published() {
			m.publish(name, c)
		}
	}
}

// take gives a name to the session of a connection. The object may already have another name.
func (m *model) take(name, side, result string, b *binding) {
	delete(m.sessions, name)
	if result != "ok" {
		return
	}
	for other, s := range m.sessions {
		if b.sessions[other].Same(b.sessions[name]) {
			m.sessions[name] = s
			return
		}
	}
	c := m.contexts[m.client]
	if side == "server" {
		c = m.contexts[m.server]
	}
	taken := b.sessions[name]
	m.sessions[name] = &modelSession{version: taken.ProtocolVersion().String(), cipher: taken.Cipher().Name != ""}
	m.publish(name, c)
}
