// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"sslctx"
	"sslctx/internal/cwork"
)

// Connections beside the same in C: loopback TCP, a thread or a goroutine for each end, the same kind of
// certificate, the client verifies.

// benchEnds are contexts for a protocol, in Go and in C.
func benchEnds(b *testing.B, v sslctx.Version, resume cwork.Resume) (ends, *cwork.TLS) {
	b.Helper()
	pair := testPair(b)
	e := newEnds(b, v)
	must(b, e.server.UseKeyPair(pair.Cert, pair.Key))
	must(b, e.client.TrustCertificates(pair.Cert))
	w := cwork.NewTLS(pair.Cert, pair.Key, int(v), resume)
	if w == nil {
		b.Fatal("C could not connect")
	}
	b.Cleanup(w.Close)
	return e, w
}

// BenchmarkHandshake connects, reads a byte of the server's, with which come the tickets of TLS 1.3, and
// closes. Both ends are in the figure.
func BenchmarkHandshake(b *testing.B) {
	const n = 20
	for _, v := range versions {
		for _, resumed := range []bool{false, true} {
			b.Run(fmt.Sprintf("%v/resumed=%v", v, resumed), func(b *testing.B) {
				resume := cwork.Full
				if resumed {
					resume = cwork.Resumed
				}
				e, w := benchEnds(b, v, resume)
				compareHandshakes(b, n, e, w, resumed)
			})
		}
	}
}

// BenchmarkLookup resumes from a store outside of libssl, which is asked by libssl's get callback, and by a lookup
// that suspends the handshake; in C by the callback.
func BenchmarkLookup(b *testing.B) {
	for _, way := range []string{"get", "lookup"} {
		b.Run(way, func(b *testing.B) {
			var outside store
			e, w := benchEnds(b, sslctx.VersionTLS12, cwork.Outside)
			outside.fill(b, e.server)
			get := func(id []byte) *sslctx.Session { return outside.get(b, id) }
			if way == "get" {
				must(b, e.server.SetGetSessionCallback(get))
			} else {
				must(b, e.server.SetSessionLookup(&sslctx.SessionLookup{
					Find: func(_ context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) { return get(q.ID), nil },
				}))
			}
			compareHandshakes(b, 50, e, w, true)
		})
	}
}

func compareHandshakes(b *testing.B, n int, e ends, w *cwork.TLS, resumed bool) {
	_, client := e.connect(b, nil)
	offer := sessionOf(b, client)
	_ = client.Close()
	if !resumed {
		offer = nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	defer l.Close()
	crossings := 0
	compare(b, n, func() {
		if !w.Handshakes(n) {
			b.Fatal("C could not connect")
		}
	}, func() {
		most := make(chan int)
		go func() { most <- greet(b, l, e.server, n) }()
		for range n {
			crossings = max(crossings, greeted(b, l.Addr().String(), e.client, offer))
		}
		crossings = max(crossings, <-most)
	})
	b.ReportMetric(float64(crossings), "crossings/side")
}

// greet accepts n connections, and sends each a byte; it returns the most crossings that one took.
func greet(b *testing.B, l net.Listener, ctx *sslctx.Context, n int) (crossings int) {
	for range n {
		raw, err := l.Accept()
		if err != nil {
			b.Error(err)
			return crossings
		}
		c, err := sslctx.Server(raw, ctx)
		if err != nil {
			b.Error(err)
			return crossings
		}
		if _, err := c.Write([]byte{1}); err != nil {
			b.Error(err)
		}
		_ = c.Close()
		crossings = max(crossings, c.Crossings())
	}
	return crossings
}

func greeted(b *testing.B, addr string, ctx *sslctx.Context, offer *sslctx.Session) (crossings int) {
	raw, err := net.Dial("tcp", addr)
	must(b, err)
	c, err := sslctx.Client(raw, ctx)
	must(b, err)
	defer c.Close()
	if offer != nil {
		must(b, c.SetSession(offer))
	}
	_, err = c.Read(make([]byte, 1))
	must(b, err)
	if c.SessionReused() != (offer != nil) {
		b.Fatal("resumption is not as offered")
	}
	return c.Crossings()
}

// BenchmarkWrite sends blocks one way, and waits for the peer's byte after each round of them. With one block
// of one byte that is ping and pong.
func BenchmarkWrite(b *testing.B) {
	for _, v := range versions {
		for _, test := range []struct{ size, blocks, rounds int }{
			{1, 1, 200}, {1 << 10, 1000, 1}, {16 << 10, 256, 1}, {1 << 20, 4, 1},
		} {
			b.Run(fmt.Sprintf("%v/%d", v, test.size), func(b *testing.B) {
				e, w := benchEnds(b, v, cwork.Full)
				if !w.Open(test.size * test.blocks) {
					b.Fatal("C could not connect")
				}
				defer w.Shut()
				server, client := e.connect(b, nil)
				answered := make(chan struct{})
				go func() {
					defer close(answered)
					answerRounds(server, test.size*test.blocks)
				}()
				data, answer := make([]byte, test.size), make([]byte, 1)
				before := client.Crossings()
				ops, rounds := test.blocks*test.rounds, 0
				compare(b, ops, func() {
					if !w.Rounds(data, test.blocks, test.rounds) {
						b.Fatal("C could not write")
					}
				}, func() {
					rounds++
					for range test.rounds {
						for range test.blocks {
							_, err := client.Write(data)
							must(b, err)
						}
						_, err := io.ReadFull(client, answer)
						must(b, err)
					}
				})
				b.ReportMetric(float64(client.Crossings()-before)/float64(rounds*ops), "crossings/op")
				_ = client.Close()
				<-answered
			})
		}
	}
}

// answerRounds answers each so many bytes with one.
func answerRounds(c io.ReadWriter, round int) {
	buf := make([]byte, round)
	for {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		if _, err := c.Write(buf[:1]); err != nil {
			return
		}
	}
}
