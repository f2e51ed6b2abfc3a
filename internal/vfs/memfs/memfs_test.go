package memfs

import (
	"testing"

	"github.com/portreeve/portreeve/internal/vfs"
	"github.com/portreeve/portreeve/internal/vfs/vfstest"
)

func TestConformance(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS { return New() })
}

func BenchmarkFS(b *testing.B) { vfstest.Bench(b, func(b *testing.B) vfs.FS { return New() }) }
