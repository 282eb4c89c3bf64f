// SPDX-License-Identifier: Apache-2.0

package house

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

// docs/coverage.md says, for each C name of the session family, where Go wraps it, or why not. It
// is generated: go test -run TestCoverage ./internal/house -update

var updateCoverage = flag.Bool("update", false, "write docs/coverage.md anew")

const coverageFile = "docs/coverage.md"

// familyRule matches the C functions and macros of the session family.
var familyRule = regexp.MustCompile(`^SSL_SESSION_\w|^SSL_SESS_CACHE_|^SSL_CTX_sess_|_session|session_id|ticket|early_data|psk|keylog|` +
	`^(?:i2d|d2i|PEM_\w+)_SSL_SESSION|^SSL_(?:CTX_)?[gs]et_(?:default_)?timeout$|^SSL_[gs]et_time$|^SSL_cache_hit$`)

// familyHeader matches the headers where libssl declares its own names.
var familyHeader = regexp.MustCompile(`[/\\]openssl[/\\](?:ssl[23]?|tls1|dtls1|srtp|quic)\.h$`)

var (
	lineMarker    = regexp.MustCompile(`^# \d+ "(.*?)"`)
	macroName     = regexp.MustCompile(`^#define (\w+)`)
	declaredNames = regexp.MustCompile(`\b(\w+)\s*\(`)
)

// readFamily returns the names of the family in preprocessed source that kept its macros (cc -E
// -dD).
func readFamily(text string) map[string]bool {
	names, ours := map[string]bool{}, false
	for line := range strings.Lines(text) {
		if m := lineMarker.FindStringSubmatch(line); m != nil {
			ours = familyHeader.MatchString(m[1])
			continue
		}
		if !ours {
			continue
		}
		found := declaredNames.FindAllStringSubmatch(line, -1)
		if m := macroName.FindStringSubmatch(line); m != nil {
			found = [][]string{m}
		}
		for _, m := range found {
			if familyRule.MatchString(m[1]) {
				names[m[1]] = true
			}
		}
	}
	return names
}

// linkedFamily reads the family from the headers that the module is compiled with.
func linkedFamily(t *testing.T) map[string]bool {
	t.Helper()
	cc, err := exec.Command("go", "env", "CC").Output()
	tlstest.Must(t, err)
	flags, err := exec.Command("pkg-config", "--cflags", "libssl", "libcrypto").Output()
	tlstest.Must(t, err)
	args := slices.Concat(strings.Fields(string(cc)), strings.Fields(string(flags)), []string{"-E", "-dD", "-x", "c", "-"})
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader("#include <openssl/ssl.h>\n")
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	tlstest.Must(t, err)
	return readFamily(string(text))
}

// versionOf turns "3.4" into a number that compares like OPENSSL_VERSION_NUMBER.
func versionOf(t *testing.T, since string) uint64 {
	t.Helper()
	major, minor, _ := strings.Cut(since, ".")
	m, err := strconv.ParseUint(major, 10, 64)
	tlstest.Must(t, err)
	n, err := strconv.ParseUint(minor, 10, 64)
	tlstest.Must(t, err)
	return m<<28 | n<<20
}

// TestCoverage fails if a name of the family is neither wrapped nor excused, if an excuse is
// needless, or if docs/coverage.md is not up to date.
func TestCoverage(t *testing.T) {
	family, linked := linkedFamily(t), ossltest.CompiledVersion()
	if len(family) < 100 {
		t.Fatalf("the headers have %d names of the family: the reader is wrong", len(family))
	}
	for name, since := range coverageSince {
		if want := versionOf(t, since) <= linked; want != family[name] {
			t.Errorf("%s is in these headers: %v; coverageSince says that it came with %s", name, family[name], since)
		}
		family[name] = true
	}
	c := readCoverage(t)
	for _, problem := range slices.Concat(c.problems(family, coverageExcuses), c.otherProblems(family, coverageOthers)) {
		t.Error(problem)
	}
	text := c.table(family)
	if *updateCoverage {
		tlstest.Must(t, os.WriteFile(coverageFile, []byte(text), 0o644))
	}
	is, err := os.ReadFile(coverageFile)
	tlstest.Must(t, err)
	if string(is) != text {
		t.Errorf("%s is stale: run go test -run TestCoverage ./internal/house -update", coverageFile)
	}
}

// coverage has the functions that wrap the names, and the scripts that use them.
type coverage struct {
	wraps, inside map[string][]goName // by C name: in a Wraps line, and called without one
	scripts       map[string][]string // by C name: files
	always        map[string]bool     // C names that the oracle calls after each operation
}

type goName struct{ name, file string }

func readCoverage(t *testing.T) *coverage {
	t.Helper()
	h, err := readHouse(".")
	tlstest.Must(t, err)
	scripts := map[string]string{}
	files, err := filepath.Glob("conformance/script/*.txt")
	tlstest.Must(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		tlstest.Must(t, err)
		scripts[strings.TrimSuffix(filepath.Base(f), ".txt")] = string(text)
	}
	c := newCoverage(h)
	c.readOracle(readOracle(h.files["conformance/oracle/oracle.c"]), scripts)
	return c
}

func newCoverage(h *house) *coverage {
	c := &coverage{map[string][]goName{}, map[string][]goName{}, map[string][]string{}, map[string]bool{}}
	g := newHouseGraph(h)
	for _, d := range h.functions() {
		if !isExportedFunc(d) {
			continue
		}
		at := goName{printedName(d), h.fset.Position(d.Pos()).Filename}
		said, _ := wrapsLine(d.Doc)
		for _, name := range cWord.FindAllString(said, -1) {
			c.wraps[name] = append(c.wraps[name], at)
		}
		reached := g.reach(d)
		for name := range h.inC(reached) {
			c.inside[name] = append(c.inside[name], at)
		}
	}
	for _, f := range h.sources((*houseFile).isBinding) {
		for _, d := range f.ast.Decls {
			c.addConstants(f, d)
		}
	}
	return c
}

// printedName is how godoc writes a function.
func printedName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	star := ""
	if _, ok := d.Recv.List[0].Type.(*ast.StarExpr); ok {
		star = "*"
	}
	return fmt.Sprintf("(%s%s).%s", star, receiverName(d), d.Name.Name)
}

// addConstants records exported constants whose values come from C.
func (c *coverage) addConstants(f *houseFile, d ast.Decl) {
	gen, ok := d.(*ast.GenDecl)
	if !ok {
		return
	}
	for _, s := range gen.Specs {
		v, ok := s.(*ast.ValueSpec)
		if !ok {
			continue
		}
		for i, name := range v.Names {
			if i < len(v.Values) && name.IsExported() {
				if from, ok := cSelector(v.Values[i]); ok {
					c.wraps[from] = append(c.wraps[from], goName{name.Name, f.path})
				}
			}
		}
	}
}

// An oracleSource has the operations of the oracle, and the words of their C functions.
type oracleSource struct {
	ops    map[string]map[string]bool // by operation: words
	always map[string]bool            // of the state
}

var (
	oracleOp    = regexp.MustCompile(`(?m)^\s*\{"(\w+)",[^{}]*?(op_\w+)\}`)
	oracleMacro = regexp.MustCompile(`(?m)^#define (\w+)\(.*?\)(.*(?:\\\n.*)*)$`)
)

func readOracle(f *houseFile) oracleSource {
	c := readC(f)
	bodies := map[string][]map[string]bool{}
	for _, def := range c.defs {
		bodies[def.name] = append(bodies[def.name], def.words)
	}
	for _, m := range oracleMacro.FindAllStringSubmatch(f.text, -1) {
		words := map[string]bool{}
		for _, w := range cWord.FindAllString(m[2], -1) {
			words[w] = true
		}
		bodies[m[1]] = append(bodies[m[1]], words)
	}
	reach := func(from string) map[string]bool {
		seen := map[string]bool{}
		var walk func(string)
		walk = func(name string) {
			if seen[name] {
				return
			}
			seen[name] = true
			for _, words := range bodies[name] {
				for w := range words {
					walk(w)
				}
			}
		}
		walk(from)
		return seen
	}
	o := oracleSource{map[string]map[string]bool{}, reach("print_state")}
	for _, m := range oracleOp.FindAllStringSubmatch(f.text, -1) {
		o.ops[m[1]] = reach(m[2])
	}
	return o
}

func (c *coverage) readOracle(o oracleSource, scripts map[string]string) {
	c.always = o.always
	for _, script := range slices.Sorted(maps.Keys(scripts)) {
		tried := map[string]bool{}
		for line := range strings.Lines(scripts[script]) {
			if _, rest, ok := strings.Cut(line, "] "); ok && line[0] == '[' {
				line = rest
			}
			words := strings.Fields(line)
			if len(words) > 2 && words[0] == "refused" { // libssl does not run it
				continue
			}
			if len(words) > 0 {
				maps.Copy(tried, o.ops[words[0]])
			}
		}
		for name := range tried {
			c.scripts[name] = append(c.scripts[name], script)
		}
	}
}

func (c *coverage) problems(family map[string]bool, excuses map[string]string) (problems []string) {
	for _, name := range slices.Sorted(maps.Keys(family)) {
		_, excused := excuses[name]
		switch {
		case len(c.wraps[name]) > 0 && excused:
			problems = append(problems, name+" is wrapped: take it out of coverageExcuses")
		case len(c.wraps[name]) == 0 && len(c.inside[name]) == 0 && !excused:
			problems = append(problems, name+" is neither wrapped nor excused: wrap it, or give a reason in coverageExcuses")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(excuses)) {
		if !family[name] || strings.TrimSpace(excuses[name]) == "" {
			problems = append(problems, "coverageExcuses has "+name+", which is not of the family, or no reason for it")
		}
	}
	return problems
}

// table writes the document.
func (c *coverage) table(family map[string]bool) string {
	var rows bytes.Buffer
	wrapped, inside, excused := 0, 0, 0
	for _, name := range slices.Sorted(maps.Keys(family)) {
		since := coverageSince[name]
		if since == "" {
			since = "1.1.1"
		}
		in, last := "—", c.script(name)
		file := "—"
		switch excuse, ok := coverageExcuses[name]; {
		case len(c.wraps[name]) > 0:
			wrapped++
			in, file = places(c.wraps[name])
		case ok:
			excused++
			last = excuse
		default:
			inside++
			in, file = places(c.inside[name])
			in = "in " + in
		}
		fmt.Fprintf(&rows, "| `%s` | %s | %s | %s | %s |\n", name, since, in, file, last)
	}
	rows.WriteString(coverageOthersText)
	for _, name := range slices.Sorted(maps.Keys(coverageOthers)) {
		fmt.Fprintf(&rows, "| `%s` | %s |\n", name, coverageOthers[name])
	}
	return fmt.Sprintf(coverageText, len(family), wrapped, inside, excused) + rows.String()
}

const coverageOthersText = `
## Left out beside the family

Programs that come from libssl or crypto/tls may look for these names. Go does not have them:

| C name | why it is left out |
|---|---|
`

// otherProblems checks the excused names outside the family.
func (c *coverage) otherProblems(family map[string]bool, others map[string]string) (problems []string) {
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if family[name] || len(c.wraps[name]) > 0 || strings.TrimSpace(others[name]) == "" {
			problems = append(problems, "coverageOthers has "+name+", which is of the family, or wrapped, or has no reason")
		}
	}
	return problems
}

// script returns the names of scripts that use a C function.
func (c *coverage) script(name string) string {
	scripts := c.scripts[name]
	switch {
	case c.always[name]:
		return "all"
	case len(scripts) == 0:
		return "—"
	case len(scripts) > 2:
		return fmt.Sprintf("%s, %s and %d more", scripts[0], scripts[1], len(scripts)-2)
	}
	return strings.Join(scripts, ", ")
}

func places(at []goName) (names, files string) {
	var n, f []string
	for _, a := range at {
		n = append(n, "`"+a.name+"`")
		f = append(f, a.file)
	}
	slices.Sort(f)
	f = slices.Compact(f)
	const most = 3
	if len(n) > most {
		n = append(n[:most], fmt.Sprintf("%d more", len(n)-most))
	}
	if len(f) > most {
		f = append(f[:most], fmt.Sprintf("%d more", len(f)-most))
	}
	return strings.Join(n, ", "), strings.Join(f, ", ")
}

const coverageText = `<!-- SPDX-License-Identifier: Apache-2.0 -->

# The session family, name by name

Generated by ` + "`go test -run TestCoverage ./internal/house -update`" + `. The test reads libssl's headers, this module's
source, the oracle and its scripts. Without -update it fails if a name is missing here, or if a row is wrong.

The family has functions and macros of openssl/ssl.h, and of the headers of libssl that it includes. A name belongs to it if

- it begins with SSL_SESSION_, SSL_SESS_CACHE_ or SSL_CTX_sess_;
- it contains _session, session_id, ticket, early_data, psk or keylog, in small letters;
- it writes or reads an SSL_SESSION (i2d, d2i, PEM);
- it is a getter or setter of a timeout, or one of SSL_get_time, SSL_set_time and SSL_cache_hit.

Of the names in capital letters alone, only those with SSL_SESSION_ and SSL_SESS_CACHE_ belong to it. The others are numbers
of errors, of cipher suites, and of controls, whose macros are in the table.

The versions are 1.1.1, 3.0, 3.5, 3.6 and 4.0. "since 3.4" means that 3.5 has the name and 3.0 does not. No version lost a
name. "in" means that the Go function calls the C function on the way to something else. The last column names scripts of
conformance/script that call it, where libssl alone and the binding run side by side. "all" means that the tests compare it
after every operation of every script, and of random lists. "—" means that only Go's tests call it.

%d names: %d wrapped, %d used inside, %d left out.

| C name | since | Go | file | scripts, or why it is left out |
|---|---|---|---|---|
`

// TestCoverageCanFail shows which names are of the family, and makes each problem.
func TestCoverageCanFail(t *testing.T) {
	family := readFamily(`# 1 "/usr/include/openssl/ssl.h" 1 3
#define SSL_CTX_get_tlsext_ticket_keys(ctx,keys) SSL_CTX_ctrl((ctx),SSL_CTRL_GET_TLSEXT_TICKET_KEYS, (keys))
#define SSL_SESS_CACHE_OFF 0x0000
#define SSL_R_BAD_PSK 219
typedef int (*SSL_psk_use_session_cb_func)(SSL *ssl, SSL_SESSION **sess);
int SSL_CTX_new_session_thing(SSL_CTX *ctx, SSL_SESSION *s);
__attribute__((__warn_unused_result__)) int SSL_SESSION_up_ref(SSL_SESSION *ses);
int SSL_shutdown(SSL *s);
# 5 "/usr/include/openssl/obj_mac.h" 1 3
#define NID_kx_psk 1038
int X509_session(int);
`)
	if got := strings.Join(slices.Sorted(maps.Keys(family)), " "); got !=
		"SSL_CTX_get_tlsext_ticket_keys SSL_CTX_new_session_thing SSL_SESSION_up_ref SSL_SESS_CACHE_OFF" {
		t.Errorf("the family is %s", got)
	}
	h, err := newHouse(joinHouses(houseOf("flags.go", "const Off CacheMode = C.SSL_SESS_CACHE_OFF"),
		inConn("type T struct{}", wrapped("[SSL_CTX_new_session_thing].", "(t *T) F()", "C.shim_f()")),
		houseOf("cgo_shim.c", "static void g(void) { SSL_SESSION_up_ref(0); }",
			"void shim_f(void) { g(); SSL_CTX_new_session_thing(0); }")))
	if err != nil {
		t.Fatal(err)
	}
	c := newCoverage(h)
	problems := strings.Join(c.problems(family, map[string]string{
		"SSL_CTX_new_session_thing": "needless", "SSL_SESSION_gone": "old", "SSL_SESSION_up_ref": " ",
	}), "\n")
	for _, want := range []string{"SSL_CTX_get_tlsext_ticket_keys is neither", "SSL_CTX_new_session_thing is wrapped",
		"has SSL_SESSION_gone", "has SSL_SESSION_up_ref"} {
		if !strings.Contains(problems, want) {
			t.Errorf("no problem says %q:\n%s", want, problems)
		}
	}
	if n := strings.Count(problems, "\n") + 1; n != 4 {
		t.Errorf("%d problems:\n%s", n, problems)
	}
	c.readOracle(readOracle(&houseFile{path: "o.c", text: `#define up(s) SSL_SESSION_up_ref(s)
static void op_add(char **arg, int n) { up(arg); }
static void print_state(void) { SSL_SESSION_get_id(0); }
static const struct op ops[] = {
    {"add", 2, 2, op_add},
};
`}), map[string]string{"one": "[>=3.0] add c0 s0 => 1\n", "two": "refused ErrPublished add c0 s0\n# add\n"})
	if got := c.script("SSL_SESSION_up_ref"); got != "one" {
		t.Errorf("SSL_SESSION_up_ref is tried by %s", got)
	}
	if got := c.script("SSL_SESSION_get_id") + " " + c.script("SSL_SESSION_new"); got != "all —" {
		t.Errorf("others are tried by %s", got)
	}
	if got, file := places(c.wraps["SSL_SESS_CACHE_OFF"]); got != "`Off`" || file != "flags.go" {
		t.Errorf("the constant is %s in %s", got, file)
	}
}
