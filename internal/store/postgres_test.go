//go:build postgres

package store

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

var server struct {
	once sync.Once
	err  error
	url  string // up to the name of the database
	n    atomic.Int64
}

func init() {
	newServerDB = func(t testing.TB) string {
		t.Helper()
		server.once.Do(startServer)
		if server.err != nil {
			t.Fatal(server.err)
		}
		name := fmt.Sprintf("t%d", server.n.Add(1))
		pool, err := sql.Open("pgx", server.url+"postgres?sslmode=disable")
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		// Another collation than C, as servers have it: the order of names must not depend on it.
		if _, err := pool.Exec(`CREATE DATABASE ` + name); err != nil {
			t.Fatal(err)
		}
		return server.url + name + "?sslmode=disable"
	}
}

// startServer runs a PostgreSQL of its own on a free port; initdb refuses root.
func startServer() {
	fail := func(err error) { server.err = fmt.Errorf("PostgreSQL is needed (test/tools/install): %w", err) }
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		fail(os.ErrNotExist)
		return
	}
	bin := bins[len(bins)-1]
	dir, err := os.MkdirTemp("", "portreeve-pg")
	if err != nil {
		fail(err)
		return
	}
	as := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			fail(err)
			return
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			fail(err)
			return
		}
	}
	run := func(name string, args ...string) error {
		c := exec.Command(filepath.Join(bin, name), args...)
		c.SysProcAttr, c.Dir = as, dir
		log, err := os.Create(dir + "." + name)
		if err != nil {
			return err
		}
		defer os.Remove(log.Name())
		defer log.Close()
		c.Stdout, c.Stderr = log, log // no pipe: the server keeps it open
		if err := c.Run(); err != nil {
			b, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%s: %w: %s", name, err, b)
		}
		return nil
	}
	data := filepath.Join(dir, "data")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
		return
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	if err := run("initdb", "-D", data, "-A", "trust", "-U", "portreeve", "--locale=C.UTF-8", "-E", "UTF8", "-N"); err != nil {
		fail(err)
		return
	}
	if err := run("pg_ctl", "-D", data, "-o", fmt.Sprintf("-p %d -k %s -c fsync=off -c listen_addresses=127.0.0.1", port, dir), "-w", "start"); err != nil {
		fail(err)
		return
	}
	stopServer = func() {
		if err := run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.RemoveAll(dir)
	}
	server.url = fmt.Sprintf("postgres://portreeve@127.0.0.1:%d/", port)
}

// TestPostgresOpen: what can be wrong with a server is said without the password.
func TestPostgresOpen(t *testing.T) {
	_, err := Open(context.Background(), "postgres://ann:hush@127.0.0.1:1/x?sslmode=disable")
	if fault.KindOf(err) != fault.Unavailable || strings.Contains(err.Error(), "hush") {
		t.Errorf("a server that is not there: %v", err)
	}
	url := newServerDB(t)
	a := open(t, url)
	if strings.Contains(a.Path(), "?") {
		t.Errorf("Path is %s", a.Path())
	}
	must(t, func() error {
		_, err := a.write.Exec(`INSERT INTO ` + versionTable + ` (version_id, is_applied) VALUES (99999, true)`)
		return err
	}())
	if _, err := Open(context.Background(), url); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "newer Portreeve") {
		t.Errorf("a newer schema: %v", err)
	}
}

// TestPostgresWriters: two processes that read and then write do not lose a change.
func TestPostgresWriters(t *testing.T) {
	url := newServerDB(t)
	a := open(t, url)
	if _, err := a.CreateUser(t.Context(), account.User{Name: "ann", Home: "/srv"}); err != nil {
		t.Fatal(err)
	}
	b := open(t, url)
	var wg sync.WaitGroup
	for _, db := range []*DB{a, b} {
		for range 4 {
			wg.Go(func() {
				for range 10 {
					if err := db.UpdateUser(context.Background(), "ann", func(u *account.User) error { u.MaxSessions++; return nil }); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	u, err := a.UserByName(t.Context(), "ann")
	if err != nil || u.MaxSessions != 80 {
		t.Errorf("%d changes are left of 80: %v", u.MaxSessions, err)
	}
	for _, n := range []string{"B", "a", "_x", "Z.z", "a-b"} {
		if _, err := a.CreateUser(t.Context(), account.User{Name: n, Home: "/srv"}); err != nil {
			t.Fatal(err)
		}
	}
	us, err := b.ListUsers(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, u := range us {
		names = append(names, u.Name)
	}
	if !slices.IsSorted(names) {
		t.Errorf("names are not in the order of their bytes: %v", names)
	}
}
