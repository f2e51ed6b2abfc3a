package admin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/store"
)

// State is what accounts, groups and administrators are to be. It has no
// secrets: passwords, second factors and tokens are made by their own calls. A
// section that is nil is not looked at.
type State struct {
	Groups         []account.Group         `json:"groups,omitempty"`
	Users          []account.User          `json:"users,omitempty"`
	Administrators []account.Administrator `json:"administrators,omitempty"`
	// Tokens that are to stay; they are named by id and cannot be made here.
	Tokens []account.Token `json:"tokens,omitempty"`
}

// MarshalJSON keeps apart what omitempty would not: a section or list of keys
// that is empty says that there is to be none, one that is nil says nothing.
func (s State) MarshalJSON() ([]byte, error) {
	type user struct {
		account.User
		Keys         *[]string `json:"keys,omitempty"`
		Certificates *[]string `json:"certificates,omitempty"`
	}
	out := map[string]any{}
	if s.Users != nil {
		users := make([]user, len(s.Users))
		for i, u := range s.Users {
			users[i].User = u
			if u.Keys != nil {
				users[i].Keys = &u.Keys
			}
			if u.Certificates != nil {
				users[i].Certificates = &u.Certificates
			}
		}
		out["users"] = users
	}
	if s.Groups != nil {
		out["groups"] = s.Groups
	}
	if s.Administrators != nil {
		out["administrators"] = s.Administrators
	}
	if s.Tokens != nil {
		out["tokens"] = s.Tokens
	}
	return json.Marshal(out)
}

// ApplyOptions say what to do with the difference.
type ApplyOptions struct {
	DryRun bool
	Prune  bool   // remove what the state's sections do not name
	Plan   string // Digest of the plan that was looked at; empty: whatever there is to do
}

// Plan is the difference between a state and what there is.
type Plan struct {
	Changes []Change `json:"changes"`
	Extra   []Change `json:"extra,omitempty"` // not named in the state; kept without Prune
	Notes   []string `json:"notes,omitempty"`
	Applied bool     `json:"applied"`
	Digest  string   `json:"digest"` // of Changes
}

// Change is one object that is made, changed or removed.
type Change struct {
	Action string  `json:"action"` // create, update, delete
	Kind   string  `json:"kind"`   // group, user, administrator, token
	Name   string  `json:"name"`
	Fields []Field `json:"fields,omitempty"`
}

// Field is one setting with its values as JSON, "" for none.
type Field struct {
	Name   string `json:"name"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

const (
	actionCreate = "create"
	actionUpdate = "update"
	actionDelete = "delete"
)

// Apply makes accounts, groups and administrators what the state says, all of
// it in one transaction or nothing, and returns the difference. What the state
// leaves out of an object has its default, but for keys and certificates of a
// user, which stay when they are not mentioned, and must_change, which counts
// for new accounts only. Objects that the state does not name stay, unless
// Prune. Faults: Invalid (with everything that is wrong), Busy, Denied, and
// ErrConflict when the difference is not that of Plan.
func (s *Service) Apply(ctx context.Context, want State, o ApplyOptions) (Plan, error) {
	if err := s.mayApply(ctx, want); err != nil {
		return Plan{}, err
	}
	want, err := s.normal(want)
	if err != nil {
		return Plan{}, err
	}
	names := make([]string, len(want.Users))
	for i, u := range want.Users {
		names[i] = u.Name
	}
	var d differ
	plan := func(now store.Present) (store.Writes, error) {
		d = differ{ctx: ctx, s: s, now: now, want: want, prune: o.Prune}
		if err := d.run(); err != nil {
			return store.Writes{}, err
		}
		if o.Plan != "" && o.Plan != d.plan.Digest {
			return store.Writes{}, ErrConflict
		}
		if o.DryRun {
			return store.Writes{}, nil
		}
		return d.writes, nil
	}
	if err := s.store.Apply(ctx, names, plan); err != nil {
		if k := fault.KindOf(err); k == fault.Exist || k == fault.Invalid || k == fault.Busy {
			return Plan{}, &fault.Error{Kind: k, Err: causeOf(err)}
		}
		return Plan{}, err
	}
	d.plan.Applied = !o.DryRun
	if !o.DryRun {
		s.applied(ctx, &d)
	}
	return d.plan, nil
}

// mayApply asks for the scope of every section.
func (s *Service) mayApply(ctx context.Context, want State) error {
	errs := []error{s.may(ctx, ScopeUsers), unlimited(ctx, "apply a state")}
	if want.Groups != nil {
		errs = append(errs, s.mayGroups(ctx))
	}
	if want.Administrators != nil || want.Tokens != nil {
		errs = append(errs, s.mayAdmins(ctx))
	}
	return errors.Join(errs...)
}

// normal checks what can be checked without the database and fills in defaults.
func (s *Service) normal(want State) (State, error) {
	var bad []error
	fail := func(what, name string, err error) {
		if err != nil {
			bad = append(bad, fmt.Errorf("%s %s: %s", what, name, strings.ReplaceAll(causeOf(err).Error(), "\n", "; ")))
		}
	}
	seen := map[string]bool{}
	twice := func(what, name string) {
		if seen[what+" "+name] {
			fail(what, name, errors.New("is there twice"))
		}
		seen[what+" "+name] = true
	}
	groups, users, admins := slices.Clone(want.Groups), slices.Clone(want.Users), slices.Clone(want.Administrators)
	for i := range groups {
		g := &groups[i]
		twice("group", g.Name)
		fail("group", g.Name, s.checkGroup(*g))
	}
	for i := range users {
		u := &users[i]
		twice("user", u.Name)
		u.PasswordHash, u.TOTP, u.TOTPSecret = "", false, ""
		u.Expires = sameTime(u.Expires)
		if err := account.ValidName(u.Name); err != nil {
			fail("user", u.Name, err)
			continue // before the name becomes part of a path
		}
		for _, line := range u.Keys {
			_, err := auth.ParseKey(line)
			fail("user", u.Name, err)
		}
	}
	for i := range admins {
		a := &admins[i]
		twice("administrator", a.Name)
		fail("administrator", a.Name, errors.Join(account.ValidName(a.Name), AdministratorSettings{Scopes: &a.Scopes}.apply(a)))
	}
	for _, t := range want.Tokens {
		twice("token", t.ID)
	}
	return State{Groups: groups, Users: users, Administrators: admins, Tokens: want.Tokens}, invalid(bad)
}

// sameTime is a time as it comes back from the database.
func sameTime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(t.UnixMicro())
}

// differ works out a plan against what the database has.
type differ struct {
	ctx    context.Context
	s      *Service
	now    store.Present
	want   State
	prune  bool
	plan   Plan
	writes store.Writes
	dirs   []account.User // whose directories are to be made
	bad    []error
}

func (d *differ) run() error {
	d.plan.Changes = []Change{}
	d.groups()
	d.users()
	d.administrators()
	d.extras()
	if err := invalid(d.bad); err != nil {
		return err
	}
	b, err := json.Marshal(d.plan.Changes)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	d.plan.Digest = hex.EncodeToString(sum[:12])
	return nil
}

func (d *differ) fail(what, name string, err error) {
	if err != nil {
		d.bad = append(d.bad, fmt.Errorf("%s %s: %s", what, name, strings.ReplaceAll(causeOf(err).Error(), "\n", "; ")))
	}
}

// note adds the difference of one object and reports whether there is one.
func (d *differ) note(kind, name string, before, after any) bool {
	c := Change{Action: actionUpdate, Kind: kind, Name: name, Fields: fieldsBetween(before, after)}
	if before == nil {
		c.Action = actionCreate
	}
	if len(c.Fields) == 0 && before != nil {
		return false
	}
	d.plan.Changes = append(d.plan.Changes, c)
	return true
}

func (d *differ) groups() {
	for _, g := range d.want.Groups {
		i := slices.IndexFunc(d.now.Groups, func(o account.Group) bool { return o.Name == g.Name })
		g.ID, g.CreatedAt, g.UpdatedAt = 0, time.Time{}, time.Time{}
		var before any
		if i >= 0 {
			old := d.now.Groups[i]
			g.ID, g.CreatedAt, g.UpdatedAt, before = old.ID, old.CreatedAt, old.UpdatedAt, old
		}
		if d.note("group", g.Name, before, g) {
			d.writes.Groups = append(d.writes.Groups, g)
		}
	}
}

// group is the one of that name as it will be, nil when there is none.
func (d *differ) group(name string) *account.Group {
	is := func(g account.Group) bool { return g.Name == name }
	if i := slices.IndexFunc(d.want.Groups, is); i >= 0 {
		return &d.want.Groups[i]
	}
	if i := slices.IndexFunc(d.now.Groups, is); i >= 0 && (!d.prune || d.want.Groups == nil) {
		return &d.now.Groups[i]
	}
	return nil
}

func (d *differ) users() {
	for _, u := range d.want.Users {
		i := slices.IndexFunc(d.now.Users, func(o account.User) bool { return o.Name == u.Name })
		var before any
		old := account.User{}
		if i >= 0 {
			old = d.now.Users[i]
			old.Expires = sameTime(old.Expires)
			before, u.MustChange = old, old.MustChange
		}
		u.ID, u.CreatedAt, u.UpdatedAt, u.LastLogin = old.ID, old.CreatedAt, old.UpdatedAt, old.LastLogin
		u.PasswordHash, u.TOTP, u.TOTPSecret = old.PasswordHash, old.TOTP, old.TOTPSecret
		if u.Keys == nil {
			u.Keys = old.Keys
		}
		if u.Certificates == nil {
			u.Certificates = old.Certificates
		}
		var groups []account.Group
		for _, name := range u.Groups {
			g := d.group(name)
			if g == nil {
				d.fail("user", u.Name, fmt.Errorf("there is no group %q", name))
				continue
			}
			groups = append(groups, *g)
		}
		full := u.Inherit(groups)
		if full.Home == "" && !slices.ContainsFunc(full.Mounts, func(m account.Mount) bool { return m.Path == "/" }) {
			u.Home = d.s.defaultHome(u.Name)
			full.Home = u.Home
		}
		d.fail("user", u.Name, d.s.check(u))
		if !d.note("user", u.Name, before, u) {
			continue
		}
		d.writes.Users = append(d.writes.Users, u)
		if i < 0 || old.Home != u.Home || !slices.Equal(old.Mounts, u.Mounts) || !slices.Equal(old.Groups, u.Groups) {
			d.fail("user", u.Name, d.s.checkDirs(full))
			d.dirs = append(d.dirs, full)
		}
		if u.PasswordHash == "" && len(u.Keys) == 0 && len(u.Certificates) == 0 {
			d.plan.Notes = append(d.plan.Notes, fmt.Sprintf("user %s has no password, key or certificate to log in with; set one with: portreeve user passwd %s", u.Name, u.Name))
		}
	}
}

func (d *differ) administrators() {
	for _, a := range d.want.Administrators {
		i := slices.IndexFunc(d.now.Administrators, func(o account.Administrator) bool { return o.Name == a.Name })
		var before any
		old := account.Administrator{}
		if i >= 0 {
			old = d.now.Administrators[i]
			before = old
		}
		a.ID, a.TOTP, a.CreatedAt, a.UpdatedAt = old.ID, old.TOTP, old.CreatedAt, old.UpdatedAt
		for _, g := range a.Groups {
			if d.group(g) == nil {
				d.fail("administrator", a.Name, fmt.Errorf("there is no group %q", g))
			}
		}
		if d.note("administrator", a.Name, before, a) {
			d.fail("administrator", a.Name, errors.Join(grantable(d.ctx, a.Scopes), grantable(d.ctx, old.Scopes)))
			d.writes.Administrators = append(d.writes.Administrators, a)
		}
	}
	for _, t := range d.want.Tokens {
		if !slices.ContainsFunc(d.now.Tokens, func(o account.Token) bool { return o.ID == t.ID }) {
			d.fail("token", cmp.Or(t.ID, "without id"), errors.New("is not there; tokens are made with \"portreeve token add\", which shows their secret once"))
		}
	}
}

// extras are the objects that the sections of the state do not name.
func (d *differ) extras() {
	extra := func(section bool, kind string, names []string, named func(string) bool, drop *[]string) {
		for _, n := range names {
			if !section || named(n) {
				continue
			}
			c := Change{Action: actionDelete, Kind: kind, Name: n, Fields: d.was(kind, n)}
			if !d.prune {
				d.plan.Extra = append(d.plan.Extra, c)
				continue
			}
			d.plan.Changes = append(d.plan.Changes, c)
			*drop = append(*drop, n)
		}
	}
	drop := &d.writes.Drop
	extra(d.want.Users != nil, "user", d.now.OtherUsers, func(string) bool { return false }, &drop.Users)
	extra(d.want.Tokens != nil, "token", namesOf(d.now.Tokens, func(t account.Token) string { return t.ID }),
		func(n string) bool {
			return slices.ContainsFunc(d.want.Tokens, func(t account.Token) bool { return t.ID == n })
		}, &drop.Tokens)
	extra(d.want.Administrators != nil, "administrator", namesOf(d.now.Administrators, func(a account.Administrator) string { return a.Name }),
		func(n string) bool {
			return slices.ContainsFunc(d.want.Administrators, func(a account.Administrator) bool { return a.Name == n })
		}, &drop.Administrators)
	extra(d.want.Groups != nil, "group", namesOf(d.now.Groups, func(g account.Group) string { return g.Name }),
		func(n string) bool {
			return slices.ContainsFunc(d.want.Groups, func(g account.Group) bool { return g.Name == n })
		}, &drop.Groups)
	for _, name := range drop.Administrators {
		i := slices.IndexFunc(d.now.Administrators, func(a account.Administrator) bool { return a.Name == name })
		d.fail("administrator", name, grantable(d.ctx, d.now.Administrators[i].Scopes))
	}
	// Tokens of an administrator who goes, go along.
	drop.Tokens = slices.DeleteFunc(drop.Tokens, func(id string) bool {
		return slices.ContainsFunc(d.now.Tokens, func(t account.Token) bool { return t.ID == id && slices.Contains(drop.Administrators, t.Administrator) })
	})
}

// was lists the settings of an object that goes. Accounts that stay may be many
// and are not loaded for it.
func (d *differ) was(kind, name string) []Field {
	switch kind {
	case "user":
		if !d.prune {
			return nil
		}
		u, err := d.now.User(name)
		d.fail("user", name, err)
		return fieldsBetween(u, nil)
	case "group":
		i := slices.IndexFunc(d.now.Groups, func(g account.Group) bool { return g.Name == name })
		return fieldsBetween(d.now.Groups[i], nil)
	case "administrator":
		i := slices.IndexFunc(d.now.Administrators, func(a account.Administrator) bool { return a.Name == name })
		return fieldsBetween(d.now.Administrators[i], nil)
	case "token":
		i := slices.IndexFunc(d.now.Tokens, func(t account.Token) bool { return t.ID == name })
		return fieldsBetween(d.now.Tokens[i], nil)
	}
	return nil
}

func namesOf[T any](list []T, name func(T) string) (out []string) {
	for _, v := range list {
		out = append(out, name(v))
	}
	return out
}

// applied makes directories and sessions follow and records every change.
func (s *Service) applied(ctx context.Context, d *differ) {
	for _, u := range d.dirs {
		if _, err := s.makeDirs(u); err != nil {
			d.plan.Notes = append(d.plan.Notes, fmt.Sprintf("user %s: %v", u.Name, causeOf(err)))
		}
	}
	for _, c := range d.plan.Changes {
		what := map[string]string{actionCreate: "made by a state", actionUpdate: "changed by a state", actionDelete: "removed by a state"}[c.Action]
		if len(c.Fields) > 0 {
			what += ": " + fieldsText(c.Fields)
		}
		switch c.Kind {
		case "user":
			s.changed(ctx, c.Name, what)
		case "group":
			s.groupChanged(ctx, c.Name, what, c.Action == actionUpdate)
		default:
			s.record(ctx, "", c.Kind+" "+c.Name+" "+what)
		}
	}
}
