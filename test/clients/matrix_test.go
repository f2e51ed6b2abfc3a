//go:build clients

package clients

import (
	"bytes"
	"flag"
	"fmt"
	"html"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// op is one thing that a person does with a client. Remote paths are absolute,
// local ones relative to the client's directory.
type op struct{ verb, a, b string }

// env is where a client works.
type env struct {
	t    *testing.T
	s    *Server
	u    User
	tls  string // plain, explicit or implicit
	on   string // name of the listener
	dir  string // working directory
	addr string // host:port
	port string
}

// client is a program that people use.
type client struct {
	name  string
	tools []string // "command package" each
	tls   string   // the protections that it knows
	verbs string   // what it can do of put get list mkdir rmdir rename delete reget reput
	// resumes says that its data connections resume the TLS session of their
	// control connection, so that it works with data_session = "require".
	resumes bool
	not     []string // file names that the client itself cannot handle
	unsent  []string // files that it cannot upload over TLS
	note    string   // for the reference page
	run     func(e env, ops []op) Result
}

const everything = "put get list mkdir rmdir rename delete reget reput"

func (c client) can(verb string) bool { return slices.Contains(strings.Fields(c.verbs), verb) }

// oddNames are the files of the exercise. The names try each quoting rule.
var oddNames = []string{"plain.txt", "with space.txt", "-dash.txt", `quote"s and 'more'.txt`, "ünï-日本語.txt", "100% #1;&.txt", "empty", "big.bin"}

func content(name string) []byte {
	switch name {
	case "empty":
		return nil
	case "big.bin":
		b := make([]byte, 5<<20)
		rand.NewChaCha8([32]byte{7}).Read(b)
		return b
	}
	// All line ends, so that a transfer in text mode shows.
	return []byte("one\r\ntwo\nthree\r" + name + "\x00\xff\n")
}

func portText(s *Server, listener string) string { return strconv.Itoa(s.Port(listener)) }

// matrixListeners is each protection with each policy on TLS sessions.
func matrixListeners() []Listener {
	return []Listener{
		{Name: "plain", Protocol: "ftp", Keys: `tls = "off"`},
		{Name: "explicit", Protocol: "ftp", Keys: `tls = "required"`},
		{Name: "implicit", Protocol: "ftps"},
		{Name: "explicit-require", Protocol: "ftp", Keys: "tls = \"required\"\ndata_session = \"require\""},
		{Name: "implicit-require", Protocol: "ftps", Keys: `data_session = "require"`},
	}
}

// TestClients lets each client do everything it can, in each protection it
// has, with its own defaults. Under data_session = "require" the clients that
// resume do the same, and the others are refused as the reference page says.
func TestClients(t *testing.T) {
	s := Start(t, Config{Listen: matrixListeners(), Extra: "[ftp]\ntls_records = \"own\"\n"}) // TestTree has the standard ones
	slots := make(chan struct{}, max(2, runtime.NumCPU()))
	t.Run("with", func(t *testing.T) {
		for _, c := range allClients() {
			for _, l := range matrixListeners() {
				tls, _, require := strings.Cut(l.Name, "-")
				if !slices.Contains(strings.Fields(c.tls), tls) {
					continue
				}
				t.Run(c.name+"/"+l.Name, func(t *testing.T) {
					t.Parallel()
					slots <- struct{}{}
					defer func() { <-slots }()
					for _, tool := range c.tools {
						cmd, debian, _ := strings.Cut(tool, " ")
						Tool(t, cmd, debian)
					}
					name := strings.Map(func(r rune) rune {
						if strings.ContainsRune(" ():", r) {
							return '_'
						}
						return r
					}, c.name+"-"+l.Name)
					e := env{t: t, s: s, tls: tls, on: l.Name, addr: s.Addr(l.Name), port: portText(s, l.Name)}
					e.u = s.AddUser(t, name)
					e.dir = TempDir(t)
					if require && !c.resumes {
						refused(e, c)
						return
					}
					exercise(e, c)
				})
			}
		}
	})
}

// refused checks that a client which does not resume gets 522 and no bytes.
func refused(e env, c client) {
	t := e.t
	writeFile(t, filepath.Join(e.u.Home, "down", "big.bin"), content("big.bin"))
	os.Mkdir(filepath.Join(e.dir, "out"), 0o755)
	r := c.run(e, []op{{"get", "/down/big.bin", "out/big.bin"}})
	dialog := e.s.Log.Dialog(e.u.Name)
	if !strings.Contains(dialog, "S: 522 ") {
		t.Fatalf("no 522 for a client that is listed as not resuming; it ended with %v\n%s\n%s", r.Err, r.Text(), dialog)
	}
	if b, err := os.ReadFile(filepath.Join(e.dir, "out/big.bin")); err == nil && len(b) > 0 {
		t.Fatalf("%d bytes arrived in spite of 522", len(b))
	}
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// exercise prepares files on both sides, runs everything at once, and then
// looks at the disk on both sides.
func exercise(e env, c client) {
	t := e.t
	half := content("big.bin")[:5<<20/2]
	var names []string
	for _, n := range oddNames {
		if !slices.Contains(c.not, n) {
			names = append(names, n)
		}
	}
	for _, n := range names {
		writeFile(t, filepath.Join(e.u.Home, "down", n), content(n))
		writeFile(t, filepath.Join(e.dir, "in", n), content(n))
	}
	writeFile(t, filepath.Join(e.u.Home, "half.bin"), half)
	writeFile(t, filepath.Join(e.dir, "out", "half.bin"), half)
	for _, d := range []string{"up", "empty-dir"} {
		if d == "up" && c.can("mkdir") {
			continue
		}
		if err := os.Mkdir(filepath.Join(e.u.Home, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}

	writeFile(t, filepath.Join(e.u.Home, "doomed"), half)
	ups := names
	if e.tls != "plain" {
		ups = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(c.unsent, n) })
	}
	ops := []op{{"mkdir", "/up", ""}}
	for _, n := range ups {
		ops = append(ops, op{"put", "in/" + n, "/up/" + n})
	}
	for _, n := range names {
		ops = append(ops, op{"get", "/down/" + n, "out/" + n})
	}
	ops = append(ops, op{"list", "/down", ""}, op{"rename", "/up/plain.txt", "/up/new name.txt"}, op{"delete", "/doomed", ""},
		op{"rmdir", "/empty-dir", ""}, op{"reget", "/down/big.bin", "out/half.bin"}, op{"reput", "in/big.bin", "/half.bin"})
	ops = slices.DeleteFunc(ops, func(o op) bool { return !c.can(o.verb) })
	r := c.run(e, ops)
	if r.Err != nil {
		t.Fatalf("%v\n%s\n%s", r.Err, clip(r.Text(), 4000), clip(e.s.Log.Dialog(e.u.Name), 8000))
	}
	checkExercise(e, c, names, ups, r)
	if t.Failed() {
		t.Logf("the client said:\n%s\nthe dialog:\n%s", clip(r.Text(), 4000), clip(e.s.Log.Dialog(e.u.Name), 12000))
	}
}

func checkExercise(e env, c client, names, ups []string, r Result) {
	t := e.t
	dialog := e.s.Log.Dialog(e.u.Name)
	if c.can("put") {
		want := map[string][]byte{}
		for _, n := range ups {
			want[n] = content(n)
		}
		if c.can("rename") {
			want["new name.txt"] = want["plain.txt"]
			delete(want, "plain.txt")
		}
		checkDir(t, filepath.Join(e.u.Home, "up"), want)
	}
	if c.can("get") {
		for _, n := range names {
			checkFile(t, filepath.Join(e.dir, "out", n), content(n))
		}
	}
	if c.can("list") {
		for _, n := range names {
			// wget shows a listing as HTML.
			if !strings.Contains(r.Stdout, n) && !strings.Contains(html.UnescapeString(r.Stdout), n) {
				t.Errorf("the listing lacks %q", n)
			}
		}
	}
	for verb, name := range map[string]string{"rmdir": "empty-dir", "delete": "doomed"} {
		if _, err := os.Lstat(filepath.Join(e.u.Home, name)); c.can(verb) && err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	if c.can("reget") {
		checkFile(t, filepath.Join(e.dir, "out", "half.bin"), content("big.bin"))
		if !strings.Contains(dialog, "C: REST 2621440") {
			t.Error("the download was not resumed at the middle")
		}
	}
	if c.can("reput") {
		checkFile(t, filepath.Join(e.u.Home, "half.bin"), content("big.bin"))
		if strings.Count(dialog, "C: REST 2621440") < 1 && !strings.Contains(dialog, "C: APPE ") {
			t.Error("the upload was not resumed at the middle")
		}
	}
	if e.tls != "plain" && !strings.Contains(dialog, "PROT P") && e.tls == "explicit" {
		t.Error("the client did not ask for protected data")
	}
}

func checkDir(t *testing.T, dir string, want map[string][]byte) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, d := range entries {
		if _, ok := want[d.Name()]; !ok {
			t.Errorf("%s holds %q, which nobody put there", filepath.Base(dir), d.Name())
		}
	}
	for n, b := range want {
		checkFile(t, filepath.Join(dir, n), b)
	}
}

func checkFile(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes that are not the %d expected", filepath.Base(path), len(got), len(want))
	}
}

var update = flag.Bool("update", false, "write docs/reference/clients.md anew")

// TestClientsReference keeps the reference page and the table of clients the same.
func TestClientsReference(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "reference", "clients.md")
	want := clientsPage()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Fatalf("%s is not what the table of clients says (%v); run: go test -tags clients ./test/clients -run Reference -update", path, err)
	}
}

func clientsPage() string {
	var b strings.Builder
	b.WriteString(`# Clients

<!-- Made from test/clients by "go test -tags clients ./test/clients -run Reference -update". Do not edit. -->

Each of these clients moves files to and from the server in the tests
("make clients"), with its own defaults, in every way of protection that it
has: files up, down and resumed, listings, directories, renames and deletes,
an empty file and one of 5 MiB, and names with spaces, quotes, a leading dash
and letters from other scripts.

The column *require* says whether the client works with
` + "`data_session = \"require\"`" + `: whether its data connections resume the TLS
session of their control connection. Where it says no, such a listener answers
each transfer with 522 and moves no byte; with "prefer", the default, the
client works.

| client | plain | explicit TLS | implicit TLS | require | remarks |
|---|---|---|---|---|---|
`)
	for _, c := range allClients() {
		cell := func(tls string) string {
			if slices.Contains(strings.Fields(c.tls), tls) {
				return "yes"
			}
			return ""
		}
		require := ""
		if c.tls != "plain" {
			require = "no"
			if c.resumes {
				require = "yes"
			}
		}
		var lacks []string
		for _, v := range []struct{ verb, text string }{{"put", "uploads"}, {"list", "listings"}, {"rename", "renames"}, {"delete", "deletes"}, {"mkdir", "directories"}, {"reget", "resumed downloads"}, {"reput", "resumed uploads"}} {
			if !c.can(v.verb) {
				lacks = append(lacks, v.text)
			}
		}
		note := c.note
		if len(lacks) > 0 {
			note = strings.TrimSpace("Without " + strings.Join(lacks, ", ") + ". " + note)
		}
		for _, n := range c.not {
			note = strings.TrimSpace(note + " It cannot handle the name `" + n + "`.")
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", c.name, cell("plain"), cell("explicit"), cell("implicit"), require, note)
	}
	b.WriteString(`
Known troubles of clients that no server can cure:

- curl 7.88 (Debian 12) never starts TLS on an active data connection, so that
  active mode with FTPS ends in a timeout; passive mode works.
- curl 7.88 waits a whole second before some passive transfers when one
  command names many files and the server answers at once: it then watches no
  socket at all. Several connections (--parallel) or a newer curl avoid it.
`)
	return b.String()
}
