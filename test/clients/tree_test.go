//go:build clients

package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// treeMode is one way to move the tree.
type treeMode struct {
	tls  string // plain, explicit or implicit
	data string // the command that opens data connections: PASV, EPSV, PORT or EPRT
	host string
}

func (m treeMode) name() string {
	family := "IPv4"
	if m.host == "::1" {
		family = "IPv6"
	}
	return m.tls + "-" + m.data + "-" + family
}

func (m treeMode) passive() bool { return m.data == "PASV" || m.data == "EPSV" }

func (m treeMode) scheme() string {
	if m.tls == "implicit" {
		return "ftps"
	}
	return "ftp"
}

// treeModes are all combinations that exist: PASV and PORT speak IPv4 alone.
func treeModes() []treeMode {
	var all []treeMode
	for _, tls := range []string{"plain", "explicit", "implicit"} {
		for _, data := range []string{"PASV", "EPSV", "PORT", "EPRT"} {
			all = append(all, treeMode{tls, data, "127.0.0.1"})
		}
		for _, data := range []string{"EPSV", "EPRT"} {
			all = append(all, treeMode{tls, data, "::1"})
		}
	}
	return all
}

// upload is the mode of lftp for a mode: it has EPRT for IPv6 alone, so what
// goes down by EPRT over IPv4 went up by PORT.
func (m treeMode) upload() treeMode {
	if m.data == "EPRT" && m.host == "127.0.0.1" {
		m.data = "PORT"
	}
	return m
}

var tlsKeys = map[string]string{"plain": `tls = "off"`, "explicit": `tls = "required"`, "implicit": ""}

// TestTree moves the sources of the Go toolchain up with lftp and down with
// ftplib, in every mode, and compares each byte. The server's own log of the
// commands proves that the mode was the one that is meant. (curl 7.88 sleeps a
// second before many of its parallel transfers and has no TLS on active data
// connections; TestClients has it in every mode, with fewer files.) With -short the
// tree is a part of the sources.
func TestTree(t *testing.T) {
	for _, tool := range []string{"lftp", "python3"} {
		Tool(t, tool, tool)
	}
	src, want := sources(t)
	c := Config{ForgetLog: true, Extra: "[ftp]\ntls_records = \"standard\"\n"}
	for _, m := range treeModes() {
		// A listener for each mode lets the log tell them apart.
		c.Listen = append(c.Listen, Listener{Name: m.name(), Protocol: m.scheme(), Host: m.host, Keys: tlsKeys[m.tls]})
	}
	s := Start(t, c)
	u := s.AddUser(t, "ann")
	// Each client keeps about one core busy, and the server does so with it.
	slots := make(chan struct{}, max(2, runtime.NumCPU()))
	t.Run("modes", func(t *testing.T) {
		for _, up := range treeModes() {
			if up.upload() != up {
				continue
			}
			t.Run(up.name(), func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				treeUp(t, s, u, up, src, want)
				for _, down := range treeModes() {
					if down.upload() == up {
						treeDown(t, s, u, down, want)
					}
				}
			})
		}
	})
}

// sources is the tree that moves: that of the whole toolchain, or a part of it
// with -short.
func sources(t *testing.T) (dir string, tree Tree) {
	t.Helper()
	dir, least := filepath.Join(runtime.GOROOT(), "src"), 5000
	if testing.Short() {
		dir, least = filepath.Join(dir, "net"), 300
	}
	tree = ReadTree(t, dir)
	if n := len(tree.Files()); n < least {
		t.Fatalf("%s has only %d files; the test needs the sources of the Go toolchain there", dir, n)
	}
	return dir, tree
}

// remote is the directory of the tree that goes up in a mode.
func (m treeMode) remote() string { return "/" + m.upload().name() }

// treeUp mirrors the tree with lftp.
func treeUp(t *testing.T, s *Server, u User, m treeMode, src string, want Tree) {
	set := []string{
		// A lost connection or a failed file must show, so nothing is tried again.
		"set net:max-retries 1", "set net:timeout 60", "set cmd:fail-exit yes",
		"set ftp:passive-mode " + onOff(m.passive()),
		"set ftp:prefer-epsv " + onOff(m.data == "EPSV"),
		"set ssl:ca-file " + s.caFile(),
	}
	switch m.tls {
	case "plain":
		set = append(set, "set ftp:ssl-allow no")
	case "explicit":
		set = append(set, "set ftp:ssl-force yes", "set ftp:ssl-protect-data yes")
	}
	script := strings.Join(set, "; ") + fmt.Sprintf("; open -u %s,%s %s://%s; mirror -R --parallel=6 --no-perms %s %s",
		u.Name, u.Password, m.scheme(), s.Addr(m.name()), src, m.remote())
	begin := time.Now()
	Cmd{Args: []string{"lftp", "-c", script}, Dir: TempDir(t), Timeout: treePatience}.Must(t)
	took := time.Since(begin)
	if d := want.Diff(ReadTree(t, filepath.Join(u.Home, m.remote()))); d != "" {
		t.Fatalf("the uploaded tree is another one:\n%s", d)
	}
	onlyMode(t, s, m, len(want.Files()))
	t.Logf("%s: %d files up in %v", m.name(), len(want.Files()), took.Round(100*time.Millisecond))
}

const treePatience = 10 * time.Minute

// treeDown fetches every file of the tree.
func treeDown(t *testing.T, s *Server, u User, m treeMode, want Tree) {
	dir := TempDir(t)
	local := filepath.Join(dir, "down")
	if err := os.Mkdir(local, 0o755); err != nil {
		t.Fatal(err)
	}
	before := s.Log.Count(m.name(), m.data)
	begin := time.Now()
	ftplibDown(t, s, u, m, want, dir, local)
	took := time.Since(begin)
	got := ReadTree(t, local)
	for p, sum := range want {
		// Empty directories are not fetched.
		if _, ok := got[p]; !ok && sum == "dir" {
			got[p] = "dir"
		}
	}
	if d := want.Diff(got); d != "" {
		t.Fatalf("the downloaded tree is another one:\n%s", d)
	}
	onlyMode(t, s, m, before+len(want.Files()))
	t.Logf("%s: %d files down in %v", m.name(), len(want.Files()), took.Round(100*time.Millisecond))
	os.RemoveAll(local)
}

// onlyMode fails unless the listener saw its own command open at least so
// many data connections, no other one, and TLS where it belongs.
func onlyMode(t *testing.T, s *Server, m treeMode, atLeast int) {
	t.Helper()
	for _, verb := range []string{"PASV", "EPSV", "PORT", "EPRT"} {
		n := s.Log.Count(m.name(), verb)
		if verb == m.data && n < atLeast {
			t.Errorf("%s: %s was sent %d times, want %d", m.name(), verb, n, atLeast)
		}
		if verb != m.data && n > 0 {
			t.Errorf("%s: the client sent %s %d times", m.name(), verb, n)
		}
	}
	if got := s.Log.Replies(m.name(), "234") > 0; got != (m.tls == "explicit") {
		t.Errorf("%s: AUTH TLS was accepted: %v", m.name(), got)
	}
	if n := s.Log.Count(m.name(), "PROT"); m.tls == "plain" && n > 0 {
		t.Errorf("%s: PROT was sent %d times", m.name(), n)
	}
}

// caFile is the server's certificate, which the TLS clients verify.
func (s *Server) caFile() string { return filepath.Join(s.Dir, "data", "tls", "selfsigned-cert.pem") }

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// ftplibDown uses two processes, as one cannot keep its control connections
// busy at the same time.
func ftplibDown(t *testing.T, s *Server, u User, m treeMode, want Tree, dir, local string) {
	t.Helper()
	const processes = 2
	var lists [processes]strings.Builder
	for i, p := range want.Files() {
		lists[i%processes].WriteString(p + "\n")
	}
	var wg sync.WaitGroup
	for i := range lists {
		wg.Go(func() {
			r := Cmd{Args: []string{"python3", testdata(t, "tree.py"), m.tls, m.host, fmt.Sprint(s.Port(m.name())), m.data, u.Name, u.Password, s.caFile(), m.remote(), local},
				Dir: dir, Stdin: lists[i].String(), Timeout: treePatience}.Run(t)
			if r.Err != nil {
				t.Errorf("%s: ftplib: %v\n%s", m.name(), r.Err, clip(r.Text(), 4000))
			}
		})
	}
	wg.Wait()
}

// testdata is the absolute path of a file of this package.
func testdata(t *testing.T, name string) string {
	p, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Error(err)
	}
	return p
}
