package ftp

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dirBackend serves a real directory, as a session on local disk does: files
// of the operating system under a meter that always grants.
type dirBackend struct{ root string }

func (b dirBackend) Login(_ context.Context, _ *Conn, cred Credentials) (Session, error) {
	if !cred.Complete {
		return nil, ErrPassword
	}
	return dirSession{b.root}, nil
}

type dirSession struct{ root string }

func (s dirSession) host(name string) string { return filepath.Join(s.root, name) }

func (s dirSession) Stat(_ context.Context, name string) (Info, error) {
	i, err := os.Stat(s.host(name))
	if err != nil {
		return Info{}, err
	}
	return Info{Name: i.Name(), Size: i.Size(), Mode: i.Mode(), ModTime: i.ModTime()}, nil
}

func (s dirSession) List(context.Context, string) iter.Seq2[Info, error] {
	return func(func(Info, error) bool) {}
}

func (s dirSession) Open(_ context.Context, name string, offset int64) (Source, error) {
	f, err := os.Open(s.host(name))
	if err != nil {
		return nil, err
	}
	_, err = f.Seek(offset, io.SeekStart)
	return &dirFile{f: f}, err
}

func (s dirSession) Create(_ context.Context, name string, _ CreateOptions) (Sink, error) {
	f, err := os.Create(s.host(name))
	return &dirFile{f: f}, err
}

func (s dirSession) Mkdir(context.Context, string) error          { return fs.ErrPermission }
func (s dirSession) Remove(context.Context, string) error         { return fs.ErrPermission }
func (s dirSession) Rmdir(context.Context, string) error          { return fs.ErrPermission }
func (s dirSession) Rename(context.Context, string, string) error { return fs.ErrPermission }
func (s dirSession) Close(error)                                  {}

type dirFile struct {
	f     *os.File
	moved int64
}

func (d *dirFile) Read(p []byte) (int, error)                      { return d.f.Read(p) }
func (d *dirFile) Write(p []byte) (int, error)                     { return d.f.Write(p) }
func (d *dirFile) OSFile() *os.File                                { return d.f }
func (d *dirFile) Grant(_ context.Context, n int64) (int64, error) { return n, nil }
func (d *dirFile) Moved(n int64)                                   { d.moved += n }
func (d *dirFile) Commit(context.Context) error                    { return nil }
func (d *dirFile) Close(error) error                               { return d.f.Close() }
func (d *dirFile) Size() int64 {
	i, err := d.f.Stat()
	if err != nil {
		return -1
	}
	return i.Size()
}

// guardClient is the other process of the tests below: what the server's own
// process reads and writes can only be counted when the client is not in it.
func TestMain(m *testing.M) {
	if job := os.Getenv("PORTREEVE_TEST_CLIENT"); job != "" {
		if err := guardClient(strings.Fields(job)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func guardClient(job []string) error {
	ctx := context.Background()
	o := ClientOptions{TLSConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "ftp.test"}}
	if job[1] == "tls" {
		o.TLS = ExplicitTLS
	}
	c, err := Dial(ctx, job[0], o)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Login(ctx, "ann", "secret"); err != nil {
		return err
	}
	size, _ := strconv.ParseInt(job[4], 10, 64)
	times, _ := strconv.Atoi(job[3])
	for range times {
		if job[2] == "STOR" {
			if _, err := c.Store(ctx, "up", io.LimitReader(zeroReader{}, size), 0); err != nil {
				return err
			}
			continue
		}
		r, err := c.Retrieve(ctx, "file", 0)
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, r)
		if cerr := r.Close(); err != nil || cerr != nil || n != size {
			return fmt.Errorf("got %d of %d bytes: %v, %v", n, size, err, cerr)
		}
	}
	fmt.Print("done")
	io.Copy(io.Discard, os.Stdin)
	return c.Quit(ctx)
}

// systemCalls returns how many reads and writes this process has made.
func systemCalls(t *testing.T) (reads, writes int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		name, n, _ := strings.Cut(strings.TrimSpace(l), ": ")
		switch v, _ := strconv.ParseInt(n, 10, 64); name {
		case "syscr":
			reads = v
		case "syscw":
			writes = v
		}
	}
	return reads, writes
}

// moved runs a client process and returns the server's calls meanwhile. The
// kernel adds a child's calls to its parent's when the parent reaps it, so the
// count is taken while the client waits for its standard input to end.
func moved(t *testing.T, addr, mode, verb string, times int, size int64) (reads, writes int64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("PORTREEVE_TEST_CLIENT=%s %s %s %d %d", addr, mode, verb, times, size))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r0, w0 := systemCalls(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make([]byte, 4)
	if _, err := io.ReadFull(out, done); err != nil || string(done) != "done" {
		t.Fatalf("the client failed: %q, %v", done, err)
	}
	r1, w1 := systemCalls(t)
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return r1 - r0, w1 - w0
}

// TestKernelMovesPlainFiles fails when something hides the file or the
// connection from the kernel, so that bytes pass through our memory: 32 KiB
// copies would take 8,192 reads and as many writes for 256 MiB.
func TestKernelMovesPlainFiles(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("counted on Linux only")
		return
	}
	const size = 256 << 20
	dir := t.TempDir()
	if err := os.Truncate(touch(t, dir, "file"), size); err != nil {
		t.Fatal(err)
	}
	_, addr := startEngine(t, Config{Backend: dirBackend{dir}, TLS: serverTLS(), Binding: BindRequire})
	for _, tc := range []struct {
		mode, verb    string
		reads, writes int64
	}{
		{"plain", "RETR", 1500, 1500}, // each sendfile counts as one of both
		{"plain", "STOR", 300, 300},   // splice counts as neither
		{"tls", "RETR", 1400, size/(240<<10) + 300},
		// A server that keeps up with its client reads each record as it comes;
		// TestUploadsReadAhead counts where there is more to read.
		{"tls", "STOR", size/(16<<10) + 600, size/(240<<10) + 500},
	} {
		r, w := moved(t, addr, tc.mode, tc.verb, 1, size)
		t.Logf("%s %s: %d reads, %d writes for 256 MiB", tc.mode, tc.verb, r, w)
		if r > tc.reads || w > tc.writes {
			t.Errorf("%s %s: %d reads and %d writes, at most %d and %d are right", tc.mode, tc.verb, r, w, tc.reads, tc.writes)
		}
	}
}

// countedConn has some octets to read and counts the calls.
type countedConn struct {
	net.Conn
	left, calls int
}

func (c *countedConn) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	c.calls++
	n := min(len(p), c.left)
	c.left -= n
	return n, nil
}

// TestUploadsReadAhead: crypto/tls asks for a record at a time; below it, reads
// are as large as the socket has.
func TestUploadsReadAhead(t *testing.T) {
	const size = 4 << 20
	raw := &countedConn{left: size}
	b := newBulkConn(raw)
	defer b.release()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{b}, make([]byte, 16<<10+512))
	if n != size || err != nil {
		t.Fatalf("%d octets, %v", n, err)
	}
	if raw.calls > size/blockSize+1 {
		t.Errorf("%d reads for %d octets, %d are enough", raw.calls, size, size/blockSize)
	}
}

func touch(t *testing.T, dir, name string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestSmallFilesTakeFewCalls holds the budget for a small download.
func TestSmallFilesTakeFewCalls(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("counted on Linux only")
		return
	}
	dir := t.TempDir()
	if err := os.Truncate(touch(t, dir, "file"), 4096); err != nil {
		t.Fatal(err)
	}
	_, addr := startEngine(t, Config{Backend: dirBackend{dir}})
	r0, w0 := moved(t, addr, "plain", "RETR", 1, 4096)
	r, w := moved(t, addr, "plain", "RETR", 201, 4096)
	reads, writes := float64(r-r0)/200, float64(w-w0)/200
	t.Logf("a small download takes %.1f reads and %.1f writes", reads, writes)
	if reads > 8 || writes > 7 {
		t.Errorf("a small download takes %.1f reads and %.1f writes, 8 and 7 are the budget", reads, writes)
	}
}

// TestIdleSessionIsSmall holds the memory of an idle session: no goroutine (one
// where sessions cannot be parked) and no more than 4 KiB of heap in the engine.
func TestIdleSessionIsSmall(t *testing.T) {
	const sessions = 2000
	_, addr := startEngine(t, Config{Backend: dirBackend{t.TempDir()}, IdleTimeout: 10 * time.Minute})
	warm := dialRaw(t, addr).login()
	warm.do(215, "SYST")
	measure := func() (mem uint64, goroutines int) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse, runtime.NumGoroutine()
	}
	m0, g0 := measure()
	conns := make([]*rawConn, sessions)
	for i := range conns {
		conns[i] = dialRaw(t, addr).login()
		conns[i].r = nil // the test's own memory is not the server's
	}
	if canPark {
		time.Sleep(parkAfter + 300*time.Millisecond)
	}
	m1, g1 := measure()
	per, each := float64(m1-m0)/sessions/1024, float64(g1-g0)/sessions
	t.Logf("an idle session takes %.1f KiB and %.2f goroutines, the test's end included", per, each)
	most, goroutines := 8.0, 0.0 // 4 KiB are the test's end
	if !canPark {
		most, goroutines = 16, 1
	}
	if per > most || each > goroutines+0.05 {
		t.Errorf("an idle session takes %.1f KiB and %.2f goroutines; %g KiB and %g are the limit", per, each, most, goroutines)
	}
	runtime.KeepAlive(conns)
}

// panicBackend fails as a program does, at the log-in.
type panicBackend struct{ *memBackend }

func (panicBackend) Login(context.Context, *Conn, Credentials) (Session, error) {
	var m map[string]int
	m["x"] = 1
	return nil, nil
}

// TestPanicAtLogin: the session ends with 421, and the server goes on.
func TestPanicAtLogin(t *testing.T) {
	var log bytes.Buffer
	srv, addr := startEngine(t, Config{Backend: panicBackend{newMemBackend()}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 2 {
		c := dialRaw(t, addr)
		c.expect(220)
		c.say("USER ann")
		c.say("PASS secret")
		if got := c.expect(421); !strings.Contains(got, "fault of its own") {
			t.Errorf("the client is told %q", got)
		}
	}
	srv.Close() // the log is complete
	if n := strings.Count(log.String(), "panicBackend"); n < 2 {
		t.Errorf("the log names the place %d times:\n%s", n, &log)
	}
}
