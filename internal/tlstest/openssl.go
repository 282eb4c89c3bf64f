// SPDX-License-Identifier: Apache-2.0

package tlstest

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/testcert"
)

// PairFiles writes a certificate and its key to files.
func PairFiles(t testing.TB, pair testcert.Pair) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	Must(t, os.WriteFile(cert, pair.Cert, 0o600))
	Must(t, os.WriteFile(key, pair.Key, 0o600))
	return cert, key
}

// An OpenSSLServer is a running openssl s_server.
type OpenSSLServer struct {
	Addr   string
	Stdin  io.Writer
	Output *Output
}

// StartOpenSSLServer starts openssl s_server, which ends when the test ends.
func StartOpenSSLServer(t testing.TB, args ...string) *OpenSSLServer {
	t.Helper()
	cmd := exec.Command("openssl", append([]string{"s_server", "-accept", "127.0.0.1:0"}, args...)...)
	stdin, err := cmd.StdinPipe() // s_server exits when it is closed
	Must(t, err)
	stdout, err := cmd.StdoutPipe()
	Must(t, err)
	Must(t, cmd.Start())
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s := &OpenSSLServer{Stdin: stdin, Output: new(Output)}
	s.Addr = acceptAddress(t, io.TeeReader(stdout, s.Output))
	return s
}

// acceptAddress reads where s_server listens: it prints ACCEPT and the address that it got.
func acceptAddress(t testing.TB, out io.Reader) string {
	t.Helper()
	var text []byte
	buf := make([]byte, 1000)
	pattern := regexp.MustCompile(`ACCEPT (\S+:\d+)`)
	for {
		n, err := out.Read(buf)
		text = append(text, buf[:n]...)
		if m := pattern.FindSubmatch(text); m != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return string(m[1])
		}
		if err != nil {
			t.Fatalf("s_server prints %q, %v", text, err)
		}
	}
}

// FreeAddr returns an address of loopback for a program that must be told a port.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// StartServer starts a program, and waits until it listens. It ends when the test ends.
func StartServer(t testing.TB, cmd *exec.Cmd, addr string) {
	t.Helper()
	out := new(Output)
	cmd.Stdout, cmd.Stderr = out, out
	Must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %v\n%s", cmd.Path, err, out)
		}
	}
}

// Output is the text that a program printed so far.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write adds to it.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String returns it.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Await waits until text was printed n times.
func (o *Output) Await(t testing.TB, text string, n int) {
	t.Helper()
	for range 500 {
		o.mu.Lock()
		count := bytes.Count(o.text.Bytes(), []byte(text))
		o.mu.Unlock()
		if count >= n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("not printed %d times: %q in\n%s", n, text, o.text.String())
}

// ServeGreeting accepts connections, sends the line "greeting" and reports which sessions were
// reused. It ends with the listener.
func ServeGreeting(t testing.TB, l net.Listener, c *sslctx.Context, reused chan<- bool) {
	for {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		conn, err := sslctx.Server(raw, c)
		if err != nil {
			t.Error(err)
			return
		}
		_, err = io.WriteString(conn, "greeting\n")
		if err != nil {
			t.Error(err)
		}
		reused <- conn.SessionReused()
		_ = conn.CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}
}
