package ftp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// memTime is the time of everything in a memBackend until somebody sets
// another, so that listings and facts are the same in every run.
var memTime = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

// memBackend is a Backend on a tree in memory. ann/secret may do everything,
// bob/secret may read. The exported knobs are set before serving.
type memBackend struct {
	Anonymous bool     // "anonymous" and "ftp" log in with any password and may read
	CertUser  string   // this user needs no password when a client certificate names it
	Hosts     []string // names that HOST accepts
	Quota     int64    // bytes all files together may have, 0: any; 552 beyond it
	Disk      int64    // likewise, but 452 beyond it, as a full disk answers
	Refuse    string   // refuse connections with 421 and this text
	Plain     bool     // sessions without the abilities beyond Session

	mu       sync.Mutex
	nodes    map[string]*memNode
	inode    uint64
	logins   int
	sessions int
}

type memNode struct {
	mode    fs.FileMode
	data    []byte
	zeros   int64 // bytes of zeros instead of data, for files that never end
	mod     time.Time
	created time.Time
	target  string
	inode   uint64
}

func (n *memNode) size() int64 { return max(n.zeros, int64(len(n.data))) }

func newMemBackend() *memBackend {
	b := &memBackend{nodes: map[string]*memNode{}}
	b.put("/", &memNode{mode: fs.ModeDir | 0o755})
	return b
}

// put adds a node and the directories above it.
func (b *memBackend) put(name string, n *memNode) {
	b.inode++
	n.inode = b.inode
	if n.mod.IsZero() {
		n.mod = memTime
	}
	n.created = memTime
	b.nodes[name] = n
	if d := path.Dir(name); b.nodes[d] == nil {
		b.put(d, &memNode{mode: fs.ModeDir | 0o755})
	}
}

// File adds a file.
func (b *memBackend) File(name, content string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put(name, &memNode{mode: 0o644, data: []byte(content)})
}

// Zeros adds a file of n zero bytes that takes no memory.
func (b *memBackend) Zeros(name string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put(name, &memNode{mode: 0o644, zeros: n})
}

// Dir adds a directory.
func (b *memBackend) Dir(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put(name, &memNode{mode: fs.ModeDir | 0o755})
}

// Content returns a file's bytes; ok is false when there is no such file.
func (b *memBackend) Content(name string) (data string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[name]
	if n == nil || n.mode.IsDir() {
		return "", false
	}
	return string(n.data), true
}

// Open counts the sessions that are not closed.
func (b *memBackend) Open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions
}

func (b *memBackend) used() (n int64) {
	for _, x := range b.nodes {
		n += x.size()
	}
	return n
}

func (b *memBackend) Connect(context.Context, *Conn) error {
	if b.Refuse != "" {
		return &Error{421, b.Refuse}
	}
	return nil
}

func (b *memBackend) Disconnect(*Conn, error) {}

func (b *memBackend) Host(_ context.Context, _ *Conn, name string) error {
	if slices.Contains(b.Hosts, name) {
		return nil
	}
	return &Error{504, "Unknown host " + name}
}

func (b *memBackend) Login(_ context.Context, c *Conn, cred Credentials) (Session, error) {
	anon := b.Anonymous && (cred.User == "anonymous" || cred.User == "ftp")
	if !cred.Complete {
		st := c.TLS()
		if b.CertUser != "" && cred.User == b.CertUser && st != nil && len(st.PeerCertificates) > 0 && st.PeerCertificates[0].Subject.CommonName == cred.User {
			return b.session(false), nil
		}
		return nil, ErrPassword
	}
	switch {
	case anon, cred.User == "bob" && cred.Password == "secret":
		return b.session(true), nil
	case cred.User == "ann" && cred.Password == "secret":
		return b.session(false), nil
	}
	return nil, &Error{530, "Login incorrect."}
}

func (b *memBackend) session(readOnly bool) Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logins++
	b.sessions++
	s := &memSession{b: b, ro: readOnly}
	if b.Plain {
		return plainSession{s}
	}
	return s
}

// plainSession hides every ability beyond Session.
type plainSession struct{ Session }

type memSession struct {
	b    *memBackend
	ro   bool
	once sync.Once
}

func pathErr(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// node finds a name; the caller holds the lock.
func (s *memSession) node(op, name string) (*memNode, error) {
	n := s.b.nodes[name]
	if len(path.Base(name)) > 255 {
		return nil, &Error{553, "The name is too long."}
	}
	if n == nil {
		return nil, pathErr(op, name, fs.ErrNotExist)
	}
	return n, nil
}

// may is asked by everything that changes the tree. It leaves the lock taken
// unless it returns an error.
func (s *memSession) may(op, name string) error {
	if s.ro {
		return pathErr(op, name, fs.ErrPermission)
	}
	s.b.mu.Lock()
	d := s.b.nodes[path.Dir(name)]
	if len(path.Base(name)) > 255 {
		s.b.mu.Unlock()
		return &Error{553, "The name is too long."}
	}
	if d == nil {
		s.b.mu.Unlock()
		return pathErr(op, name, fs.ErrNotExist)
	}
	return nil
}

func (s *memSession) info(name string, n *memNode) Info {
	perm := ""
	switch {
	case n.mode.IsDir() && s.ro:
		perm = "el"
	case n.mode.IsDir():
		perm = "cdeflmp"
	case s.ro:
		perm = "r"
	default:
		perm = "adfrw"
	}
	return Info{Name: path.Base(name), Size: n.size(), Mode: n.mode, ModTime: n.mod, Created: n.created, Owner: "ann", Group: "users",
		Links: 1, Dev: 1, Inode: n.inode, Perm: perm, Target: n.target}
}

func (s *memSession) Stat(_ context.Context, name string) (Info, error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	n, err := s.node("stat", name)
	if err != nil {
		return Info{}, err
	}
	return s.info(name, n), nil
}

func (s *memSession) List(_ context.Context, name string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		s.b.mu.Lock()
		n, err := s.node("list", name)
		if err == nil && !n.mode.IsDir() {
			err = &Error{550, name + " is not a directory."}
		}
		var all []Info
		for p, x := range s.b.nodes {
			if p != "/" && path.Dir(p) == name {
				all = append(all, s.info(p, x))
			}
		}
		s.b.mu.Unlock()
		if err != nil {
			yield(Info{}, err)
			return
		}
		slices.SortFunc(all, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
		for _, in := range all {
			if !yield(in, nil) {
				return
			}
		}
	}
}

func (s *memSession) Open(_ context.Context, name string, offset int64) (Source, error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	n, err := s.node("open", name)
	switch {
	case err != nil:
		return nil, err
	case n.mode.IsDir():
		return nil, &Error{550, name + " is a directory."}
	case offset > n.size():
		return nil, &Error{554, "The offset lies beyond the end of the file."}
	case n.zeros > 0:
		return memSource{io.LimitReader(zeroReader{}, n.zeros-offset), n.zeros - offset}, nil
	}
	return memSource{bytes.NewReader(slices.Clone(n.data[offset:])), int64(len(n.data)) - offset}, nil
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type memSource struct {
	io.Reader
	size int64
}

func (s memSource) Size() int64 { return s.size }

func (memSource) Close(error) error { return nil }

func (s *memSession) Create(_ context.Context, name string, o CreateOptions) (Sink, error) {
	if err := s.may("create", name); err != nil {
		return nil, err
	}
	defer s.b.mu.Unlock()
	old := s.b.nodes[name]
	k := &memSink{s: s, name: name}
	switch {
	case old == nil && o.Offset > 0:
		return nil, &Error{554, "The offset lies beyond the end of the file."}
	case old == nil:
	case old.mode.IsDir():
		return nil, &Error{550, name + " is a directory."}
	case o.Exclusive:
		return nil, pathErr("create", name, fs.ErrExist)
	case o.Append:
		k.data = slices.Clone(old.data)
	case o.Offset > old.size():
		return nil, &Error{554, "The offset lies beyond the end of the file."}
	default:
		k.data = slices.Clone(old.data[:o.Offset])
	}
	if s.b.Quota > 0 && s.b.used()+o.Size > s.b.Quota {
		return nil, &Error{552, "Quota exceeded."}
	}
	return k, nil
}

type memSink struct {
	s    *memSession
	name string
	data []byte
}

func (k *memSink) Write(p []byte) (int, error) {
	b := k.s.b
	b.mu.Lock()
	defer b.mu.Unlock()
	total := b.used() + int64(len(k.data)+len(p))
	switch {
	case b.Quota > 0 && total > b.Quota:
		return 0, &Error{552, "Quota exceeded."}
	case b.Disk > 0 && total > b.Disk:
		return 0, &Error{452, "No space left on the disk."}
	}
	k.data = append(k.data, p...)
	return len(p), nil
}

func (k *memSink) Commit(context.Context) error {
	k.s.b.mu.Lock()
	defer k.s.b.mu.Unlock()
	k.s.b.put(k.name, &memNode{mode: 0o644, data: k.data})
	return nil
}

func (k *memSink) Close(error) error { return nil }

func (s *memSession) Mkdir(_ context.Context, name string) error {
	if err := s.may("mkdir", name); err != nil {
		return err
	}
	defer s.b.mu.Unlock()
	if s.b.nodes[name] != nil {
		return pathErr("mkdir", name, fs.ErrExist)
	}
	s.b.put(name, &memNode{mode: fs.ModeDir | 0o755})
	return nil
}

func (s *memSession) Remove(_ context.Context, name string) error { return s.remove(name, false) }

func (s *memSession) Rmdir(_ context.Context, name string) error { return s.remove(name, true) }

func (s *memSession) remove(name string, dir bool) error {
	if err := s.may("remove", name); err != nil {
		return err
	}
	defer s.b.mu.Unlock()
	n, err := s.node("remove", name)
	switch {
	case err != nil:
		return err
	case n.mode.IsDir() != dir:
		return &Error{550, name + " is of the wrong kind."}
	case name == "/":
		return pathErr("remove", name, fs.ErrPermission)
	}
	for p := range s.b.nodes {
		if path.Dir(p) == name && p != "/" {
			return &Error{550, name + " is not empty."}
		}
	}
	delete(s.b.nodes, name)
	return nil
}

func (s *memSession) Rename(_ context.Context, from, to string) error {
	if err := s.may("rename", to); err != nil {
		return err
	}
	defer s.b.mu.Unlock()
	if _, err := s.node("rename", from); err != nil {
		return err
	}
	if n := s.b.nodes[to]; n != nil && n.mode.IsDir() || from == "/" || strings.HasPrefix(to, from+"/") {
		return pathErr("rename", to, fs.ErrExist)
	}
	moved := map[string]*memNode{}
	for p, x := range s.b.nodes {
		if p == from || strings.HasPrefix(p, from+"/") {
			moved[to+p[len(from):]] = x
			delete(s.b.nodes, p)
		}
	}
	for p, x := range moved {
		s.b.nodes[p] = x
	}
	return nil
}

func (s *memSession) Close(error) {
	s.once.Do(func() {
		s.b.mu.Lock()
		s.b.sessions--
		s.b.mu.Unlock()
	})
}

// change runs f on an existing node.
func (s *memSession) change(name string, f func(*memNode) error) error {
	if err := s.may("change", name); err != nil {
		return err
	}
	defer s.b.mu.Unlock()
	n, err := s.node("change", name)
	if err != nil {
		return err
	}
	return f(n)
}

func (s *memSession) Chmod(_ context.Context, name string, mode fs.FileMode) error {
	if mode&^0o777 != 0 {
		return errors.New("the engine let a mode through that is not within 0o777")
	}
	return s.change(name, func(n *memNode) error { n.mode = n.mode&^0o777 | mode; return nil })
}

func (s *memSession) SetTimes(_ context.Context, name string, modified, created *time.Time) error {
	return s.change(name, func(n *memNode) error {
		if modified != nil {
			n.mod = *modified
		}
		if created != nil {
			n.created = *created
		}
		return nil
	})
}

func (s *memSession) Symlink(_ context.Context, target, name string) error {
	if err := s.may("symlink", name); err != nil {
		return err
	}
	defer s.b.mu.Unlock()
	if s.b.nodes[name] != nil {
		return pathErr("symlink", name, fs.ErrExist)
	}
	s.b.put(name, &memNode{mode: fs.ModeSymlink | 0o777, target: target})
	return nil
}

// ChangePassword takes any password for the right one; nothing is kept.
func (s *memSession) ChangePassword(_ context.Context, old, fresh string) (Session, error) {
	if old != "secret" || fresh == "weak" {
		return nil, &Error{553, "That is not possible."}
	}
	return nil, nil
}

func (s *memSession) Copy(_ context.Context, from, to string) error {
	if err := s.may("copy", to); err != nil {
		return err
	}
	defer s.b.mu.Unlock()
	n, err := s.node("copy", from)
	if err != nil {
		return err
	}
	if n.mode.IsDir() {
		return &Error{550, from + " is a directory."}
	}
	s.b.put(to, &memNode{mode: n.mode, data: slices.Clone(n.data), mod: n.mod})
	return nil
}

// Space pretends a disk of 1,000,000 bytes unless a knob names another size.
func (s *memSession) Space(_ context.Context, name string) (int64, error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if _, err := s.node("space", name); err != nil {
		return 0, err
	}
	size := int64(1_000_000)
	for _, limit := range []int64{s.b.Quota, s.b.Disk} {
		if limit > 0 {
			size = min(size, limit)
		}
	}
	return max(0, size-s.b.used()), nil
}

func (s *memSession) Usage(context.Context) (usedBytes, maxBytes, usedFiles, maxFiles int64, err error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	for _, n := range s.b.nodes {
		if !n.mode.IsDir() {
			usedFiles++
		}
	}
	return s.b.used(), s.b.Quota, usedFiles, 0, nil
}

// Diagnose tells where the client comes from, which is all this backend keeps.
func (s *memSession) Diagnose(_ context.Context, c *Conn) ([]string, error) {
	return []string{"You come from " + c.RemoteAddr().String()}, nil
}

var (
	_ Backend     = (*memBackend)(nil)
	_ Admitter    = (*memBackend)(nil)
	_ HostChecker = (*memBackend)(nil)
	_ Chmoder     = (*memSession)(nil)
	_ TimeSetter  = (*memSession)(nil)
	_ Symlinker   = (*memSession)(nil)
	_ Copier      = (*memSession)(nil)
	_ Spacer      = (*memSession)(nil)
	_ Usage       = (*memSession)(nil)
)
