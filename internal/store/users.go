package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// userColumns is the order of scanUser and userValues, after id.
const userColumns = `name, comment, disabled, password_hash, must_change, key_only, home, mounts, rules,
	quota_bytes, quota_files, bandwidth_down, bandwidth_up, max_sessions, protocols, networks, hours,
	expires_at, created_at, updated_at, last_login, auth`

// userSecrets are read with them; they change by statements of their own.
const userSecrets = `, totp_secret`

// CreateUser stores a new user and returns it with ID and times filled in.
// fault.Exist when the name, or one of its certificates, is taken;
// fault.Invalid when a field is wrong or a group does not exist.
func (db *DB) CreateUser(ctx context.Context, u account.User) (account.User, error) {
	op := "create user " + u.Name
	if err := u.Validate(); err != nil {
		return account.User{}, err
	}
	u.CreatedAt = now()
	u.UpdatedAt = u.CreatedAt
	err := db.update(ctx, op, func(q tx) error {
		if err := db.free(ctx, q, "user", "users", u.Name); err != nil {
			return err
		}
		args, err := userValues(u)
		if err != nil {
			return err
		}
		err = q.QueryRowContext(ctx, `INSERT INTO users (`+userColumns+`)
			VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22) RETURNING id`, args...).Scan(&u.ID)
		if err != nil {
			return err
		}
		return db.saveLists(ctx, q, u)
	})
	if err != nil {
		return account.User{}, err
	}
	return u, nil
}

// UserByName returns the user of exactly that name; fault.NotExist.
func (db *DB) UserByName(ctx context.Context, name string) (u account.User, err error) {
	err = db.look(ctx, "load user "+name, func(q tx) error {
		u, err = db.userByName(ctx, q, name)
		return err
	})
	return u, err
}

func (db *DB) userByName(ctx context.Context, q tx, name string) (account.User, error) {
	if strings.ContainsRune(name, 0) || !utf8.ValidString(name) { // PostgreSQL would not take it as a parameter
		return account.User{}, fault.New(fault.NotExist, "load user", "", fmt.Errorf("there is no user %q", name))
	}
	us, err := loadUsers(ctx, q, `name >= $1 AND name <= $2`, name, name, 1)
	if err == nil && len(us) == 0 {
		err = fault.New(fault.NotExist, "load user", "", fmt.Errorf("there is no user %q", name))
	}
	if err != nil {
		return account.User{}, err
	}
	return us[0], nil
}

// UserByCertificate returns the user that lists the SHA-256 fingerprint (hex,
// in either case) of a TLS client certificate; fault.NotExist.
func (db *DB) UserByCertificate(ctx context.Context, fingerprint string) (u account.User, err error) {
	err = db.look(ctx, "load user by certificate", func(q tx) error {
		var name string
		err := q.QueryRowContext(ctx, `SELECT u.name FROM user_certificates c JOIN users u ON u.id = c.user_id
			WHERE c.fingerprint = $1`, strings.ToLower(fingerprint)).Scan(&name)
		if err != nil {
			return err
		}
		u, err = db.userByName(ctx, q, name)
		return err
	})
	return u, err
}

// NamesByKey returns the names of the users that list the SSH key with this
// fingerprint ("SHA256:..." as ssh-keygen -l prints it), sorted. None is no error.
func (db *DB) NamesByKey(ctx context.Context, fingerprint string) (names []string, err error) {
	err = db.look(ctx, "look up key", func(q tx) error {
		names, err = collect[string](ctx, q, `SELECT DISTINCT u.name FROM user_keys k JOIN users u ON u.id = k.user_id
			WHERE k.fingerprint = $1 ORDER BY u.name`, fingerprint)
		return err
	})
	return names, err
}

// UpdateUser loads the user, lets change alter it and stores it, in one
// transaction. change may rename the user; ID and CreatedAt stay. An error of
// change is returned as it is and nothing is stored. change must not call the DB.
// fault.NotExist; fault.Exist and fault.Invalid as CreateUser.
func (db *DB) UpdateUser(ctx context.Context, name string, change func(*account.User) error) error {
	var refused error
	err := db.update(ctx, "update user "+name, func(q tx) error {
		return db.updateUser(ctx, q, name, func(u *account.User) error {
			refused = change(u)
			return refused
		})
	})
	if refused != nil {
		return refused
	}
	return err
}

func (db *DB) updateUser(ctx context.Context, q tx, name string, change func(*account.User) error) error {
	old, err := db.userByName(ctx, q, name)
	if err != nil {
		return err
	}
	u := clone(old)
	if err := change(&u); err != nil {
		return err
	}
	u.ID, u.CreatedAt, u.UpdatedAt = old.ID, old.CreatedAt, now()
	if err := u.Validate(); err != nil {
		return err
	}
	if u.Name != old.Name {
		if err := db.free(ctx, q, "user", "users", u.Name); err != nil {
			return err
		}
		if err := renameQuota(ctx, q, old.Name, u.Name); err != nil {
			return err
		}
	}
	args, err := userValues(u)
	if err != nil {
		return err
	}
	_, err = q.ExecContext(ctx, `UPDATE users SET name=$1, comment=$2, disabled=$3, password_hash=$4, must_change=$5, key_only=$6,
		home=$7, mounts=$8, rules=$9, quota_bytes=$10, quota_files=$11, bandwidth_down=$12, bandwidth_up=$13, max_sessions=$14,
		protocols=$15, networks=$16, hours=$17, expires_at=$18, created_at=$19, updated_at=$20, last_login=$21, auth=$22 WHERE id=$23`,
		append(args, u.ID)...)
	if err != nil {
		return err
	}
	if slices.Equal(u.Keys, old.Keys) && slices.Equal(u.Certificates, old.Certificates) && slices.Equal(u.Groups, old.Groups) {
		return nil
	}
	return db.saveLists(ctx, q, u)
}

// clone keeps change from altering old through a shared slice.
func clone(u account.User) account.User {
	u.Keys, u.Certificates, u.Groups = slices.Clone(u.Keys), slices.Clone(u.Certificates), slices.Clone(u.Groups)
	return u
}

// DeleteUser removes the user with keys, certificates, memberships and quota
// use; events stay. fault.NotExist.
func (db *DB) DeleteUser(ctx context.Context, name string) error {
	return db.update(ctx, "delete user "+name, func(q tx) error { return dropUser(ctx, q, name) })
}

// ListUsers returns the users whose names sort after the given one (by bytes),
// at most limit (0: 100, never above 1,000). Pass the last name for the next page.
func (db *DB) ListUsers(ctx context.Context, after string, limit int) (us []account.User, err error) {
	err = db.view(ctx, "list users", func(q tx) error {
		us, err = loadUsers(ctx, q, `name > $1 AND name <= $2`, after, nameEnd, pageSize(limit))
		return err
	})
	return us, err
}

// nameEnd sorts after every name that account.ValidName allows.
const nameEnd = "\x7f"

func pageSize(limit int) int {
	if limit <= 0 {
		return 100
	}
	return min(limit, 1000)
}

// CountUsers returns how many users there are.
func (db *DB) CountUsers(ctx context.Context) (n int64, err error) {
	err = db.view(ctx, "count users", func(q tx) error {
		return q.QueryRowContext(ctx, `SELECT count(*) FROM users`).Scan(&n)
	})
	return n, err
}

// SetPassword stores a hash; an empty one ends log-ins by password. fault.NotExist.
func (db *DB) SetPassword(ctx context.Context, name, hash string, mustChange bool) error {
	return db.update(ctx, "set password of "+name, func(q tx) error {
		return one(ctx, q, "user", name, `UPDATE users SET password_hash = $2, must_change = $3, updated_at = $4 WHERE name = $1`,
			name, hash, bit(mustChange), micros(now()))
	})
}

// Rehash replaces oldHash by newHash for the same password and changes nothing
// when another password was set in the meantime. It fits auth.PasswordVerifier.Rehash.
func (db *DB) Rehash(ctx context.Context, user account.User, oldHash, newHash string) error {
	return db.update(ctx, "renew password hash of "+user.Name, func(q tx) error {
		_, err := q.ExecContext(ctx, `UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2`, user.ID, oldHash, newHash)
		return err
	})
}

// ChangePassword replaces the password that u has and must change no more.
// fault.NotExist when it has another by now, or is gone.
func (db *DB) ChangePassword(ctx context.Context, u account.User, hash string) error {
	return db.update(ctx, "change password of "+u.Name, func(q tx) error {
		changed, err := changedRow(ctx, q, `UPDATE users SET password_hash = $3, must_change = $5, updated_at = $4 WHERE id = $1 AND password_hash = $2`,
			u.ID, u.PasswordHash, hash, micros(now()), bit(false))
		if err == nil && !changed {
			err = fault.New(fault.NotExist, "", "", errors.New("the password was changed by somebody else"))
		}
		return err
	})
}

// TouchLogin records the time of the last log-in; fault.NotExist.
func (db *DB) TouchLogin(ctx context.Context, name string, at time.Time) error {
	return db.update(ctx, "record log-in of "+name, func(q tx) error {
		return one(ctx, q, "user", name, `UPDATE users SET last_login = $2 WHERE name = $1`, name, micros(at))
	})
}

// GroupsOf returns the groups the user lists, in that order. It satisfies auth.Groups.
func (db *DB) GroupsOf(ctx context.Context, u account.User) (gs []account.Group, err error) {
	if len(u.Groups) == 0 {
		return nil, nil
	}
	err = db.look(ctx, "load groups of "+u.Name, func(q tx) error {
		for _, name := range u.Groups {
			g, err := groupByName(ctx, q, name)
			if fault.KindOf(err) == fault.NotExist {
				continue // removed since u was read
			}
			if err != nil {
				return err
			}
			gs = append(gs, g)
		}
		return nil
	})
	return gs, err
}

// userLists are the lists that a user may have, each with what tells that it
// has one, how it is read and where it goes. A user's bits are in this order.
var userLists = []struct {
	table, query string
	add          func(u *account.User, s string)
}{
	{"user_keys", `SELECT l.user_id, l.line FROM user_keys l`, func(u *account.User, s string) { u.Keys = append(u.Keys, s) }},
	{"user_certificates", `SELECT l.user_id, l.fingerprint FROM user_certificates l`, func(u *account.User, s string) { u.Certificates = append(u.Certificates, s) }},
	{"memberships", `SELECT l.user_id, g.name FROM memberships l JOIN groups g ON g.id = l.group_id`, func(u *account.User, s string) { u.Groups = append(u.Groups, s) }},
}

// selectUsers reads users with a number whose bits are the lists they have.
var selectUsers = func() string {
	var bits []string
	for i, l := range userLists {
		bits = append(bits, fmt.Sprintf("CASE WHEN EXISTS (SELECT 1 FROM %s l WHERE l.user_id = users.id) THEN %d ELSE 0 END", l.table, 1<<i))
	}
	return `SELECT id, ` + userColumns + userSecrets + `, ` + strings.Join(bits, " + ") + ` FROM users WHERE `
}()

// loadUsers reads a page in name order, with one query and another for each
// sort of list that somebody in it has. where holds $1 and $2, the first and
// the last name.
func loadUsers(ctx context.Context, q tx, where, first, last string, limit int) ([]account.User, error) {
	rows, err := q.QueryContext(ctx, selectUsers+where+` ORDER BY name LIMIT $3`, first, last, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var us []account.User
	lists := 0
	for rows.Next() {
		u, has, err := scanUser(rows)
		if err != nil {
			return nil, err
		}
		us = append(us, u)
		lists |= has
	}
	if err := rows.Err(); err != nil || lists == 0 {
		return us, err
	}
	if err := rows.Close(); err != nil { // frees the connection for the queries below
		return nil, err
	}
	byID := make(map[int64]*account.User, len(us))
	for i := range us {
		byID[us[i].ID] = &us[i]
	}
	first, last = us[0].Name, us[len(us)-1].Name
	for i, l := range userLists {
		if lists&(1<<i) == 0 {
			continue
		}
		if err := eachList(ctx, q, l.query, first, last, byID, l.add); err != nil {
			return nil, err
		}
	}
	return us, nil
}

func eachList(ctx context.Context, q tx, query, first, last string, byID map[int64]*account.User, add func(*account.User, string)) error {
	rows, err := q.QueryContext(ctx, query+` JOIN users u ON u.id = l.user_id WHERE u.name >= $1 AND u.name <= $2 ORDER BY l.user_id, l.position`, first, last)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var s string
		if err := rows.Scan(&id, &s); err != nil {
			return err
		}
		if u := byID[id]; u != nil {
			add(u, s)
		}
	}
	return rows.Err()
}

// saveLists replaces keys, certificates and memberships.
func (db *DB) saveLists(ctx context.Context, q tx, u account.User) error {
	for _, table := range []string{"user_keys", "user_certificates", "memberships"} {
		if _, err := q.ExecContext(ctx, `DELETE FROM `+table+` WHERE user_id = $1`, u.ID); err != nil {
			return err
		}
	}
	for i, line := range u.Keys {
		if _, err := q.ExecContext(ctx, `INSERT INTO user_keys (user_id, position, line, fingerprint) VALUES ($1, $2, $3, $4)`,
			u.ID, i, line, keyFingerprint(line)); err != nil {
			return err
		}
	}
	for i, fp := range u.Certificates {
		_, err := q.ExecContext(ctx, `INSERT INTO user_certificates (user_id, position, fingerprint) VALUES ($1, $2, $3)`, u.ID, i, fp)
		if k, _, ok := db.dialect.classify(err); ok && k == fault.Exist {
			return fault.New(fault.Exist, "save user "+u.Name, "", fmt.Errorf("certificate %s belongs to another user; a certificate can stand for one user only", fp))
		}
		if err != nil {
			return err
		}
	}
	for i, name := range u.Groups {
		g, err := groupByName(ctx, q, name)
		if fault.KindOf(err) == fault.NotExist {
			return fault.New(fault.Invalid, "save user "+u.Name, "", fmt.Errorf("there is no group %q; make it first with: portreeve group add %s", name, name))
		}
		if err != nil {
			return err
		}
		if _, err := q.ExecContext(ctx, `INSERT INTO memberships (user_id, position, group_id) VALUES ($1, $2, $3)`, u.ID, i, g.ID); err != nil {
			return err
		}
	}
	return nil
}

// keyFingerprint finds the key in an authorized_keys line, which may begin with
// options: the base64 field that holds its own type's name. "" when there is none.
func keyFingerprint(line string) string {
	for f := range strings.FieldsSeq(line) {
		if !strings.HasPrefix(f, "AAAA") {
			continue
		}
		if raw, err := base64.StdEncoding.DecodeString(f); err == nil {
			sum := sha256.Sum256(raw)
			return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
		}
	}
	return ""
}
