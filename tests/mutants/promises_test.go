// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/promises.md")

// excuses are the names that no fault of the tables can break, with the reason. A name that ends
// with * stands for all that begin so.
var excuses = map[string]string{
	"Op*": constant, "Mode*": constant, "SessCache*": constant, "Verify*": constant, "Version*": constant, "Reason*": constant,
	"Ticket*": constant, "EarlyData*": constant, "MaxFragment*": constant, "TLS*": constant, "LibSSL": constant,
	"MaxPSKIdentityLength": constant, "MaxPSKLength": constant, "MaxIDLength": constant, "MaxMasterKeyLength": constant,
	"TicketDefault":      "it is no constant of C; TestTicketAnswers returns it",
	"TicketKeySize":      "it is a constant of Go; TestTicketKeyArguments tries another length",
	"TicketKeyNameSize":  "it is a constant of Go; TestTicketKeyRing compares names of that length",
	"MaxSessionIDPrefix": "it is a constant of Go; TestSessionIDPrefix tries both sides of it",
	"MaxSessionSize":     "it is a constant of Go; TestCodecsRefuse tries both sides of it",
	"Session.CompressID": "libssl has no compression any more, and 0 is all there is",
}

const constant = "it is a constant, and TestHouse/constants compares its name with that in C"

// excuseFor returns the reason why a name needs no fault, and which entry has it.
func excuseFor(e exported) (reason, entry string) {
	name := strings.TrimPrefix(e.pkg+".", "..") + e.name
	if reason := excuses[name]; reason != "" || e.function {
		return reason, name
	}
	for entry, reason := range excuses {
		if prefix, ok := strings.CutSuffix(entry, "*"); ok && e.value && strings.HasPrefix(name, prefix) {
			return reason, entry
		}
	}
	return "", ""
}

// TestPromises: each exported name has a fault that breaks its promise, and so a test that sees it.
// docs/promises.md is as the tables say.
func TestPromises(t *testing.T) {
	root := filepath.Join("..", "..")
	faults, err := readTables(".")
	if err != nil {
		t.Fatal(err)
	}
	var names []exported
	for _, pkg := range packages {
		of, err := exportedOf(root, pkg)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, of...)
	}
	text, missing := writePromises(names, faults, func(e exported) string { reason, _ := excuseFor(e); return reason })
	for _, name := range missing {
		t.Errorf("%s: no fault breaks what it promises", name)
	}
	for _, name := range unknown(names, faults) {
		t.Errorf("%s is no exported name", name)
	}
	path := filepath.Join(root, "docs", "promises.md")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if is, err := os.ReadFile(path); err != nil || string(is) != text {
		t.Errorf("%s is old (%v): go test ./tests/mutants -run TestPromises -update", path, err)
	}
}

// unknown returns what faults hold and excuses excuse, and is no exported name.
func unknown(names []exported, faults []*fault) (unknown []string) {
	for _, f := range faults {
		for _, holds := range f.holds {
			name, words, _ := strings.Cut(holds, ": ")
			if !slices.ContainsFunc(names, func(e exported) bool {
				_, ok := f.words(e)
				return ok && e.name == name && strings.Contains(e.doc, words)
			}) {
				unknown = append(unknown, f.table+" "+holds)
			}
		}
	}
	used := map[string]bool{}
	for _, e := range names {
		_, entry := excuseFor(e)
		used[entry] = true
	}
	for entry := range excuses {
		if !used[entry] {
			unknown = append(unknown, entry)
		}
	}
	return unknown
}
