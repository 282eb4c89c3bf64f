// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sslctx"
)

// exKey is the key of the value that the exdata operation sets: a number, as in C.
type exKey struct{}

// attributes returns the end of a session's line in the state.
func attributes(s *sslctx.Session) string {
	host := s.Hostname()
	if host == "" {
		host = "-"
	}
	peer, err := s.PeerCertificate()
	if err != nil {
		panic(err) // the script is wrong: its certificates are Go's
	}
	n, _ := s.ExData(exKey{}).(int64)
	return fmt.Sprintf(" host=%s alpn=%s appdata=%s maxearly=%d compress=%d fragment=%d keylen=%d peer=%d exdata=%d",
		host, toHex([]byte(s.ALPNSelected())), toHex(s.TicketAppData()), s.MaxEarlyData(), s.CompressID(), int(s.MaxFragmentLength()),
		s.MasterKey().Len(), toInt(peer != nil), n)
}

// attributeOperations are the oracle's operations, by the Go API.
var attributeOperations = map[string]func(b *binding, a []string) (string, error){
	"cipher": func(b *binding, a []string) (string, error) {
		return oneZero(b.sessions[a[0]].SetCipher(sslctx.Cipher{ID: uint16(number(a[1]))}))
	},
	"masterkey": func(b *binding, a []string) (string, error) {
		if len(a) == 1 {
			return toHex(b.sessions[a[0]].MasterKey().Bytes()), nil
		}
		return oneZero(b.sessions[a[0]].SetMasterKey(fromHex(a[1])))
	},
	"host": func(b *binding, a []string) (string, error) {
		return oneZero(b.sessions[a[0]].SetHostname(strings.TrimPrefix(a[1], "-")))
	},
	"alpn": func(b *binding, a []string) (string, error) {
		return oneZero(b.sessions[a[0]].SetALPNSelected(string(fromHex(a[1]))))
	},
	"appdata": func(b *binding, a []string) (string, error) {
		return oneZero(b.sessions[a[0]].SetTicketAppData(fromHex(a[1])))
	},
	"maxearly": func(b *binding, a []string) (string, error) {
		return oneZero(b.sessions[a[0]].SetMaxEarlyData(int(number(a[1]))))
	},
	"exdata": func(b *binding, a []string) (string, error) {
		return oneZero(b.sessions[a[0]].SetExData(exKey{}, number(a[1])))
	},
	"ticket": func(b *binding, a []string) (string, error) {
		return toHex(b.sessions[a[0]].Ticket().Bytes()), nil
	},
	"peer": func(b *binding, a []string) (string, error) {
		cert, err := b.sessions[a[0]].PeerCertificate()
		if err != nil || cert == nil {
			return "-", err
		}
		return toHex(cert.Raw), nil
	},
	"peerrpk": func(b *binding, a []string) (string, error) {
		key, err := b.sessions[a[0]].PeerRawPublicKey()
		if errors.Is(err, sslctx.ErrUnsupported) {
			return "unsupported", nil
		}
		return toHex(key), err
	},
	"keylog": func(b *binding, a []string) (string, error) {
		var text bytes.Buffer
		err := b.sessions[a[0]].PrintKeylog(&text)
		return hexResult(text.Bytes(), err)
	},
	"sessions": func(b *binding, a []string) (string, error) {
		sessions, err := b.contexts[a[0]].Sessions()
		var words []string
		for _, s := range sessions {
			id := fmt.Sprintf("%x", s.ID())
			if len(s.ID()) == sslctx.MaxIDLength { // libssl chose it at random
				id = fmt.Sprintf("#%d", sslctx.MaxIDLength)
			}
			words = append(words, fmt.Sprintf("%04x:%s", int(s.ProtocolVersion()), id))
			_ = s.Close()
		}
		slices.Sort(words)
		if len(words) == 0 {
			words = []string{"-"}
		}
		return strings.Join(words, " "), err
	},
	"randoms": func(b *binding, a []string) (string, error) {
		var ofClient, ofServer [2][]byte
		for i, c := range b.pairs[a[0]].end {
			var err error
			if ofClient[i], err = c.ClientRandom(); err != nil {
				return "", err
			}
			if ofServer[i], err = c.ServerRandom(); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("%d %d same=%d,%d differ=%d", len(ofClient[client]), len(ofServer[client]),
			toInt(bytes.Equal(ofClient[server], ofClient[client])), toInt(bytes.Equal(ofServer[server], ofServer[client])),
			toInt(!bytes.Equal(ofClient[client], ofServer[client]))), nil
	},
	"verifyresult": func(b *binding, a []string) (string, error) {
		r, err := b.pairs[a[0]].end[side(a[1])].VerifyResult()
		return fmt.Sprintf("%d %v", int(r), r), err
	},
	"defaulttimeout": func(b *binding, a []string) (string, error) {
		d, err := b.pairs[a[0]].end[side(a[1])].DefaultTimeout()
		return fmt.Sprint(int64(d / time.Second)), err
	},
	"endsidctx": func(b *binding, a []string) (string, error) {
		return oneZero(b.pairs[a[0]].end[side(a[1])].SetIDContext(fromHex(a[2])))
	},
	"sni": func(b *binding, a []string) (string, error) {
		return oneZero(b.pairs[a[0]].end[client].SetServerName(a[1]))
	},
	"trust": func(b *binding, a []string) (string, error) {
		return oneZero(b.contexts[a[0]].LoadVerifyLocations(a[1], ""))
	},
	"protocol": func(b *binding, a []string) (string, error) {
		return oneZero(b.contexts[a[0]].SetALPNProtos(a[1]))
	},
}
