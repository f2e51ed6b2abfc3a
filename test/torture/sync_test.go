package torture

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSyncBeforeReply stands in for a power failure, which needs a disk that
// forgets: the system calls show that the file is on the disk under its name
// before the client is told so. Renaming alone is atomic but not durable.
func TestSyncBeforeReply(t *testing.T) {
	w := newWorld(t, 1, "[upload]\nsync = \"close\"\n")
	trace := filepath.Join(w.dir, "trace")
	w.under = []string{"strace", "-f", "-o", trace, "-s", "64", "-e", "trace=fdatasync,fsync,renameat,renameat2,linkat,write"}
	w.start()
	c, err := w.login(0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, name := range []string{"/new", "/new"} { // made, and then replaced
		if _, err := c.Store(w.ctx(), name, bytes.NewReader(noise(100_000)), 0); err != nil {
			t.Fatal(err)
		}
	}
	c.Quit(w.ctx())
	if out, err := w.portreeve("stop"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.cmd.Wait() // strace ends with the server
	w.cmd = nil
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	// f: a file reaches the disk, r: it gets its name, d: so does the directory, +: the client is told.
	var seen strings.Builder
	for line := range strings.Lines(string(b)) {
		switch {
		case strings.Contains(line, "resumed"): // the end of a call that another thread's interrupted in the trace
		case regexp.MustCompile(`\bfdatasync\(`).MatchString(line):
			seen.WriteByte('f')
		case regexp.MustCompile(`\b(renameat2?|linkat)\(.*new`).MatchString(line):
			seen.WriteByte('r')
		case regexp.MustCompile(`\bfsync\(`).MatchString(line):
			seen.WriteByte('d')
		case strings.Contains(line, `"226 `):
			seen.WriteByte('+')
		}
	}
	// The database syncs, too, so there may be more of f and d anywhere.
	if !regexp.MustCompile(`f[fd]*r[fd]*d[fd]*\+.*f[fd]*r[fd]*d[fd]*\+`).MatchString(seen.String()) {
		t.Errorf("the order of calls is %q", &seen)
	}
}
