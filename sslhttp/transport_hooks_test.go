// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// transports counts connections at the client's end, where the garbage collector closes none.
type transports struct{ made, open atomic.Int32 }

func (n *transports) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, network, addr)
	n.made.Add(1)
	n.open.Add(1)
	return &countedConn{raw, sync.OnceFunc(func() { n.open.Add(-1) })}, err
}

// want waits until so many are open of those that were made.
func (n *transports) want(t *testing.T, open, made int32) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d of %d open", open, made), func() bool { return n.open.Load() == open })
	if got := n.made.Load(); got != made {
		t.Errorf("%d connections are made, not %d", got, made)
	}
}

// TestHookEndsWhereItConnects: hooks end the goroutine that connects. The request fails, and the
// connection is closed.
func TestHookEndsWhereItConnects(t *testing.T) {
	for _, name := range []string{"GetProxyConnectHeader", "OnProxyConnectResponse", "TLSHandshakeStart", "TLSHandshakeDone"} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, "http/1.1") // it checks that no SSL is left
			addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
			var conns transports
			base := &http.Transport{Proxy: http.ProxyURL(newProxy(t, "http", nil).url), DialContext: conns.dial}
			trace := new(httptrace.ClientTrace)
			switch name {
			case "GetProxyConnectHeader":
				base.GetProxyConnectHeader = func(context.Context, *url.URL, string) (http.Header, error) {
					runtime.Goexit()
					return nil, nil
				}
			case "OnProxyConnectResponse":
				base.OnProxyConnectResponse = func(context.Context, *url.URL, *http.Request, *http.Response) error {
					runtime.Goexit()
					return nil
				}
			case "TLSHandshakeStart":
				trace.TLSHandshakeStart = runtime.Goexit
			case "TLSHandshakeDone":
				trace.TLSHandshakeDone = func(tls.ConnectionState, error) { runtime.Goexit() }
			}
			r := get(t, "https://"+addr)
			if got := outcome(e.transport(t, base), r.WithContext(httptrace.WithClientTrace(t.Context(), trace))); got != "error" {
				t.Error(got)
			}
			conns.want(t, 0, 1)
		})
	}
}
