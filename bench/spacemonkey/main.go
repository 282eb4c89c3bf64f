// SPDX-License-Identifier: Apache-2.0

// Command spacemonkey does the measured work with github.com/spacemonkeygo/openssl.
package main

import (
	"errors"
	"net"

	openssl "github.com/spacemonkeygo/openssl"

	"sslctx/bench/side"
)

func main() { side.Main(side.TLS(newPeer)) }

func newPeer(a side.Args) (side.Peer, error) {
	if !side.ForkHas(a) {
		return nil, nil
	}
	pem := a.File(a.Get("key", "ecdsa") + ".pem")
	cert, certErr := openssl.LoadCertificateFromPEM(pem)
	key, keyErr := openssl.LoadPrivateKeyFromPEM(pem)
	server, serverErr := openssl.NewCtx()
	client, clientErr := openssl.NewCtx()
	if err := errors.Join(certErr, keyErr, serverErr, clientErr); err != nil {
		return nil, err
	}
	if a.Get("resume", "full") == "id" {
		server.SetOptions(openssl.NoTicket)
	}
	client.SetVerifyMode(openssl.VerifyPeer)
	return &side.Fork{
			Accept: func(raw net.Conn) (net.Conn, error) { return openssl.Server(raw, server) },
			Connect: func(addr string, session []byte) (net.Conn, error) {
				return openssl.DialSession("tcp", addr, client, 0, session)
			},
		}, errors.Join(
			server.UseCertificate(cert),
			server.UsePrivateKey(key),
			client.GetCertificateStore().AddCertificate(cert),
		)
}
