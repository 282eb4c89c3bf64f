// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
)

const usage = `Usage: demo [-tls 1.2|1.3] [-serve ADDRESS | -check ADDRESS]

Plays the man page of SSL_CTX_add_session and SSL_CTX_remove_session, once with TLS 1.2 session IDs
and once with TLS 1.3 stateful tickets. A server and a client connect over loopback sockets, and
only what is added to the server's cache by hand can be resumed.

Each row is one step: libssl's return value, the counters of the server's cache after it, and how
the client's handshake went. It is marked ok if all of that, but for the time, is as expected. The
exit status is 0 only if every row is ok. Colours are for terminals, unless NO_COLOR is set.

With -serve it is a server instead, until SIGINT or SIGTERM, that caches sessions as libssl does by
itself and answers each connection with one line. Its certificate is self-signed, made at the start
and good for a day; the key stays in memory. With -check it is the client of such a server, connects
twice, and the exit status is 0 only if the second handshake resumed the session of the first one.

`

// options has the values of the arguments.
type options struct {
	protocols    []protocol // in ascending order
	serve, check string     // addresses
}

func parseArgs(args []string, stderr io.Writer) (options, error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	o := options{protocols: protocols}
	flags.Func("tls", "only this `version`: 1.2 or 1.3", func(number string) (err error) {
		o.protocols, err = only(number)
		return err
	})
	flags.StringVar(&o.serve, "serve", "", "be a server on this `address`, such as 127.0.0.1:8443 or :8443")
	flags.StringVar(&o.check, "check", "", "check the server on this `address`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if err := o.refuse(flags.Args()); err != nil {
		fmt.Fprintln(stderr, err)
		flags.Usage()
		return o, err
	}
	return o, nil
}

// only returns the protocol with a number.
func only(number string) ([]protocol, error) {
	i := slices.IndexFunc(protocols, func(p protocol) bool { return p.number == number })
	if i < 0 {
		return nil, errors.New("want 1.2 or 1.3")
	}
	return protocols[i : i+1], nil
}

// refuse returns an error for well-formed options that do not fit together, and for further
// arguments. rest has the arguments after the flags.
func (o options) refuse(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.serve != "" && o.check != "":
		return errors.New("-serve and -check are two programs")
	}
	return nil
}
