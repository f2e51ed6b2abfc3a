package task

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/session"
	"github.com/portreeve/portreeve/internal/vfs"
)

// keeper carries out a retention rule in the tree of one account.
type keeper struct {
	t      *config.Task
	s      *session.Steward
	rep    *Report
	before time.Time // what is older goes
}

// retain goes through the accounts of a rule.
func (r *Runner) retain(ctx context.Context, t *config.Task, rep *Report) error {
	before := rep.Began.Add(-t.Older.Std())
	return r.o.Users(ctx, func(u account.User) error {
		if !chosen(t, &u) {
			return ctx.Err()
		}
		s, err := r.o.Steward(ctx, u, t.Name)
		if err != nil {
			rep.fail(fmt.Errorf("%s: %w", u.Name, err))
			return ctx.Err()
		}
		defer s.Close()
		rep.Accounts++
		k := &keeper{t: t, s: s, rep: rep, before: before}
		info, err := s.Lstat(ctx, t.Path)
		switch {
		case fault.KindOf(err) == fault.NotExist:
		case err != nil:
			rep.fail(fmt.Errorf("%s: %w", u.Name, err))
		case info.IsDir():
			k.dir(ctx, t.Path)
		}
		return ctx.Err()
	})
}

func chosen(t *config.Task, u *account.User) bool {
	match := func(patterns []string, name string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return account.MatchName(p, name) })
	}
	return match(t.Users, u.Name) || slices.ContainsFunc(u.Groups, func(g string) bool { return match(t.Groups, g) })
}

// dir goes through a directory and returns how much of it went. Links are
// neither followed nor removed.
func (k *keeper) dir(ctx context.Context, name string) (went int) {
	var all []vfs.Info // complete before anything goes: a listing is no place to delete from
	for i, err := range k.s.List(ctx, name) {
		if err != nil {
			k.fail(ctx, err)
			return 0
		}
		if i.IsDir() || i.Mode.IsRegular() && k.old(i) {
			all = append(all, i)
		}
	}
	for _, i := range all {
		if ctx.Err() != nil {
			return went
		}
		p := vfs.Join(name, i.Name)
		now, err := k.s.Lstat(ctx, p) // it may have become something else
		switch {
		case err != nil:
			k.fail(ctx, err)
		case i.IsDir() && now.IsDir() && p != k.t.Archive:
			if n := k.dir(ctx, p); n > 0 {
				went += k.emptied(ctx, p)
			}
		case now.Mode.IsRegular() && k.old(now):
			went += k.file(ctx, p, now)
		}
	}
	return went
}

// old says whether a file goes.
func (k *keeper) old(i vfs.Info) bool {
	match := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return account.MatchName(p, i.Name) })
	}
	return i.ModTime.Before(k.before) && (len(k.t.Match) == 0 || match(k.t.Match)) && !match(k.t.Except)
}

func (k *keeper) file(ctx context.Context, name string, i vfs.Info) int {
	c := Change{User: k.s.User(), Path: name, Bytes: i.Size}
	if k.t.Archive != "" {
		c.To = vfs.Join(k.t.Archive, "."+strings.TrimPrefix(name, strings.TrimSuffix(k.t.Path, "/")))
	}
	if !k.rep.Dry {
		var err error
		if c.To == "" {
			err = k.s.Remove(ctx, name)
		} else {
			c.To, err = k.archive(ctx, name, c.To, i)
		}
		if err != nil {
			k.fail(ctx, err)
			return 0
		}
	}
	k.rep.Files++
	k.rep.Bytes += i.Size
	k.rep.note(c)
	return 1
}

// archive moves a file and makes the directories it needs. One that is there
// already is not replaced: the newcomer's time becomes part of its name.
func (k *keeper) archive(ctx context.Context, from, to string, i vfs.Info) (string, error) {
	dir, _ := vfs.Split(to)
	if err := k.makeDirs(ctx, dir); err != nil {
		return to, err
	}
	err := k.s.Rename(ctx, from, to, false)
	if fault.KindOf(err) == fault.Exist {
		to += "." + i.ModTime.UTC().Format("20060102T150405.000000")
		err = k.s.Rename(ctx, from, to, false)
	}
	return to, err
}

func (k *keeper) makeDirs(ctx context.Context, dir string) error {
	i, err := k.s.Lstat(ctx, dir)
	switch {
	case err == nil && i.IsDir():
		return nil
	case err == nil:
		return fault.New(fault.WrongType, "archive", dir, fmt.Errorf("it is not a directory"))
	case fault.KindOf(err) != fault.NotExist:
		return err
	}
	if up, _ := vfs.Split(dir); up != dir {
		if err := k.makeDirs(ctx, up); err != nil {
			return err
		}
	}
	if err := k.s.Mkdir(ctx, dir, 0o700); fault.KindOf(err) != fault.Exist {
		return err
	}
	return nil
}

// emptied removes a directory out of which something went, when nothing is left.
func (k *keeper) emptied(ctx context.Context, name string) int {
	if k.t.EmptyDirs != "remove" || k.rep.Dry {
		return 0
	}
	switch err := k.s.Rmdir(ctx, name); fault.KindOf(err) {
	case fault.None:
		k.rep.Dirs++
		k.rep.note(Change{User: k.s.User(), Path: name, Dir: true})
		return 1
	case fault.WrongType, fault.Denied, fault.NotExist: // something is left, or a mount
	default:
		k.fail(ctx, err)
	}
	return 0
}

// fail notes a failure; what went by itself meanwhile is none.
func (k *keeper) fail(ctx context.Context, err error) {
	if ctx.Err() == nil && fault.KindOf(err) != fault.NotExist {
		k.rep.fail(fmt.Errorf("%s: %w", k.s.User(), err))
	}
}
