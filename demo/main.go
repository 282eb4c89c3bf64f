// SPDX-License-Identifier: Apache-2.0

// Demo plays the man page of SSL_CTX_add_session and SSL_CTX_remove_session with a server and a client
// that connect over loopback sockets, and checks every number that it shows.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	"sslctx"
)

const usage = `Usage: demo [-tls 1.2|1.3]

Plays the man page of SSL_CTX_add_session and SSL_CTX_remove_session, once with TLS 1.2 session IDs
and once with TLS 1.3 stateful tickets. A server and a client connect over loopback sockets, and
only what is added to the server's cache by hand can be resumed.

Each row is one step: libssl's return value, the counters of the server's cache after it, and how
the client's handshake went. It is marked ok if all of that, but for the time, is as expected. The
exit status is 0 only if every row is ok. Colours are for terminals, unless NO_COLOR is set.

`

// A protocol is one way of resuming that needs the server's cache.
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
	chosen, err := parseArgs(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	rules := rulesOf(sslctx.LibraryVersionNumber())
	return show(chosen, rules, scenario(rules), stdout, stderr)
}

// show plays the rows with each of the protocols and returns the exit status.
func show(chosen []protocol, r rules, rows []row, stdout, stderr io.Writer) int {
	t := &table{w: stdout, colour: wantsColour(stdout)}
	for _, p := range chosen {
		t.head(sslctx.LibraryVersion()+", "+p.title, p.about, r.about)
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

func parseArgs(args []string, stderr io.Writer) ([]protocol, error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	chosen := protocols
	flags.Func("tls", "play only this `version`: 1.2 or 1.3", func(number string) error {
		chosen = slices.DeleteFunc(slices.Clone(protocols), func(p protocol) bool { return p.number != number })
		if len(chosen) == 0 {
			return errors.New("want 1.2 or 1.3")
		}
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "unexpected argument %q\n", flags.Arg(0))
		flags.Usage()
		return nil, errors.New("unexpected argument")
	}
	return chosen, nil
}

// wantsColour reports whether w is a terminal whose user has nothing against colours (no-color.org).
func wantsColour(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
