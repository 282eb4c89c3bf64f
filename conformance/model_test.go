// SPDX-License-Identifier: Apache-2.0

package conformance

import "strings"

// model predicts which operations the binding refuses: the rules of docs/deviations.md, by names and
// objects alone.
type model struct {
	contexts map[string]*modelContext
	sessions map[string]*modelSession
	client   string // the contexts of the connection
	server   string
}

type modelContext struct{ name string }

// modelSession is one C object; names share it.
type modelSession struct {
	home    *modelContext // where it is published
	version string
	cipher  bool
}

func newModel() *model {
	return &model{contexts: make(map[string]*modelContext), sessions: make(map[string]*modelSession)}
}

func (s *modelSession) published() bool { return s.home != nil }

func (s *modelSession) foreignTo(c *modelContext) bool {
	return s.home != nil && s.home != c
}

func (s *modelSession) withoutCipher() bool { return s.version != "0" && !s.cipher }

// mayOffer reports whether a client offers the very object, so that libssl alone shows the same.
func (m *model) mayOffer(session, context string) bool {
	s := m.sessions[session]
	return s != nil && !s.foreignTo(m.contexts[context])
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
		c := m.contexts[w[1]]
		for _, name := range w[2:] {
			if m.sessions[name].foreignTo(c) {
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

// note keeps the books after an operation that was not refused.
func (m *model) note(op, result string, b *binding) {
	w := strings.Fields(op)
	switch w[0] {
	case "ctx":
		m.contexts[w[1]] = &modelContext{w[1]}
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
	case "add", "addall", "remove", "removeall":
		for _, name := range w[2:] {
			m.publish(name, m.contexts[w[1]])
		}
	case "pair":
		m.server, m.client = w[2], w[3]
		if len(w) > 4 {
			m.publish(w[4], m.contexts[m.client])
		}
	case "take":
		m.take(w[1], w[3], result, b)
	case "reset":
		*m = *newModel()
	}
}

func (m *model) publish(name string, c *modelContext) {
	if s := m.sessions[name]; s.home == nil {
		s.home = c
	}
}

// take gives a name to the session of a connection, which may be an object that has one.
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
	m.sessions[name] = &modelSession{home: c, version: taken.ProtocolVersion().String(), cipher: taken.Cipher().Name != ""}
}
