// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"sslctx"
)

// hazardOperations are operations that crash libssl or make it leak.
var hazardOperations = map[string]func(b *binding, a []string) (string, error){
	"onremove": func(b *binding, a []string) (string, error) { b.contexts[a[0]].reAdd = a[1]; return "ok", nil },
	"added":    func(b *binding, _ []string) (string, error) { return takeWords(&b.added), nil },
	"reparse": func(_ *binding, a []string) (string, error) { // no call reads into an existing session
		s, err := sslctx.ParseSession(fromHex(a[1]))
		_ = s.Close()
		return okFail(err)
	},
	"samehost": func(b *binding, a []string) (string, error) {
		s := b.sessions[a[0]]
		return oneZero(s.SetHostname(s.Hostname()))
	},
	"race": (*binding).race,
}

// race is the oracle's race: four goroutines add eight sessions to a cache that is too small for
// them; or two add, and two set timeouts.
func (b *binding) race(a []string) (string, error) {
	const racers, raced = 4, 8
	c := b.contexts[a[0]].Context
	sessions := make([]*sslctx.Session, raced)
	for i := range sessions {
		s, err := sslctx.NewSession()
		if err != nil {
			return "", err
		}
		defer s.Close()
		if err := s.SetID([]byte{byte(i)}); err != nil {
			return "", err
		}
		sessions[i] = s
	}
	end := time.Now().Add(2 * time.Second)
	var problems sync.Map
	var wg sync.WaitGroup
	for racer := range racers {
		wg.Go(func() {
			for time.Now().Before(end) {
				s := sessions[rand.IntN(raced)]
				var err error
				if a[1] == "timeouts" && racer%2 == 0 {
					err = s.SetTimeout(time.Duration(rand.IntN(1000)) * time.Second)
				} else {
					_, err = c.AddSession(s)
				}
				if err != nil {
					problems.Store(err.Error(), true)
				}
			}
		})
	}
	wg.Wait()
	var words []string
	problems.Range(func(key, _ any) bool { words = append(words, key.(string)); return true })
	if len(words) > 0 {
		return strings.Join(words, "; "), nil
	}
	return "ok", nil
}
