// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sslctx"
)

func TestCertificates(t *testing.T) {
	noQueue(t)
	pair := testPair(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(cert, pair.Cert, 0o600))
	must(t, os.WriteFile(key, pair.Key, 0o600))
	ofGo, err := tls.X509KeyPair(pair.Cert, pair.Key)
	must(t, err)
	for name, use := range map[string]func(*sslctx.Context) error{
		"files": func(c *sslctx.Context) error {
			return errors.Join(c.UseCertificateChainFile(cert), c.UsePrivateKeyFile(key))
		},
		"PEM":             func(c *sslctx.Context) error { return c.UseKeyPair(pair.Cert, pair.Key) },
		"tls.Certificate": func(c *sslctx.Context) error { return c.UseCertificate(ofGo) },
		"Configure": func(c *sslctx.Context) error {
			return errors.Join(c.Configure("Certificate", cert), c.Configure("PrivateKey", key))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newContext(t, sslctx.TLSServerMethod)
			must(t, use(c))
			must(t, c.CheckPrivateKey())
			must(t, c.LoadVerifyLocations(cert, ""))
			must(t, c.LoadVerifyLocations("", dir))
			must(t, c.TrustCertificates(append(pair.Cert, pair.Cert...)))
		})
	}
}

// encryptedKey is good, with the password "secret".
const encryptedKey = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAh2xCOi3lQE5AICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEAQIEEMSmF19d9j+JlSTgQ2ZyFXQEgZAS
mTJ6qCAj7DiFxTRPlk1DGAbzWZTFhSJ94nmdTYhS22g05Dyomulmj0i8LagHVLHb
QwM7HHqcJivouGbgYyoZvRu6YwrqB0bVB4NVAw1+TDMe4FGpirfYqm8fCWQ/xUOU
p6joZbf/MqpHDIqum4TMMnaYypovO6Zc2s4X3Kc33QKR8JZnXeQcuTZf8Yw3lN4=
-----END ENCRYPTED PRIVATE KEY-----
`

// wantNobodyAsked: a password was wanted. Where there is no terminal to ask on, libssl says that asking failed.
func wantNobodyAsked(t *testing.T, err error) {
	t.Helper()
	if text := fmt.Sprint(err); !strings.Contains(text, "bad password read") || strings.Contains(text, "problems getting password") {
		t.Errorf("what is encrypted gives %v", err)
	}
}

func TestCertificatesThatAreBad(t *testing.T) {
	noQueue(t)
	pair, other := testPair(t), testPair(t)
	c := newContext(t, sslctx.TLSServerMethod)
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for _, err := range []error{c.UseCertificateChainFile(missing), c.UsePrivateKeyFile(missing), c.LoadVerifyLocations(missing, "")} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a missing file gives %v", err)
		}
	}
	wantReason(t, c.CheckPrivateKey(), sslctx.ReasonNoCertificateAssigned)
	wantReason(t, c.UseKeyPair(pair.Cert, other.Key), sslctx.ReasonPrivateKeyMismatch)
	wantReason(t, c.UseKeyPair([]byte("no PEM"), pair.Key), sslctx.ReasonNoStartLine)
	wantReason(t, c.TrustCertificates([]byte("no PEM")), sslctx.ReasonNoStartLine)

	block, _ := pem.Decode(pair.Cert)
	block.Bytes = block.Bytes[:len(block.Bytes)/2]
	half := append(append([]byte(nil), pair.Cert...), pem.EncodeToMemory(block)...)
	if err := c.UseKeyPair(half, pair.Key); err == nil {
		t.Error("a chain with a truncated certificate is taken")
	}
	if err := c.TrustCertificates(half); err == nil {
		t.Error("a truncated certificate is trusted")
	}
	wantReason(t, c.CheckPrivateKey(), sslctx.ReasonNoCertificateAssigned) // nothing was set

	file := filepath.Join(t.TempDir(), "encrypted.pem")
	must(t, os.WriteFile(file, []byte(encryptedKey), 0o600))
	for _, err := range []error{c.UseKeyPair(pair.Cert, []byte(encryptedKey)), c.UsePrivateKeyFile(file)} {
		wantNobodyAsked(t, err)
	}
	type onlySigns struct{ ed25519.PrivateKey }
	wantArgument(t, c.UseCertificate(tls.Certificate{Certificate: [][]byte{{1}}, PrivateKey: onlySigns{}}), "cert")
}
