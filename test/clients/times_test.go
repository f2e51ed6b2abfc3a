//go:build clients

package clients

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestMirror lets the clients that copy directory trees do it both ways. They
// keep the times of files, and a second run finds nothing to do.
func TestMirror(t *testing.T) {
	s := Start(t, Config{Listen: matrixListeners()[:3]})
	for _, l := range matrixListeners()[:3] {
		for _, tool := range []string{"lftp", "rclone"} {
			t.Run(tool+"/"+l.Name, func(t *testing.T) {
				t.Parallel()
				Tool(t, tool, tool)
				e := env{t: t, s: s, tls: l.Name, on: l.Name, addr: s.Addr(l.Name), port: portText(s, l.Name)}
				e.u, e.dir = s.AddUser(t, tool+"-"+l.Name), TempDir(t)
				mirrorBothWays(e, tool)
			})
		}
	}
}

func mirrorBothWays(e env, tool string) {
	t := e.t
	in, out := filepath.Join(e.dir, "in"), filepath.Join(e.dir, "out")
	for i, n := range []string{"a.txt", "deep/er/with space.txt", "deep/ünï.txt", "deep/quote's.txt"} {
		path := filepath.Join(in, n)
		writeFile(t, path, content(n))
		when := time.Date(2001+i, 2, 3, 4, 5, 6, 0, time.UTC)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	steps := []func() Result{
		func() Result { return mirror(e, tool, true, "in", "/tree") },
		func() Result { return mirror(e, tool, false, "/tree", "out") },
	}
	for _, step := range steps {
		if r := step(); r.Err != nil {
			t.Fatalf("%v\n%s\n%s", r.Err, r.Text(), clip(e.s.Log.Dialog(e.u.Name), 8000))
		}
	}
	remote := filepath.Join(e.u.Home, "tree")
	for _, dir := range []string{remote, out} {
		if d := ReadTree(t, in).Diff(ReadTree(t, dir)); d != "" {
			t.Fatal(d)
		}
		sameTimes(t, in, dir)
	}
	// A second run must not move a file.
	before := snapshot(t, remote)
	for _, step := range steps {
		if r := step(); r.Err != nil {
			t.Fatalf("%v\n%s", r.Err, r.Text())
		}
	}
	if after := snapshot(t, remote); before != after {
		t.Errorf("the second run wrote files again:\n%s\n%s", before, after)
	}
	if tool == "rclone" {
		if r := rclone(e, "check", "--download", "in", ":ftp:/tree"); r.Err != nil {
			t.Errorf("rclone check: %v\n%s", r.Err, r.Text())
		}
	}
}

func mirror(e env, tool string, up bool, from, to string) Result {
	if tool == "rclone" {
		if up {
			return rclone(e, "copy", from, ":ftp:"+to)
		}
		return rclone(e, "copy", ":ftp:"+from, to)
	}
	line := "mirror --parallel=2 "
	if up {
		line = "mirror -R --parallel=2 "
	}
	return lftp(e, line+from+" "+to)
}

// snapshot names each file with its inode, which an upload changes.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	r := Cmd{Args: []string{"find", dir, "-type", "f", "-printf", "%i %P\\n"}, Dir: dir}.Must(t)
	return r.Stdout
}

func sameTimes(t *testing.T, want, got string) {
	t.Helper()
	err := filepath.WalkDir(want, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(want, path)
		a, err := os.Stat(path)
		if err != nil {
			return err
		}
		b, err := os.Stat(filepath.Join(got, rel))
		if err != nil {
			return err
		}
		if !a.ModTime().Equal(b.ModTime()) {
			t.Errorf("%s: %v became %v", rel, a.ModTime().UTC(), b.ModTime().UTC())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
