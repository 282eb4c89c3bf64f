// SPDX-License-Identifier: Apache-2.0

// Demo plays the man page of SSL_CTX_add_session and SSL_CTX_remove_session. A server and a client
// connect over loopback sockets, and the program checks every number that it shows. With -serve it
// is a server that continues to run. With -check it is a client that checks whether that server
// resumes sessions.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"sslctx"
)

// A protocol is one way of resumption that needs the server's cache.
type protocol struct {
	number  string // as in the flag
	version sslctx.Version
	title   string
	about   string
}

var protocols = []protocol{{
	number:  "1.2",
	version: sslctx.VersionTLS12,
	title:   "TLS 1.2 session IDs",
	about: `The server stores no session by itself (SSL_SESS_CACHE_NO_INTERNAL_STORE): a client resumes only
what was added by hand. s1 and c1 are the server's and the client's session of one full handshake.`,
}, {
	number:  "1.3",
	version: sslctx.VersionTLS13,
	title:   "TLS 1.3 stateful tickets",
	about: `The same with TLS 1.3: a ticket holds only the ID of a session that must be in the server's cache.
s1 and c1 are the server's and the client's session of the last ticket of one full handshake.`,
}}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	o, err := parseArgs(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case o.serve != "":
		return runServe(o, stdout, stderr)
	case o.check != "":
		return runCheck(o, stdout, stderr)
	}
	linked, _ := sslctx.LibraryVersions()
	rules := rulesOf(linked.Number)
	return show(o.protocols, rules, scenario(rules), stdout, stderr)
}

func runServe(o options, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, o.serve, o.protocols, stdout); err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	return 0
}

func runCheck(o options, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(context.Background(), checkPatience)
	defer cancel()
	sentence, err := check(ctx, o.check, o.protocols)
	if err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	fmt.Fprintln(stdout, sentence)
	return 0
}

// show plays the rows with each protocol, and returns the exit status.
func show(chosen []protocol, r rules, rows []row, stdout, stderr io.Writer) int {
	t := &table{w: stdout, colour: wantsColour(stdout)}
	for _, p := range chosen {
		linked, _ := sslctx.LibraryVersions()
		t.head(linked.Text+", "+p.title, p.about, r.about)
		if err := play(p.version, rows, t); err != nil {
			fmt.Fprintln(stderr, "demo:", err)
			return 1
		}
	}
	if !t.sum() {
		return 1
	}
	return 0
}

// titles names the protocols in one phrase.
func titles(chosen []protocol) string {
	var all []string
	for _, p := range chosen {
		all = append(all, p.title)
	}
	return strings.Join(all, " and ")
}

// wantsColour reports whether w is a terminal whose user allows colours (no-color.org).
func wantsColour(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
