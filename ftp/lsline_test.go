package ftp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// TestListDate compares the dates of LIST with what package time makes of them.
func TestListDate(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, mod := range []time.Time{
		now, now.Add(-time.Minute), now.Add(23 * time.Hour), now.Add(25 * time.Hour), now.AddDate(0, -5, 0), now.AddDate(0, -7, 0),
		time.Unix(0, 0), time.Unix(-1, 0), time.Date(2024, 2, 29, 23, 59, 59, 999, time.FixedZone("", 3600)),
		time.Date(-5, 1, 9, 0, 0, 0, 0, time.UTC), time.Date(0, 10, 10, 0, 0, 0, 0, time.UTC), time.Date(12345, 12, 31, 0, 0, 0, 0, time.UTC),
	} {
		form := "Jan _2 15:04"
		if age := now.Sub(mod); age > 182*24*time.Hour || age < -24*time.Hour {
			form = "Jan _2  2006"
		}
		if got, want := string(appendDate(nil, now, mod)), mod.UTC().Format(form); got != want {
			t.Errorf("%v: %q, want %q", mod, got, want)
		}
	}
}

// manyEntries lists n entries.
type manyEntries struct {
	Session
	n int
}

func (m manyEntries) List(context.Context, string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		i := Info{Name: "a name", Size: 1 << 40, ModTime: time.Now(), Owner: "1000", Group: "1000", Links: 1, Perm: "adfrw", Inode: 12345, Dev: 1}
		for range m.n {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// TestEntriesAllocateNothing: what the engine does for an entry must not grow the
// memory of a listing of a million of them.
func TestEntriesAllocateNothing(t *testing.T) {
	l := &lister{now: time.Now(), out: io.Discard, buf: make([]byte, 0, 2*flushAt), c: &Conn{srv: &Server{}}, left: 1 << 30}
	run := func(n int) float64 {
		l.c.sess = manyEntries{n: n}
		return testing.AllocsPerRun(3, func() {
			if err := l.directory("/", "", nil); err != nil {
				t.Fatal(err)
			}
		})
	}
	for name, format := range map[string]func([]byte, string, *Info) []byte{
		"LIST": l.appendLong,
		"NLST": l.appendBare,
		"MLSD": func(b []byte, _ string, i *Info) []byte { return appendName(factSet(allFacts).append(b, i), i.Name) },
	} {
		l.format = format
		few, many := run(2*sortBelow), run(20*sortBelow)
		if many > few+1 {
			t.Errorf("%s: %v allocations for %d entries, %v for %d", name, many, 20*sortBelow, few, 2*sortBelow)
		}
	}
}

// reusing lists names that all lie in the same memory.
type reusing struct {
	Session
	names []string
}

func (s reusing) List(context.Context, string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		buf := make([]byte, 64)
		for _, n := range s.names {
			k := copy(buf, n)
			if !yield(Info{Name: unsafe.String(&buf[0], k), Target: unsafe.String(&buf[0], k), Mode: fs.ModeSymlink}, nil) {
				return
			}
		}
	}
}

// TestNamesInMemoryThatIsUsedAgain: listings that hold entries back, to sort
// them or to see whether there are many, keep their names.
func TestNamesInMemoryThatIsUsedAgain(t *testing.T) {
	for _, n := range []int{3, sortBelow, sortBelow + 1, 3 * sortBelow} {
		var want []string
		for i := range n {
			want = append(want, fmt.Sprintf("name-%07d", i))
		}
		var out bytes.Buffer
		l := &lister{now: time.Now(), out: &out, c: &Conn{srv: &Server{}, sess: reusing{names: want}}, left: 1 << 30}
		l.format = func(b []byte, _ string, i *Info) []byte {
			return append(append(append(append(b, i.Name...), ' '), i.Target...), '\n')
		}
		if err := l.directory("/", "", nil); err != nil {
			t.Fatal(err)
		}
		l.flush(0)
		got := strings.Fields(out.String())
		if len(got) != 2*n {
			t.Fatalf("%d words for %d entries", len(got), n)
		}
		for i, w := range want {
			if got[2*i] != w || got[2*i+1] != w {
				t.Fatalf("entry %d of %d is %q -> %q, want %q", i, n, got[2*i], got[2*i+1], w)
			}
		}
	}
}
