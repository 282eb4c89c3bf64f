// SPDX-License-Identifier: Apache-2.0

// Package tlstest has the helpers that tests of several packages share: contexts that trust each
// other, connections over loopback and in memory, certificates, the openssl program, and the checks
// at the end of a test program. It uses only the exported API of sslctx.
//
// Helpers that can fail take a testing.TB first, and end the test when they fail.
package tlstest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// Must ends the test if there is an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// CheckErrorQueue locks the test to its thread, and fails it if a call leaves an entry on the error
// queue.
func CheckErrorQueue(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(func() {
		if c := ossltest.PeekError(); c != 0 {
			t.Errorf("the error queue holds %#x", c)
		}
		runtime.UnlockOSThread()
	})
}

// NewContext makes a context that is closed when the test ends.
func NewContext(t testing.TB, m sslctx.Method) *sslctx.Context {
	t.Helper()
	c, err := sslctx.NewContext(m)
	Must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// NewSession makes a session with an ID. It is closed when the test ends.
func NewSession(t testing.TB, id string) *sslctx.Session {
	t.Helper()
	s, err := sslctx.NewSession()
	Must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	Must(t, s.SetID([]byte(id)))
	return s
}

// AddSession reports whether c added s.
func AddSession(t testing.TB, c *sslctx.Context, s *sslctx.Session) bool {
	t.Helper()
	ok, err := c.AddSession(s)
	Must(t, err)
	return ok
}

// RemoveSession reports whether c removed s.
func RemoveSession(t testing.TB, c *sslctx.Context, s *sslctx.Session) bool {
	t.Helper()
	ok, err := c.RemoveSession(s)
	Must(t, err)
	return ok
}

// IsTimeout reports whether err is a timeout in the sense of package net.
func IsTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// WantArgument fails the test unless err is an ArgumentError for arg.
func WantArgument(t testing.TB, err error, arg string) {
	t.Helper()
	var e *sslctx.ArgumentError
	if !errors.As(err, &e) || e.Arg != arg {
		t.Errorf("error is %v, want an ArgumentError for %s", err, arg)
	}
}

// WantReason fails the test unless err is an Error of libssl with this reason.
func WantReason(t testing.TB, err error, r sslctx.Reason) {
	t.Helper()
	var e *sslctx.Error
	if !errors.Is(err, r) || !errors.As(err, &e) || len(e.Stack) == 0 {
		t.Errorf("error is %v, want %v", err, r)
	}
}

// IsUnsupported reports whether err says that this libssl lacks the feature.
func IsUnsupported(err error) bool { return errors.Is(err, sslctx.ErrUnsupported) }

// UnlessLost returns err, or nil if err says that data was lost.
func UnlessLost(err error) error {
	if errors.Is(err, sslctx.ErrDataLost) {
		return nil
	}
	return err
}

// RandomBytes returns bytes on the heap: when a stack grows, its bytes also stay in the old place.
func RandomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// TortureTime returns how long torture tests run. SSLCTX_TORTURE=60s makes it longer.
func TortureTime(t testing.TB) time.Duration {
	d := 2 * time.Second
	if s := os.Getenv("SSLCTX_TORTURE"); s != "" {
		var err error
		d, err = time.ParseDuration(s)
		Must(t, err)
	}
	return d
}

// Repeat calls f in the background, again and again, until stop or the end of the test. i counts the
// calls. stop waits for the last one.
func Repeat(t testing.TB, f func(i int)) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			default:
			}
			f(i)
		}
	}()
	stop = sync.OnceFunc(func() {
		close(end)
		<-ended
	})
	t.Cleanup(stop)
	return stop
}

// Watchdog ends the process with all stacks if it is not stopped in time.
func Watchdog(d time.Duration) (stop func() bool) {
	return time.AfterFunc(d, func() {
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		panic("the watchdog: nothing moves")
	}).Stop
}

// ProcessStatus reads a number of /proc/self/status. It is 0 where there is no such file.
func ProcessStatus(t testing.TB, name string) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	Must(t, err)
	m := regexp.MustCompile(name + `:\s*(\d+)`).FindSubmatch(text)
	_, err = fmt.Sscan(string(m[1]), &n)
	Must(t, err)
	return n
}

// RunAgain runs the test in a process of its own, with the variable and more added to the
// environment.
func RunAgain(t *testing.T, variable string, more ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(append(os.Environ(), variable+"=1"), more...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
