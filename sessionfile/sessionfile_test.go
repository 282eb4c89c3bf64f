// SPDX-License-Identifier: Apache-2.0

package sessionfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sslctx/sessionfile"
)

func newFile(t testing.TB, path string, o sessionfile.Options) *sessionfile.File {
	t.Helper()
	f, err := sessionfile.New(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func put(t testing.TB, f *sessionfile.File, key, value string) {
	t.Helper()
	if err := f.Update(t.Context(), key, func([]byte) []byte { return []byte(value) }); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, f *sessionfile.File, key string) (value string) {
	t.Helper()
	if err := f.Update(t.Context(), key, func(old []byte) []byte { value = string(old); return old }); err != nil {
		t.Fatal(err)
	}
	return value
}

var keys = map[string][]byte{"plain": nil, "sealed": bytes.Repeat([]byte{7}, 32)}

// TestKeeps: another File of the same path has what was put, and a removed value is gone.
func TestKeeps(t *testing.T) {
	for name, key := range keys {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sessions")
			f := newFile(t, path, sessionfile.Options{Key: key})
			put(t, f, "a", "one")
			put(t, f, "b", "two")
			other := newFile(t, path, sessionfile.Options{Key: key})
			if a, b, c := get(t, other, "a"), get(t, other, "b"), get(t, other, "c"); a != "one" || b != "two" || c != "" {
				t.Errorf("%q, %q, %q", a, b, c)
			}
			put(t, other, "a", "")
			if a, b := get(t, f, "a"), get(t, f, "b"); a != "" || b != "two" {
				t.Errorf("after the removal: %q, %q", a, b)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode() != 0o600 {
				t.Errorf("the mode is %v, %v", info.Mode(), err)
			}
			data, err := os.ReadFile(path)
			if hidden := !bytes.Contains(data, []byte("two")); err != nil || hidden != (key != nil) {
				t.Errorf("the value is hidden: %v, %v", hidden, err)
			}
		})
	}
}

// TestTornFile: a file that ends early, has one changed byte or another's key is one without sessions, and
// the next change replaces it. A changed byte of a plain file may be one of the value.
func TestTornFile(t *testing.T) {
	for name, key := range keys {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sessions")
			f := newFile(t, path, sessionfile.Options{Key: key})
			put(t, f, "a", "one")
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			try := func(what string, data []byte, ok func(value string) bool) {
				t.Helper()
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				if got := get(t, f, "a"); !ok(got) {
					t.Errorf("%s: the value is %q", what, got)
				}
				put(t, f, "a", "new")
				if got := get(t, f, "a"); got != "new" {
					t.Errorf("%s: the new value is %q", what, got)
				}
			}
			isNone := func(value string) bool { return value == "" }
			for n := range whole {
				try(fmt.Sprint(n, " bytes"), whole[:n], isNone)
				changed := bytes.Clone(whole)
				changed[n] ^= 1
				try(fmt.Sprint("byte ", n), changed, func(value string) bool { return value == "" || key == nil })
			}
			try("a byte more", append(bytes.Clone(whole), 0), isNone)
			try("random", bytes.Repeat([]byte{0x30, 0x84}, 4000), isNone)
			try("too long", append(bytes.Clone(whole), make([]byte, 3<<20)...), isNone)
		})
	}
	path := filepath.Join(t.TempDir(), "sessions")
	put(t, newFile(t, path, sessionfile.Options{Key: keys["sealed"]}), "a", "one")
	for _, key := range [][]byte{nil, bytes.Repeat([]byte{8}, 32)} {
		if got := get(t, newFile(t, path, sessionfile.Options{Key: key}), "a"); got != "" {
			t.Errorf("with another key: %q", got)
		}
	}
}

// TestLimit: the file does not grow above its limit, and the values that were changed last stay.
func TestLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sessions")
	f := newFile(t, path, sessionfile.Options{MaxBytes: 3000})
	for i := range 9 {
		put(t, f, fmt.Sprint(i), strings.Repeat(fmt.Sprint(i), 900))
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > 3100 {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	for i := range 9 {
		if has := get(t, f, fmt.Sprint(i)) != ""; has != (i >= 6) {
			t.Errorf("value %d is there: %v", i, has)
		}
	}
}

// TestUsed: a value that is used and not changed stays longer than one that nobody uses. A value that cannot
// fit drops no other.
func TestUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t, filepath.Join(t.TempDir(), "sessions"), sessionfile.Options{MaxBytes: 3000})
		put(t, f, "busy", strings.Repeat("b", 900))
		for i := range 5 {
			time.Sleep(2 * time.Minute)
			if get(t, f, "busy") == "" {
				t.Errorf("after %d others, the value in use is dropped", i)
			}
			put(t, f, fmt.Sprint(i), strings.Repeat("x", 900))
		}
		put(t, f, "big", strings.Repeat("x", 3000))
		if get(t, f, "busy") == "" || get(t, f, "4") == "" || get(t, f, "big") != "" {
			t.Error("a value that cannot fit has dropped another")
		}
	})
}

// TestRefuses: options and files that are refused.
func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sessions")
	for _, o := range []sessionfile.Options{{Key: make([]byte, 31)}, {Key: []byte{}}, {MaxBytes: -1}} {
		if _, err := sessionfile.New(path, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	f := newFile(t, path, sessionfile.Options{})
	put(t, f, "a", "one")
	refused := func(what, text string) {
		t.Helper()
		_, err := sessionfile.New(path, sessionfile.Options{})
		later := f.Update(t.Context(), "a", func([]byte) []byte { t.Error(what + ": change runs"); return nil })
		if err == nil || later == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, %v", what, err, later)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		refused(fmt.Sprint(mode), "make it 0600")
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 12345, 0); err != nil {
			t.Fatal(err)
		}
		refused("another's", "belongs to the user 12345")
	}
	target := filepath.Join(dir, "target")
	if err := errors.Join(os.Rename(path, target), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
	refused("a symbolic link", "symbolic")
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	refused("a folder", "is no file")
	if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	refused("a FIFO", "is no file")
	if err := errors.Join(os.Remove(path), os.Remove(path+".lock"), syscall.Mkfifo(path+".lock", 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := f.Update(t.Context(), "a", func([]byte) []byte { return nil }); err == nil || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("a FIFO as lock: %v", err)
	}
	if err := newFile(t, filepath.Join(dir, "none", "sessions"), sessionfile.Options{}).Update(t.Context(), "a", func([]byte) []byte { return nil }); err == nil {
		t.Error("a folder that does not exist is accepted")
	}
}

// TestWaitsForLock: an Update waits for another one, and no longer than its context.
func TestWaitsForLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sessions")
	f, other := newFile(t, path, sessionfile.Options{}), newFile(t, path, sessionfile.Options{})
	inside, leave := make(chan bool), make(chan bool)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Update(t.Context(), "a", func([]byte) []byte { close(inside); <-leave; return []byte("one") }); err != nil {
			t.Error(err)
		}
	})
	<-inside
	ctx, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer end()
	err := other.Update(ctx, "a", func([]byte) []byte { t.Error("both are inside"); return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Update returns %v", err)
	}
	close(leave)
	wg.Wait()
	if got := get(t, other, "a"); got != "one" {
		t.Errorf("the value is %q", got)
	}
}

// TestKilled: processes add and take numbers, and are killed at any moment. No number is taken twice, and
// the file is always one.
func TestKilled(t *testing.T) {
	if path := os.Getenv("SESSIONFILE_PATH"); path != "" {
		takeAndAdd(t, path)
		return
	}
	for name, key := range keys {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sessions")
			var numbers []string
			for n := range 2000 {
				numbers = append(numbers, strconv.Itoa(n))
			}
			put(t, newFile(t, path, sessionfile.Options{Key: key}), "numbers", strings.Join(numbers, " "))
			var mu sync.Mutex
			taken := map[string]int{}
			var wg sync.WaitGroup
			for worker := range 2 {
				wg.Go(func() {
					for round := range 12 {
						c := exec.Command(os.Args[0], "-test.run=^TestKilled$")
						c.Env = append(os.Environ(), "SESSIONFILE_PATH="+path, "SESSIONFILE_KEY="+string(key))
						var out bytes.Buffer
						c.Stdout = &out
						if err := c.Start(); err != nil {
							t.Error(err)
							return
						}
						time.Sleep(time.Duration(30+7*round+3*worker) * time.Millisecond)
						_ = c.Process.Signal(syscall.SIGKILL)
						_ = c.Wait()
						mu.Lock()
						for line := range strings.Lines(out.String()) {
							if n, ok := strings.CutPrefix(line, "taken "); ok && strings.HasSuffix(n, "\n") {
								taken[n]++
							}
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			for n, times := range taken {
				if times > 1 {
					t.Errorf("number %s is taken %d times", strings.TrimSpace(n), times)
				}
			}
			left := strings.Fields(get(t, newFile(t, path, sessionfile.Options{Key: key}), "numbers"))
			for _, n := range left {
				if taken[n+"\n"] > 0 {
					t.Errorf("number %s is taken and still there", n)
				}
			}
			if len(taken) < 10 || len(left) == 0 || len(left)+len(taken) < len(numbers)-24 {
				t.Errorf("%d numbers are taken, and %d are left", len(taken), len(left))
			}
		})
	}
}

// takeAndAdd takes numbers until the process is killed.
func takeAndAdd(t *testing.T, path string) {
	var key []byte
	if k := os.Getenv("SESSIONFILE_KEY"); k != "" {
		key = []byte(k)
	}
	f := newFile(t, path, sessionfile.Options{Key: key})
	for {
		var first string
		if err := f.Update(t.Context(), "numbers", func(old []byte) []byte {
			rest := ""
			first, rest, _ = strings.Cut(string(old), " ")
			return []byte(rest)
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Println("taken", first); err != nil || first == "" {
			return
		}
	}
}
