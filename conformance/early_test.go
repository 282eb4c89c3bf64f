// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	"sslctx"
)

// The operations on early data and pre-shared keys.
func init() {
	maps.Copy(operations, map[string]func(b *binding, a []string) (string, error){
		"recvearly": func(b *binding, a []string) (string, error) {
			return oneZero(b.contexts[a[0]].SetRecvMaxEarlyData(int(number(a[1]))))
		},
		"endearly": func(b *binding, a []string) (string, error) {
			c := b.pairs[a[0]].end[side(a[1])]
			most, err := oneZero(c.SetMaxEarlyData(int(number(a[2]))))
			if err != nil {
				return "", err
			}
			take, err := oneZero(c.SetRecvMaxEarlyData(int(number(a[3]))))
			return most + " " + take, err
		},
		"limits": func(b *binding, a []string) (string, error) {
			c := b.pairs[a[0]].end[side(a[1])]
			return fmt.Sprint(c.MaxEarlyData(), " ", c.RecvMaxEarlyData()), nil
		},
		"allow": (*binding).allow,
		"writeearly": func(b *binding, a []string) (string, error) {
			n, err := b.pairs[a[0]].end[side(a[1])].WriteEarlyData(fromHex(a[2]))
			if e := (*sslctx.Error)(nil); errors.As(err, &e) {
				return "error " + reason(err), nil
			}
			return fmt.Sprint(n), err
		},
		"readearly":      func(b *binding, a []string) (string, error) { return b.pairs[a[0]].readEarly() },
		"earlyhandshake": (*binding).earlyHandshake,
		"earlystatus": func(b *binding, a []string) (string, error) {
			end := b.pairs[a[0]].end
			return fmt.Sprintf("%d %d", end[server].EarlyDataStatus(), end[client].EarlyDataStatus()), nil
		},
		"psk": (*binding).psk,
		"key": (*binding).key,
		"hint": func(b *binding, a []string) (string, error) {
			return oneZero(b.contexts[a[0]].UsePSKIdentityHint(strings.TrimPrefix(a[1], "-")))
		},
		"identity": func(b *binding, a []string) (string, error) {
			c := b.pairs[a[0]].end[side(a[1])]
			return orDash(c.PSKIdentity()) + " " + orDash(c.PSKIdentityHint()), nil
		},
		"groups": func(b *binding, a []string) (string, error) {
			return oneZero(b.contexts[a[0]].SetGroups(a[1]))
		},
	})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (b *binding) note(c *boundContext, what string) { b.record(c, new(int), what) }

func (b *binding) allow(a []string) (string, error) {
	c := b.contexts[a[0]]
	if a[1] == "none" {
		return "ok", c.SetAllowEarlyDataCallback(nil)
	}
	return "ok", c.SetAllowEarlyDataCallback(func(context.Context, *sslctx.Conn) bool {
		b.note(c, "allow")
		return a[1] == "yes"
	})
}

func (p *boundPair) readEarly() (string, error) {
	p.wire.setDry(server, true)
	defer p.wire.setDry(server, false)
	buf := make([]byte, 256)
	n, err := p.end[server].ReadEarlyData(buf)
	switch {
	case n > 0:
		return toHex(buf[:n]), nil
	case err == io.EOF:
		return "finish", nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "want", nil
	}
	return "error " + reason(err), nil
}

// earlyHandshake is handshake with a server that first reads all early data.
func (b *binding) earlyHandshake(a []string) (string, error) {
	var early []byte
	result := b.pairs[a[0]].shake(func(c *sslctx.Conn, i int) error {
		buf := make([]byte, 256)
		for i == server {
			n, err := c.ReadEarlyData(buf)
			early = append(early, buf[:n]...)
			if err == io.EOF {
				break
			} else if err != nil {
				return err
			}
		}
		return c.Handshake()
	})
	return "early=" + toHex(early) + " " + result, nil
}

func (b *binding) psk(a []string) (string, error) {
	c, identity, name := b.contexts[a[0]], a[2], a[3]
	if a[1] == "find" {
		return "ok", c.SetPSKFindSessionCallback(func(_ context.Context, _ *sslctx.Conn, id []byte) *sslctx.Session {
			b.note(c, "find")
			if string(id) != identity {
				return nil
			}
			return b.sessions[name]
		})
	}
	return "ok", c.SetPSKUseSessionCallback(func(_ context.Context, _ *sslctx.Conn, digest crypto.Hash) ([]byte, *sslctx.Session) {
		b.note(c, map[crypto.Hash]string{0: "use", crypto.SHA256: "use256", crypto.SHA384: "use384"}[digest])
		return []byte(identity), b.sessions[name]
	})
}

func (b *binding) key(a []string) (string, error) {
	c, identity, key := b.contexts[a[0]], a[2], fromHex(a[3])
	if a[1] == "server" {
		return "ok", c.SetPSKServerCallback(func(_ context.Context, _ *sslctx.Conn, id string) []byte {
			b.note(c, "serverkey")
			if id != identity {
				return nil
			}
			return key
		})
	}
	return "ok", c.SetPSKClientCallback(func(_ context.Context, _ *sslctx.Conn, hint string) (string, []byte) {
		b.note(c, "clientkey"+map[bool]string{true: "hint"}[hint != ""])
		return identity, key
	})
}
