// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sslctx"
)

// twoNames is a client of libssl that asks for one name, and for another in its second ClientHello, or in a renegotiation.
const twoNames = `
#include <openssl/ssl.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
static const char *second; static int hellos;
static void on_msg(int w, int v, int type, const void *b, size_t n, SSL *s, void *a) {
	if (!w && type == 22 && n > 0 && ((const unsigned char *)b)[0] == 2 && hellos++ == 0)
		SSL_set_tlsext_host_name(s, second);
}
int main(int argc, char **argv) {
	SSL_CTX *c = SSL_CTX_new(TLS_client_method());
	int again = argc > 4; // TLS 1.2, and the second name in a renegotiation
	if (again) SSL_CTX_set_max_proto_version(c, TLS1_2_VERSION);
	else SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION);
	SSL_CTX_set1_groups_list(c, "X25519:P-256");
	if (!again) SSL_CTX_set_msg_callback(c, on_msg);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (void *)&a, sizeof a)) return 3;
	SSL *s = SSL_new(c);
	SSL_set_fd(s, fd);
	SSL_set_tlsext_host_name(s, argv[2]); second = argv[3];
	if (SSL_connect(s) != 1) { ERR_print_errors_fp(stderr); return 1; }
	if (again) {
		SSL_set_tlsext_host_name(s, second);
		if (SSL_renegotiate(s) != 1 || SSL_do_handshake(s) != 1) { ERR_print_errors_fp(stderr); return 1; }
	}
	SSL_write(s, "x", 1);
	char b; SSL_read(s, &b, 1);
	fprintf(stderr, "client: connected\n");
	return 0;
}`

func buildTwoNames(t *testing.T) string {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "c.c"), []byte(twoNames), 0o600))
	out, err := exec.Command("gcc", "-o", filepath.Join(dir, "c"), filepath.Join(dir, "c.c"), "-lssl", "-lcrypto").CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return filepath.Join(dir, "c")
}

// chooses is a server whose hook chooses by the name: admin.example asks for a certificate, others do not.
func chooses(t *testing.T, v sslctx.Version) (public *sslctx.Context) {
	t.Helper()
	public, admin := newEnds(t, v).server, newEnds(t, v).server
	must(t, admin.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
	must(t, admin.SetIDContext([]byte("admin")))
	must(t, public.SetClientHelloCallback(func(_ context.Context, h *tls.ClientHelloInfo) (*sslctx.Context, error) {
		if h.ServerName == "admin.example" {
			return admin, nil
		}
		return nil, nil
	}))
	return public
}

// serveTwoNames runs the client, a program, with its names, and calls serve with a server's end. It returns the name that the server is
// asked for in the end, and serve's error.
func serveTwoNames(t *testing.T, client string, c *sslctx.Context, serve func(*sslctx.Conn) error, names ...string) (name string, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	cmd := exec.Command(client, append([]string{port}, names...)...)
	must(t, cmd.Start())
	defer func() { _ = cmd.Wait() }()
	raw, err := l.Accept()
	must(t, err)
	s, err := sslctx.Server(raw, c)
	must(t, err)
	defer s.Close()
	err = serve(s)
	return s.ConnectionState().ServerName, err
}

// TestSecondHelloKeepsName: a hook chooses by the name of the first ClientHello. A second one, after a request to try again,
// cannot ask for another.
func TestSecondHelloKeepsName(t *testing.T) {
	public := chooses(t, sslctx.VersionTLS13)
	must(t, public.SetGroups("P-256")) // for which the client's first hello has no key
	client := buildTwoNames(t)
	run := func(first, second string) (name string, err error) {
		return serveTwoNames(t, client, public, func(s *sslctx.Conn) error {
			_, err := s.Write([]byte("y"))
			return err
		}, first, second)
	}
	if _, err := run("admin.example", "admin.example"); err == nil {
		t.Error("a client without a certificate is at admin.example")
	}
	if name, err := run("public.example", "admin.example"); err == nil {
		t.Errorf("a client that was at public.example is at %s", name)
	}
	if name, err := run("public.example", "public.example"); err != nil || name != "public.example" {
		t.Errorf("a client that keeps its name has %v, at %q", err, name)
	}
}

// TestRenegotiationKeepsName: nor can that of a renegotiation.
func TestRenegotiationKeepsName(t *testing.T) {
	public := chooses(t, sslctx.VersionTLS12)
	_, err := public.SetOptions(sslctx.OpAllowClientRenegotiation)
	must(t, err)
	name, err := serveTwoNames(t, buildTwoNames(t), public, func(s *sslctx.Conn) error {
		_, err := s.Read(make([]byte, 1))
		return err
	}, "public.example", "admin.example", "again")
	if err == nil && name == "admin.example" {
		t.Error("a client without a certificate is at admin.example")
	}
}
