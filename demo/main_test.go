// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"sslctx"
	"sslctx/internal/ossltest"
)

const columns = 100

func TestEveryRowIsAsExpected(t *testing.T) {
	rows := len(scenario(rulesOf(ossltest.LinkedVersion())))
	for _, test := range []struct {
		name   string
		args   []string
		tables int
	}{
		{"both", nil, 2},
		{"TLS 1.2", []string{"-tls", "1.2"}, 1},
		{"TLS 1.3", []string{"-tls", "1.3"}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if status := run(test.args, &stdout, &stderr); status != 0 || stderr.Len() > 0 {
				t.Errorf("the exit status is %d, stderr is %q", status, &stderr)
			}
			out := stdout.String()
			if got := strings.Count(out, "  ok\n"); got != rows*test.tables {
				t.Errorf("%d rows are ok, want %d", got, rows*test.tables)
			}
			end := fmt.Sprintf("\n%d rows, all as expected\n", rows*test.tables)
			if !strings.HasSuffix(out, end) {
				t.Errorf("the output does not end in %q", end)
			}
			linked, _ := sslctx.LibraryVersions()
			if got := strings.Count(out, linked.Text+", TLS 1."); got != test.tables {
				t.Errorf("%d headers name library and protocol, want %d", got, test.tables)
			}
			checkText(t, out)
			if t.Failed() {
				t.Log("\n" + out)
			}
		})
	}
}

// checkText checks what holds for all output that does not go to a terminal.
func checkText(t *testing.T, out string) {
	t.Helper()
	if strings.Contains(out, "\x1b") {
		t.Error("there are colour codes")
	}
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > columns {
			t.Errorf("a line is %d columns wide: %q", n, line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("a line ends in blanks: %q", line)
		}
	}
}

func TestWrongExpectationFails(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*values)
		line  string
	}{
		"ret":     {func(v *values) { v.ret = 0 }, "ret: expected 0, got 1"},
		"cached":  {func(v *values) { v.cached = 7 }, "cached: expected 7, got 1"},
		"hits":    {func(v *values) { v.hits = 7 }, "hits: expected 7, got 0"},
		"misses":  {func(v *values) { v.misses = 7 }, "misses: expected 7, got 0"},
		"evicted": {func(v *values) { v.evicted = 7 }, "evicted: expected 7, got 0"},
		"reused":  {func(v *values) { v.reused = yes }, "reused: expected yes, got -"},
	} {
		t.Run(name, func(t *testing.T) {
			r := rulesOf(ossltest.LinkedVersion())
			rows := scenario(r)[:3]
			test.spoil(&rows[1].want)
			var stdout, stderr bytes.Buffer
			if status := show(protocols, r, rows, &stdout, &stderr); status != 1 {
				t.Errorf("the exit status is %d, want 1", status)
			}
			out := stdout.String()
			if got := strings.Count(out, "  FAIL\n    "+test.line+"\n"); got != len(protocols) {
				t.Errorf("%q stands below %d rows, want %d", test.line, got, len(protocols))
			}
			if end := "\n6 rows, 2 not as expected\n"; !strings.HasSuffix(out, end) {
				t.Errorf("the output does not end in %q", end)
			}
			checkText(t, out)
			if t.Failed() {
				t.Log("\n" + out)
			}
		})
	}
}

// Rows that cannot be played are failures too.
func TestErrorFails(t *testing.T) {
	var stdout, stderr bytes.Buffer
	rows := []row{{addSession("no such session"), values{}}}
	if status := show(protocols, rules{}, rows, &stdout, &stderr); status != 1 {
		t.Errorf("the exit status is %d, want 1", status)
	}
	if !strings.Contains(stderr.String(), "SSL_CTX_add_session(ctx, no such session): ") {
		t.Errorf("stderr is %q", &stderr)
	}
}

// An untrusted server fails the connection at both ends, and the run ends.
func TestClientVerifies(t *testing.T) {
	for _, p := range protocols {
		s, err := newStage(p.version)
		if err != nil {
			t.Fatal(err)
		}
		other, err := newStage(p.version)
		if err != nil {
			t.Fatal(err)
		}
		s.client, other.client = other.client, s.client
		if _, err := s.connect("", ""); err == nil ||
			!strings.Contains(err.Error(), "certificate verify failed") {
			t.Errorf("%s: the error is %v", p.number, err)
		}
		s.close()
		other.close()
	}
}

func TestNothingOutlivesTheRun(t *testing.T) {
	objects := map[string]func() int{
		"SSL_SESSION": ossltest.LiveSessions,
		"SSL_CTX":     ossltest.LiveContexts,
		"SSL":         ossltest.LiveSSLs,
	}
	before := make(map[string]int)
	for name, count := range objects {
		before[name] = count()
	}
	goroutines := runtime.NumGoroutine()
	var stdout, stderr bytes.Buffer
	if status := run(nil, &stdout, &stderr); status != 0 {
		t.Errorf("the exit status is %d:\n%s%s", status, &stdout, &stderr)
	}
	for name, count := range objects {
		if got := ossltest.CollectUntil(count, before[name]); got != before[name] {
			t.Errorf("%s: there are %d, there were %d", name, got, before[name])
		}
	}
	// There may be fewer: one of the test before this one may have been about to end.
	more := func() int { return max(0, runtime.NumGoroutine()-goroutines) }
	if got := ossltest.CollectUntil(more, 0); got > 0 {
		t.Errorf("there are %d more goroutines", got)
	}
}

func TestArguments(t *testing.T) {
	for _, test := range []struct {
		args   string
		status int
	}{
		{"-h", 0},
		{"-tls 1.1", 2},
		{"-tls", 2},
		{"-x", 2},
		{"1.2", 2},
		{"-serve", 2},
		{"-serve 127.0.0.1:0 -check 127.0.0.1:0", 2},
		{"-check 127.0.0.1:0 x", 2},
	} {
		var stdout, stderr bytes.Buffer
		if status := run(strings.Fields(test.args), &stdout, &stderr); status != test.status {
			t.Errorf("%s: the exit status is %d, want %d", test.args, status, test.status)
		}
		if stdout.Len() > 0 || strings.Count(stderr.String(), "Usage: demo ") != 1 {
			t.Errorf("%s: stdout is %q, stderr is %q", test.args, &stdout, &stderr)
		}
		checkText(t, stderr.String())
	}
}

func TestColour(t *testing.T) {
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a character device, as terminals are
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	t.Setenv("NO_COLOR", "")
	if !wantsColour(device) || wantsColour(file) || wantsColour(new(bytes.Buffer)) {
		t.Error("colours are not for terminals alone")
	}
	t.Setenv("NO_COLOR", "1")
	if wantsColour(device) {
		t.Error("NO_COLOR is not respected")
	}

	var out bytes.Buffer
	table := &table{w: &out, colour: true}
	table.row("good", values{}, values{}, 0)
	table.row("bad", values{}, values{cached: 1}, 0)
	for _, want := range []string{green + "ok" + plain, red + "FAIL" + plain} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in %q", want, &out)
		}
	}
}

// The expectations are of a version: those of another one are not met.
func TestOtherVersionFails(t *testing.T) {
	other := uint64(0x1010117f)
	if ossltest.LinkedVersion() < 0x30000000 {
		other = 0x30000000
	}
	r := rulesOf(other)
	var stdout, stderr bytes.Buffer
	if status := show(protocols, r, scenario(r), &stdout, &stderr); status != 1 || stderr.Len() > 0 {
		t.Errorf("the exit status is %d, want 1:\n%s%s", status, &stdout, &stderr)
	}
}
