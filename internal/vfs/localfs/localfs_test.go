package localfs

import (
	"testing"

	"github.com/portreeve/portreeve/internal/vfs"
	"github.com/portreeve/portreeve/internal/vfs/vfstest"
)

func open(t testing.TB, dir string, o Options) *FS {
	t.Helper()
	f, err := New(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestConformance(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS { return open(t, t.TempDir(), Options{}) })
}

func BenchmarkFS(b *testing.B) {
	vfstest.Bench(b, func(b *testing.B) vfs.FS { return open(b, b.TempDir(), Options{}) })
}
