package torture

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/store"
)

const password = "correct horse battery"

var built = flag.String("binary", "", "use this program instead of building it")

var report = flag.String("report", "", "write the table of results to this file")

// results are the rows of the table.
var results struct {
	sync.Mutex
	rows []string
}

func result(name, what, found string) {
	results.Lock()
	defer results.Unlock()
	results.rows = append(results.rows, fmt.Sprintf("| %s | %s | %s |", name, what, found))
}

var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "torture")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "portreeve")
	if *built != "" {
		binary = *built
		return finish(m)
	}
	build := exec.Command("go", "build", "-o", binary, "github.com/portreeve/portreeve/cmd/portreeve")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return finish(m)
}

func finish(m *testing.M) int {
	code := m.Run()
	if *report != "" && code == 0 {
		text := "# Torture\n\n<!-- Written by \"make torture\". Do not edit. -->\n\n" +
			"The built program under load, killed, upgraded and flooded; see test/torture. The last\nwhole run:\n\n| test | what was done | what was found |\n|---|---|---|\n" +
			strings.Join(results.rows, "\n") + "\n\nThe ordinary tests run the same with smaller numbers (test/torture/short_test.go).\n"
		if err := os.WriteFile(*report, []byte(text), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// world is a data directory with accounts u0, u1 and so on, and a server that comes and goes.
type world struct {
	t     *testing.T
	dir   string
	port  int
	users int
	limit int      // of descriptors; 0: as it is
	under []string // a program that runs the server, and its arguments

	cmd  *exec.Cmd
	logs *os.File // a file: a pipe would be waited for as long as any successor has it
	out  *os.File // where the log goes instead; nil: there
}

func newWorld(t *testing.T, users int, more string) *world {
	t.Helper()
	return newWorldPorts(t, users, 1000, more)
}

// newWorldPorts has so many passive ports.
func newWorldPorts(t *testing.T, users, ports int, more string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), users: users, port: freePort(t)}
	first := 21000 + 500*rand.IntN(10)
	toml := fmt.Sprintf("data_dir = %q\ndrain = \"60s\"\n%s\n[log]\nlevel = \"info\"\n[ftp.passive]\nports = \"%d-%d\"\n[[listen]]\nprotocol = \"ftp\"\naddress = \"127.0.0.1:%d\"\ntls = \"offered\"\n",
		filepath.Join(w.dir, "data"), more, first, first+ports-1, w.port)
	if err := os.WriteFile(w.config(), []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := auth.NewHasher(auth.HasherOptions{Params: auth.Params{MemoryKiB: 64, Passes: 1, Lanes: 1}})
	if err != nil {
		t.Fatal(err)
	}
	hash, err := h.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	if w.logs, err = os.Create(filepath.Join(w.dir, "log")); err != nil {
		t.Fatal(err)
	}
	db := w.store()
	defer db.Close()
	for i := range users {
		if err := os.MkdirAll(w.home(i), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := db.CreateUser(t.Context(), account.User{Name: user(i), Home: w.home(i), PasswordHash: hash, Quota: account.Quota{Bytes: 1 << 30}}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		w.kill()
		if t.Failed() {
			b, _ := os.ReadFile(w.logs.Name())
			t.Logf("the end of the server's log:\n%s", b[max(0, len(b)-4000):])
		}
		w.logs.Close()
	})
	return w
}

func user(i int) string               { return fmt.Sprintf("u%d", i) }
func (w *world) home(i int) string    { return filepath.Join(w.dir, "srv", user(i)) }
func (w *world) config() string       { return filepath.Join(w.dir, "portreeve.toml") }
func (w *world) address() string      { return fmt.Sprintf("127.0.0.1:%d", w.port) }
func (w *world) ctx() context.Context { return context.Background() }

func (w *world) store() *store.DB {
	w.t.Helper()
	db, err := store.Open(context.Background(), filepath.Join(w.dir, "data", store.FileName))
	if err != nil {
		w.t.Fatalf("the database does not open: %v", err)
	}
	return db
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// start runs the server and waits until it answers.
func (w *world) start() {
	w.t.Helper()
	w.cmd = exec.Command(binary, "serve", "--config", w.config())
	if w.limit > 0 {
		w.cmd = exec.Command("/bin/sh", "-c", fmt.Sprintf("ulimit -n %d && exec %s serve --config %s", w.limit, binary, w.config()))
	}
	if len(w.under) > 0 {
		w.cmd = exec.Command(w.under[0], append(w.under[1:], w.cmd.Args...)...)
	}
	w.cmd.Stdout, w.cmd.Stderr = w.logs, w.logs
	if w.out != nil {
		w.cmd.Stdout, w.cmd.Stderr = w.out, w.out
	}
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := ftp.Dial(w.ctx(), w.address(), ftp.ClientOptions{Timeout: 5 * time.Second}); err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			w.t.Fatal("the server does not answer")
		}
	}
}

// kill ends the server as a power failure of the process would.
func (w *world) kill() {
	if w.cmd == nil {
		return
	}
	w.cmd.Process.Signal(syscall.SIGKILL)
	w.cmd.Wait()
	w.cmd = nil
}

func (w *world) portreeve(args ...string) (string, error) {
	out, err := exec.Command(binary, append([]string{"--config", w.config()}, args...)...).CombinedOutput()
	return string(out), err
}

func (w *world) login(i int) (*ftp.Client, error) {
	c, err := ftp.Dial(w.ctx(), w.address(), ftp.ClientOptions{Timeout: 20 * time.Second})
	if err != nil {
		return nil, err
	}
	if err := c.Login(w.ctx(), user(i), password); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// noise is n octets that no other upload has.
func noise(n int) []byte {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	b := make([]byte, n)
	rand.NewChaCha8(seed).Read(b)
	return b
}

type sum = [sha256.Size]byte

// visible returns the files of a home by name, and the octets of all.
func (w *world) visible(i int) (files map[string]sum, octets int64) {
	w.t.Helper()
	files = map[string]sum{}
	err := filepath.WalkDir(w.home(i), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(p, ".ptmp") {
			return err
		}
		b, err := os.ReadFile(p)
		rel, _ := filepath.Rel(w.home(i), p)
		files["/"+rel] = sha256.Sum256(b)
		octets += int64(len(b))
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	return files, octets
}
