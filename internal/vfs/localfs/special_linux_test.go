package localfs

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/portreeve/portreeve/internal/vfs"
)

// TestWritingDropsSetuid: whoever may write to a setuid program must not put
// his own code behind its rights, even where the server runs as root.
func TestWritingDropsSetuid(t *testing.T) {
	for name, write := range map[string]func(f *FS) error{
		"append":  func(f *FS) error { return overwrite(f, vfs.CreateOptions{Append: true}) },
		"offset":  func(f *FS) error { return overwrite(f, vfs.CreateOptions{Offset: 2}) },
		"visible": func(f *FS) error { return overwrite(f, vfs.CreateOptions{Upload: vfs.Visible}) },
		"atomic":  func(f *FS) error { return overwrite(f, vfs.CreateOptions{}) },
		"handle": func(f *FS) error {
			h, err := f.OpenFile(t.Context(), "/prog", os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = h.WriteAt([]byte("x"), 0)
			h.Close()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			prog := filepath.Join(dir, "prog")
			if err := os.WriteFile(prog, []byte("code"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(prog, 0o755|fs.ModeSetuid|fs.ModeSetgid); err != nil {
				t.Fatal(err)
			}
			f, err := New(dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := write(f); err != nil {
				t.Fatal(err)
			}
			fi, err := os.Stat(prog)
			if err != nil {
				t.Fatal(err)
			}
			if fi.Mode() != 0o755 {
				t.Errorf("mode is %v after the write, want rwxr-xr-x alone", fi.Mode())
			}
		})
	}
}

func overwrite(f *FS, o vfs.CreateOptions) error {
	ctx := context.Background()
	w, err := f.Create(ctx, "/prog", o)
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte("new")); err != nil {
		return err
	}
	return w.Commit(ctx)
}
