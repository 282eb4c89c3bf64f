// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sslctx"
	"sslctx/internal/testcert"
)

// A place is a folder with the files that the programs need: certificates, sessions, configurations
// of libssl, a Redis.
type place struct {
	dir       string
	programs  string
	redis     *exec.Cmd
	redisPort string
}

// Every libssl in the run has the same groups and ciphers, and so has crypto/tls.
const openSSLConf = `openssl_conf = init
[init]
ssl_conf = ssl
[ssl]
system_default = default
[default]
MinProtocol = TLSv%[1]s
MaxProtocol = TLSv%[1]s
Groups = X25519:P-256
Ciphersuites = TLS_AES_128_GCM_SHA256
CipherString = ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256
`

func newPlace(programs string) (*place, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	p := &place{dir: dir, programs: programs}
	if err := p.fill(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *place) fill() error {
	for key, makePair := range map[string]func() (testcert.Pair, error){"ecdsa": testcert.New, "rsa": testcert.NewRSA} {
		pair, err := makePair()
		if err != nil {
			return err
		}
		if err := p.write(key+".pem", append(pair.Cert, pair.Key...)); err != nil {
			return err
		}
	}
	for _, version := range []string{"1.2", "1.3"} {
		if err := p.write("openssl-"+version+".cnf", fmt.Appendf(nil, openSSLConf, version)); err != nil {
			return err
		}
	}
	if err := p.writeSessions(); err != nil {
		return err
	}
	return p.startRedis()
}

func (p *place) write(name string, data []byte) error {
	return os.WriteFile(filepath.Join(p.dir, name), data, 0o600)
}

// writeSessions writes both ends' sessions of a connection with TLS 1.2.
func (p *place) writeSessions() error {
	pem, err := os.ReadFile(filepath.Join(p.dir, "ecdsa.pem"))
	if err != nil {
		return err
	}
	ctx, err := sslctx.NewContext(sslctx.TLSMethod)
	if err != nil {
		return err
	}
	if err := ctx.UseKeyPair(pem, pem); err != nil {
		return err
	}
	if err := ctx.SetMaxProtoVersion(sslctx.VersionTLS12); err != nil {
		return err
	}
	if _, err := ctx.SetOptions(sslctx.OpNoTicket); err != nil {
		return err
	}
	far, near := net.Pipe()
	server, err := sslctx.Server(far, ctx)
	if err != nil {
		return err
	}
	client, err := sslctx.Client(near, ctx)
	if err != nil {
		return err
	}
	done := make(chan error)
	go func() { done <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		return err
	}
	if err := <-done; err != nil {
		return err
	}
	for name, c := range map[string]*sslctx.Conn{"server.der": server, "client.der": client} {
		s, err := c.Session()
		if err != nil {
			return err
		}
		der, err := s.Bytes()
		if err != nil {
			return err
		}
		if err := p.write(name, der); err != nil {
			return err
		}
	}
	return nil
}

// startRedis starts a Redis without persistence, on a port that the kernel chooses.
func (p *place) startRedis() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := l.Addr().String()
	_, p.redisPort, _ = net.SplitHostPort(addr)
	_ = l.Close()
	p.redis = exec.Command("redis-server", "--port", p.redisPort, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", p.dir)
	if err := p.redis.Start(); err != nil {
		p.redis = nil
		return err
	}
	for range 100 {
		if c, err := net.Dial("tcp", addr); err == nil {
			return c.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("redis-server does not listen on %s", addr)
}

func (p *place) close() {
	if p.redis != nil {
		_ = p.redis.Process.Signal(os.Interrupt)
		_ = p.redis.Wait()
	}
	_ = os.RemoveAll(p.dir)
}

// openSSLConf is the configuration for a row's protocol.
func (p *place) openSSLConf(r *row) string {
	version := "1.3"
	for _, a := range r.Args {
		if v, ok := strings.CutPrefix(a, "version="); ok {
			version = v
		}
	}
	return filepath.Join(p.dir, "openssl-"+version+".cnf")
}
