// Package vfstest owns the suite that every storage must pass, and a benchmark
// to compare them. It does not own tests of what only one storage has.
package vfstest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"testing"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// Run puts a storage through the contract of package vfs. open returns an
// empty, writable storage for each test; clean-up belongs in t.Cleanup.
// Abilities are tested where the storage has them.
func Run(t *testing.T, open func(t *testing.T) vfs.FS) {
	tests := []struct {
		name string
		run  func(*tree)
	}{
		{"Root", testRoot},
		{"Files", testFiles},
		{"Offsets", testOffsets},
		{"Directories", testDirectories},
		{"Remove", testRemove},
		{"Rename", testRename},
		{"RenameKeepsWhatIsThere", testRenameExclusive},
		{"List", testList},
		{"ListStops", testListStops},
		{"ListWhileChanging", testListChanging},
		{"Names", testNames},
		{"NamesRefused", testNamesRefused},
		{"LongNames", testLongNames},
		{"Deep", testDeep},
		{"Faults", testFaults},
		{"Cancelled", testCancelled},
		{"Metadata", testMetadata},
		{"Atomic", testAtomic},
		{"AtomicAbort", testAtomicAbort},
		{"AtomicInParallel", testAtomicParallel},
		{"AtomicKeepsMode", testAtomicKeepsMode},
		{"Visible", testVisible},
		{"Append", testAppend},
		{"Offset", testOffset},
		{"Abort", testAbort},
		{"Busy", testBusy},
		{"Exclusive", testExclusive},
		{"ExclusiveInParallel", testExclusiveParallel},
		{"Resume", testResume},
		{"ResumeBelongsToOwner", testResumeOwner},
		{"ResumeEdges", testResumeEdges},
		{"EndsOnce", testEndsOnce},
		{"RemovedMeanwhile", testRemovedMeanwhile},
		{"Withdrawn", testWithdrawn},
		{"MovedMeanwhile", testMovedMeanwhile},
		{"SizeHint", testSizeHint},
		{"Sync", testSync},
		{"Concurrent", testConcurrent},
		{"Lstat", testLstat},
		{"Links", testLinks},
		{"LinkChains", testLinkChains},
		{"LinkTargets", testLinkTargets},
		{"Resolve", testResolve},
		{"UploadThroughLink", testUploadThroughLink},
		{"HardLinks", testHardLinks},
		{"SetAttr", testSetAttr},
		{"RandomAccess", testRandomAccess},
		{"RandomAccessFlags", testRandomAccessFlags},
		{"Copy", testCopy},
		{"Space", testSpace},
		{"Sweep", testSweep},
		{"ReaderAbilities", testReaderAbilities},
		{"WriteAt", testWriteAt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			tt.run(&tree{T: t, FS: f, ctx: t.Context()})
		})
	}
}

// tree is a storage with helpers that fail the test.
type tree struct {
	*testing.T
	vfs.FS
	ctx context.Context
}

// want fails unless err is of the kind.
func (s *tree) want(k fault.Kind, err error) {
	s.Helper()
	if got := fault.KindOf(err); got != k {
		s.Errorf("got %v (%v), want %v", got, err, k)
	}
}

// ok fails the test for good when err is not nil.
func (s *tree) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *tree) true(b bool) {
	s.T.Helper()
	if !b {
		s.T.Fatal("it is not so")
	}
}

func (s *tree) create(name string, o vfs.CreateOptions) vfs.Writer {
	s.Helper()
	w, err := s.Create(s.ctx, name, o)
	s.ok(err)
	return w
}

func (s *tree) write(w io.Writer, data string) {
	s.Helper()
	n, err := io.WriteString(w, data)
	s.ok(err)
	if n != len(data) {
		s.Fatalf("wrote %d bytes of %d without an error", n, len(data))
	}
}

// put uploads a whole file.
func (s *tree) put(name, data string) {
	s.Helper()
	s.upload(name, data, vfs.CreateOptions{})
}

func (s *tree) upload(name, data string, o vfs.CreateOptions) {
	s.Helper()
	w := s.create(name, o)
	s.write(w, data)
	s.ok(w.Commit(s.ctx))
}

func (s *tree) mkdir(names ...string) {
	s.Helper()
	for _, n := range names {
		s.ok(s.Mkdir(s.ctx, n, 0))
	}
}

// get reads a whole file.
func (s *tree) get(name string) string {
	s.Helper()
	data, err := s.read(name, 0)
	s.ok(err)
	return data
}

func (s *tree) read(name string, offset int64) (string, error) {
	r, err := s.Open(s.ctx, name, offset)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	return string(b), errors.Join(err, r.Close())
}

// holds fails unless the file has this content, by reading and by Stat.
func (s *tree) holds(name, data string) {
	s.Helper()
	got, err := s.read(name, 0)
	if err != nil {
		s.Errorf("reading: %v", err)
		return
	}
	if got != data {
		s.Errorf("%q holds %.80q (%d bytes), want %.80q (%d bytes)", name, got, len(got), data, len(data))
	}
	if i, err := s.Stat(s.ctx, name); err != nil || i.Size != int64(len(data)) {
		s.Errorf("Stat(%q) gives %d bytes, %v; want %d", name, i.Size, err, len(data))
	}
}

// absent fails if the name exists.
func (s *tree) absent(name string) {
	s.Helper()
	_, err := s.Stat(s.ctx, name)
	s.want(fault.NotExist, err)
}

// list returns the entries of a directory by name.
func (s *tree) list(name string) map[string]vfs.Info {
	s.Helper()
	m := map[string]vfs.Info{}
	for i, err := range s.List(s.ctx, name) {
		if err != nil {
			s.Errorf("listing %q: %v", name, err)
			break
		}
		if _, twice := m[i.Name]; twice {
			s.Errorf("listing %q: %q appears twice", name, i.Name)
		}
		m[i.Name] = i
	}
	return m
}

// names fails unless the directory holds exactly these entries.
func (s *tree) names(dir string, want ...string) {
	s.Helper()
	got := slices.Sorted(maps.Keys(s.list(dir)))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

// listErr returns the error that a listing ends with.
func (s *tree) listErr(name string) error {
	var last error
	for _, err := range s.List(s.ctx, name) {
		if last != nil {
			s.Errorf("the listing went on after the error %v", last)
		}
		last = err
	}
	return last
}

// lacks logs that an ability is missing, which is no failure.
func (s *tree) lacks(ability string) {
	s.Helper()
	s.Logf("this storage is no %s", ability)
}

func ptr[T any](v T) *T { return &v }

var ctxDone = func() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(fault.Text(fault.Stopping, "the server stops"))
	return ctx
}()

func permOf(i vfs.Info) fs.FileMode { return i.Mode.Perm() }
