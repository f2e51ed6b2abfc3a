package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/store"
)

// sftpClient logs in over SSH.
func (r *rig) sftpClient(listener int, user string) *sftp.Client {
	r.t.Helper()
	conn, err := ssh.Dial("tcp", r.address(listener), &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.Password(testPassword)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	x, err := sftp.NewClient(conn)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { x.Close() })
	return x
}

// TestPanicEndsOneSession: a fault of the program in one session is told to
// its client and counted, and no other session notices.
func TestPanicEndsOneSession(t *testing.T) {
	metrics := freePort(t)
	r := prepare(t, fmt.Sprintf("[metrics]\naddress = \"127.0.0.1:%d\"\n", metrics)+listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)+listenTOML("sftp", "127.0.0.1:0", ""))
	broken := filepath.Join(r.dir, "broken")
	r.addUser(account.User{Name: "unlucky", Home: broken})
	r.run()
	// A storage that is none: whatever is asked of it is a nil pointer.
	ready := make(chan struct{})
	close(ready)
	r.s.storages.mu.Lock()
	r.s.storages.dirs[broken] = &openDir{ready: ready, refs: 1}
	r.s.storages.mu.Unlock()
	other := r.dial(0, ftp.ClientOptions{})
	for _, line := range []string{"SIZE f", "MKD d", "DELE f", "CWD /d", "LIST", "RETR f", "STOR f"} {
		l := dialRaw(t, r.address(0))
		l.expect("220")
		l.send("USER unlucky")
		l.expect("331")
		l.send("PASS " + testPassword)
		l.expect("230")
		data := strings.Contains("LIST RETR STOR", line[:4])
		if data {
			l.send("EPSV")
			l.expect("229")
		}
		l.send(line)
		reply, err := l.r.ReadString('\n')
		if err != nil || !strings.HasPrefix(reply, "421 ") && !(data && strings.HasPrefix(reply, "4")) || !strings.Contains(reply, "fault of its own") {
			t.Errorf("%s: %q, %v", line, reply, err)
		}
		if strings.HasPrefix(reply, "421") {
			l.eof()
		}
		l.c.Close()
	}
	conn, err := ssh.Dial("tcp", r.address(1), &ssh.ClientConfig{User: "unlucky", Auth: []ssh.AuthMethod{ssh.Password(testPassword)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if x, err := sftp.NewClient(conn); err == nil {
		if _, err := x.Stat("/f"); err == nil {
			t.Error("SFTP: something is there where there is no storage")
		}
	}
	conn.Wait() // the server ends the connection
	put(t, other, "/fine", []byte("not concerned"))
	r.dial(0, ftp.ClientOptions{})
	contains(t, r.logs.String(), "fault in the server", "nil pointer", "goroutine ", "because of a bug")
	page := r.page(metrics)
	contains(t, page, `portreeve_failures_total{code="internal"`)
}

// page is the metrics page.
func (r *rig) page(port int) string {
	r.t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
	b, err := io.ReadAll(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// TestManyBrokenReloads: thirty files with a mistake each. What ran goes on
// with what it had, and the metric says that the file is not in force.
func TestManyBrokenReloads(t *testing.T) {
	metrics := freePort(t)
	r := start(t, fmt.Sprintf("[metrics]\naddress = \"127.0.0.1:%d\"\n", metrics)+listenTOML("ftp", fmt.Sprintf("127.0.0.1:%d", freePort(t)), "tls = \"offered\"\nbanner = \"Old sign.\""))
	good := r.toml
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := func(name, text string) string {
		p := filepath.Join(r.dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	cert, err := os.ReadFile(filepath.Join(r.dir, "data", "tls", selfSigned))
	pair := file("half.pem", string(cert)) // a certificate without its key
	broken := []string{
		"", "\x00", "[", "x", "data_dir", "data_dir = ", "data_dir = 7\n" + good, good + good, good[:len(good)/2],
		good + "[limits]\nmax_connections = \"many\"\n", good + "[limits]\nmax_connections = -1\n", good + "[limits]\nban_time = \"soon\"\n", good + "[limits]\ndeny = [\"10.0.0.0/99\"]\n",
		good + "unknown = 1\n", good + "[unknown]\n", good + "[ftp]\nidle_timeout = \"0s\"\n", good + "[log]\nlevel = \"loud\"\n", good + "[drain]\n",
		good + "[tls]\ncert = \"/nowhere\"\nkey = \"/nowhere\"\n", good + "[tls]\ncert = \"" + pair + "\"\nkey = \"" + pair + "\"\n", good + "[tls]\ncert = \"" + file("junk.pem", "junk") + "\"\nkey = \"" + pair + "\"\n",
		good + "[tls]\nmin_version = \"1.0\"\n", good + "[tls]\nclient_ca = \"" + file("empty.pem", "") + "\"\n",
		good + listenTOML("ftp", taken.Addr().String(), `tls = "off"`), good + listenTOML("ftp", "192.0.2.1:2121", ""), good + listenTOML("ftp", "nowhere", ""), good + listenTOML("gopher", "127.0.0.1:0", ""),
		good + listenTOML("ftp", "127.0.0.1:0", `tls = "maybe"`), good + listenTOML("ftp", "127.0.0.1:70000", ""),
		good + "[[hook]]\nname = \"h\"\non = [\"upload\"]\ndeliver = \"program\"\nprogram = [\"" + file("tool", "no program") + "\"]\n",
		good + "[[hook]]\nname = \"h\"\non = [\"explode\"]\ndeliver = \"webhook\"\nurl = \"https://example.org\"\n", good + "[[task]]\nname = \"t\"\ndo = \"sweep\"\nschedule = \"61 * * * *\"\n",
		good + "[sftp]\ntrusted_user_ca = \"" + pair + "\"\n", strings.Replace(good, "ports = ", "ports = \"9-1\" # ", 1),
	}
	if err != nil || len(broken) < 30 {
		t.Fatalf("only %d files, %v", len(broken), err)
	}
	l := dialRaw(t, r.address(0))
	l.expect("220")
	l.login()
	for _, text := range broken {
		r.write(text)
		if rep, err := r.s.Reload(t.Context()); err == nil {
			t.Errorf("accepted with %+v:\n%s", rep, strings.TrimPrefix(text, good))
		}
		if n := len(r.s.Status().Listeners); n != 1 {
			t.Fatalf("%d listeners after\n%s", n, text)
		}
	}
	contains(t, r.page(metrics), "portreeve_config_stale 1")
	contains(t, strings.Join(r.s.Status().Warnings, "\n"), "the last reload was refused")
	l.send("NOOP")
	l.expect("200")
	if got := dialRaw(t, r.address(0)).expect("220"); !strings.Contains(got, "Old sign.") {
		t.Errorf("the greeting is %q", got)
	}
	r.write(good)
	if _, err := r.s.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	contains(t, r.page(metrics), "portreeve_config_stale 0")
	if all := strings.Join(r.s.Status().Warnings, "\n"); strings.Contains(all, "the last reload") {
		t.Errorf("a good reload leaves %s", all)
	}
}

// TestDamagedDatabaseIsRefused: the server does not start with a database that
// is not whole, says which and what to do, and leaves it as it is.
func TestDamagedDatabaseIsRefused(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	name := filepath.Join(r.dir, "data", store.FileName)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	shot := bytes.Clone(whole)
	for i := 4096 + 200; i < len(shot) && i < 40_000; i++ {
		shot[i] ^= 0x5a
	}
	for what, b := range map[string][]byte{
		"truncated to one page": whole[:4096], "truncated within a page": whole[:len(whole)/2+100], "another file": []byte(strings.Repeat("not a database ", 1000)), "overwritten within": shot,
	} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := New(r.config(), r.options())
		if err == nil {
			s.Close()
			t.Errorf("%s: the server starts", what)
			continue
		}
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the message does not name the file: %v", what, err)
		}
		if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, b) {
			t.Errorf("%s: the file was changed (%v)", what, err)
		}
	}
	if err := os.WriteFile(name, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	r.run() // the file put back
	r.dial(0, ftp.ClientOptions{})
}

// TestErrorAtSync: the storage goes away between the last byte and the commit.
// The client is not told that its file is there, the quota is given back, and
// nothing is left open.
func TestErrorAtSync(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	remote, hang, _ := remoteDir(t)
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)+listenTOML("sftp", "127.0.0.1:0", ""))
	r.addUser(account.User{Name: "far", Home: remote, Quota: account.Quota{Bytes: 1 << 20}})
	r.run()
	c, err := ftp.Dial(t.Context(), r.address(0), ftp.ClientOptions{Timeout: 20 * time.Second})
	if err == nil {
		err = c.Login(t.Context(), "far", testPassword)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	x := r.sftpClient(1, "far")
	f, err := x.Create("/by-sftp")
	if err != nil {
		t.Fatal(err)
	}
	f.Write(make([]byte, 1000))
	in, out := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Store(context.Background(), "/by-ftp", in, 0)
		sent <- err
	}()
	out.Write(make([]byte, 100_000))
	eventually(t, "the uploads to run", func() bool { return r.s.Status().Transfers == 2 })
	hang() // so that no write is on its way when the storage goes
	killPeer(t, remote)
	out.Close()
	var fe *ftp.Error
	if err := <-sent; !errors.As(err, &fe) || fe.Code != 451 {
		t.Errorf("FTP is told %v", err)
	}
	if err := f.Close(); err == nil {
		t.Error("SFTP is told that its file is closed")
	}
	eventually(t, "both to be over", func() bool { return r.s.Status().Transfers == 0 })
	if b, n, err := r.s.db.QuotaUsed(t.Context(), "far"); b != 0 || n != 0 || err != nil {
		t.Errorf("%d octets in %d files are booked (%v)", b, n, err)
	}
	scope := r.s.limits.Quota("far", account.Quota{Bytes: 1 << 20})
	defer scope.Release(t.Context())
	if u, err := scope.Usage(t.Context()); err != nil || u.UsedBytes != 0 {
		t.Errorf("%+v, %v", u, err)
	}
	r.dial(0, ftp.ClientOptions{})
}

// openFilesIn counts the descriptors below a directory.
func openFilesIn(dir string) (n int) {
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, dir+"/") {
			n++
		}
	}
	return n
}

// fullDisk is the test inside the namespace: eight writers and a small disk.
func fullDisk(t *testing.T) {
	const writers, each = 8, 4 << 20
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)+listenTOML("sftp", "127.0.0.1:0", "")+"[limits]\nper_address = 0\nhalf_open = 0\n")
	disk := filepath.Join(r.dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	mountSmall(t, disk, "16m")
	for i := range writers {
		r.addUser(account.User{Name: fmt.Sprintf("w%d", i), Home: filepath.Join(disk, fmt.Sprint(i)), Quota: account.Quota{Bytes: 1 << 30}})
	}
	r.run()
	clients := make([]*ftp.Client, writers)
	for i := range clients {
		c, err := ftp.Dial(t.Context(), r.address(0), ftp.ClientOptions{Timeout: 20 * time.Second})
		if err == nil {
			err = c.Login(t.Context(), fmt.Sprintf("w%d", i), testPassword)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients[i] = c
	}
	x := r.sftpClient(1, "w0")
	before := openFilesIn(disk)
	var wg sync.WaitGroup
	var mu sync.Mutex
	stored := map[int]int64{}
	full := 0
	for i, c := range clients {
		wg.Go(func() {
			for n := range 3 {
				_, err := c.Store(context.Background(), fmt.Sprintf("/f%d", n), bytes.NewReader(bytes.Repeat([]byte{1}, each)), 0)
				var fe *ftp.Error
				mu.Lock()
				switch {
				case err == nil:
					stored[i] += each
				case errors.As(err, &fe) && fe.Code == 452 && strings.Contains(fe.Message, "disk is full"):
					full++
				default:
					t.Errorf("writer %d is told %v", i, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if full == 0 {
		t.Error("nobody was told that the disk is full")
	}
	// What is left of it goes to one file over SFTP, which does not fit.
	f, err := x.Create("/by-sftp")
	if err == nil {
		_, err = f.Write(bytes.Repeat([]byte{1}, 20<<20))
		f.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("SFTP is told %v", err)
	}
	put(t, r.dial(0, ftp.ClientOptions{}), "/elsewhere", make([]byte, 1<<20))
	for i, c := range clients {
		var listed int64
		for e, err := range c.MachineList(t.Context(), "/") {
			if err != nil {
				t.Fatalf("a listing on the full disk: %v", err)
			}
			if !e.Mode.IsDir() {
				listed += e.Size
			}
		}
		if listed != stored[i] {
			t.Errorf("writer %d has %d octets, %d were acknowledged", i, listed, stored[i])
		}
	}
	if files, _ := filepath.Glob(filepath.Join(disk, "*", ".*")); len(files) > 0 {
		t.Errorf("left behind: %v", files)
	}
	eventually(t, "the descriptors to be closed", func() bool { runtime.GC(); return openFilesIn(disk) <= before })
	for i := range clients {
		name := fmt.Sprintf("w%d", i)
		eventually(t, "the books of "+name, func() bool {
			b, _, err := r.s.db.QuotaUsed(t.Context(), name)
			return err == nil && b == stored[i]
		})
	}
	for i, c := range clients { // room again
		if stored[i] > 0 {
			if err := c.Remove(t.Context(), "/f0"); err == nil {
				put(t, c, "/again", make([]byte, each))
				break
			}
		}
	}
}

// TestDiskFull runs in a mount namespace of its own.
func TestDiskFull(t *testing.T) {
	if inNamespaces(t) {
		fullDisk(t)
	}
}

// TestClientVanishes runs in a network namespace whose link goes down under a
// client that uploads and one that does nothing: no FIN, no reset, nothing.
func TestClientVanishes(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	r := start(t, "[ftp]\nstall_timeout = \"1s\"\nidle_timeout = \"2s\"\n[sftp]\nkeep_alive = \"1s\"\nidle_timeout = \"2s\"\n"+listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)+listenTOML("sftp", "127.0.0.1:0", ""))
	idle := dialRaw(t, r.address(0))
	idle.expect("220")
	idle.login()
	x := r.sftpClient(1, testUser)
	f, err := x.Create("/half-sftp")
	if err != nil {
		t.Fatal(err)
	}
	f.Write(make([]byte, 1<<20))
	busy := r.dial(0, ftp.ClientOptions{})
	in, out := io.Pipe()
	go busy.Store(context.Background(), "/half-ftp", in, 0)
	out.Write(make([]byte, 1<<20))
	put(t, r.dial(0, ftp.ClientOptions{}), "/big", make([]byte, 32<<20))
	down := r.dial(0, ftp.ClientOptions{})
	rd, err := down.Retrieve(t.Context(), "/big", 0)
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(rd, make([]byte, 1<<20))
	eventually(t, "the transfers to run", func() bool { return r.s.Status().Transfers == 3 })
	ipCommand(t, "link", "set", "lo", "down")
	eventually(t, "the server to give all of them up", func() bool { st := r.s.Status(); return st.Sessions == 0 && st.Transfers == 0 })
	for _, name := range []string{"half-ftp", "half-sftp"} {
		if _, err := os.Stat(filepath.Join(r.home, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("half a file is visible: %v", err)
		}
	}
	out.CloseWithError(io.ErrClosedPipe)
	ipCommand(t, "link", "set", "lo", "up")
	get(t, r.dial(0, ftp.ClientOptions{}), "/big")
}

// TestPanicInSharedPart: a fault in what all sessions share is caught by
// nobody. The process ends with a failure and says why, for whoever starts it again.
func TestPanicInSharedPart(t *testing.T) {
	if os.Getenv(insideVar) == t.Name() {
		r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
		r.run(func(context.Context, *Server) error { panic("injected") })
		time.Sleep(time.Minute)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), insideVar+"="+t.Name(), "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "panic: injected") {
		t.Errorf("the process ends with %v:\n%s", err, out)
	}
}
