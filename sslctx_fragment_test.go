// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"

	"sslctx"
)

// recordConn notes the lengths of the records of application data that are written to it.
type recordConn struct {
	net.Conn
	mu      sync.Mutex
	rest    []byte
	lengths []int
}

func (c *recordConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest = append(c.rest, p...)
	for len(c.rest) >= 5 {
		n := int(c.rest[3])<<8 | int(c.rest[4])
		if len(c.rest) < 5+n {
			break
		}
		if c.rest[0] == 23 {
			c.lengths = append(c.lengths, n)
		}
		c.rest = c.rest[5+n:]
	}
	return c.Conn.Write(p)
}

// take returns the lengths noted so far, and forgets them.
func (c *recordConn) take() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	lengths := c.lengths
	c.lengths = nil
	return lengths
}

// recorded makes a connection that is up, and what its ends write is noted.
func recorded(t *testing.T, e ends) (server, client *sslctx.Conn, serverWrites, clientWrites *recordConn) {
	t.Helper()
	s, c := tcpPair(t)
	serverWrites, clientWrites = &recordConn{Conn: s}, &recordConn{Conn: c}
	server, client = e.over(t, serverWrites, clientWrites, nil)
	exchange(t, server, client)
	serverWrites.take()
	clientWrites.take()
	return server, client, serverWrites, clientWrites
}

// send has data go from one end to the other.
func send(t *testing.T, from io.Writer, to io.Reader, data []byte) {
	t.Helper()
	errs := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		errs <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came, and they are equal: %v; %v", len(got), bytes.Equal(got, data), err)
	}
	must(t, <-errs)
}

// overheadOf is the most that a record of the tests' ciphers adds to its plaintext.
const overheadOf = 64

func TestMaxSendFragment(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		must(t, e.server.SetMaxSendFragment(512))
		must(t, e.server.SetSplitSendFragment(512))
		wantArgument(t, e.server.SetSplitSendFragment(1024), "n")
		server, client, out, back := recorded(t, e)
		data := bytes.Repeat([]byte("0123456789"), 100_000)
		before := server.Crossings()
		send(t, server, client, data)
		lengths := out.take()
		if want := (len(data) + 511) / 512; len(lengths) != want {
			t.Errorf("%d records, want %d", len(lengths), want)
		}
		for _, n := range lengths {
			if n > 512+overheadOf {
				t.Fatalf("a record of %d bytes", n)
			}
		}
		if n := server.Crossings() - before; n > len(data)/15_000 {
			t.Errorf("%d crossings for %d bytes", n, len(data))
		}
		send(t, client, server, data) // the peer's own are as they were
		if got := back.take(); len(got) > len(data)/16384+1 {
			t.Errorf("%d records of the other end", len(got))
		}
		for _, n := range []int{-1, 0, 511, 16385} {
			wantArgument(t, e.server.SetMaxSendFragment(n), "n")
			wantArgument(t, e.server.SetSplitSendFragment(n), "n")
		}
	})
}

func TestMaxFragmentLength(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		data := bytes.Repeat([]byte("0123456789"), 10_000)
		for m := sslctx.MaxFragmentAny; m <= sslctx.MaxFragment4096; m++ {
			must(t, e.client.SetMaxFragmentLength(m))
			server, client, out, back := recorded(t, e)
			send(t, server, client, data)
			send(t, client, server, data)
			for what, lengths := range map[string][]int{"server": out.take(), "client": back.take()} {
				want := (len(data) + m.Bytes() - 1) / m.Bytes()
				if len(lengths) != want {
					t.Errorf("asked for %v the %s sends %d records, want %d", m, what, len(lengths), want)
				}
			}
			if got := sessionOf(t, client).MaxFragmentLength(); got != m {
				t.Errorf("MaxFragmentLength is %v, want %v", got, m)
			}
			_, _ = server.Close(), client.Close()
		}
		wantArgument(t, e.client.SetMaxFragmentLength(-1), "m")
		wantArgument(t, e.client.SetMaxFragmentLength(5), "m")
	})
	if s := sslctx.MaxFragment512.String() + sslctx.MaxFragmentAny.String(); s != "512any" {
		t.Errorf("String gives %s", s)
	}
}

// TestBlockPadding looks at records of all sizes of plaintext and of padding, with the crossings that they take.
func TestBlockPadding(t *testing.T) {
	for name, set := range map[string]func(*sslctx.Context, int) error{
		"SetBlockPadding": (*sslctx.Context).SetBlockPadding,
		"Configure": func(c *sslctx.Context, n int) error {
			return c.Configure("RecordPadding", map[int]string{512: "512", 4600: "4600", 16384: "16384"}[n])
		},
	} {
		t.Run(name, func(t *testing.T) {
			noQueue(t)
			for _, block := range []int{512, 4600, 16384} {
				e := newEnds(t, sslctx.VersionTLS13)
				must(t, set(e.server, block))
				server, client, out, _ := recorded(t, e)
				for _, n := range []int{1, 511, 512, 2304, 2305, 5000, 16384, 100_000} {
					before := server.Crossings()
					send(t, server, client, bytes.Repeat([]byte("x"), n))
					for _, got := range out.take() {
						if got < block || (got-16)%block > 0 && got != 16384+17 {
							t.Errorf("padding to %d, %d bytes: a record of %d", block, n, got)
						}
					}
					if c := server.Crossings() - before; c > 1+n/30_000 {
						t.Errorf("padding to %d, %d bytes: %d crossings", block, n, c)
					}
				}
				must(t, server.Close()) // its alert is padded too
				if _, err := client.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("padding to %d: the end is %v", block, err)
				}
			}
		})
	}
	e := newEnds(t, sslctx.VersionTLS12)
	must(t, e.server.SetBlockPadding(512))
	server, client, out, _ := recorded(t, e)
	send(t, server, client, []byte("x"))
	if got := out.take(); len(got) != 1 || got[0] >= 512 {
		t.Errorf("in TLS 1.2 the records have the lengths %d", got)
	}
	wantArgument(t, e.server.SetBlockPadding(-1), "n")
	wantArgument(t, e.server.SetBlockPadding(16385), "n")
}

// TestFragmentsCryptoTLS sends short and padded records to Go's implementation, and reads its own.
func TestFragmentsCryptoTLS(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		must(t, e.server.SetMaxSendFragment(600))
		must(t, e.server.SetBlockPadding(1000))
		s, c := tcpPair(t)
		server, err := sslctx.Server(s, e.server)
		must(t, err)
		defer server.Close()
		theirs := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: uint16(v), MaxVersion: uint16(v)})
		defer theirs.Close()
		data := bytes.Repeat([]byte("0123456789"), 10_000)
		send(t, theirs, server, data)
		send(t, server, theirs, data)
	})
}
