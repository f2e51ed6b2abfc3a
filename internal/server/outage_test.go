package server

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/store"
)

// peers are the servers behind remoteDir, by its directory.
var peers sync.Map

// killPeer ends the server behind a remoteDir: calls fail from now on.
func killPeer(t *testing.T, dir string) {
	t.Helper()
	p, ok := peers.Load(dir)
	if !ok {
		t.Fatalf("%s is not mounted", dir)
	}
	p.(*os.Process).Kill()
}

// remoteDir mounts a directory by way of an SFTP server, as a network file
// system; hang stops that server, and resume lets it go on. It is for a test
// inside namespaces.
func remoteDir(t *testing.T) (dir string, hang, resume func()) {
	t.Helper()
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Logf("no right to mount: %v", err)
		os.Exit(notPermitted)
	} else {
		f.Close()
	}
	behind := t.TempDir()
	dir = filepath.Join(t.TempDir(), "remote")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var peer *exec.Cmd
	for _, p := range []string{"/usr/lib/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/openssh/sftp-server"} {
		if _, err := os.Stat(p); err == nil {
			peer = exec.Command(p)
		}
	}
	if peer == nil {
		t.Fatal("no sftp-server here; test/tools/install gets it")
	}
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	mine, its := os.NewFile(uintptr(ends[0]), "sshfs"), os.NewFile(uintptr(ends[1]), "sftp-server")
	peer.Stdin, peer.Stdout = its, its
	if err := peer.Start(); err != nil {
		t.Fatal(err)
	}
	mount := exec.Command("sshfs", "-f", "-o", "passive,dir_cache=no,attr_timeout=0,entry_timeout=0", "none:"+behind, dir)
	mount.Stdin, mount.Stdout = mine, mine
	var said strings.Builder
	mount.Stderr = &said
	if err := mount.Start(); err != nil {
		t.Fatal(err)
	}
	mine.Close()
	its.Close()
	t.Cleanup(func() {
		peer.Process.Signal(syscall.SIGCONT)
		peer.Process.Kill() // every call that hangs fails now
		peer.Wait()
		exec.Command("fusermount3", "-uz", dir).Run()
		mount.Process.Kill()
		mount.Wait()
	})
	eventually(t, "the mount", func() bool {
		a, err1 := os.Stat(dir)
		b, err2 := os.Stat(filepath.Dir(dir))
		return err1 == nil && err2 == nil && a.Sys().(*syscall.Stat_t).Dev != b.Sys().(*syscall.Stat_t).Dev || mount.ProcessState != nil
	})
	peers.Store(dir, peer.Process)
	return dir, func() { peer.Process.Signal(syscall.SIGSTOP) }, func() { peer.Process.Signal(syscall.SIGCONT) }
}

// TestStorageHangs: a network file system stops answering. Only those whose
// files are there notice; what hangs is bounded, told, and goes on afterwards.
func TestStorageHangs(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	remote, hang, resume := remoteDir(t)
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)+"[limits]\nper_user = 0\nper_address = 0\nhalf_open = 0\n")
	r.addUser(account.User{Name: "far", Home: remote})
	r.addUser(account.User{Name: "fresh", Home: filepath.Join(remote, "new")})
	r.run()
	as := func(user string) *ftp.Client {
		c, err := ftp.Dial(t.Context(), r.address(0), ftp.ClientOptions{Timeout: 30 * time.Second})
		if err == nil {
			err = c.Login(t.Context(), user, testPassword)
		}
		if err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	near := r.dial(0, ftp.ClientOptions{})
	far := make([]*ftp.Client, 40)
	for i := range far {
		far[i] = as("far")
	}
	put(t, far[0], "/f", []byte("before"))
	hang()
	stuck := make(chan error, len(far)+1)
	for _, c := range far[1:] {
		go func() { _, err := c.Size(context.Background(), "/f"); stuck <- err }()
	}
	go func() {
		c, err := net.Dial("tcp", r.address(0))
		if err != nil {
			stuck <- err
			return
		}
		defer c.Close()
		c.Write([]byte("USER fresh\r\nPASS " + testPassword + "\r\nQUIT\r\n"))
		b, _ := io.ReadAll(c)
		if !strings.Contains(string(b), "\n421 ") {
			err = errors.New(string(b))
		}
		stuck <- err
	}()
	eventually(t, "the storage to be told as stuck", func() bool { return r.s.storages.stuck() == 2 })
	put(t, near, "/here", []byte("not concerned"))
	r.dial(0, ftp.ClientOptions{}) // another log-in is not, either
	begin := time.Now()
	_, err := far[0].Size(t.Context(), "/f")
	var fe *ftp.Error
	if !errors.As(err, &fe) || fe.Code/100 != 4 || time.Since(begin) > 5*time.Second {
		t.Errorf("one call more than may hang: %v after %s", err, time.Since(begin))
	}
	resume()
	failed := 0
	for range far {
		if <-stuck != nil {
			failed++
		}
	}
	if failed > len(far)-32 {
		t.Errorf("%d calls failed that only had to wait", failed)
	}
	if got := get(t, far[0], "/f"); string(got) != "before" {
		t.Errorf("afterwards the file holds %q", got)
	}
	if n := r.s.storages.stuck(); n != 0 {
		t.Errorf("%d storages are told as stuck afterwards", n)
	}
}

// TestStopWithHungStorage: a second stop does not wait for a storage that
// does not answer.
func TestStopWithHungStorage(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	remote, hang, resume := remoteDir(t)
	defer resume()
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	r.addUser(account.User{Name: "far", Home: remote})
	r.run()
	l := dialRaw(t, r.address(0))
	l.expect("220")
	l.send("USER far")
	l.expect("331")
	l.send("PASS " + testPassword)
	l.expect("230")
	hang()
	l.send("SIZE f")
	time.Sleep(100 * time.Millisecond) // on its way into the kernel
	begin := time.Now()
	r.s.Stop("first")
	r.s.Stop("second")
	select {
	case err := <-r.done:
		r.done = nil
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(40 * time.Second):
		buf := make([]byte, 1<<20)
		t.Errorf("the server waits for the storage:\n%s", buf[:runtime.Stack(buf, true)])
	}
	t.Logf("ended after %s", time.Since(begin))
}

// TestDatabaseLocked: another process keeps the database to itself. Sessions go
// on, log-ins too (they only read), and the books are right afterwards.
func TestDatabaseLocked(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	r.addUser(account.User{Name: "counted", Home: filepath.Join(r.dir, "counted"), Quota: account.Quota{Bytes: 1 << 30}})
	r.run()
	login := func() *ftp.Client {
		c, err := ftp.Dial(t.Context(), r.address(0), ftp.ClientOptions{Timeout: 30 * time.Second})
		if err == nil {
			err = c.Login(t.Context(), "counted", testPassword)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	c := login()
	other, err := sql.Open("sqlite", filepath.Join(r.dir, "data", store.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "PRAGMA busy_timeout=5000; BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	put(t, c, "/first", []byte("0123456789")) // waits for the books once
	begin := time.Now()
	for range 5 {
		put(t, c, "/again", []byte("01234567890123456789"))
	}
	if d := time.Since(begin); d > 4*time.Second {
		t.Errorf("five uploads took %s while the database was locked", d)
	}
	begin = time.Now()
	login().Quit(t.Context())
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("a log-in took %s", d)
	}
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	c.Quit(t.Context())
	eventually(t, "the books to be written", func() bool {
		b, f, err := r.s.db.QuotaUsed(t.Context(), "counted")
		return err == nil && b == 30 && f == 2
	})
}
