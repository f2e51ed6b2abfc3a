package security

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/sandbox"
)

// TestTakenOverProcessReachesNoOtherFiles is design rule 15: assume a bug
// remains. The server runs in a process of its own, which cannot leave its
// sandbox again; what a bug would let an attacker do is done there by system
// calls, beside sessions that work.
func TestTakenOverProcessReachesNoOtherFiles(t *testing.T) {
	if dir := os.Getenv("SANDBOX_DIR"); dir != "" {
		insideSandbox(t, dir)
		return
	}
	dir, err := os.MkdirTemp("", "box") // short, for the sake of the control socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, d := range []string{"tmp", "outside", "outside/bob"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "outside", "secret"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), "SANDBOX_DIR="+dir, "TMPDIR="+filepath.Join(dir, "tmp"))
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func insideSandbox(t *testing.T, dir string) {
	outside := filepath.Join(dir, "outside")
	secret := filepath.Join(outside, "secret")
	work := filepath.Join(dir, "tmp", "w")
	srv := filepath.Join(work, "srv")
	if err := os.MkdirAll(srv, 0o755); err != nil {
		t.Fatal(err)
	}
	mode := "required"
	if sandbox.ABI() < 2 {
		mode = "auto" // the server must go on, and say so
	}
	r := run(t, work, "", "[security]\nlandlock = \""+mode+"\"\nroots = ['"+srv+"']\n", account.User{Name: "bob", Home: filepath.Join(outside, "bob")}, account.User{Name: "new", Home: filepath.Join(srv, "new")})
	ann := r.login("ann")
	if reply := ann.store("STOR f", strings.Repeat("x", 1<<20)); !strings.HasPrefix(reply, "226") {
		t.Errorf("an upload within the sandbox: %s", reply)
	}
	ann.do("MKD d", "257")
	ann.do("RNFR f", "350")
	ann.do("RNTO d/f", "250") // Landlock's oldest form forbade this
	if data, reply := ann.fetch("RETR d/f"); len(data) != 1<<20 || !strings.HasPrefix(reply, "226") {
		t.Errorf("a download within the sandbox: %d bytes, %s", len(data), reply)
	}
	r.login("new") // its home is made now, below a root
	if mode == "auto" {
		if !strings.Contains(r.logs.String(), "Landlock is not in force") {
			t.Error("the log does not say that there is no Landlock")
		}
		return
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
	}
	var wg sync.WaitGroup
	for range 8 { // threads made before and after the sandbox
		wg.Go(func() {
			_, err := syscall.Open(secret, syscall.O_RDONLY, 0)
			refused("open", err)
			_, err = syscall.Open(filepath.Join(outside, "new"), syscall.O_CREAT|syscall.O_WRONLY, 0o600)
			refused("create", err)
			refused("unlink", syscall.Unlink(secret))
		})
	}
	wg.Wait()
	refused("/etc/shadow", func() error { _, err := os.ReadFile("/etc/shadow"); return err }())

	bob := r.connect(clear)
	bob.want("220")
	bob.do("USER bob", "331")
	bob.do("PASS "+password, "421")
	if log := r.logs.String(); !strings.Contains(log, "outside security.roots") || !strings.Contains(log, "bob") {
		t.Errorf("the log does not name the account whose home cannot be opened:\n%s", log)
	}
	reloads(t, r, work, outside)
}

// reloads: one that the sandbox permits works, another is refused with the reason.
func reloads(t *testing.T, r *rig, work, outside string) {
	t.Helper()
	old := r.s.Config()
	for _, tt := range []struct {
		anonymous string
		want      string
	}{{filepath.Join(work, "srv"), ""}, {outside, "restart the server"}} {
		text := "data_dir = '" + old.DataDir + "'\n[anonymous]\nenabled = true\nhome = '" + tt.anonymous + "'\n[security]\nroots = ['" + filepath.Join(work, "srv") + "']\n"
		for _, l := range r.s.Status().Listeners {
			text += "[[listen]]\nname = '" + l.Name + "'\nprotocol = 'ftp'\naddress = '127.0.0.1:0'\n"
		}
		cfg, err := config.Parse(filepath.Join(work, "portreeve.toml"), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		r.load = func() (*config.Config, error) { return cfg, nil }
		_, err = r.s.Reload(t.Context())
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("reload with anonymous.home %s: %v", tt.anonymous, err)
		}
	}
}
