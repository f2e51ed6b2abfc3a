package session

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/vfs"
)

// Refresh reads an account again after it was changed. Its sessions get the new
// policy, for everything they begin from now on; they end when the account is
// gone or may not log in any more, or the credential they used was taken back.
// Call it for each member when a group changes.
func (m *Manager) Refresh(ctx context.Context, name string) error {
	if m.conf.Users == nil {
		return nil
	}
	u, err := m.conf.Users.UserByName(ctx, name)
	if fault.KindOf(err) == fault.NotExist {
		m.KickUser(name, "the account was removed")
		return nil
	}
	if err != nil {
		return fault.Wrap("read the account "+name, "", err)
	}
	var errs []error
	row := u
	for _, g := range m.all() {
		s := g.session()
		if s == nil || s.user != name || s.who.ID != row.ID {
			continue
		}
		u := row
		if len(s.granted) > 0 { // of a directory, which is not asked again
			u.Groups = slices.Clone(row.Groups)
			for _, name := range s.granted {
				if !slices.Contains(u.Groups, name) {
					u.Groups = append(u.Groups, name)
				}
			}
		}
		u, p, err := m.policy(ctx, u)
		if err != nil {
			return err
		}
		from := g.Origin()
		if err := u.Usable(m.conf.Now(), from.Remote.Addr(), from.Protocol); err != nil {
			m.kick(g, err.Error())
			continue
		}
		if revoked(s.method, s.who, &u) {
			m.kick(g, "the credential was changed; log in again")
			continue
		}
		lax := u
		lax.MustChange = false // due at the next log-in
		if _, enough := lax.Next(s.proved); len(s.proved) > 0 && !enough {
			m.kick(g, "the account needs more to log in now; log in again")
			continue
		}
		if err := s.adopt(ctx, u, p); err != nil {
			m.kick(g, "the account was changed; log in again")
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// revoked reports whether what a session logged in with may have been taken back.
func revoked(method string, was, is *account.User) bool {
	gone := func(old, now []string) bool {
		return slices.ContainsFunc(old, func(k string) bool { return !slices.Contains(now, k) })
	}
	for one := range strings.SplitSeq(method, "+") {
		switch {
		case one == "password" && (was.PasswordHash != is.PasswordHash || is.KeyOnly),
			one == "key" && gone(was.Keys, is.Keys),
			one == "certificate" && gone(was.Certificates, is.Certificates):
			return true
		}
	}
	return false
}

// adopt puts the session under a new policy. The old view stays open until the
// session ends, because operations may be using it.
func (s *Session) adopt(ctx context.Context, u account.User, p account.Policy) error {
	sh := s.m.share(u, p)
	v, err := s.m.view(ctx, sh.policy)
	if err != nil {
		s.m.unshare(u.Name)
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.m.unshare(u.Name)
		return v.close(ctx)
	}
	s.old = append(s.old, s.view.Swap(v))
	s.mu.Unlock()
	s.pace.SetRates(p.Bandwidth)
	s.m.unshare(u.Name) // the session has its reference by the name already
	return nil
}

// Rescan counts what a user stores anew, in all mounts, and sets the quota use.
// Mounts with a quota of their own are set too. Uploads under way are counted
// by what they have written, so run it in a quiet moment.
func (m *Manager) Rescan(ctx context.Context, name string) (limits.Usage, error) {
	if m.conf.Users == nil {
		return limits.Usage{}, fault.Text(fault.Unsupported, "accounts cannot be looked up here")
	}
	u, err := m.conf.Users.UserByName(ctx, name)
	if err != nil {
		return limits.Usage{}, fault.Wrap("read the account "+name, "", err)
	}
	_, p, err := m.policy(ctx, u)
	if err != nil {
		return limits.Usage{}, err
	}
	v, err := m.view(ctx, &p)
	if err != nil {
		return limits.Usage{}, err
	}
	defer v.close(context.WithoutCancel(ctx))
	sum := limits.Usage{MaxBytes: p.Quota.Bytes, MaxFiles: p.Quota.Files}
	for i, mt := range v.mounts.All() {
		b, f, err := weigh(ctx, mt.FS, "/")
		if err != nil {
			return sum, fault.Wrap("count the files of", mt.Path, err)
		}
		sum.UsedBytes += b
		sum.UsedFiles += f
		if v.scope(i) != nil {
			if err := m.limits.SetUsage(ctx, limits.MountScope(v.mount(i).Source), b, f); err != nil {
				return sum, err
			}
		}
	}
	return sum, m.limits.SetUsage(ctx, name, sum.UsedBytes, sum.UsedFiles)
}

// weigh adds up the regular files below dir without following links.
func weigh(ctx context.Context, f vfs.FS, dir string) (bytes, files int64, err error) {
	var sub []string
	for i, err := range f.List(ctx, dir) {
		switch {
		case err != nil:
			return 0, 0, err
		case i.IsDir():
			sub = append(sub, vfs.Join(dir, i.Name))
		case i.Mode.IsRegular():
			bytes += i.Size
			files++
		}
	}
	for _, d := range sub {
		b, n, err := weigh(ctx, f, d)
		if err != nil && fault.KindOf(err) != fault.NotExist { // removed meanwhile
			return 0, 0, err
		}
		bytes += b
		files += n
	}
	return bytes, files, ctx.Err()
}
