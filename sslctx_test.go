// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"testing"

	"sslctx"
	"sslctx/internal/ossltest"
)

func TestSmoke(t *testing.T) {
	c, err := sslctx.NewContext(sslctx.TLSMethod)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sslctx.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	s.SetID([]byte("abcd"))
	ok, err := c.AddSession(s)
	t.Log(ok, err, c.CacheStats(), s, ossltest.LiveSessions())
	ok, err = c.AddSession(s)
	t.Log(ok, err, c.CacheStats(), s)
	t.Log(c.Configure("Foo", "bar"), c.UsePrivateKeyFile("/nonexist"))
	c.Close()
	s.Close()
	t.Log(ossltest.LiveSessions())
}
