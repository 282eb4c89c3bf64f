// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sslctx"
	"sslctx/internal/tlstest"
	"strings"
	"testing"
	"time"
)

// carryOn runs a renegotiation in a Read, while the peer sends no data.
func carryOn(t *testing.T, c *sslctx.Conn) {
	t.Helper()
	tlstest.Must(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Read returns %v", err)
	}
	tlstest.Must(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
}

// TestRenegotiateOpenSSLServer: s_server requests a renegotiation, and then the client does.
func TestRenegotiateOpenSSLServer(t *testing.T) {
	pair := tlstest.SelfSigned(t)
	cert, key := tlstest.PairFiles(t, pair)
	args := []string{"-cert", cert, "-key", key}
	if sslctx.OpAllowClientRenegotiation != 0 {
		args = append(args, "-client_renegotiation")
	}
	theirs := tlstest.StartOpenSSLServer(t, args...)
	e := tlstest.NewEnds(t, sslctx.VersionTLS12)
	tlstest.Must(t, e.Client.TrustCertificates(pair.Cert))
	raw, err := net.Dial("tcp", theirs.Addr)
	tlstest.Must(t, err)
	c, err := sslctx.Client(raw, e.Client)
	tlstest.Must(t, err)
	tlstest.Must(t, c.AcceptAnyName())
	defer c.Close()
	tlstest.Must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	tlstest.Must(t, c.Handshake())
	in := bufio.NewReader(c)
	for i := range 6 {
		if i%2 == 0 {
			_, err = io.WriteString(theirs.Stdin, "r\n")
		} else {
			err = c.Renegotiate()
		}
		tlstest.Must(t, err)
		carryOn(t, c) // s_server reads a command only on its own
		_, err = c.Write([]byte("to s_server\n"))
		tlstest.Must(t, err)
		_, err = fmt.Fprintf(theirs.Stdin, "line %d\n", i)
		tlstest.Must(t, err)
		if line, err := in.ReadString('\n'); err != nil || line != fmt.Sprintf("line %d\n", i) {
			t.Fatalf("s_server says %q, %v", line, err)
		}
		if n := e.Client.CacheStats().ConnectRenegotiate; n != i+1 {
			t.Errorf("%d renegotiations, want %d", n, i+1)
		}
	}
}

// TestRenegotiateOpenSSLClient: s_client requests a renegotiation, and then the server does.
func TestRenegotiateOpenSSLClient(t *testing.T) {
	e := tlstest.NewRenegotiatingEnds(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	tlstest.Must(t, err)
	defer l.Close()
	cmd := exec.Command("openssl", "s_client", "-connect", l.Addr().String(), "-tls1_2")
	stdin, err := cmd.StdinPipe()
	tlstest.Must(t, err)
	var out bytes.Buffer
	cmd.Stdout = &out
	tlstest.Must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	raw, err := l.Accept()
	tlstest.Must(t, err)
	c, err := sslctx.Server(raw, e.Server)
	tlstest.Must(t, err)
	tlstest.Must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	tlstest.Must(t, c.Handshake())
	in := bufio.NewReader(c)
	for i := range 6 {
		if i%2 == 0 {
			_, err = io.WriteString(stdin, "R\n")
		} else {
			err = c.Renegotiate()
		}
		tlstest.Must(t, err)
		carryOn(t, c)
		_, err = fmt.Fprintf(stdin, "line %d\n", i)
		tlstest.Must(t, err)
		if line, err := in.ReadString('\n'); err != nil || line != fmt.Sprintf("line %d\n", i) {
			t.Fatalf("s_client says %q, %v", line, err)
		}
		_, err = fmt.Fprintf(c, "greeting %d\n", i)
		tlstest.Must(t, err)
		if n := e.Server.CacheStats().AcceptRenegotiate; n < i+1 {
			t.Errorf("%d renegotiations are counted after %d", n, i+1)
		}
	}
	tlstest.Must(t, c.Close())
	_ = cmd.Wait()
	if !strings.Contains(out.String(), "greeting 5") {
		t.Errorf("s_client prints\n%s", &out)
	}
}

// TestRenegotiateCryptoTLS requests many renegotiations of Go's client. (That fails if data arrives
// after its ClientHello; so the test sends none.)
func TestRenegotiateCryptoTLS(t *testing.T) {
	e := tlstest.NewRenegotiatingEnds(t)
	s, c := tlstest.TCPPair(t)
	server, err := sslctx.Server(s, e.Server)
	tlstest.Must(t, err)
	defer server.Close()
	client := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12,
		Renegotiation: tls.RenegotiateFreelyAsClient})
	defer client.Close()
	go func() { _, _ = io.Copy(client, client) }() // it renegotiates in Read
	for i := range 20 {
		tlstest.Echo(t, server)
		tlstest.Must(t, server.Renegotiate())
		carryOn(t, server)
		if n := e.Server.CacheStats().AcceptRenegotiate; n < i+1 {
			t.Errorf("%d renegotiations are counted after %d", n, i+1)
		}
	}
	tlstest.Echo(t, server)

	s, c = tlstest.TCPPair(t) // Go's server refuses
	pair := tlstest.SelfSigned(t)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	tlstest.Must(t, err)
	theirs := tls.Server(s, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12})
	tlstest.Must(t, e.Client.SetVerify(sslctx.VerifyNone))
	ours, err := sslctx.Client(c, e.Client)
	tlstest.Must(t, err)
	tlstest.Must(t, ours.AcceptAnyName())
	defer ours.Close()
	tlstest.Exchange(t, theirs, ours)
	go func() { _, _ = io.Copy(io.Discard, theirs); _ = theirs.Close() }()
	tlstest.Must(t, ours.Renegotiate())
	if _, err := ours.Write([]byte("x")); err == nil {
		t.Error("Go's server renegotiates")
	}
}
