package importer

import (
	"strconv"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
)

// unixUser is a line of passwd(5).
type unixUser struct {
	line                           int
	name, hash, gecos, home, shell string
	uid, gid                       int
}

// passwd reads a file of the form of passwd(5), as AuthUserFile is too.
func (s *state) passwd(file string) (users []unixUser) {
	for _, l := range s.lines(file, true) {
		f := strings.Split(l.text, ":")
		if len(f) != 7 {
			s.problem(file, l.n, "a user needs 7 fields divided by colons; there are %d", len(f))
			continue
		}
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err1 != nil || err2 != nil || f[0] == "" {
			s.problem(file, l.n, "the name is empty, or one of the ids %q and %q is not a number", f[2], f[3])
			continue
		}
		users = append(users, unixUser{l.n, f[0], f[1], f[4], f[5], f[6], uid, gid})
	}
	return users
}

// shadow puts the hashes of a file of the form of shadow(5) into the users.
func (s *state) shadow(file string, users []unixUser) {
	hashes := map[string]string{}
	for _, l := range s.lines(file, true) {
		f := strings.Split(l.text, ":")
		if len(f) < 2 {
			s.problem(file, l.n, "a line of shadow needs fields divided by colons")
			continue
		}
		hashes[f[0]] = f[1]
	}
	for i := range users {
		if h, ok := hashes[users[i].name]; ok {
			users[i].hash = h
		}
	}
}

// groupFile reads a file of the form of group(5): names by gid, and members.
func (s *state) groupFile(file string) (byGID map[int]string, members map[string][]string, order []line) {
	byGID, members = map[int]string{}, map[string][]string{}
	for _, l := range s.lines(file, true) {
		f := strings.Split(l.text, ":")
		if len(f) != 4 {
			s.problem(file, l.n, "a group needs 4 fields divided by colons; there are %d", len(f))
			continue
		}
		gid, err := strconv.Atoi(f[2])
		if err != nil {
			s.problem(file, l.n, "the id %q of group %s is not a number", f[2], f[0])
			continue
		}
		byGID[gid] = f[0]
		order = append(order, line{l.n, f[0]})
		for m := range strings.SplitSeq(f[3], ",") {
			if m = strings.TrimSpace(m); m != "" {
				members[f[0]] = append(members[f[0]], m)
			}
		}
	}
	return byGID, members, order
}

// people are the users of passwd(5) that are not the system's own.
func people(users []unixUser) (out []unixUser) {
	for _, u := range users {
		if u.uid >= 1000 && u.uid < 65534 && !strings.HasSuffix(u.shell, "/nologin") && !strings.HasSuffix(u.shell, "/false") {
			out = append(out, u)
		}
	}
	return out
}

func (u unixUser) comment() string { name, _, _ := strings.Cut(u.gecos, ","); return name }

// limitRights returns rights as rules, nothing for the default.
func limitRights(r account.Rights) []account.Rule {
	if r == account.ReadWrite {
		return nil
	}
	return []account.Rule{{Path: "/", Rights: r}}
}
