package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
)

// Measure counts the regular files in a storage, the source of a mount.
type Measure func(ctx context.Context, source string) (bytes, files int64, err error)

// Quota is what counts against one limit: that of an account, or that of a
// mount with a quota of its own.
type Quota struct {
	Name      string `json:"name"` // of the user, or "mount:" and the source
	UsedBytes int64  `json:"used_bytes"`
	MaxBytes  int64  `json:"max_bytes"` // 0: no limit
	UsedFiles int64  `json:"used_files"`
	MaxFiles  int64  `json:"max_files"`           // 0: no limit
	WasBytes  *int64 `json:"was_bytes,omitempty"` // of a recount: what was in the books
	WasFiles  *int64 `json:"was_files,omitempty"`
}

// scope is a thing with a quota and the storages that count for it.
type scope struct {
	name    string
	max     account.Quota
	sources []string
}

// Quotas returns every limit of one user, or of all when name is empty. What
// has no limit is not counted.
func (s *Service) Quotas(ctx context.Context, name string) ([]Quota, error) {
	if err := errors.Join(s.may(ctx, ScopeRead), unlimited(ctx, "see all quotas")); err != nil {
		return nil, err
	}
	scopes, err := s.scopes(ctx, name)
	if err != nil {
		return nil, err
	}
	out := []Quota{}
	for _, sc := range scopes {
		q := Quota{Name: sc.name, MaxBytes: sc.max.Bytes, MaxFiles: sc.max.Files}
		if q.UsedBytes, q.UsedFiles, err = s.store.QuotaUsed(ctx, sc.name); err != nil {
			return nil, err
		}
		out = append(out, q)
	}
	return out, nil
}

// scopes collects the quotas of one user, of one mount, or of all.
func (s *Service) scopes(ctx context.Context, name string) ([]scope, error) {
	if source, ok := strings.CutPrefix(name, "mount:"); ok {
		return []scope{{name: name, sources: []string{source}}}, nil
	}
	users, err := s.usersNamed(ctx, name)
	if err != nil {
		return nil, err
	}
	var out []scope
	seen := map[string]bool{}
	for _, u := range users {
		groups, err := s.store.GroupsOf(ctx, u)
		if err != nil {
			return nil, err
		}
		p := account.Fold(u, groups)
		sc := scope{name: u.Name, max: p.Quota}
		for _, m := range p.Mounts {
			if !m.ReadOnly {
				sc.sources = append(sc.sources, m.Source)
			}
			if key := limits.MountScope(m.Source); (m.Quota.Bytes > 0 || m.Quota.Files > 0) && !seen[key] {
				seen[key] = true
				out = append(out, scope{name: key, max: m.Quota, sources: []string{m.Source}})
			}
		}
		if p.Quota.Bytes > 0 || p.Quota.Files > 0 {
			out = append(out, sc)
		}
	}
	return out, nil
}

func (s *Service) usersNamed(ctx context.Context, name string) (users []account.User, err error) {
	if name != "" {
		if err := account.ValidName(name); err != nil {
			return nil, err
		}
		u, err := s.store.UserByName(ctx, name)
		return []account.User{u}, missing(name, err)
	}
	for after := ""; ; after = users[len(users)-1].Name {
		page, err := s.store.ListUsers(ctx, after, MaxPage)
		if err != nil {
			return nil, err
		}
		users = append(users, page...)
		if len(page) < MaxPage {
			return users, nil
		}
	}
}

// Recount counts the files of one user's storages, or of everybody's when name
// is empty, and puts the result in the books, with or without a running
// server. Uploads that end meanwhile are noticed and the count is made again.
func (s *Service) Recount(ctx context.Context, name string) ([]Quota, error) {
	if err := errors.Join(s.may(ctx, ScopeServer), unlimited(ctx, "count quotas")); err != nil {
		return nil, err
	}
	scopes, err := s.scopes(ctx, name)
	if err != nil {
		return nil, err
	}
	if name != "" && len(scopes) == 0 {
		return nil, fault.Text(fault.NotExist, fmt.Sprintf("%s has no quota, so nothing is counted; set one with \"portreeve user set %s --quota 10GiB\"", name, name))
	}
	out := []Quota{}
	var errs []error
	for _, sc := range scopes {
		q, err := s.recount(ctx, sc)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", sc.name, err))
			continue
		}
		out = append(out, q)
	}
	return out, errors.Join(errs...)
}

// recountTries is how often a count is repeated because something changed meanwhile.
const recountTries = 3

func (s *Service) recount(ctx context.Context, sc scope) (Quota, error) {
	if s.measure == nil {
		return Quota{}, fault.New(fault.Unsupported, "count quota", "", errors.New("admin: no Measure"))
	}
	for try := 1; ; try++ {
		wasB, wasF, err := s.store.QuotaUsed(ctx, sc.name)
		if err != nil {
			return Quota{}, err
		}
		var b, f int64
		for _, source := range sc.sources {
			db, df, err := s.measure(ctx, source)
			if err != nil {
				return Quota{}, err
			}
			b, f = b+db, f+df
		}
		nowB, nowF, err := s.store.QuotaUsed(ctx, sc.name)
		if err != nil {
			return Quota{}, err
		}
		if (nowB != wasB || nowF != wasF) && try < recountTries {
			continue
		}
		if s.limits != nil {
			err = s.limits.SetUsage(ctx, sc.name, b, f)
		} else {
			err = s.store.SetQuota(ctx, sc.name, b, f)
		}
		return Quota{Name: sc.name, UsedBytes: b, UsedFiles: f, MaxBytes: sc.max.Bytes, MaxFiles: sc.max.Files, WasBytes: &nowB, WasFiles: &nowF}, err
	}
}

// RepairQuota counts again what a crash left in doubt: the scopes that were in
// use when a server ended without settling them. It returns those whose books
// were corrected or confirmed.
func (s *Service) RepairQuota(ctx context.Context) ([]Quota, error) {
	marked, err := s.store.MarkedQuota(ctx)
	if err != nil {
		return nil, err
	}
	var out []Quota
	var errs []error
	for _, name := range marked {
		if err := s.repair(ctx, name, &out); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return out, errors.Join(errs...)
}

func (s *Service) repair(ctx context.Context, name string, out *[]Quota) error {
	scopes, err := s.scopes(ctx, name)
	if err != nil && fault.KindOf(err) != fault.NotExist { // the account may be gone
		return err
	}
	for _, sc := range scopes {
		if sc.name != name {
			continue
		}
		q, err := s.recount(ctx, sc)
		if err != nil {
			return err
		}
		*out = append(*out, q)
	}
	if s.limits != nil {
		return s.limits.ClearMark(ctx, name)
	}
	return s.store.ClearQuota(ctx, name)
}
