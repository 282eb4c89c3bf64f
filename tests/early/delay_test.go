// SPDX-License-Identifier: Apache-2.0

package early_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/tlstest"
	"sslctx/sslhttp"
)

// delayed is a connection whose bytes arrive later, in both directions.
func delayed(c net.Conn, by time.Duration) net.Conn {
	near, far := net.Pipe()
	pass := func(to, from net.Conn) {
		type piece struct {
			data []byte
			at   time.Time
		}
		pieces := make(chan piece, 1000)
		go func() {
			defer close(pieces)
			for {
				buf := make([]byte, 16384)
				n, err := from.Read(buf)
				if err != nil {
					return
				}
				pieces <- piece{buf[:n], time.Now().Add(by)}
			}
		}()
		for p := range pieces {
			time.Sleep(time.Until(p.at))
			if _, err := to.Write(p.data); err != nil {
				break
			}
		}
		_ = to.Close()
		for range pieces {
		}
	}
	go pass(c, far)
	go pass(far, c)
	return near
}

// TestDelay prints how long a request takes to the first byte of its answer, on a new connection over a network with
// a delay: SSLCTX_DELAY=25ms go test -v -run TestDelay ./tests/early. The time to connect TCP is not in it.
func TestDelay(t *testing.T) {
	text := os.Getenv("SSLCTX_DELAY")
	if text == "" {
		t.Skip("it prints figures: SSLCTX_DELAY=25ms, the delay of each direction")
	}
	by, err := time.ParseDuration(text)
	tlstest.Must(t, err)
	for _, row := range []struct {
		name    string
		version sslctx.Version
		resumes bool
		early   bool
	}{
		{"TLS 1.2, full", sslctx.VersionTLS12, false, false},
		{"TLS 1.2, resumed", sslctx.VersionTLS12, true, false},
		{"TLS 1.3, full", sslctx.VersionTLS13, false, false},
		{"TLS 1.3, resumed", sslctx.VersionTLS13, true, false},
		{"TLS 1.3, early data", sslctx.VersionTLS13, true, true},
	} {
		e := tlstest.NewEnds(t, row.version)
		if row.early {
			tlstest.Must(t, e.Server.SetMaxEarlyData(4096))
		}
		l, err := sslctx.Listen("tcp", "127.0.0.1:0", e.Server)
		tlstest.Must(t, err)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "answer") })}
		done := make(chan error, 1)
		go func() { done <- sslhttp.ServeWithEarlyData(srv, l) }()
		cache, err := sslctx.NewClientSessionCache(sslctx.ClientSessionCacheConfig{})
		tlstest.Must(t, err)
		tr := sslhttp.NewTransport(&sslctx.Dialer{Context: e.Client, ServerName: "localhost", SessionCache: cache}, &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return delayed(c, by), nil
			}})
		tr.SetEarlyData(row.early)
		var times []time.Duration
		for i := range 8 {
			r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+l.Addr().String(), nil)
			tlstest.Must(t, err)
			begin := time.Now()
			resp, err := tr.RoundTrip(r)
			tlstest.Must(t, err)
			_, err = resp.Body.Read(make([]byte, 1))
			if took := time.Since(begin); i > 0 && (err == nil || errors.Is(err, io.EOF)) {
				times = append(times, took)
			}
			if resumed := resp.TLS.DidResume; i > 0 && resumed != row.resumes {
				t.Errorf("%s: resumed is %v", row.name, resumed)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			time.Sleep(4 * by) // tickets
			tr.CloseIdleConnections()
			if !row.resumes {
				cache.Clear()
			}
		}
		slices.Sort(times)
		t.Logf("%-20s %v", row.name, times[len(times)/2].Round(100*time.Microsecond))
		_ = srv.Close()
		<-done
	}
}
