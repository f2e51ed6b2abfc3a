package server

import (
	"os"
	"testing"
)

// TestOpenDataDir: a data directory that others may write to is told apart.
func TestOpenDataDir(t *testing.T) {
	dir := t.TempDir()
	for mode, want := range map[os.FileMode]string{0o700: "", 0o750: "", 0o755: "", 0o770: "its group", 0o777: "everybody on this machine", 0o702: "everybody on this machine"} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if got := openToOthers(dir); got != want {
			t.Errorf("mode %o: writable by %q, want %q", mode, got, want)
		}
	}
	if got := openToOthers(dir + "/none"); got != "" {
		t.Errorf("a directory that is not there is writable by %q", got)
	}
}
