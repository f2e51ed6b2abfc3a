//go:build clients

package clients

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// root holds every file of this run, and janitor is the process group of all
// processes of this run. The janitor waits for this process to end, in any
// way, and then ends the group and removes root.
var (
	root    string
	janitor int
)

// ours puts a child into the janitor's group.
func ours() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true, Pgid: janitor} }

// Main runs the tests; TestMain calls it.
func Main(m *testing.M) int {
	var err error
	if root, err = os.MkdirTemp(memory(), "portreeve-clients-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd := exec.Command("sh", "-c", `trap '' TERM INT HUP
cat >/dev/null
kill -TERM 0
sleep 0.3
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
kill -KILL 0`, "sh", root)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	hold, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		os.RemoveAll(root)
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	janitor = cmd.Process.Pid
	code := m.Run()
	hold.Close()
	cmd.Wait()
	if _, err := os.Lstat(root); err == nil {
		fmt.Fprintf(os.Stderr, "%s could not be removed\n", root)
		code = max(code, 1)
	}
	return code
}

// memory is /dev/shm when it has room for several trees, else "" for the
// system's temporary directory.
func memory() string {
	const need = 3 << 30
	var st syscall.Statfs_t
	if syscall.Statfs("/dev/shm", &st) == nil && st.Bavail*uint64(st.Bsize) > need {
		return "/dev/shm"
	}
	return ""
}

// TempDir makes a directory below root that goes away when the test ends.
func TempDir(t *testing.T) string {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, t.Name())
	dir, err := os.MkdirTemp(root, name+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

var ports struct {
	sync.Mutex
	next int
}

// freeBlock returns the first of n neighbouring free TCP ports, which no other
// call of this process gets. They come from below the range that systems use
// for outgoing connections, so that no client's socket sits on one by chance.
func freeBlock(n int) int {
	const low, high = 12000, 32000
	ports.Lock()
	defer ports.Unlock()
	if ports.next == 0 {
		ports.next = low + rand.IntN((high-low)/2)
	}
search:
	for {
		if ports.next+n > high {
			ports.next = low
		}
		first := ports.next
		for p := first; p < first+n; p++ {
			ln, err := net.Listen("tcp", ":"+strconv.Itoa(p))
			if err != nil {
				ports.next = p + 1
				continue search
			}
			ln.Close()
		}
		ports.next = first + n
		return first
	}
}

// Tree is the content of a directory: SHA-256 by relative path, "dir" for
// directories. Modes and times are not part of it.
type Tree map[string]string

// ReadTree reads a directory.
func ReadTree(t *testing.T, dir string) Tree {
	t.Helper()
	tree := Tree{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			tree[rel] = "dir"
		case d.Type().IsRegular():
			tree[rel], err = fileSum(path)
		default:
			tree[rel] = d.Type().String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Files are the regular files, sorted.
func (want Tree) Files() []string {
	var list []string
	for p, sum := range want {
		if sum != "dir" {
			list = append(list, p)
		}
	}
	sort.Strings(list)
	return list
}

// Diff describes the first differences from another tree, "" when equal.
func (want Tree) Diff(got Tree) string {
	var list []string
	for p, sum := range want {
		switch other, ok := got[p]; {
		case !ok:
			list = append(list, "missing: "+p)
		case other != sum:
			list = append(list, "differs: "+p)
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			list = append(list, "too much: "+p)
		}
	}
	sort.Strings(list)
	if n := len(list); n > 20 {
		list = append(list[:20], fmt.Sprintf("and %d more", n-20))
	}
	return strings.Join(list, "\n")
}

// SameFile fails unless both files hold the same bytes.
func SameFile(t *testing.T, want, got string) {
	t.Helper()
	a, err := fileSum(want)
	if err != nil {
		t.Fatal(err)
	}
	b, err := fileSum(got)
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Fatalf("%s differs from %s", got, want)
	}
}
