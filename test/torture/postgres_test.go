//go:build postgres

package torture

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// postgres runs a database server of its own; stop and resume are for all of
// its processes.
func postgres(t *testing.T) (url string, stop, resume func()) {
	t.Helper()
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		t.Fatal("PostgreSQL is needed; test/tools/install gets it")
	}
	dir, err := os.MkdirTemp("", "pg") // short, for its socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	as := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 { // it refuses root
		u, err := osuser.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	data, log := filepath.Join(dir, "data"), filepath.Join(dir, "log")
	run := func(name string, args ...string) {
		t.Helper()
		c := exec.Command(filepath.Join(bins[len(bins)-1], name), args...)
		c.SysProcAttr, c.Dir = as, dir
		if err := c.Run(); err != nil {
			b, _ := os.ReadFile(log)
			t.Fatalf("%s: %v\n%s", name, err, b)
		}
	}
	port := freePort(t)
	run("initdb", "-D", data, "-A", "trust", "-U", "portreeve", "-N")
	run("pg_ctl", "-D", data, "-l", log, "-o", fmt.Sprintf("-p %d -k %s -c fsync=off -c listen_addresses=127.0.0.1", port, dir), "-w", "start")
	pid, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	main, _, _ := strings.Cut(string(pid), "\n")
	signal := func(s syscall.Signal) {
		children, _ := os.ReadFile("/proc/" + main + "/task/" + main + "/children")
		for _, p := range append([]string{main}, strings.Fields(string(children))...) {
			if n, err := strconv.Atoi(p); err == nil {
				syscall.Kill(n, s)
			}
		}
	}
	t.Cleanup(func() {
		signal(syscall.SIGCONT)
		run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
	})
	return fmt.Sprintf("postgres://portreeve@127.0.0.1:%d/postgres?sslmode=disable", port), func() { signal(syscall.SIGSTOP) }, func() { signal(syscall.SIGCONT) }
}

// TestPostgresStops: the database server is stopped in the middle (SIGSTOP: it
// takes connections and never answers). Sessions go on; a new log-in is told
// 421 within seconds; all is well when it goes on.
func TestPostgresStops(t *testing.T) {
	url, stop, resume := postgres(t)
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte(url+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, 1, "")
	b, err := os.ReadFile(w.config())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.config(), append([]byte(fmt.Sprintf("database_url_file = %q\n", file)), b...), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	add := exec.Command(binary, "--config", w.config(), "user", "add", user(0), "--home", w.home(0), "--quota-bytes", "1GiB", "--password-stdin")
	add.Stdin = strings.NewReader(password + "\n")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c, err := w.login(0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	up := func(name string) {
		t.Helper()
		if _, err := c.Store(w.ctx(), name, bytes.NewReader(noise(100_000)), 0); err != nil {
			t.Fatalf("an upload of an established session: %v", err)
		}
	}
	up("/before")
	stop()
	up("/first") // waits for the books once
	began := time.Now()
	for range 5 {
		up("/more")
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("five uploads took %s while the database stood still", d)
	}
	began = time.Now()
	nc, err := net.Dial("tcp", w.address())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(nc, "USER %s\r\nPASS %s\r\n", user(0), password)
	var said bytes.Buffer
	said.ReadFrom(nc) // until the server closes
	if d := time.Since(began); !strings.Contains(said.String(), "\n421 ") || d > 6*time.Second {
		t.Errorf("a new log-in is told after %s:\n%s", d, &said)
	}
	resume()
	var d *ftp.Client
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if d, err = w.login(0); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no log-in when the database goes on: %v", err)
		}
	}
	d.Quit(w.ctx())
	up("/after")
	c.Quit(w.ctx())
	_, octets := w.visible(0)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out, err := w.portreeve("quota", "show", user(0), "--json")
		if err == nil && strings.Contains(out, fmt.Sprint(octets)) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the books do not say %d octets: %v\n%s", octets, err, out)
		}
	}
}
