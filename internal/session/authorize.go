package session

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// op is something a session can do to a path. There are no others.
type op uint8

const (
	opStat op = iota
	opList
	opDownload
	opCreate // some kind of writing; Create then asks for the exact right
	opUpload
	opOverwrite
	opAppend
	opDelete
	opRename
	opMkdir
	opRmdir
	opChmod
	opTimes
	opTruncate
	opLink
	opReadlink
	opSpace
	opCount
)

// rule says what an op needs.
type rule struct {
	name   string
	rights account.Rights // all of them, or one of them if any
	any    bool
	writes bool // refused on a read-only mount
	entry  bool // is about the name itself: a link of that name is not followed
	names  bool // gives a new name: the strict path rules hold
}

const anyRight = account.All

var rules = [opCount]rule{
	opStat:      {name: "stat", rights: anyRight, any: true},
	opList:      {name: "list", rights: account.List},
	opDownload:  {name: "download", rights: account.Download},
	opCreate:    {name: "upload", rights: account.Upload | account.Overwrite | account.Append, any: true, writes: true, names: true},
	opUpload:    {name: "upload", rights: account.Upload, writes: true, names: true},
	opOverwrite: {name: "overwrite", rights: account.Overwrite, writes: true, names: true},
	opAppend:    {name: "append", rights: account.Append, writes: true, names: true},
	opDelete:    {name: "delete", rights: account.Delete, writes: true, entry: true},
	opRename:    {name: "rename", rights: account.Rename, writes: true, entry: true},
	opMkdir:     {name: "mkdir", rights: account.Mkdir, writes: true, names: true, entry: true},
	opRmdir:     {name: "rmdir", rights: account.Rmdir, writes: true, entry: true},
	opChmod:     {name: "chmod", rights: account.Chmod, writes: true},
	opTimes:     {name: "times", rights: account.Times, writes: true},
	opTruncate:  {name: "truncate", rights: account.Overwrite, writes: true},
	opLink:      {name: "link", rights: account.Link, writes: true, names: true, entry: true},
	opReadlink:  {name: "readlink", rights: account.List | account.Download, any: true, entry: true},
	opSpace:     {name: "space", rights: anyRight, any: true},
}

// place is a path that was authorised for an op: the only way to a storage.
type place struct {
	v     *view
	name  string // clean, client-visible
	fs    vfs.FS // nil for a directory that only leads to a mount
	rel   string // inside fs
	mount int    // index in v.mounts.All(), -1 when fs is nil
	real  string // where links on the way lead, "" for name itself; see follow
}

// authorize is the one gate: session alive, path clean, name not hidden or
// denied, mount writable, right granted. The error names path and reason, for
// the log. Patterns of the kind "allow only" are for files; the caller that
// learns that the path is a file asks place.file.
func (s *Session) authorize(o op, name string) (place, error) {
	return s.authorizeIn(s.view.Load(), o, name)
}

func (s *Session) authorizeIn(v *view, o op, name string) (place, error) {
	r := &rules[o]
	if err := s.over(); err != nil {
		return place{}, fault.Wrap(r.name, name, err)
	}
	if o != opStat && o != opList {
		if err := s.m.recordable(); err != nil {
			return place{}, err
		}
	}
	var err error
	if r.names {
		name, err = vfs.Clean(name)
	} else {
		name, err = vfs.CleanExisting(name)
	}
	if err != nil {
		return place{}, err
	}
	p := place{v: v, name: name}
	switch verdict, why := v.policy.CheckName(name, true); {
	case verdict == account.NameHidden && r.names:
		return place{}, fault.New(fault.NameRefused, r.name, name, errors.New(why))
	case verdict == account.NameHidden:
		return place{}, fault.New(fault.NotExist, r.name, name, errors.New(why))
	case verdict == account.NameDenied && o != opStat:
		return place{}, fault.New(fault.NameRefused, r.name, name, errors.New(why))
	}
	p.fs, p.rel, p.mount = v.mounts.Resolve(name)
	if err := s.follow(&p, o); err != nil {
		return place{}, err
	}
	if err := p.may(o); err != nil {
		return place{}, err
	}
	return p, nil
}

// follow finds the place that links on the way lead to, where rules or hooks
// treat places differently: a rule holds for what lies below its path, by whatever
// name it is reached. A link made when it pointed to a free place may point to
// another since it was moved, or may have been laid by somebody with access to
// the disk. The storage confines the user whatever this says.
func (s *Session) follow(p *place, o op) error {
	r, ok := p.fs.(vfs.Resolver)
	if !ok || !p.v.ruled && !s.straight && !s.m.asking() || p.v.mounts.Virtual(p.name) {
		return nil
	}
	real, err := r.Resolve(s.ctx, p.rel, !rules[o].entry)
	switch kind := fault.KindOf(err); {
	case kind == fault.Denied, kind == fault.NotExist, kind == fault.WrongType:
		return nil // leads nowhere: the storage refuses by itself, or shows the link
	case err != nil:
		return p.fail(rules[o].name, err)
	case real == p.rel:
		return nil
	case s.straight:
		return fault.New(fault.Denied, rules[o].name, p.name, errors.New("a link lies on the way, and tasks follow none"))
	}
	if mp := p.v.mount(p.mount).Path; mp != "/" {
		real = strings.TrimSuffix(mp+real, "/")
	}
	p.real = real
	switch verdict, why := p.v.policy.CheckName(real, true); {
	case verdict == account.NameHidden:
		return fault.New(fault.NotExist, rules[o].name, p.name, errors.New(why))
	case verdict == account.NameDenied && o != opStat:
		return fault.New(fault.NameRefused, rules[o].name, p.name, errors.New(why))
	}
	return nil
}

// rights are those that hold at the name and, if links lead elsewhere, there too.
func (p *place) rights() account.Rights {
	have := p.v.policy.At(p.name)
	if p.real != "" {
		have &= p.v.policy.At(p.real)
	}
	return have
}

// where is the name without links.
func (p *place) where() string {
	if p.real != "" {
		return p.real
	}
	return p.name
}

// may checks right and mount for a further op at the same place.
func (p *place) may(o op) error {
	r := &rules[o]
	have := p.rights()
	if ok := have&r.rights == r.rights || r.any && have&r.rights != 0; !ok {
		_, why := p.v.policy.Decide(p.name)
		if p.real != "" && p.v.policy.At(p.name) != have {
			_, why = p.v.policy.Decide(p.real)
		}
		return fault.New(fault.Denied, r.name, p.name, fmt.Errorf("no right to %s: %s", r.name, why))
	}
	switch {
	case !r.writes:
	case p.fs == nil:
		return fault.New(fault.Denied, r.name, p.name, errors.New("no storage is mounted here"))
	case p.v.mount(p.mount).ReadOnly:
		return fault.New(fault.Denied, r.name, p.name, fmt.Errorf("the mount at %s is read-only", p.v.mount(p.mount).Path))
	}
	return nil
}

// file applies the patterns that are for files only.
func (p *place) file(o op) error {
	for _, name := range []string{p.name, p.real} {
		if name == "" {
			continue
		}
		if v, why := p.v.policy.CheckName(name, false); v != account.NameAllowed {
			return fault.New(fault.NameRefused, rules[o].name, p.name, errors.New(why))
		}
	}
	return nil
}

// below returns the path of a rule or mount inside the directory name, "" when there is none.
func (v *view) below(name string) string {
	if !v.sub {
		return ""
	}
	for _, r := range v.policy.Rules {
		if r.Path != name && vfs.Under(name, r.Path) {
			return r.Path
		}
	}
	for _, mt := range v.mounts.All() {
		if mt.Path != name && vfs.Under(name, mt.Path) {
			return mt.Path
		}
	}
	return ""
}

// at reports whether a rule is tied to exactly this path.
func (v *view) at(name string) bool {
	for _, r := range v.policy.Rules {
		if r.Path == name && name != "/" {
			return true
		}
	}
	return false
}

// lstat describes a name without following a link, where the storage can.
func (p *place) lstat(ctx context.Context) (vfs.Info, error) {
	if p.fs == nil || p.v.mounts.Virtual(p.name) {
		return p.v.mounts.Stat(ctx, p.name)
	}
	var i vfs.Info
	var err error
	if l, ok := p.fs.(vfs.Lstater); ok {
		i, err = l.Lstat(ctx, p.rel)
	} else {
		i, err = p.fs.Stat(ctx, p.rel)
	}
	return i, p.fail("stat", err)
}

// fail makes a storage's error speak of the client's path.
func (p *place) fail(op string, err error) error {
	return relabel(op, p.name, err)
}

func relabel(op, name string, err error) error {
	if err == nil {
		return nil
	}
	cause := err
	if fe, ok := err.(*fault.Error); ok { // only the outermost: below it may be what explains it
		if fe.Err != nil {
			cause = fe.Err
		} else {
			cause = errors.New(fe.Kind.String())
		}
	}
	return fault.New(fault.KindOf(err), op, name, cause)
}
