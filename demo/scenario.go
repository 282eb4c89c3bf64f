// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"sslctx"
)

// A row is a step and its expected result.
type row struct {
	step
	want values
}

// A step is one action, with the name of its C function.
type step struct {
	call string
	do   func(*stage) (outcome, error)
}

// An outcome is the result of the step itself. The rest of a row are the server's counters after
// it.
type outcome struct {
	ret    int
	reused string
	took   time.Duration // of the client's handshake
}

// rules are the differences between libssl's versions: how many sessions a cache holds, and which
// one it evicts.
type rules struct {
	about            string
	size             int    // of a cache that holds two sessions
	victim, survivor string // the sessions that clients offer after the eviction
	survived         string // the session in the cache with the ID of survivor
}

// rulesOf returns the rules of the libssl with the version number.
func rulesOf(version uint64) rules {
	if version < 0x30000000 {
		return rules{
			about:    "Here a cache of size 2 holds two sessions. A third one evicts the one that was added first.",
			size:     2,
			victim:   "c2",
			survivor: "c3",
			survived: "s3",
		}
	}
	return rules{
		about:    "Here a cache of size 3 holds two sessions. A third one evicts the one that expires first.",
		size:     3,
		victim:   "c3",
		survivor: "c2",
		survived: "d2",
	}
}

// scenario is the man page, sentence by sentence. The expected values are constants, not computed.
func scenario(r rules) []row {
	return []row{
		// The values are ret, cached, hits, misses, evicted and reused.

		// A session that is not in the server's cache does not resume. One that was added does.
		{connect("1"), values{none, 0, 0, 0, 0, no}},
		{addSession("s1"), values{1, 1, 0, 0, 0, dash}},
		{offer("c1", ""), values{none, 1, 1, 0, 0, yes}},

		// After its removal it does not resume, and the server does not find it.
		{removeSession("s1"), values{1, 0, 1, 0, 0, dash}},
		{offer("c1", "2"), values{none, 0, 1, 1, 0, no}},
		{removeSession("s1"), values{0, 0, 1, 1, 0, dash}},

		// The cache does not add the same object again. Another object with its ID replaces it.
		{addSession("s2"), values{1, 1, 1, 1, 0, dash}},
		{addSession("s2"), values{0, 1, 1, 1, 0, dash}},
		{dup("d2", "s2"), values{none, 1, 1, 1, 0, dash}},
		{addSession("d2"), values{1, 1, 1, 1, 0, dash}},
		{offer("c2", ""), values{none, 1, 2, 1, 0, yes}},

		// A full cache evicts one of d2, s3 and s4: d2 was added first, s3 expires first.
		{setCacheSize(r.size), values{20480, 1, 2, 1, 0, dash}},
		{connect("3"), values{none, 1, 2, 1, 0, no}},
		{setTimeout("s3"), values{1, 1, 2, 1, 0, dash}},
		{addSession("s3"), values{1, 2, 2, 1, 0, dash}},
		{connect("4"), values{none, 2, 2, 1, 0, no}},
		{addSession("s4"), values{1, 2, 2, 1, 1, dash}},
		{offer(r.victim, ""), values{none, 2, 2, 2, 1, no}},
		{offer(r.survivor, ""), values{none, 2, 3, 2, 1, yes}},

		// A flush removes what has expired by then, and with time 0 everything.
		{setTimeout(r.survived), values{1, 2, 3, 2, 1, dash}},
		{flushLater(90), values{none, 1, 3, 2, 1, dash}},
		{offer(r.survivor, ""), values{none, 1, 3, 3, 1, no}},
		{offer("c4", ""), values{none, 1, 4, 3, 1, yes}},
		{flushAll(), values{none, 0, 4, 3, 1, dash}},
		{offer("c4", ""), values{none, 0, 4, 4, 1, no}},
	}
}

// connect connects, and keeps the sessions of both ends under the number.
func connect(n string) step {
	return step{
		call: fmt.Sprintf("connect: s%s, c%s", n, n),
		do:   func(s *stage) (outcome, error) { return s.connect("", n) },
	}
}

// offer connects, and the client offers a session. If keep is not empty, it keeps the sessions of
// both ends under that number.
func offer(session, keep string) step {
	call := "connect, offering " + session
	if keep != "" {
		call += fmt.Sprintf(": s%s, c%s", keep, keep)
	}
	return step{
		call: call,
		do:   func(s *stage) (outcome, error) { return s.connect(session, keep) },
	}
}

func addSession(name string) step {
	return step{
		call: fmt.Sprintf("SSL_CTX_add_session(ctx, %s)", name),
		do: func(s *stage) (outcome, error) {
			added, err := s.server.context.AddSession(s.sessions[name])
			return returned(boolInt(added)), err
		},
	}
}

// dup copies a session: the same ID in another SSL_SESSION object.
func dup(name, of string) step {
	return step{
		call: fmt.Sprintf("%s = SSL_SESSION_dup(%s)", name, of),
		do: func(s *stage) (o outcome, err error) {
			s.sessions[name], err = s.sessions[of].Dup()
			return returned(none), err
		},
	}
}

func removeSession(name string) step {
	return step{
		call: fmt.Sprintf("SSL_CTX_remove_session(ctx, %s)", name),
		do: func(s *stage) (outcome, error) {
			removed, err := s.server.context.RemoveSession(s.sessions[name])
			return returned(boolInt(removed)), err
		},
	}
}

func setCacheSize(n int) step {
	return step{
		call: fmt.Sprintf("SSL_CTX_sess_set_cache_size(ctx, %d)", n),
		do: func(s *stage) (outcome, error) {
			previous, err := s.server.context.SetCacheSize(n)
			return returned(previous), err
		},
	}
}

// setTimeout makes a session expire in a minute. The binding returns an error where libssl returns
// 0.
func setTimeout(name string) step {
	return step{
		call: fmt.Sprintf("SSL_SESSION_set_timeout(%s, 60)", name),
		do: func(s *stage) (outcome, error) {
			return returned(1), s.sessions[name].SetTimeout(time.Minute)
		},
	}
}

// flushLater flushes as of a time some seconds from now.
func flushLater(seconds int) step {
	return step{
		call: fmt.Sprintf("SSL_CTX_flush_sessions(ctx, now+%d)", seconds),
		do: func(s *stage) (outcome, error) {
			at := time.Now().Add(time.Duration(seconds) * time.Second)
			return returned(none), s.server.context.FlushSessions(at)
		},
	}
}

func flushAll() step {
	return step{
		call: "SSL_CTX_flush_sessions(ctx, 0)",
		do: func(s *stage) (outcome, error) {
			return returned(none), s.server.context.FlushSessions(time.Time{})
		},
	}
}

func returned(ret int) outcome { return outcome{ret: ret, reused: dash} }

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// play runs the rows on a new stage and prints them. It returns the errors that fit into no row.
func play(v sslctx.Version, rows []row, t *table) error {
	s, err := newStage(v)
	if err != nil {
		return err
	}
	defer s.close()
	for _, r := range rows {
		o, err := r.do(s)
		if err != nil {
			return fmt.Errorf("%s: %w", r.call, err)
		}
		stats := s.server.context.CacheStats()
		got := values{o.ret, stats.Number, stats.Hits, stats.Misses, stats.CacheFull, o.reused}
		t.row(r.call, got, r.want, o.took)
	}
	return nil
}
