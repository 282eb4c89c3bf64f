// SPDX-License-Identifier: Apache-2.0

package clientcache_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"sslctx"
	"sslctx/internal/tlstest"
)

// resumesAgain makes connections one after the other, and returns how many resume. talk uses one.
func resumesAgain(t *testing.T, d *sslctx.Dialer, addr string, connections int, talk func(c net.Conn) error) (resumed int) {
	t.Helper()
	for range connections {
		c, err := d.Dial("tcp", addr)
		must(t, err)
		must(t, talk(c))
		if c.(*sslctx.Conn).SessionReused() {
			resumed++
		}
		must(t, c.Close())
	}
	return resumed
}

// TestCryptoTLSServer: connections to crypto/tls resume. It sends one ticket, and in TLS 1.3 before the
// client has sent anything.
func TestCryptoTLSServer(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		pair := tlstest.SelfSigned(t)
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificateOf(t, pair)}, MaxVersion: uint16(v)})
		must(t, err)
		var running sync.WaitGroup
		running.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				running.Go(func() {
					defer c.Close()
					_, _ = io.Copy(c, c)
				})
			}
		})
		defer func() { _ = l.Close(); running.Wait() }()
		client := tlstest.NewContext(t, sslctx.TLSClientMethod)
		must(t, client.TrustCertificates(pair.Cert))
		d := &sslctx.Dialer{Context: client, ServerName: "localhost", SessionCache: newCache(t, sslctx.ClientSessionCacheConfig{})}
		if n := resumesAgain(t, d, l.Addr().String(), 100, use); n != 99 {
			t.Errorf("%d of 100 connections resume", n)
		}
	})
}

// TestOpenSSLServer: connections to s_server resume. Its tickets come before its answer, so a client that
// has read the answer has them.
func TestOpenSSLServer(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip(err)
	}
	pair := tlstest.SelfSigned(t)
	cert, key := tlstest.PairFiles(t, pair)
	for _, args := range []string{"-tls1_2", "-tls1_2 -no_ticket", "-tls1_3", "-tls1_3 -no_ticket", "-tls1_3 -num_tickets 1"} {
		addr := tlstest.StartOpenSSLServer(t, append([]string{"-cert", cert, "-key", key, "-rev"}, strings.Fields(args)...)...).Addr
		client := tlstest.NewContext(t, sslctx.TLSClientMethod)
		must(t, client.TrustCertificates(pair.Cert))
		d := &sslctx.Dialer{Context: client, ServerName: "localhost", SessionCache: newCache(t, sslctx.ClientSessionCacheConfig{})}
		n := resumesAgain(t, d, addr, 20, func(c net.Conn) error {
			if _, err := fmt.Fprintln(c, "abc"); err != nil {
				return err
			}
			line, err := bufio.NewReader(c).ReadString('\n')
			if err == nil && line != "cba\n" {
				err = fmt.Errorf("s_server says %q", line)
			}
			return err
		})
		if n != 19 {
			t.Errorf("%s: %d of 20 connections resume", args, n)
		}
	}
}
