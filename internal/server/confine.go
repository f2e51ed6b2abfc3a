package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/sandbox"
)

// What every server and the programs it starts read of the system. Of /etc
// only what names, time and trust need; the configuration's own files are
// added to it.
var (
	systemRead = []string{"/proc", "/sys", "/dev/random", "/dev/urandom", "/run/systemd/resolve", "/run/resolvconf", "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf",
		"/etc/nsswitch.conf", "/etc/services", "/etc/protocols", "/etc/gai.conf", "/etc/localtime", "/etc/timezone", "/etc/ssl", "/etc/pki", "/etc/ca-certificates",
		"/etc/crypto-policies", "/etc/passwd", "/etc/group", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/os-release"}
	systemRun = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store"}
)

// reach is what the process needs under a configuration.
func (s *Server) reach(cfg *config.Config) sandbox.Paths {
	p := sandbox.Paths{Read: append([]string{}, systemRead...), Run: append([]string{}, systemRun...)}
	p.Write = append([]string{s.dataDir, "/dev/null", os.TempDir(), "/var/tmp"}, cfg.Security.Roots...)
	if cfg.Anonymous.Enabled {
		p.Write = append(p.Write, cfg.Anonymous.Home)
	}
	for _, f := range append([]string{cfg.Log.File, cfg.Admin.Socket}, auditFiles(cfg)...) {
		if f != "" {
			p.Write = append(p.Write, filepath.Dir(f)) // made anew and renamed there
		}
	}
	for _, f := range cfg.Files() {
		p.Read = append(p.Read, around(f)...) // a renewed one is put there
	}
	for _, f := range programs(cfg) {
		p.Run = append(p.Run, around(f)...)
	}
	if exe, err := os.Executable(); err == nil { // of the next upgrade
		p.Run = append(p.Run, around(strings.TrimSuffix(exe, " (deleted)"))...)
	}
	return p
}

func auditFiles(cfg *config.Config) []string {
	var out []string
	for _, f := range cfg.Audit.Files {
		out = append(out, f.Path)
	}
	return out
}

// programs are those that the configuration lets the server start.
func programs(cfg *config.Config) []string {
	var out []string
	if p := cfg.External.Program; len(p) > 0 {
		out = append(out, p[0])
	}
	for i := range cfg.Hooks {
		if p := cfg.Hooks[i].Program; len(p) > 0 {
			out = append(out, p[0])
		}
	}
	return out
}

// around is the directory of a file, and that of what it is a link to.
func around(name string) []string {
	if abs, err := filepath.Abs(name); err == nil { // --config may be relative
		name = abs
	}
	out := []string{filepath.Dir(name)}
	if real, err := filepath.EvalSymlinks(name); err == nil && filepath.Dir(real) != out[0] {
		out = append(out, filepath.Dir(real))
	}
	return out
}

// confine keeps the process to what cfg needs, when it says where homes are.
// It runs when everything is open and bound, and before anybody is served.
func (s *Server) confine(ctx context.Context, cfg *config.Config) error {
	want := s.reach(cfg)
	if had, ok := sandbox.Inherited(); ok {
		// The rules of the process before this one hold here, too, and cannot be widened.
		if missing := had.Missing(want); len(missing) > 0 {
			return fmt.Errorf("the process before this one was kept from %s by Landlock, and so is this one; an upgrade cannot change that, restart the server", strings.Join(missing, ", "))
		}
		s.confined = &had
		s.log.Info("Landlock keeps this process to its files, as the one before it", "roots", strings.Join(cfg.Security.Roots, " "))
	} else {
		switch {
		case len(cfg.Security.Roots) == 0 || cfg.Security.Landlock == config.LandlockOff:
			s.log.Debug("Landlock is not used; security.roots says where homes are")
			return nil
		}
		for _, r := range cfg.Security.Roots {
			if _, err := os.Stat(r); err != nil {
				return fmt.Errorf("security.roots: %w; make the directory, or correct the name", err)
			}
		}
		if err := sandbox.Enter(want); err != nil {
			if cfg.Security.Landlock == config.LandlockRequired {
				return fmt.Errorf("security.landlock = \"required\": %w", err)
			}
			s.log.Warn("Landlock is not in force, the server goes on without", "err", err)
			return nil
		}
		s.confined = &want
		s.log.Info("Landlock keeps this process to its files", "version", sandbox.ABI(), "write", strings.Join(want.Write, " "), "read", strings.Join(cfg.Files(), " "), "programs", strings.Join(programs(cfg), " "))
	}
	s.storages.reaches = func(dir string) bool { return s.confined.Covers(dir, true) }
	s.warnOutside(ctx)
	return nil
}

// warnOutside names accounts that cannot open their home or a folder any more.
func (s *Server) warnOutside(ctx context.Context) {
	var first []string
	n := 0
	err := s.eachUser(ctx, func(u account.User, p account.Policy) error {
		for _, m := range p.Mounts {
			if filepath.IsAbs(m.Source) && !s.storages.reaches(filepath.Clean(m.Source)) {
				if n++; n <= 5 {
					first = append(first, u.Name+" "+m.Source)
				}
			}
		}
		return ctx.Err()
	})
	if n > 0 {
		s.log.Warn("directories of accounts lie outside security.roots and cannot be opened; add them there and restart", "count", n, "first", strings.Join(first, ", "))
	}
	if err != nil {
		s.log.Warn("the accounts' directories could not be compared with security.roots", "err", err)
	}
}

// reachable refuses a new configuration that needs what the process cannot reach any more.
func (s *Server) reachable(cfg *config.Config) error {
	if s.confined == nil {
		return nil
	}
	if missing := s.confined.Missing(s.reach(cfg)); len(missing) > 0 {
		return fmt.Errorf("Landlock keeps the running server from %s, which this configuration needs; restart the server to use it", strings.Join(missing, ", "))
	}
	return nil
}
