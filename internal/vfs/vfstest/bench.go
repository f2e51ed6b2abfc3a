package vfstest

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/vfs"
)

// Bench measures what a session does most. open returns an empty storage.
func Bench(b *testing.B, open func(b *testing.B) vfs.FS) {
	b.Run("Stat", func(b *testing.B) {
		f := open(b)
		put(b, f, "/f", "x")
		for b.Loop() {
			if _, err := f.Stat(b.Context(), "/f"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Open", func(b *testing.B) {
		f := open(b)
		put(b, f, "/f", "x")
		for b.Loop() {
			r, err := f.Open(b.Context(), "/f", 0)
			if err != nil {
				b.Fatal(err)
			}
			r.Close()
		}
	})
	for _, up := range []struct {
		name string
		mode vfs.Upload
	}{{"Atomic", vfs.Atomic}, {"Visible", vfs.Visible}} {
		b.Run("Upload4K"+up.name, func(b *testing.B) {
			f := open(b)
			if err := f.Mkdir(b.Context(), "/d", 0); err != nil {
				b.Fatal(err)
			}
			data := strings.Repeat("x", 4096)
			b.SetBytes(4096)
			for i := 0; b.Loop(); i++ { // new names: overwriting makes ext4 flush
				w, err := f.Create(b.Context(), fmt.Sprintf("/d/%d", i), vfs.CreateOptions{Upload: up.mode})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.WriteString(w, data); err != nil {
					b.Fatal(err)
				}
				if err := w.Commit(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("Read64M", func(b *testing.B) {
		f := open(b)
		put(b, f, "/f", strings.Repeat("x", 64<<20))
		b.SetBytes(64 << 20)
		buf := make([]byte, 256<<10)
		for b.Loop() {
			r, err := f.Open(b.Context(), "/f", 0)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf); err != nil {
				b.Fatal(err)
			}
			r.Close()
		}
	})
	b.Run("List100k", func(b *testing.B) {
		f := open(b)
		const n = 100_000
		for i := range n {
			put(b, f, fmt.Sprintf("/file-%06d.dat", i), "")
		}
		b.ReportAllocs()
		for b.Loop() {
			got := 0
			for _, err := range f.List(b.Context(), "/") {
				if err != nil {
					b.Fatal(err)
				}
				got++
			}
			if got != n {
				b.Fatalf("%d entries", got)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
	})
}

func put(b *testing.B, f vfs.FS, name, data string) {
	b.Helper()
	w, err := f.Create(b.Context(), name, vfs.CreateOptions{Upload: vfs.Visible})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.WriteString(w, data); err != nil {
		b.Fatal(err)
	}
	if err := w.Commit(b.Context()); err != nil {
		b.Fatal(err)
	}
}
