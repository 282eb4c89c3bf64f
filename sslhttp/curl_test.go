// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sslctx"
)

// TestCurl connects curl to our server: full and resumed, one request alone and several at once.
func TestCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil && os.Getenv("CI") == "" {
		t.Skip("curl is not installed; make setup does that")
	}
	version, err := exec.Command("curl", "--version").Output()
	must(t, err)
	for _, proto := range []string{"http2", "http1.1"} {
		t.Run(proto, func(t *testing.T) {
			if !strings.Contains(string(version), "HTTP2") && proto == "http2" {
				t.Skip("this curl has no HTTP/2")
			}
			e := newEnds(t, "h2", "http/1.1")
			addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/last") && r.ProtoMajor == 1 {
					w.Header().Set("Connection", "close")
				}
				_, err := fmt.Fprintf(w, "%d %s %v ", r.ProtoMajor, r.TLS.NegotiatedProtocol, r.TLS.DidResume)
				if err == nil {
					_, err = io.Copy(w, r.Body)
				}
				if err != nil {
					t.Error(err)
				}
			})})
			dir := t.TempDir()
			cert, body := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "body")
			must(t, os.WriteFile(cert, e.pair.Cert, 0o600))
			must(t, os.WriteFile(body, []byte(strings.Repeat("0123456789", 100_000)), 0o600))
			curl := func(args ...string) string {
				out, err := exec.Command("curl", append([]string{"--silent", "--show-error", "--fail", "--cacert", cert, "--" + proto}, args...)...).CombinedOutput()
				if err != nil {
					t.Fatalf("curl %q: %v\n%s", args, err, out)
				}
				return string(out)
			}
			agreed := map[string]string{"http2": "2 h2", "http1.1": "1 http/1.1"}[proto]

			if got := curl("--data-binary", "@"+body, "https://"+addr); len(got) < 1_000_000 || !strings.HasPrefix(got, agreed+" false 0123") {
				t.Errorf("%d bytes, %.30q", len(got), got)
			}
			urls := strings.Fields(strings.Repeat("https://"+addr+"/{a,b,c,d} ", 5))
			if got := curl(append([]string{"--parallel"}, urls...)...); strings.Count(got, agreed+" false ") == 0 || strings.Count(got, agreed) != 20 {
				t.Errorf("many requests are answered %q", got)
			}

			// curl keeps sessions as long as it runs, so one that connects twice resumes. Over
			// HTTP/2 it connects once, unless the server ends the connection.
			if proto == "http2" {
				return
			}
			for _, v := range []sslctx.Version{sslctx.VersionTLS13, sslctx.VersionTLS12} {
				must(t, e.server.SetMaxProtoVersion(v))
				if got := curl("https://"+addr+"/last", "https://"+addr+"/last"); got != agreed+" false "+agreed+" true " {
					t.Errorf("%v: two connections are answered %q", v, got)
				}
			}
		})
	}
}
