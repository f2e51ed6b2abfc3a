package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
)

// verbs is what a protocol can do to files; nil: it has no such thing.
type verbs struct {
	list, download, remove, mkdir, rmdir, chmod func(name string) error
	upload                                      func(name string, data []byte) error
	appendTo                                    func(name string, data []byte) error
	rename                                      func(from, to string) error
	times                                       func(name string) error
}

// protocols opens a session of user by each protocol.
var protocols = []struct {
	name string
	open func(t *testing.T, r *rig, user string) *verbs
}{
	{"ftp", func(t *testing.T, r *rig, user string) *verbs { return ftpVerbs(t, r, user, 0, ftp.NoTLS) }},
	{"ftps", func(t *testing.T, r *rig, user string) *verbs { return ftpVerbs(t, r, user, 1, ftp.ImplicitTLS) }},
	{"sftp", sftpVerbs},
	{"scp", scpVerbs},
}

func ftpVerbs(t *testing.T, r *rig, user string, n int, mode ftp.ClientTLS) *verbs {
	ctx := context.Background()
	o := ftp.ClientOptions{TLS: mode, Timeout: 20 * time.Second}
	if mode != ftp.NoTLS {
		o.TLSConfig = r.trust()
	}
	c, err := ftp.Dial(ctx, r.address(n), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(ctx, user, testPassword); err != nil {
		t.Fatal(err)
	}
	return &verbs{
		list: func(name string) error {
			for _, err := range c.MachineList(ctx, name) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		download: func(name string) error {
			rd, err := c.Retrieve(ctx, name, 0)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, rd)
			return errors.Join(err, rd.Close())
		},
		upload: func(name string, data []byte) error {
			_, err := c.Store(ctx, name, bytes.NewReader(data), 0)
			return err
		},
		appendTo: func(name string, data []byte) error {
			_, err := c.Append(ctx, name, bytes.NewReader(data))
			return err
		},
		remove: func(name string) error { return c.Remove(ctx, name) },
		mkdir:  func(name string) error { return c.Mkdir(ctx, name) },
		rmdir:  func(name string) error { return c.Rmdir(ctx, name) },
		rename: func(from, to string) error { return c.Rename(ctx, from, to) },
		chmod:  func(name string) error { return c.Chmod(ctx, name, 0o600) },
		times:  func(name string) error { return c.SetModTime(ctx, name, time.Unix(1e9, 0)) },
	}
}

func (r *rig) ssh(t *testing.T, user string) *ssh.Client {
	t.Helper()
	for _, l := range r.s.Status().Listeners {
		if l.Protocol != "sftp" {
			continue
		}
		c, err := ssh.Dial("tcp", l.Address, &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.Password(testPassword)},
			HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	t.Fatal("there is no sftp listener")
	return nil
}

func sftpVerbs(t *testing.T, r *rig, user string) *verbs {
	c, err := sftp.NewClient(r.ssh(t, user))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	write := func(name string, flag int, data []byte) error {
		f, err := c.OpenFile(name, flag)
		if err != nil {
			return err
		}
		_, err = f.ReadFrom(bytes.NewReader(data))
		return errors.Join(err, f.Close())
	}
	return &verbs{
		list: func(name string) error { _, err := c.ReadDir(name); return err },
		download: func(name string) error {
			f, err := c.Open(name)
			if err != nil {
				return err
			}
			_, err = f.WriteTo(io.Discard)
			return errors.Join(err, f.Close())
		},
		upload:   func(name string, data []byte) error { return write(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, data) },
		appendTo: func(name string, data []byte) error { return write(name, os.O_WRONLY|os.O_APPEND, data) },
		remove:   c.Remove, mkdir: c.Mkdir, rmdir: c.RemoveDirectory, rename: c.Rename,
		chmod: func(name string) error { return c.Chmod(name, 0o600) },
		times: func(name string) error { return c.Chtimes(name, time.Unix(1e9, 0), time.Unix(1e9, 0)) },
	}
}

// scpVerbs speaks the legacy protocol. A complaint of the server, or a bad
// exit status, is a refusal.
func scpVerbs(t *testing.T, r *rig, user string) *verbs {
	c := r.ssh(t, user)
	run := func(command, in string) error {
		s, err := c.NewSession()
		if err != nil {
			return err
		}
		defer s.Close()
		var out, errs bytes.Buffer
		s.Stdin, s.Stdout, s.Stderr = strings.NewReader(in), &out, &errs
		if err := s.Run(command); err != nil {
			return fmt.Errorf("%w: %.200q %q", err, out.String(), errs.String())
		}
		return nil
	}
	acks := strings.Repeat("\x00", 8)
	return &verbs{
		download: func(name string) error { return run("scp -f "+name, acks) },
		upload: func(name string, data []byte) error {
			return run("scp -t "+name, fmt.Sprintf("C0644 %d %s\n%s\x00", len(data), path.Base(name), data))
		},
		mkdir: func(name string) error { return run("scp -r -t /", fmt.Sprintf("D0755 0 %s\nE\n", path.Base(name))) },
		times: func(name string) error {
			return run("scp -p -t "+name, fmt.Sprintf("T1000000000 0 1000000000 0\nC0644 3 %s\nold\x00", path.Base(name)))
		},
	}
}

// TestSameVerdict: one table of rights, and each protocol comes to the same
// decision and leaves the same on disk.
func TestSameVerdict(t *testing.T) {
	const all = account.All &^ account.Link
	up := func(name string) func(*verbs) (error, bool) {
		return func(v *verbs) (error, bool) { return v.upload(name, []byte("new")), true }
	}
	by := func(f func(v *verbs) func(string) error, name string) func(*verbs) (error, bool) {
		return func(v *verbs) (error, bool) {
			g := f(v)
			if g == nil {
				return nil, false
			}
			return g(name), true
		}
	}
	list := func(v *verbs) func(string) error { return v.list }
	down := func(v *verbs) func(string) error { return v.download }
	remove := func(v *verbs) func(string) error { return v.remove }
	mkdir := func(v *verbs) func(string) error { return v.mkdir }
	rmdir := func(v *verbs) func(string) error { return v.rmdir }
	chmod := func(v *verbs) func(string) error { return v.chmod }
	times := func(v *verbs) func(string) error { return v.times }
	rename := func(v *verbs) (error, bool) {
		if v.rename == nil {
			return nil, false
		}
		return v.rename("/f", "/g"), true
	}
	add := func(v *verbs) (error, bool) {
		if v.appendTo == nil {
			return nil, false
		}
		return v.appendTo("/f", []byte("more")), true
	}
	// Each right is tried with everything but it, and with only it (and what it needs).
	tests := []struct {
		name string
		user account.User // Rules or limits
		do   func(*verbs) (error, bool)
		ok   bool
		disk string // names afterwards when allowed: checked for all alike
	}{}
	for _, c := range []struct {
		name string
		need account.Rights // of which the first is the one in question
		with account.Rights
		do   func(*verbs) (error, bool)
	}{
		{"list", account.List, 0, by(list, "/")},
		{"download", account.Download, 0, by(down, "/f")},
		{"upload", account.Upload, 0, up("/new")},
		{"overwrite", account.Overwrite, 0, up("/f")},
		{"append", account.Append | account.Overwrite, 0, add},
		{"delete", account.Delete, 0, by(remove, "/f")},
		{"rename", account.Rename, account.Upload, rename},
		{"mkdir", account.Mkdir, 0, by(mkdir, "/d")},
		{"rmdir", account.Rmdir, 0, by(rmdir, "/e")},
		{"chmod", account.Chmod, 0, by(chmod, "/f")},
		{"times", account.Times, account.Overwrite, by(times, "/f")},
	} {
		for _, granted := range []bool{true, false} {
			rights := all &^ c.need
			if granted {
				rights = c.need | c.with
			}
			tests = append(tests, struct {
				name string
				user account.User
				do   func(*verbs) (error, bool)
				ok   bool
				disk string
			}{fmt.Sprintf("%s %v", c.name, granted), account.User{Rules: []account.Rule{{Path: "/", Rights: rights}}}, c.do, granted, ""})
		}
	}
	type test = struct {
		name string
		user account.User
		do   func(*verbs) (error, bool)
		ok   bool
		disk string
	}
	filter := account.User{Rules: []account.Rule{{Path: "/", Rights: all, Deny: []string{"*.exe"}, Hide: []string{"secret*"}}}}
	tests = append(tests,
		test{"quota kept", account.User{Quota: account.Quota{Bytes: 100}}, up("/new"), true, ""},
		test{"quota exceeded", account.User{Quota: account.Quota{Bytes: 2}}, up("/new"), false, ""},
		test{"quota of files exceeded", account.User{Quota: account.Quota{Files: 1}}, func(v *verbs) (error, bool) {
			if err := v.upload("/one", []byte("1")); err != nil {
				return fmt.Errorf("the first file: %w", err), true
			}
			return v.upload("/two", []byte("2")), true
		}, false, ""},
		test{"name denied", filter, up("/x.exe"), false, ""},
		test{"name allowed", filter, up("/x.txt"), true, ""},
		test{"name hidden, upload", filter, up("/secret1"), false, ""},
		test{"name hidden, download", filter, by(down, "/secret0"), false, ""},
		test{"control byte in a name", account.User{}, up("/a\x1bb"), false, ""},
		test{"above the root", account.User{}, by(down, "/../../etc/passwd"), false, ""},
		test{"link out of the root", account.User{}, by(down, "/evil"), false, ""},
		test{"rights below a path", account.User{Rules: []account.Rule{{Path: "/", Rights: all}, {Path: "/e", Rights: account.ReadOnly}}}, up("/e/new"), false, ""},
	)

	// What groups and mounts say holds in the same way. %u stands for the user.
	in := func(g ...string) account.User { return account.User{Groups: g} }
	mount := func(m account.Mount) account.User {
		m.Path, m.Source = "/m", "mounts/%u"
		return account.User{Mounts: []account.Mount{m}, Rules: []account.Rule{{Path: "/", Rights: all}}}
	}
	own := in("reader", "filter")
	own.Rules = []account.Rule{{Path: "/e", Rights: all}}
	inside := mount(account.Mount{})
	inside.Rules = append(inside.Rules, account.Rule{Path: "/m", Rights: account.ReadOnly})
	tests = append(tests,
		test{"group gives rights: download", in("reader"), by(down, "/f"), true, ""},
		test{"group gives rights: upload", in("reader"), up("/new"), false, ""},
		test{"the user's rule wins below its path", own, up("/e/new"), true, ""},
		test{"the group's rule holds elsewhere", own, up("/new"), false, ""},
		test{"the first group wins", in("reader", "writer"), up("/new"), false, ""},
		test{"the other order", in("writer", "reader"), up("/new"), true, ""},
		test{"group denies a name", in("filter"), up("/x.exe"), false, ""},
		test{"group allows other names", in("filter"), up("/x.txt"), true, ""},
		test{"group hides a name", in("filter"), by(down, "/secret0"), false, ""},
		test{"group allows some names only", in("csv"), up("/x.txt"), false, ""},
		test{"one of the allowed names", in("csv"), up("/x.csv"), true, ""},
		test{"quota of the group exceeded", in("small"), up("/new"), false, ""},
		test{"mount: upload", mount(account.Mount{}), up("/m/new"), true, ""},
		test{"mount: download", mount(account.Mount{}), by(down, "/m/f"), true, ""},
		test{"read-only mount: upload", mount(account.Mount{ReadOnly: true}), up("/m/new"), false, ""},
		test{"read-only mount: overwrite", mount(account.Mount{ReadOnly: true}), up("/m/f"), false, ""},
		test{"read-only mount: download", mount(account.Mount{ReadOnly: true}), by(down, "/m/f"), true, ""},
		test{"read-only mount: delete", mount(account.Mount{ReadOnly: true}), by(remove, "/m/f"), false, ""},
		test{"read-only mount: rename", mount(account.Mount{ReadOnly: true}), func(v *verbs) (error, bool) {
			if v.rename == nil {
				return nil, false
			}
			return v.rename("/m/f", "/m/g"), true
		}, false, ""},
		test{"quota of a mount exceeded", mount(account.Mount{Quota: account.Quota{Bytes: 2}}), up("/m/new"), false, ""},
		test{"quota of a mount is not that of the home", mount(account.Mount{Quota: account.Quota{Bytes: 2}}), up("/new"), true, ""},
		test{"rule for a mount", inside, up("/m/new"), false, ""},
		test{"the mount itself is not removed", mount(account.Mount{}), by(rmdir, "/m"), false, ""},
		test{"mount of the group", in("mounted"), up("/m/new"), true, ""},
		test{"link out of a mount", mount(account.Mount{}), by(down, "/m/evil"), false, ""},
	)

	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)+listenTOML("ftps", "127.0.0.1:0", "")+listenTOML("sftp", "127.0.0.1:0", "")+
		"[passwords]\nrehash = false\n") // new hashes cost much more than what is tested
	r.addGroups(
		account.Group{Name: "reader", Rules: []account.Rule{{Path: "/", Rights: account.ReadOnly}}},
		account.Group{Name: "writer", Rules: []account.Rule{{Path: "/", Rights: all}}},
		account.Group{Name: "filter", Rules: filter.Rules},
		account.Group{Name: "csv", Rules: []account.Rule{{Path: "/", Rights: all, Allow: []string{"*.csv"}}}},
		account.Group{Name: "small", Quota: account.Quota{Bytes: 2}},
		account.Group{Name: "mounted", Mounts: []account.Mount{{Path: "/m", Source: filepath.Join(r.dir, "mounts", "%u")}}},
	)
	for i, tt := range tests {
		for _, p := range protocols {
			u := tt.user
			u.Name = fmt.Sprintf("u%d-%s", i, p.name)
			u.Home = filepath.Join(r.dir, u.Name)
			fill(t, u.Home)
			u.Mounts = slices.Clone(u.Mounts)
			for i := range u.Mounts {
				u.Mounts[i].Source = filepath.Join(r.dir, "mounts", u.Name)
			}
			if len(u.Mounts) > 0 || slices.Contains(u.Groups, "mounted") {
				fill(t, filepath.Join(r.dir, "mounts", u.Name))
			}
			r.addUser(u)
		}
	}
	r.run()
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			left := map[string]string{}
			for _, p := range protocols {
				user := fmt.Sprintf("u%d-%s", i, p.name)
				err, has := tt.do(p.open(t, r, user))
				if !has {
					continue
				}
				if (err == nil) != tt.ok {
					t.Errorf("%s: %v, want allowed %v", p.name, err, tt.ok)
				}
				left[p.name] = tree(t, filepath.Join(r.dir, user))
				if m := filepath.Join(r.dir, "mounts", user); exists(m) {
					left[p.name] += tree(t, m)
				}
			}
			if len(left) < 2 {
				t.Fatalf("only %d protocols can do this", len(left))
			}
			for name, got := range left {
				if got != left["ftp"] {
					t.Errorf("%s leaves\n%s\nand ftp\n%s", name, got, left["ftp"])
				}
			}
		})
	}
}

func exists(name string) bool { _, err := os.Stat(name); return err == nil }

// addGroups makes groups; no server may run.
func (r *rig) addGroups(groups ...account.Group) {
	r.t.Helper()
	db, err := openStore(r.t.Context(), filepath.Join(r.dir, "data"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	for _, g := range groups {
		if _, err := db.CreateGroup(r.t.Context(), g); err != nil {
			r.t.Fatal(err)
		}
	}
}

func fill(t *testing.T, home string) {
	t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Join(home, "e"), 0o755), os.WriteFile(filepath.Join(home, "f"), []byte("old"), 0o644),
		os.WriteFile(filepath.Join(home, "secret0"), []byte("s"), 0o644), os.Symlink("/etc/passwd", filepath.Join(home, "evil")))
	if err != nil {
		t.Fatal(err)
	}
}

// tree lists what is on disk, with modes and contents.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		if err != nil {
			return err
		}
		text := []byte{}
		if i.Mode().IsRegular() {
			if text, err = os.ReadFile(p); err != nil {
				return err
			}
		}
		rel, _ := filepath.Rel(dir, p)
		fmt.Fprintf(&b, "%s %v %q\n", rel, i.Mode(), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestSameBandwidth: the account's limit holds over every protocol.
func TestSameBandwidth(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)+listenTOML("ftps", "127.0.0.1:0", "")+listenTOML("sftp", "127.0.0.1:0", ""))
	const size = 600 << 10
	for _, p := range protocols {
		u := account.User{Name: "slow-" + p.name, Home: filepath.Join(r.dir, p.name), Bandwidth: account.Bandwidth{Up: 400 << 10}}
		r.addUser(u)
		if err := os.MkdirAll(u.Home, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.run()
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			v := p.open(t, r, "slow-"+p.name)
			began := time.Now()
			if err := v.upload("/f", make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			// The pacer lets a short burst pass; without it this takes milliseconds.
			if took := time.Since(began); took < 400*time.Millisecond || took > 20*time.Second {
				t.Errorf("600 KiB at 400 KiB/s took %v", took)
			}
		})
	}
}
