// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// observation is the result and the state of one side after an operation.
type observation struct {
	result string
	state  []string // lines "ctx c0 key=value ..", "session s0 key=value ..", "queue n", "live n"
	events string   // callbacks, as "c0.new c0.remove"; "" if none, or if not recorded
}

// anyResult matches any result: the binding's Close does not return SSL_shutdown's value.
const anyResult = "*"

// normalizer replaces values that differ between two processes: IDs and times that libssl chose.
type normalizer struct {
	ops strings.Builder // all operations so far: libssl did not choose a value in them
	ids map[string]string
}

func newNormalizer() *normalizer { return &normalizer{ids: make(map[string]string)} }

func (n *normalizer) normalize(op string, o observation) observation {
	n.ops.WriteString(op)
	n.ops.WriteByte('\n')
	r := observation{result: o.result}
	for _, line := range o.state {
		if strings.HasPrefix(line, "queue ") { // each side is checked on its own
			continue
		}
		words := strings.Fields(line)
		for i, w := range words {
			key, value, _ := strings.Cut(w, "=")
			switch key {
			case "id":
				words[i] = "id=" + n.id(value)
			case "time":
				words[i] = "time=" + n.time(value)
			}
		}
		r.state = append(r.state, strings.Join(words, " "))
	}
	return r
}

// id replaces a random ID by a name with its number in order of appearance.
func (n *normalizer) id(hex string) string {
	if len(hex) < 64 || strings.Contains(n.ops.String(), hex) {
		return hex
	}
	if _, ok := n.ids[hex]; !ok {
		n.ids[hex] = fmt.Sprintf("#%d", len(n.ids)+1)
	}
	return n.ids[hex]
}

func (n *normalizer) time(s string) string {
	sec, err := strconv.ParseInt(s, 10, 64)
	if err == nil && time.Since(time.Unix(sec, 0)).Abs() < time.Minute {
		return "now"
	}
	return s
}

// diff returns the differences between the two sides, "" if there are none.
func diff(oracle, binding observation) string {
	var b strings.Builder
	if binding.result != anyResult && oracle.result != binding.result {
		fmt.Fprintf(&b, "  result:\n    libssl  %s\n    binding %s\n", oracle.result, binding.result)
	}
	for _, line := range oracle.state {
		if !slices.Contains(binding.state, line) {
			fmt.Fprintf(&b, "  only libssl:  %s\n", line)
		}
	}
	for _, line := range binding.state {
		if !slices.Contains(oracle.state, line) {
			fmt.Fprintf(&b, "  only binding: %s\n", line)
		}
	}
	return b.String()
}

// value returns the value of a key of the state: "c0 number", "s0 resumable", "live".
func (o observation) value(name, key string) (string, bool) {
	for _, line := range o.state {
		words := strings.Fields(line)
		if name == "live" && words[0] == "live" {
			return words[1], true
		}
		if len(words) < 2 || words[1] != name {
			continue
		}
		for _, w := range words[2:] {
			if k, v, ok := strings.Cut(w, "="); ok && k == key {
				return v, true
			}
		}
	}
	return "", false
}
