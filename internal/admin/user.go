package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// MaxPage is the most users in one page.
const MaxPage = 500

// CreateUser makes an account and its home directory. Without a home it gets
// one in the data directory. Faults: Invalid, Exist, Unavailable.
func (s *Service) CreateUser(ctx context.Context, n NewUser) (account.User, error) {
	u := account.User{Name: n.Name}
	if err := account.ValidName(n.Name); err != nil {
		return u, err // before the name becomes part of a path
	}
	if err := s.may(ctx, ScopeUsers); err != nil {
		return u, err
	}
	n.Settings.apply(&u)
	if err := delegable(ctx, n.Settings, u); err != nil {
		return u, err
	}
	full, err := s.inherit(ctx, u)
	if err != nil {
		return u, err
	}
	if full.Home == "" && !slices.ContainsFunc(full.Mounts, func(m account.Mount) bool { return m.Path == "/" }) {
		u.Home = s.defaultHome(u.Name)
		full.Home = u.Home
	}
	if err := errors.Join(s.check(u), s.checkDirs(full)); err != nil {
		return u, err
	}
	if _, err := s.store.UserByName(ctx, u.Name); err == nil {
		return u, taken(u.Name) // before a hash is paid for and directories are made
	} else if fault.KindOf(err) != fault.NotExist {
		return u, err
	}
	if n.Password != "" {
		if err := s.setHash(ctx, &u, n.Password); err != nil {
			return u, err
		}
	}
	if n.PasswordHash != "" {
		if err := s.bringHash(&u, n); err != nil {
			return u, err
		}
	}
	undo, err := s.makeDirs(full)
	if err != nil {
		return u, err
	}
	made, err := s.store.CreateUser(ctx, u)
	if err != nil {
		undo()
		if fault.KindOf(err) == fault.Exist {
			err = taken(u.Name)
		}
		return u, err
	}
	s.changed(ctx, u.Name, whole("made", nil, made))
	return made, nil
}

func taken(name string) error {
	return fault.Text(fault.Exist, fmt.Sprintf("there is a user %s already; change it with \"portreeve user set\", or choose another name", name))
}

func missing(name string, err error) error {
	if fault.KindOf(err) == fault.NotExist {
		return fault.Text(fault.NotExist, fmt.Sprintf("there is no user %q; \"portreeve user list\" shows them all", name))
	}
	return err
}

// UpdateUser changes what set gives and nothing else. Live sessions of the
// user are re-evaluated. Faults: Invalid, NotExist, Unavailable.
func (s *Service) UpdateUser(ctx context.Context, name string, set Settings) (account.User, error) {
	if err := account.ValidName(name); err != nil {
		return account.User{}, err
	}
	if err := s.may(ctx, ScopeUsers); err != nil {
		return account.User{}, err
	}
	now, err := s.store.UserByName(ctx, name)
	if err != nil {
		return now, missing(name, err)
	}
	if err := reach(ctx, now); err != nil {
		return account.User{}, err
	}
	// Directories are made before the transaction, which should not wait for a
	// slow disk; so what the change leads to is checked first, and again inside.
	set.apply(&now)
	fresh := account.User{Name: name}
	set.apply(&fresh)
	if len(fresh.Groups) > 0 { // what the groups bring counts as new too
		if fresh, err = s.inherit(ctx, account.User{Name: name, Home: now.Home, Groups: now.Groups, Mounts: fresh.Mounts}); err != nil {
			return now, err
		}
		if set.Home == nil && fresh.Home == now.Home {
			fresh.Home = ""
		}
	}
	if err := errors.Join(delegable(ctx, set, now), s.check(now), s.checkDirs(fresh)); err != nil {
		return now, err
	}
	undo, err := s.makeDirs(fresh)
	if err != nil {
		return now, err
	}
	var before, after account.User
	err = s.store.UpdateUser(ctx, name, func(u *account.User) error {
		before = *u
		if set.IfMatch != "" && set.IfMatch != Version(*u) {
			return ErrConflict
		}
		set.apply(u)
		after = *u
		return errors.Join(reach(ctx, before), delegable(ctx, set, after), s.check(*u))
	})
	if err != nil {
		undo()
		return now, missing(name, err)
	}
	s.changed(ctx, name, "changed: "+difference(before, after))
	return s.User(ctx, name)
}

// SetPassword replaces the password; sessions that logged in with the old one
// end. Faults: Invalid, NotExist, Limit, Unavailable.
func (s *Service) SetPassword(ctx context.Context, name, password string) error {
	if err := account.ValidName(name); err != nil {
		return err
	}
	if err := s.may(ctx, ScopeUsers); err != nil {
		return err
	}
	u, err := s.store.UserByName(ctx, name)
	if err != nil {
		return missing(name, err)
	}
	if err := reach(ctx, u); err != nil {
		return err
	}
	// Hashing takes long enough that no transaction should wait for it.
	fresh := account.User{Name: name}
	if err := s.setHash(ctx, &fresh, password); err != nil {
		return err
	}
	if err := s.store.SetPassword(ctx, name, fresh.PasswordHash, false); err != nil {
		return missing(name, err)
	}
	s.changed(ctx, name, whole("password set", passwordMark{u.PasswordHash != "", u.MustChange}, passwordMark{true, false}))
	return nil
}

// DeleteUser removes an account and ends its sessions. Files stay.
// Faults: Invalid, NotExist, Unavailable.
func (s *Service) DeleteUser(ctx context.Context, name string) error {
	if err := account.ValidName(name); err != nil {
		return err
	}
	if err := s.may(ctx, ScopeUsers); err != nil {
		return err
	}
	u, err := s.store.UserByName(ctx, name)
	if err == nil {
		err = reach(ctx, u)
	}
	if err == nil {
		err = s.store.DeleteUser(ctx, name)
	}
	if err != nil {
		return missing(name, err)
	}
	s.changed(ctx, name, whole("removed", u, nil))
	return nil
}

// User returns one account. Faults: Invalid, NotExist, Unavailable.
func (s *Service) User(ctx context.Context, name string) (account.User, error) {
	if err := account.ValidName(name); err != nil {
		return account.User{}, err
	}
	if err := s.may(ctx, ScopeRead); err != nil {
		return account.User{}, err
	}
	u, err := s.store.UserByName(ctx, name)
	if err == nil {
		err = reach(ctx, u)
	}
	if err != nil {
		return account.User{}, missing(name, err)
	}
	return u, nil
}

// inherit fills in what the user's groups say. A group that does not exist is
// fault.Invalid, as it will be when the user is stored.
func (s *Service) inherit(ctx context.Context, u account.User) (account.User, error) {
	if len(u.Groups) == 0 {
		return u, nil
	}
	gs, err := s.store.GroupsOf(ctx, u)
	if err != nil {
		return u, err
	}
	for _, name := range u.Groups {
		if !slices.ContainsFunc(gs, func(g account.Group) bool { return g.Name == name }) {
			return u, fault.Text(fault.Invalid, fmt.Sprintf("there is no group %q; make it first with \"portreeve group add %s\"", name, name))
		}
	}
	return u.Inherit(gs), nil
}

// Users returns a page of accounts in the order of their names, and where the
// next page starts (ListOptions.After), "" after the last.
func (s *Service) Users(ctx context.Context, o ListOptions) ([]account.User, string, error) {
	if err := s.may(ctx, ScopeRead); err != nil {
		return nil, "", err
	}
	match := strings.ToLower(o.Match)
	return page(o, func(after string, limit int) ([]account.User, error) { return s.store.ListUsers(ctx, after, limit) },
		func(u account.User) string { return u.Name },
		func(u account.User) bool {
			return inGroups(ctx, u) && (o.Group == "" || slices.Contains(u.Groups, o.Group)) &&
				(strings.Contains(strings.ToLower(u.Name), match) || strings.Contains(strings.ToLower(u.Comment), match))
		})
}

// setHash checks a new password and puts its hash into u.
func (s *Service) setHash(ctx context.Context, u *account.User, password string) error {
	// A line of FTP ends at CR or LF and cannot hold NUL: such a password
	// could be set but never typed.
	if strings.ContainsFunc(password, unicode.IsControl) {
		return fault.Text(fault.Invalid, "the password contains a control character, which no client can send")
	}
	if s.policy != nil {
		if err := s.policy(u.Name, password); err != nil {
			return err
		}
	}
	h, err := s.hash(ctx, password)
	u.PasswordHash = h
	return err
}

// bringHash takes over a hash from another server.
func (s *Service) bringHash(u *account.User, n NewUser) error {
	switch {
	case n.Password != "":
		return fault.Text(fault.Invalid, "give a password or its hash, not both")
	case s.checkHash == nil:
		return fault.Text(fault.Unsupported, "hashes cannot be brought along here")
	}
	if err := s.checkHash(n.PasswordHash); err != nil {
		return fault.Text(fault.Invalid, "the password hash is of no form this server verifies; argon2id, scrypt, bcrypt, PBKDF2, yescrypt and crypt MD5, SHA-256 and SHA-512 are")
	}
	u.PasswordHash = n.PasswordHash
	return nil
}

// protocols are those an account can be bound to. A word that means nothing
// would lock the user out without telling anybody.
var protocols = []string{"ftp", "ftps", "sftp", "scp", "webdav", "web"}

// check refuses what is wrong by itself.
func (s *Service) check(u account.User) error {
	var bad []error
	if err := u.Validate(); err != nil {
		bad = append(bad, causeOf(err))
	}
	bad = append(bad, badProtocols(u.Protocols)...)
	if u.Home == "" && len(u.Groups) == 0 && !slices.ContainsFunc(u.Mounts, func(m account.Mount) bool { return m.Path == "/" }) {
		bad = append(bad, errors.New("the home is empty; it must be an absolute directory"))
	}
	return invalid(bad)
}

// causeOf strips what a fault says about the operation.
func causeOf(err error) error {
	var fe *fault.Error
	if errors.As(err, &fe) && fe.Err != nil {
		return fe.Err
	}
	return err
}

func badProtocols(list []string) (bad []error) {
	for _, p := range list {
		if !slices.Contains(protocols, p) {
			bad = append(bad, fmt.Errorf("protocol %q is unknown; known are %s", p, strings.Join(protocols, ", ")))
		}
	}
	return bad
}

func invalid(bad []error) error {
	if err := errors.Join(bad...); err != nil {
		return &fault.Error{Kind: fault.Invalid, Err: err}
	}
	return nil
}

// checkDirs refuses directories that overlap with the server's own. It is
// asked about new ones only: an account whose home became a bad choice later
// must still be open to change, above all to being disabled.
func (s *Service) checkDirs(u account.User) error {
	bad := []error{s.overlap("home", u.Home)}
	for _, m := range u.Mounts {
		bad = append(bad, s.overlap("mount "+m.Path, m.Source))
	}
	return invalid(bad)
}

// Directories in the data directory that may be shown to users.
const (
	homesDir = "home"  // home/NAME is the home of a user who was given none
	filesDir = "files" // home of the first account of a start without a configuration
)

// defaultHome is the home of a user who was given none.
func (s *Service) defaultHome(name string) string { return filepath.Join(s.data, homesDir, name) }

// overlap refuses a directory that would show a user the database, the keys or
// the control socket: the data directory, one above it, or one inside it that
// is not for files.
func (s *Service) overlap(what, dir string) error {
	if !filepath.IsAbs(dir) {
		return nil // "mem:", a template, or refused already
	}
	data := resolve(s.data)
	real := resolve(dir)
	homes := filepath.Join(data, homesDir)
	switch {
	case within(real, data):
		return fmt.Errorf("%s %s contains the server's own data directory %s, where accounts and keys are; choose a directory outside", what, dir, s.data)
	case within(data, real) && !within(homes, real) && !within(filepath.Join(data, filesDir), real):
		return fmt.Errorf("%s %s is inside the server's own data directory %s; choose a directory outside it, or below %s", what, dir, s.data, homes)
	}
	return nil
}

// within reports whether name is dir or below it.
func within(dir, name string) bool {
	rel, err := filepath.Rel(dir, name)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// resolve follows symbolic links in the part of the path that exists.
func resolve(p string) string {
	rest := ""
	for dir := filepath.Clean(p); ; dir = filepath.Dir(dir) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		if dir == filepath.Dir(dir) {
			return filepath.Clean(p)
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}

// makeDirs makes the home and the sources of mounts where they are missing, so
// that the account can be used at once. They belong to the owner of the data
// directory, under whom the server runs. undo removes what was made.
func (s *Service) makeDirs(u account.User) (undo func(), err error) {
	var made []string
	undo = func() {
		for _, d := range slices.Backward(made) {
			os.Remove(d) // empty ones only
		}
	}
	dirs := []string{u.Home}
	for _, m := range u.Mounts {
		dirs = append(dirs, m.Source)
	}
	for _, d := range dirs {
		if !filepath.IsAbs(d) || strings.Contains(d, "%") {
			continue
		}
		if err := s.makeDir(filepath.Clean(d), &made); err != nil {
			undo()
			return func() {}, err
		}
	}
	return undo, nil
}

func (s *Service) makeDir(dir string, made *[]string) error {
	st, err := os.Stat(dir)
	switch {
	case err == nil && st.IsDir():
		return nil
	case err == nil:
		return fault.Text(fault.Invalid, fmt.Sprintf("%s is not a directory", dir))
	case !errors.Is(err, fs.ErrNotExist):
		return &fault.Error{Kind: fault.Invalid, Err: fmt.Errorf("cannot use the directory %s: %w", dir, err)}
	}
	if err := s.makeDir(filepath.Dir(dir), made); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return &fault.Error{Kind: fault.Invalid, Err: fmt.Errorf("cannot make the directory %s: %w; make it yourself and give it to the server's user", dir, err)}
	}
	*made = append(*made, dir)
	return s.giveTo(dir)
}
