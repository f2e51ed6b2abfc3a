// Package scripts runs the real program as a user does: each txtar file is a
// shell-like script with the files it needs. A script stands for a promise of
// the manual; it knows nothing of the code.
package scripts

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// bin is the directory of the built program.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "portreeve-scripts")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bin = dir
	args := append([]string{"build", "-o", filepath.Join(dir, "portreeve")}, buildFlags...)
	build := exec.Command("go", append(args, "github.com/portreeve/portreeve/cmd/portreeve")...)
	build.Stderr = os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	}
	if races, _ := filepath.Glob(filepath.Join(dir, "race.*")); len(races) > 0 {
		b, _ := os.ReadFile(races[0])
		fmt.Fprintf(os.Stderr, "the program has %d reports of data races, such as:\n%s", len(races), b)
		code = 1
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func TestScripts(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("curl is needed: apt-get install -y curl")
	}
	testscript.Run(t, testscript.Params{
		Dir: ".",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("LC_ALL", "C.UTF-8")
			e.Setenv("GORACE", "log_path="+filepath.Join(bin, "race")) // a race in the background must not go unseen
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"freeport": freePort, "freerange": freeRange, "expand": expand, "exits": exits, "ready": ready, "until": until, "waitfor": waitFor, "gone": gone,
		},
		RequireUniqueNames: true,
	})
}

// Ports come from below the range that systems use for outgoing connections,
// so that no client socket of another test sits on one by chance.
const firstPort, lastPort = 12000, 30000

func free(port int) bool {
	ln, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

// freePort NAME...: sets each variable to a TCP port that nobody uses.
func freePort(ts *testscript.TestScript, neg bool, names []string) {
	for _, n := range names {
		port := 0
		for port == 0 || !free(port) {
			port = firstPort + rand.IntN(lastPort-firstPort)
		}
		ts.Setenv(n, strconv.Itoa(port))
	}
}

// freeRange NAME [N]: sets the variable to a range of N free ports (10).
func freeRange(ts *testscript.TestScript, neg bool, args []string) {
	n := 10
	if len(args) == 2 {
		n, _ = strconv.Atoi(args[1])
	}
next:
	for {
		first := firstPort + rand.IntN(lastPort-firstPort-n)
		for p := first; p < first+n; p++ {
			if !free(p) {
				continue next
			}
		}
		ts.Setenv(args[0], fmt.Sprintf("%d-%d", first, first+n-1))
		return
	}
}

// expand FILE...: replaces ${NAME} in the files by the script's variables.
func expand(ts *testscript.TestScript, neg bool, files []string) {
	for _, f := range files {
		text := os.Expand(ts.ReadFile(f), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(f), []byte(text), 0o644))
	}
}

// exits CODE PROGRAM [ARG...]: the program must end with that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var ee *exec.ExitError
		if !errors.As(err, &ee) {
			ts.Fatalf("%v: %v", args[1:], err)
		}
		got = ee.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v: exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", args[1:], got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// patience is how long a script waits for anything, on a slow and busy machine.
const patience = 30 * time.Second

func eventually(ts *testscript.TestScript, what string, done func() bool) {
	for end := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// ready DATADIR [FLAG...]: waits until the server of that data directory
// answers "portreeve status".
func ready(ts *testscript.TestScript, neg bool, args []string) {
	eventually(ts, "the control socket", func() bool {
		_, err := os.Lstat(filepath.Join(ts.MkAbs(args[0]), "portreeve.sock"))
		return err == nil
	})
	eventually(ts, "the server", func() bool { return ts.Exec("portreeve", append([]string{"status"}, args[1:]...)...) == nil })
}

// waitfor FILE REGEXP: waits until the file has a match.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	last := ""
	defer func() {
		if !re.MatchString(last) {
			ts.Logf("%s holds:\n%s", args[0], last)
		}
	}()
	eventually(ts, args[1]+" in "+args[0], func() bool {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		last = string(b)
		return err == nil && re.MatchString(last)
	})
}

// gone FILE: waits until the file does not exist.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	eventually(ts, "the end of "+args[0], func() bool {
		_, err := os.Lstat(ts.MkAbs(args[0]))
		return errors.Is(err, os.ErrNotExist)
	})
}

// until REGEXP PROGRAM [ARG...]: repeats the program until its output matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	eventually(ts, args[0]+" from "+args[1], func() bool {
		return ts.Exec(args[1], args[2:]...) == nil && re.MatchString(ts.ReadFile("stdout"))
	})
}
