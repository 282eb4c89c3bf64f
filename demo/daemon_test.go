// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

var must = tlstest.Must

// A testDaemon is a daemon that a test has started and will stop.
type testDaemon struct {
	*daemon
	addr   string
	stop   func() (log string) // returns when the daemon has ended
	ending func()              // tells the daemon to stop and returns at once
}

// start starts a daemon. prepare may change it before that, and may be nil.
func start(t *testing.T, chosen []protocol, prepare func(*daemon)) testDaemon {
	t.Helper()
	var out bytes.Buffer // the log serializes its writes, and it is read after the end
	d, err := newDaemon("127.0.0.1:0", chosen, &out)
	must(t, err)
	if prepare != nil {
		prepare(d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { d.run(ctx); close(ended) }()
	stop := sync.OnceValue(func() string { cancel(); <-ended; return out.String() })
	t.Cleanup(func() { stop() })
	return testDaemon{d, d.listener.Addr().String(), stop, cancel}
}

// The whole program: it serves, the check is content, and a signal stops it.
func TestServeCheckAndSignal(t *testing.T) {
	for _, test := range []struct {
		name   string
		args   []string
		signal syscall.Signal
		how    string
		end    string
	}{
		{"both", nil, syscall.SIGTERM, "TLS 1.2 session ID and by TLS 1.3 ticket", "4 handshakes, 2"},
		{"TLS 1.2", []string{"-tls", "1.2"}, syscall.SIGINT, "TLS 1.2 session ID", "2 handshakes, 1"},
		{"TLS 1.3", []string{"-tls", "1.3"}, syscall.SIGTERM, "TLS 1.3 ticket", "2 handshakes, 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			reader, writer := io.Pipe()
			var stderr bytes.Buffer
			status := make(chan int, 1)
			go func() {
				status <- run(append(test.args, "-serve", "127.0.0.1:0"), writer, &stderr)
				writer.Close()
			}()
			log := bufio.NewScanner(reader)
			if !log.Scan() {
				t.Fatalf("the exit status is %d, stderr is %q", <-status, &stderr)
			}
			addr := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(log.Text())
			rest := make(chan string, 1)
			go func() {
				last := ""
				for log.Scan() {
					last = log.Text()
				}
				rest <- last
			}()

			var stdout, errors bytes.Buffer
			if got := run(append(test.args, "-check", addr), &stdout, &errors); got != 0 {
				t.Errorf("the check's exit status is %d: %s", got, &errors)
			}
			if want := addr + " resumes sessions by " + test.how + "\n"; stdout.String() != want {
				t.Errorf("the check says %q, want %q", &stdout, want)
			}
			must(t, syscall.Kill(os.Getpid(), test.signal))
			if got := <-status; got != 0 || stderr.Len() > 0 {
				t.Errorf("the exit status is %d, stderr is %q", got, &stderr)
			}
			if got, want := <-rest, "stopped: "+test.end+" of them resumed"; got != want {
				t.Errorf("the last line is %q, want %q", got, want)
			}
		})
	}
}

// openssl s_client has the line, keeps its session in a file and resumes from it.
func TestOpenSSLClient(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.title, func(t *testing.T) {
			d := start(t, []protocol{p}, nil)
			file := filepath.Join(t.TempDir(), "session.pem")
			args := []string{"s_client", "-connect", d.addr, "-ign_eof", "-sess_out", file}
			for i, want := range []struct{ theirs, ours string }{{"New, ", wordFull}, {"Reused, ", wordResumed}} {
				if i > 0 {
					args = append(args, "-sess_in", file)
				}
				out, _ := exec.Command("openssl", args...).Output() // of s_client's exit status nothing follows
				line := regexp.MustCompile(`(?m)^` + p.version.String() + `, \S+, ` + want.ours + `; cached \d`)
				if !bytes.Contains(out, []byte(want.theirs)) || !line.Match(out) {
					t.Errorf("connection %d: want %q and %q, s_client prints\n%s", i+1, want.theirs, line, out)
				}
			}
		})
	}
}

func TestCheckFails(t *testing.T) {
	noCache := func(d *daemon) {
		if _, err := d.context.SetSessionCacheMode(sslctx.SessCacheOff); err != nil {
			t.Error(err)
		}
	}
	for _, test := range []struct {
		name   string
		server func(t *testing.T) (addr string)
		want   string
	}{
		{"nobody", closedPort, "TLS 1.2: first connection: dial tcp"},
		{"no cache", func(t *testing.T) string { return start(t, protocols, noCache).addr },
			"TLS 1.2: the second handshake did not resume the session of the first one"},
		{"one protocol", func(t *testing.T) string { return start(t, protocols[:1], nil).addr },
			"TLS 1.3: first connection: "},
		{"no TLS", func(t *testing.T) string { return serveTCP(t, "HTTP/1.1 400 Bad Request\r\n\r\n") },
			"TLS 1.2: first connection: "},
		{"another's answer", serveForeign, `the session was resumed, but the server says "hello"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if got := run([]string{"-check", test.server(t)}, &stdout, &stderr); got != 1 {
				t.Errorf("the exit status is %d, want 1", got)
			}
			if stdout.Len() > 0 || strings.Count(stderr.String(), "\n") != 1 ||
				!strings.Contains(stderr.String(), test.want) {
				t.Errorf("stdout is %q, stderr is %q, want %q", &stdout, &stderr, test.want)
			}
		})
	}
}

// A server that hangs does not hang the check, neither before the handshake nor after it.
func TestCheckGivesUp(t *testing.T) {
	mute := func(t *testing.T) string { return serveTCP(t, "") }
	for name, server := range map[string]func(*testing.T) string{"handshake": mute, "answer": serveNothing} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err := check(ctx, server(t), protocols)
			if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// closedPort returns an address where nobody listens.
func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	return l.Addr().String()
}

// serveTCP accepts connections, says text, and says no more.
func serveTCP(t *testing.T, text string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	acceptAll(t, l, func(conn net.Conn) { _, _ = io.WriteString(conn, text) })
	return l.Addr().String()
}

// serveForeign resumes sessions and is no daemon.
func serveForeign(t *testing.T) string {
	return serveTLS(t, func(conn *sslctx.Conn) {
		_, _ = io.WriteString(conn, "hello\n")
		_ = conn.CloseWrite()
	})
}

// serveNothing completes handshakes and says no more.
func serveNothing(t *testing.T) string {
	return serveTLS(t, func(conn *sslctx.Conn) { _ = conn.Handshake() })
}

func serveTLS(t *testing.T, do func(*sslctx.Conn)) string {
	c, err := newDaemonContext(protocols)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", c)
	must(t, err)
	acceptAll(t, l, func(conn net.Conn) { do(conn.(*sslctx.Conn)) })
	return l.Addr().String()
}

// acceptAll does something with each connection, and closes them when their clients do, or at the
// end of the test.
func acceptAll(t *testing.T, l net.Listener, do func(net.Conn)) {
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				stop := context.AfterFunc(t.Context(), func() { _ = conn.SetDeadline(time.Now()) })
				defer stop()
				do(conn)
				_, _ = io.Copy(io.Discard, conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
}

// A failingListener fails once.
type failingListener struct {
	net.Listener
	once sync.Once
}

var errAccept = errors.New("accept: too many open files")

func (l *failingListener) Accept() (conn net.Conn, err error) {
	l.once.Do(func() { err = errAccept })
	if err != nil {
		return nil, err
	}
	return l.Listener.Accept()
}

// What goes wrong with a connection is in the log, and the next one is served.
func TestDaemonGoesOn(t *testing.T) {
	d := start(t, protocols, func(d *daemon) { d.listener = &failingListener{Listener: d.listener} })
	for _, text := range []string{"", "GET / HTTP/1.1\r\n\r\n"} {
		conn, err := net.Dial("tcp", d.addr)
		must(t, err)
		_, err = io.WriteString(conn, text)
		must(t, err)
		must(t, conn.Close())
	}
	rudely(t, d.addr)
	if _, err := check(t.Context(), d.addr, protocols); err != nil {
		t.Error(err)
	}
	out := d.stop()
	if !strings.HasPrefix(out, errAccept.Error()+"\n") {
		t.Errorf("the log does not begin with %q", errAccept)
	}
	if got := strings.Count(out, "\n"); got != 1+2+1+4+1 {
		t.Errorf("there are %d lines, want 9", got)
	}
	if want := "stopped: 5 handshakes, 2 of them resumed\n"; !strings.HasSuffix(out, want) {
		t.Errorf("the log does not end in %q", want)
	}
	if t.Failed() {
		t.Log("\n" + out)
	}
}

// rudely reads the answer and goes away without close_notify.
func rudely(t *testing.T, addr string) {
	c, err := newCheckContext(protocols[1])
	must(t, err)
	defer c.Close()
	dialed, err := (&sslctx.Dialer{Context: c, InsecureSkipVerify: true}).Dial("tcp", addr)
	must(t, err)
	conn := dialed.(*sslctx.Conn)
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.HasSuffix(answer, []byte("\n")) {
		t.Errorf("the answer is %q, the error is %v", answer, err)
	}
	must(t, conn.NetConn().Close())
	_ = conn.Close()
}

// A client that says nothing holds the daemon for no longer than its patience.
func TestDaemonStopsInTime(t *testing.T) {
	d := start(t, protocols, func(d *daemon) { d.patience = 100 * time.Millisecond })
	conn, err := net.Dial("tcp", d.addr)
	must(t, err)
	defer conn.Close()
	_, err = check(t.Context(), d.addr, protocols[1:]) // the connection before this one has been accepted
	must(t, err)
	out := d.stop()
	if want := conn.LocalAddr().String() + ": "; !strings.Contains(out, want) {
		t.Errorf("%q is not in the log:\n%s", want, out)
	}
}

// A connection that is under way when the daemon is told to stop has its answer.
func TestDaemonEndsConnections(t *testing.T) {
	d := start(t, protocols, nil)
	tcp, err := net.Dial("tcp", d.addr)
	must(t, err)
	_, err = check(t.Context(), d.addr, protocols[1:])
	must(t, err)
	d.ending()
	c, err := newCheckContext(protocols[0])
	must(t, err)
	defer c.Close()
	conn, err := sslctx.Client(tcp, c)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	if answer, err := io.ReadAll(conn); err != nil || !bytes.Contains(answer, []byte(wordFull)) {
		t.Errorf("the answer is %q, the error is %v", answer, err)
	}
}

// Many at once are answered each with its own line, and leave nothing behind.
func TestManyChecks(t *testing.T) {
	const many = 20
	objects := map[string]func() int{
		"SSL_SESSION": ossltest.LiveSessions,
		"SSL_CTX":     ossltest.LiveContexts,
		"SSL":         ossltest.LiveSSLs,
		"goroutine":   runtime.NumGoroutine,
	}
	before := map[string]int{}
	for name, count := range objects {
		before[name] = count()
	}
	d := start(t, protocols, nil)
	var all sync.WaitGroup
	for range many {
		all.Go(func() {
			if _, err := check(t.Context(), d.addr, protocols); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	out := d.stop()
	lines := regexp.MustCompile(`(?m)^127\.0\.0\.1:\d+: TLSv1\.[23], \S+, (resumed|full handshake); cached \d+, `+
		`hits \d+, misses 0, evicted 0$`).FindAllStringSubmatch(out, -1)
	resumed := 0
	for _, line := range lines {
		if line[1] == wordResumed {
			resumed++
		}
	}
	if len(lines) != 4*many || resumed != 2*many {
		t.Errorf("%d lines, %d of them resumed, want %d and %d:\n%s", len(lines), resumed, 4*many, 2*many, out)
	}
	for name, count := range objects {
		if got := ossltest.CollectUntil(count, before[name]); got > before[name] {
			t.Errorf("%s: there are %d, there were %d", name, got, before[name])
		}
	}
}

func TestServeFails(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if got := run([]string{"-serve", "127.0.0.1:99999"}, &stdout, &stderr); got != 1 {
		t.Errorf("the exit status is %d, want 1", got)
	}
	if stdout.Len() > 0 || !strings.Contains(stderr.String(), "invalid port") {
		t.Errorf("stdout is %q, stderr is %q", &stdout, &stderr)
	}
}
