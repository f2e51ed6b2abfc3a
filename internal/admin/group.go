package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// GroupSettings is what an administrator may say about a group; see Settings
// for what nil and empty mean. Homes and sources may be templates (%u, %g).
type GroupSettings struct {
	Comment *string `json:"comment,omitempty"`
	Home    *string `json:"home,omitempty"`

	Mounts      []account.Mount `json:"mounts,omitempty"`
	DropMounts  []string        `json:"drop_mounts,omitempty"`
	Rules       []account.Rule  `json:"rules,omitempty"`
	ChangeRules []RuleChange    `json:"change_rules,omitempty"`
	DropRules   []string        `json:"drop_rules,omitempty"`

	QuotaBytes    *int64 `json:"quota_bytes,omitempty"`
	QuotaFiles    *int64 `json:"quota_files,omitempty"`
	BandwidthDown *int64 `json:"bandwidth_down,omitempty"`
	BandwidthUp   *int64 `json:"bandwidth_up,omitempty"`
	MaxSessions   *int   `json:"max_sessions,omitempty"`

	Protocols *[]string        `json:"protocols,omitempty"`
	Networks  *[]netip.Prefix  `json:"networks,omitempty"`
	Hours     *[]account.Hours `json:"hours,omitempty"`
	Auth      *[]string        `json:"auth,omitempty"`

	IfMatch string `json:"-"` // the version the change is meant for; see Version
}

// NewGroup is a group to create.
type NewGroup struct {
	Name string `json:"name"`
	GroupSettings
}

// Empty reports whether s changes nothing.
func (s GroupSettings) Empty() bool {
	s.IfMatch = ""
	return reflect.ValueOf(s).IsZero()
}

func (s GroupSettings) apply(g *account.Group) {
	set(&g.Comment, s.Comment)
	set(&g.Home, s.Home)
	set(&g.Quota.Bytes, s.QuotaBytes)
	set(&g.Quota.Files, s.QuotaFiles)
	set(&g.Bandwidth.Down, s.BandwidthDown)
	set(&g.Bandwidth.Up, s.BandwidthUp)
	set(&g.MaxSessions, s.MaxSessions)
	set(&g.Protocols, s.Protocols)
	set(&g.Networks, s.Networks)
	set(&g.Hours, s.Hours)
	set(&g.Auth, s.Auth)
	g.Mounts = merge(g.Mounts, s.Mounts, s.DropMounts, func(m account.Mount) string { return m.Path })
	g.Rules = merge(g.Rules, s.Rules, s.DropRules, func(r account.Rule) string { return r.Path })
	g.Rules = changeRules(g.Rules, s.ChangeRules)
}

// CreateGroup makes a group. Faults: Invalid, Exist, Denied, Unavailable.
func (s *Service) CreateGroup(ctx context.Context, n NewGroup) (account.Group, error) {
	g := account.Group{Name: n.Name}
	if err := s.mayGroups(ctx); err != nil {
		return g, err
	}
	n.GroupSettings.apply(&g)
	if err := s.checkGroup(g); err != nil {
		return g, err
	}
	made, err := s.store.CreateGroup(ctx, g)
	if fault.KindOf(err) == fault.Exist {
		return g, fault.Text(fault.Exist, fmt.Sprintf("there is a group %s already; change it with \"portreeve group set\", or choose another name", g.Name))
	}
	if err != nil {
		return g, err
	}
	s.groupChanged(ctx, g.Name, whole("made", nil, made), false)
	return made, nil
}

// UpdateGroup changes what set gives; live sessions of members follow.
// Faults: Invalid, NotExist, Denied, Unavailable, and ErrConflict.
func (s *Service) UpdateGroup(ctx context.Context, name string, set GroupSettings) (account.Group, error) {
	if err := errors.Join(account.ValidName(name), s.mayGroups(ctx)); err != nil {
		return account.Group{}, err
	}
	var before, after account.Group
	err := s.store.UpdateGroup(ctx, name, func(g *account.Group) error {
		before = *g
		if set.IfMatch != "" && set.IfMatch != Version(*g) {
			return ErrConflict
		}
		set.apply(g)
		after = *g
		return s.checkGroup(*g)
	})
	if err != nil {
		return account.Group{}, noGroup(name, err)
	}
	s.groupChanged(ctx, name, "changed: "+difference(before, after), true)
	return s.Group(ctx, name)
}

// DeleteGroup removes a group without members. Faults: Invalid, NotExist, Busy, Denied.
func (s *Service) DeleteGroup(ctx context.Context, name string) error {
	if err := errors.Join(account.ValidName(name), s.mayGroups(ctx)); err != nil {
		return err
	}
	was, err := s.store.GroupByName(ctx, name)
	if err == nil {
		err = s.store.DeleteGroup(ctx, name)
	}
	if fault.KindOf(err) == fault.Busy {
		return fault.Text(fault.Busy, fmt.Sprintf("group %s still has members; take them out first with \"portreeve group leave %s USER\"", name, name))
	}
	if err != nil {
		return noGroup(name, err)
	}
	s.groupChanged(ctx, name, whole("removed", was, nil), false)
	return nil
}

// Group returns one group. Faults: Invalid, NotExist, Unavailable.
func (s *Service) Group(ctx context.Context, name string) (account.Group, error) {
	if err := account.ValidName(name); err != nil {
		return account.Group{}, err
	}
	if err := s.may(ctx, ScopeRead); err != nil {
		return account.Group{}, err
	}
	if !knows(ctx, name) {
		return account.Group{}, noGroup(name, fault.New(fault.NotExist, "", "", nil))
	}
	g, err := s.store.GroupByName(ctx, name)
	return g, noGroup(name, err)
}

// Groups returns a page of groups in the order of their names; as Users.
func (s *Service) Groups(ctx context.Context, o ListOptions) ([]account.Group, string, error) {
	if err := s.may(ctx, ScopeRead); err != nil {
		return nil, "", err
	}
	match := strings.ToLower(o.Match)
	return page(o, func(after string, limit int) ([]account.Group, error) { return s.store.ListGroups(ctx, after, limit) },
		func(g account.Group) string { return g.Name },
		func(g account.Group) bool {
			return knows(ctx, g.Name) && (strings.Contains(strings.ToLower(g.Name), match) || strings.Contains(strings.ToLower(g.Comment), match))
		})
}

// knows reports whether the caller may see the group.
func knows(ctx context.Context, group string) bool {
	p := principal(ctx)
	return p == nil || len(p.Groups) == 0 || slices.Contains(p.Groups, group)
}

// Members returns a page of the names of a group's members; as Users.
func (s *Service) Members(ctx context.Context, group string, o ListOptions) ([]string, string, error) {
	if err := account.ValidName(group); err != nil {
		return nil, "", err
	}
	if err := s.may(ctx, ScopeRead); err != nil {
		return nil, "", err
	}
	names, next, err := page(o, func(after string, limit int) ([]string, error) { return s.store.MembersOf(ctx, group, after, limit) },
		func(n string) string { return n }, func(string) bool { return true })
	return names, next, noGroup(group, err)
}

// page collects what matches, page by page, up to the limit; next is the name
// to go on after, "" at the end. One more than asked for tells whether there is more.
func page[T any](o ListOptions, load func(after string, limit int) ([]T, error), name func(T) string, match func(T) bool) (list []T, next string, err error) {
	if o.Limit <= 0 || o.Limit > MaxPage {
		o.Limit = MaxPage
	}
	list = []T{}
	for after := o.After; ; {
		got, err := load(after, o.Limit+1)
		if err != nil {
			return nil, "", err
		}
		for _, v := range got {
			if !match(v) {
				continue
			}
			if len(list) == o.Limit {
				return list, name(list[len(list)-1]), nil
			}
			list = append(list, v)
		}
		if len(got) <= o.Limit {
			return list, "", nil
		}
		after = name(got[len(got)-1])
	}
}

func noGroup(name string, err error) error {
	if fault.KindOf(err) == fault.NotExist {
		return fault.Text(fault.NotExist, fmt.Sprintf("there is no group %q; \"portreeve group list\" shows them all", name))
	}
	return err
}

func (s *Service) checkGroup(g account.Group) error {
	var bad []error
	if err := g.Validate(); err != nil {
		bad = append(bad, causeOf(err))
	}
	bad = append(bad, badProtocols(g.Protocols)...)
	// A template is judged by what stands before its first %: all homes are below it.
	fixed := func(p string) string { before, _, _ := strings.Cut(p, "%"); return before }
	if g.Home != "" {
		bad = append(bad, s.overlapTemplate("home", g.Home, fixed(g.Home)))
	}
	for _, m := range g.Mounts {
		bad = append(bad, s.overlapTemplate("mount "+m.Path, m.Source, fixed(m.Source)))
	}
	return invalid(bad)
}

// overlapTemplate refuses a template that shows the data directory, whoever
// the user is. "/srv/%u" is fine even when the data directory is /srv/data:
// that a user is called "data" is refused when the user is made.
func (s *Service) overlapTemplate(what, template, fixed string) error {
	if fixed == template {
		return s.overlap(what, template)
	}
	err := s.overlap(what, strings.NewReplacer("%u", "x", "%g", "x", "%%", "%").Replace(template))
	if err != nil {
		return fmt.Errorf("%w (as a template of %s)", err, template)
	}
	return nil
}

// groupChanged records the change and makes the sessions of members follow.
// Only users who are connected are looked at: a group may have a million members.
func (s *Service) groupChanged(ctx context.Context, name, what string, refresh bool) {
	ctx = context.WithoutCancel(ctx)
	if refresh && s.live != nil {
		seen := map[string]bool{}
		for _, st := range s.live.Sessions() {
			if st.User == "" || seen[st.User] {
				continue
			}
			seen[st.User] = true
			u, err := s.store.UserByName(ctx, st.User)
			if err != nil || !slices.Contains(u.Groups, name) {
				continue // anonymous has no row; one that was just removed is ended elsewhere
			}
			if err := s.live.Refresh(ctx, st.User); err != nil {
				s.log.Error("live sessions did not follow a change of their group; they were ended or keep the old rights", "user", st.User, "group", name, "err", err)
			}
		}
	}
	s.record(ctx, "", "group "+name+" "+what)
}
