package memfs

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
	"github.com/portreeve/portreeve/internal/vfs/vfstest"
)

func TestConformance(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS { return New() })
}

func BenchmarkFS(b *testing.B) { vfstest.Bench(b, func(b *testing.B) vfs.FS { return New() }) }

func TestCapacity(t *testing.T) {
	f := New(Options{Capacity: 1000})
	ctx := t.Context()
	put := func(name, data string, o vfs.CreateOptions) error {
		w, err := f.Create(ctx, name, o)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, data); err != nil {
			_ = w.Abort(err)
			return err
		}
		return w.Commit(ctx)
	}
	used := func(want int64) {
		t.Helper()
		if got := f.used.Load(); got != want {
			t.Errorf("%d bytes used, want %d", got, want)
		}
		if s, err := f.Space(ctx, "/"); err != nil || s.Total != 1000 || s.Free != 1000-want {
			t.Errorf("Space gives %+v, %v", s, err)
		}
	}
	want := func(k fault.Kind, err error) {
		t.Helper()
		if fault.KindOf(err) != k {
			t.Errorf("got %v, want %v", err, k)
		}
	}
	want(fault.None, put("/a", strings.Repeat("a", 600), vfs.CreateOptions{}))
	used(600)
	want(fault.NoSpace, put("/b", strings.Repeat("b", 401), vfs.CreateOptions{}))
	used(600)
	want(fault.NoSpace, put("/b", "b", vfs.CreateOptions{Size: 401}))
	used(600)
	want(fault.NoSpace, put("/a", strings.Repeat("b", 401), vfs.CreateOptions{})) // old and new exist at once
	want(fault.None, put("/a", strings.Repeat("b", 400), vfs.CreateOptions{}))
	used(400)
	want(fault.NoSpace, put("/a", strings.Repeat("c", 601), vfs.CreateOptions{Append: true}))
	used(400)
	want(fault.None, put("/a", strings.Repeat("c", 600), vfs.CreateOptions{Append: true}))
	used(1000)
	want(fault.None, put("/a", "x", vfs.CreateOptions{Offset: 9}))
	used(10)
	want(fault.NoSpace, f.SetAttr(ctx, "/a", vfs.Attr{Size: new(int64(1001))}))
	used(10)
	h, err := f.OpenFile(ctx, "/a", os.O_RDWR, 0)
	want(fault.None, err)
	n, err := h.WriteAt(make([]byte, 100), 950) // what fits is written
	if n != 50 {
		t.Errorf("wrote %d bytes, want 50", n)
	}
	want(fault.NoSpace, err)
	used(1000)
	want(fault.None, f.Link(ctx, "/a", "/b"))
	want(fault.None, f.Remove(ctx, "/a"))
	used(1000) // the other link holds it
	want(fault.None, f.Remove(ctx, "/b"))
	used(1000) // the open handle holds it
	want(fault.None, h.Close())
	used(0)
	o := vfs.CreateOptions{Upload: vfs.AtomicResume, Owner: "ann"}
	w, err := f.Create(ctx, "/r", o)
	want(fault.None, err)
	_, err = io.WriteString(w, "partial")
	want(fault.None, err)
	want(fault.None, w.Abort(nil))
	used(7) // a partial takes room
	removed, err := f.Sweep(ctx, -time.Hour)
	if removed != 1 || err != nil {
		t.Errorf("Sweep gives %d, %v", removed, err)
	}
	used(0)
	want(fault.None, f.Mkdir(ctx, "/d", 0))
	w, err = f.Create(ctx, "/d/r", o)
	want(fault.None, err)
	_, err = io.WriteString(w, "partial")
	want(fault.None, err)
	want(fault.None, w.Abort(nil))
	want(fault.None, f.Remove(ctx, "/d")) // goes with its directory
	used(0)
}

func TestSparse(t *testing.T) {
	f := New()
	h, err := f.OpenFile(t.Context(), "/f", os.O_RDWR|os.O_CREATE, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	// A reference of plain bytes against pages.
	ref := make([]byte, 5*pageSize)
	size := 0
	r := rand.New(rand.NewPCG(3, 4))
	for range 400 {
		switch r.IntN(8) {
		case 0:
			n := r.IntN(len(ref))
			if err := h.Truncate(int64(n)); err != nil {
				t.Fatal(err)
			}
			clear(ref[min(n, size):])
			size = n
		default:
			off := r.IntN(len(ref) - 1)
			p := make([]byte, r.IntN(min(2*pageSize, len(ref)-off)))
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			if n, err := h.WriteAt(p, int64(off)); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
			if copy(ref[off:], p) > 0 {
				size = max(size, off+len(p))
			}
		}
		got := make([]byte, len(ref)+1)
		n, err := h.ReadAt(got, 0)
		if n != size || err != io.EOF || !bytes.Equal(got[:n], ref[:size]) {
			t.Fatalf("read %d bytes, %v; want %d, equal: %v", n, err, size, bytes.Equal(got[:n], ref[:size]))
		}
	}
}
