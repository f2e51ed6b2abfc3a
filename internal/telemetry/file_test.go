package telemetry

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogFileIsBegunAnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "server.log")
	w, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	w.say = &said
	write := func(line string) {
		t.Helper()
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("%q: %d, %v", line, n, err)
		}
	}
	is := func(path, want string) {
		t.Helper()
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v; want %q", path, b, err, want)
		}
	}
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n")
	move(path, path+".1") // as logrotate does
	write("two\n")
	is(path+".1", "one\n")
	is(path, "two\n")

	if err := os.Truncate(path, 0); err != nil { // as its copytruncate does
		t.Fatal(err)
	}
	write("three\n")
	is(path, "three\n")

	move(path, path+".2")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // as its create does
		t.Fatal(err)
	}
	write("four\n")
	is(path, "four\n")
	if said.Len() > 0 {
		t.Errorf("it complains: %s", &said)
	}

	// No new file can be made: the moved one goes on, and that is said once.
	move(dir, dir+".moved")
	write("five\n")
	write("six\n")
	is(filepath.Join(dir+".moved", "server.log"), "four\nfive\nsix\n")
	if n := strings.Count(said.String(), "moved away"); n != 1 {
		t.Errorf("said %d times: %s", n, &said)
	}
	move(dir+".moved", dir)
	write("seven\n")
	is(path, "four\nfive\nsix\nseven\n")

	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	if _, err := w.Write([]byte("late\n")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a line after the end: %v", err)
	}
}
