// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sslctx"
)

// The oracle's operations for IDs and tickets, in Go.
func init() {
	operations["genid"] = (*binding).generateID
	operations["hasid"] = func(b *binding, a []string) (string, error) {
		var id []byte
		if s := b.sessions[a[2]]; s != nil {
			id = s.ID()
		} else {
			id = fromHex(a[2])
		}
		has, err := b.pairs[a[0]].end[side(a[1])].HasMatchingSessionID(id)
		return fmt.Sprint(toInt(has)), err
	}
	operations["idhead"] = func(b *binding, a []string) (string, error) {
		id := b.sessions[a[0]].ID()
		return toHex(id[:min(len(id), int(number(a[1])))]), nil
	}
	operations["connsidctx"] = func(b *binding, a []string) (string, error) {
		return oneZero(b.pairs[a[0]].end[side(a[1])].SetIDContext(fromHex(a[2])))
	}
	operations["copyid"] = func(b *binding, a []string) (string, error) {
		return oneZero(b.pairs[a[0]].end[side(a[1])].CopySessionID(b.pairs[a[2]].end[side(a[3])]))
	}
	operations["notresumable"] = func(b *binding, a []string) (string, error) {
		c := b.contexts[a[0]]
		if a[1] == "none" {
			return "ok", c.SetNotResumableSessionCallback(nil)
		}
		not := number(a[1]) != 0
		return "ok", c.SetNotResumableSessionCallback(func(_ context.Context, _ *sslctx.Conn, isForwardSecure bool) bool {
			b.record(c, new(int), map[bool]string{true: "secure", false: "insecure"}[isForwardSecure])
			return not
		})
	}
	operations["numtickets"] = func(b *binding, a []string) (string, error) {
		if len(a) == 1 {
			return fmt.Sprint(b.contexts[a[0]].NumTickets()), nil
		}
		return oneZero(b.contexts[a[0]].SetNumTickets(int(number(a[1]))))
	}
	operations["connnumtickets"] = func(b *binding, a []string) (string, error) {
		c := b.pairs[a[0]].end[side(a[1])]
		if len(a) == 2 {
			n, err := c.NumTickets()
			return fmt.Sprint(n), err
		}
		return oneZero(c.SetNumTickets(int(number(a[2]))))
	}
	operations["ticketkeys"] = func(b *binding, a []string) (string, error) {
		if len(a) == 1 {
			key, err := b.contexts[a[0]].TicketKeys()
			return hexResult(key.Bytes(), err)
		}
		key, err := sslctx.ParseTicketKey(fromHex(a[1]))
		if err != nil {
			return oneZero(err)
		}
		return oneZero(b.contexts[a[0]].SetTicketKeys(key))
	}
	operations["ring"] = func(b *binding, a []string) (string, error) {
		ring, err := ringOf(a[1:])
		if err != nil {
			return "", err
		}
		return "ok", b.contexts[a[0]].SetTicketKeyRing(ring)
	}
	operations["ticketcb"] = (*binding).ticketCallbacks
}

var errOfScript = errors.New("the script wants an error")

func (b *binding) generateID(a []string) (string, error) {
	c := b.contexts[a[0]]
	switch a[1] {
	case "prefix":
		return oneZero(c.SetSessionIDPrefix(fromHex(a[2])))
	case "default":
		return oneZero(c.SetSessionIDGenerator(nil))
	}
	return oneZero(c.SetSessionIDGenerator(func(context.Context, *sslctx.Conn, int) ([]byte, error) {
		b.record(c, new(int), "id")
		if a[1] == "fail" {
			return nil, errOfScript
		}
		return fromHex(a[2]), nil
	}))
}

// ringOf reads keys as the oracle does; "none" is no ring.
func ringOf(words []string) (*sslctx.TicketKeyRing, error) {
	if words[0] == "none" {
		return nil, nil
	}
	ring := new(sslctx.TicketKeyRing)
	for i, word := range words {
		kind, hex, ok := strings.Cut(word, ":")
		if !ok {
			hex = word
		}
		key, err := sslctx.ParseTicketKey(fromHex(hex))
		switch {
		case err != nil:
			return nil, err
		case i == 0:
			ring.Current = key
		case kind == "next":
			ring.Next = append(ring.Next, key)
		default:
			ring.Old = append(ring.Old, key)
		}
	}
	return ring, nil
}

func (b *binding) ticketCallbacks(a []string) (string, error) {
	c := b.contexts[a[0]]
	if len(a) == 2 {
		return "ok", c.SetSessionTicketCallback(nil, nil)
	}
	data, answer := a[1], sslctx.TicketReturn(number(a[2]))
	words := map[sslctx.TicketStatus]string{sslctx.TicketEmpty: "empty", sslctx.TicketNoDecrypt: "nodecrypt",
		sslctx.TicketSuccess: "success", sslctx.TicketSuccessRenew: "renew"}
	unasked := map[sslctx.TicketStatus]sslctx.TicketReturn{sslctx.TicketEmpty: sslctx.TicketIgnoreRenew,
		sslctx.TicketNoDecrypt: sslctx.TicketIgnoreRenew, sslctx.TicketSuccess: sslctx.TicketUse,
		sslctx.TicketSuccessRenew: sslctx.TicketUseRenew}
	return "ok", c.SetSessionTicketCallback(func(_ context.Context, t sslctx.SessionTicket) ([]byte, error) {
		_ = t.Session.Close()
		b.record(c, new(int), "generate")
		if data == "fail" {
			return nil, errOfScript
		}
		return []byte(data), nil
	}, func(_ context.Context, t sslctx.SessionTicket) sslctx.TicketReturn {
		_ = t.Session.Close()
		word := words[t.Status]
		if string(t.AppData) == data {
			word += "+"
		}
		b.record(c, new(int), word)
		if answer >= 0 && t.Session != nil {
			return answer
		}
		return unasked[t.Status]
	})
}
