package doctor

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/reference/errors.md")

// dataCodes are the codes of failed data connections, which replies carry.
var dataCodes = [][3]string{
	{"PR-D01", "nobody reached the passive port within ftp.data_timeout", "something between stops it, or the address in the reply to PASV is wrong: portreeve doctor"},
	{"PR-D02", "only connections from other addresses than the client's reached the port", "a balancer or a NAT with several addresses: see SOURCE_MISMATCH and LB_SOURCE_CHECK"},
	{"PR-D03", "the TLS handshake on the data connection failed", "the log has the reason; see also MTU_BLACKHOLE"},
	{"PR-D04", "the data connection did not resume the TLS session of its control connection", "switch TLS session reuse on in the client, or data_session = \"off\" for the listener"},
	{"PR-D05", "active mode: the client's port refused", "use passive mode"},
	{"PR-D06", "active mode: no answer from the client's port", "use passive mode; see CLIENT_FW_IN and SERVER_FW_OUT"},
	{"PR-D07", "active mode: no way to the client", "use passive mode"},
	{"PR-D08", "active mode: a socket of the server's own failed", "the log has the reason"},
	{"PR-D09", "the transfer was ended while it waited: ABOR, a kick, or the end of the control connection", "nothing"},
	{"PR-D10", "recorded, never replied: a passive port was announced, nobody came, and the client gave up without asking for a transfer", "the same causes as PR-D01; most clients connect before they ask"},
	{"PR-D11", "recorded: PORT or EPRT named an address that is not the client's", "use passive mode; see CLIENT_NAT_ACTIVE"},
}

const errorsHead = `# Codes: what they mean and what cures them

<!-- Made from internal/doctor; do not edit. go test ./internal/doctor -run Docs -update -->

Codes are stable: none is ever given another meaning. Replies carry those of
data connections in brackets, for example ` + "`425 ... [PR-D01]`" + `. The others come
from ` + "`portreeve doctor`" + `, ` + "`portreeve ports plan`" + `, ` + "`ports verify`" + ` and ` + "`ports matrix`" + `.

## Data connections

| code | meaning | what to do |
|---|---|---|
`

const errorsMiddle = `
## Causes

"where" is the box the cure is applied on. A finding may list several codes
under "could": then they look the same from that place, and the finding says
how to find out which.

| code | meaning | where | cure |
|---|---|---|---|
`

const errorsTail = `
## What SITE DIAG tells

A client that is logged in may ask a Portreeve server what it saw of the
client's own address. Lines are words of key=value; unknown ones are to be ignored.

| line | keys |
|---|---|
| you | from: the client as the server sees it; reached: the server's end; listener |
| passive | ports; announced: what PASV names to this client; outside: the numbers that a router gives the ports, where they are others |
| active | allowed |
| firewall | of: passive-data or active-data; state of the server's own firewall: open, closed, limited, unclear, unknown; code |
| others | how many passive data connections of other networks reached the server, and how many did not |
| data | one data connection: at, mode, tls, code, announced, peer, target, source, stranger, waited, reaction |
`

func errorsPage() string {
	var b strings.Builder
	b.WriteString(errorsHead)
	for _, d := range dataCodes {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", d[0], d[1], d[2])
	}
	b.WriteString(errorsMiddle)
	codes, by := Codes()
	for _, c := range codes {
		fix := strings.ReplaceAll(fill{ports: "PORTS", rng: "RANGE", server: "SERVER", port: "PORT"}.in(by[c].Fix), "|", "\\|")
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c, by[c].Title, by[c].Box, fix)
	}
	b.WriteString(errorsTail)
	return b.String()
}

// TestDocsErrors keeps docs/reference/errors.md as the code has it.
func TestDocsErrors(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "reference", "errors.md")
	if *update {
		if err := os.WriteFile(file, []byte(errorsPage()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != errorsPage() {
		t.Errorf("%s is stale (%v); run: go test ./internal/doctor -run Docs -update", file, err)
	}
}

// TestEveryCodeIsKnown looks for codes in the packages that use them.
func TestEveryCodeIsKnown(t *testing.T) {
	known := map[string]bool{}
	for _, d := range dataCodes {
		known[d[0]] = true
	}
	codes, by := Codes()
	for _, c := range codes {
		known[c] = true
		if by[c].Title == "" || by[c].Box == "" || by[c].Fix == "" {
			t.Errorf("%s lacks title, box or cure", c)
		}
	}
	used := regexp.MustCompile(`"(PR-D\d\d)"|c\.add\("([A-Z0-9_]+)"|(?:warn|finding|one|some)\("([A-Z0-9_]+)"|Code: +"([A-Z0-9_]+)"`)
	seen := 0
	for _, dir := range []string{".", "../ports", "../nat", "../firewall", "../../ftp"} {
		files, _ := filepath.Glob(filepath.Join(dir, "*.go"))
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			src, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range used.FindAllStringSubmatch(string(src), -1) {
				code := m[1] + m[2] + m[3] + m[4]
				seen++
				if !known[code] {
					t.Errorf("%s uses %s, which docs/reference/errors.md does not know", f, code)
				}
			}
		}
	}
	if seen < 80 {
		t.Fatalf("only %d uses were found: the search is broken", seen)
	}
}
