// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const oracleSource = "oracle/oracle.c"

// buildOracle compiles the oracle once, with the flags of pkg-config and no code of the binding.
var buildOracle = sync.OnceValues(func() (string, error) {
	if _, err := os.Stat(oracleSource); err != nil { // so the test cache sees a change of the source
		return "", err
	}
	dir, err := os.MkdirTemp("", "sslctx-oracle")
	if err != nil {
		return "", err
	}
	flags, err := exec.Command("pkg-config", "--cflags", "--libs", "libssl", "libcrypto").Output()
	if err != nil {
		return "", fmt.Errorf("pkg-config: %w", err)
	}
	cc, err := exec.Command("go", "env", "CC").Output() // the compiler of the binding
	if err != nil {
		return "", fmt.Errorf("go env CC: %w", err)
	}
	bin := filepath.Join(dir, "oracle")
	args := append(strings.Fields(string(cc)), "-std=c11", "-pthread", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-o", bin, oracleSource)
	args = append(args, strings.Fields(string(flags))...)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%q: %w\n%s", args, err, out)
	}
	return bin, nil
})

// oracle is a running oracle.
type oracle struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
	release string        // of libssl, as "3.0.19"
	version uint64        // OPENSSL_VERSION_NUMBER of its headers
	longest time.Duration // the most time that endure gives an operation
	ended   string        // how the process ended in the middle of an operation, "" if it did not
}

// startOracle starts the program. If wrapper names another program and its arguments, that one runs
// it.
func startOracle(t testing.TB, wrapper ...string) *oracle {
	t.Helper()
	bin, err := buildOracle()
	if err != nil {
		t.Fatalf("building the oracle: %v", err)
	}
	args := append(wrapper, bin)
	o := &oracle{cmd: exec.Command(args[0], args[1:]...), longest: longest}
	if len(wrapper) > 0 {
		o.longest = longestByValgrind
	}
	if o.in, err = o.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := o.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	o.cmd.Stderr = os.Stderr
	// A libssl with the sanitizer ends where another continues with wrong memory. It ends by a
	// signal, unlike an oracle that gives up.
	o.cmd.Env = append(os.Environ(), "ASAN_OPTIONS=abort_on_error=1:"+os.Getenv("ASAN_OPTIONS"))
	o.out = bufio.NewScanner(stdout)
	o.out.Buffer(nil, 16<<20)
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = o.in.Close()
		if err := o.cmd.Wait(); err != nil && o.ended == "" {
			t.Errorf("the oracle ended with %v", err)
		}
	})
	o.banner(t)
	return o
}

func (o *oracle) banner(t testing.TB) {
	t.Helper()
	banner, err := o.lines()
	if err != nil || len(banner) != 1 {
		t.Fatalf("banner of the oracle: %q, %v", banner, err)
	}
	words := strings.Fields(banner[0]) // "oracle OpenSSL 3.0.19 27 Jan 2026 0x300000d0"
	if len(words) < 4 {
		t.Fatalf("banner of the oracle: %q", banner)
	}
	o.release = words[2]
	if o.version, err = strconv.ParseUint(words[len(words)-1], 0, 64); err != nil {
		t.Fatalf("banner of the oracle: %q", banner)
	}
}

// lines reads the oracle's answer up to the line that ends it.
func (o *oracle) lines() ([]string, error) {
	var lines []string
	for o.out.Scan() {
		if o.out.Text() == "." {
			return lines, nil
		}
		lines = append(lines, o.out.Text())
	}
	if err := o.out.Err(); err != nil {
		return lines, err
	}
	return lines, fmt.Errorf("the oracle ended in the middle of %q", lines)
}

// The most time that an operation may take. The longest takes two seconds, most almost none. Some
// operations hang, so the limit must be short. Under valgrind everything is slow, and no hanging
// operation runs.
const (
	longest           = 6 * time.Second
	longestByValgrind = time.Minute
)

// kill ends the process, if it has not ended.
func (o *oracle) kill() {
	if o.ended == "" {
		o.ended = "was killed"
		_ = o.cmd.Process.Kill()
	}
}

// endure runs an operation that libssl may not survive. If the process ends, the result is "hangs"
// or "dies", and the result of all later operations is "-".
func (o *oracle) endure(op string) (observation, error) {
	if o.ended != "" {
		return observation{result: "-"}, nil
	}
	hangs := make(chan struct{})
	watchdog := time.AfterFunc(o.longest, func() {
		close(hangs)
		_ = o.cmd.Process.Kill()
	})
	seen, err := o.do(op)
	if err == nil && watchdog.Stop() {
		return seen, nil
	}
	_ = o.cmd.Wait()
	select {
	case <-hangs:
		o.ended = "hangs"
	default:
		status, ok := o.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !ok || !status.Signaled() {
			return observation{}, err
		}
		o.ended = "dies"
	}
	return observation{result: o.ended}, nil
}

// do runs an operation.
func (o *oracle) do(op string) (observation, error) {
	if _, err := io.WriteString(o.in, op+"\n"); err != nil {
		return observation{}, err
	}
	lines, err := o.lines()
	if err != nil {
		return observation{}, err
	}
	if len(lines) < 2 || lines[0] != "> "+op || !strings.HasPrefix(lines[1], "= ") {
		return observation{}, fmt.Errorf("the oracle answers %q to %q", lines, op)
	}
	return observation{result: lines[1][len("= "):], state: lines[2:]}, nil
}

// TestWhatIf: the oracle detects harm before libssl crashes, and continues itself.
func TestWhatIf(t *testing.T) {
	o := startOracle(t)
	do := func(op string) string {
		t.Helper()
		seen, err := o.do(op)
		must(t, err)
		return seen.result
	}
	for _, op := range []string{"ctx c0 tls", "ctx c1 tls", "session s0", "id s0 01", "session s1", "id s1 02", "version s1 0x0303", "add c0 s0"} {
		do(op)
	}
	for op, want := range map[string]string{
		"add c1 s0": "in two caches", "add c0 s0": "well", "id s0 02": "not found by its key", "add c0 s1": "cached without a cipher",
		"remove c0 s0": "well", "ctxfree c0": "well", "id s1 03": "well",
	} {
		if got := do("whatif " + op); got != want {
			t.Errorf("%s comes to %q, want %q", op, got, want)
		}
	}
	if got := do("holds c0 s0") + do("holds c1 s0") + do("sound"); got != "10ok" {
		t.Errorf("the oracle itself has changed: %s", got)
	}
	do("remove c0 s0")
	if got := do("whatif add c1 s0"); got != "well" {
		t.Errorf("what was removed is added elsewhere: %q", got)
	}
}
