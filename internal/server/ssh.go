package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/sshd"
)

// hostKeyDir is where the host keys made at the first start are kept, in the data directory.
const hostKeyDir = "ssh"

// planSSH makes the front of an sftp entry.
func (s *Server) planSSH(cfg *config.Config, l *config.Listen, so *socket) (frontPlan, error) {
	alg := algorithms(cfg)
	keys, err := HostKeys(s.dataDir, l.HostKeys, alg.HostKeys)
	if err != nil {
		return frontPlan{}, fmt.Errorf("listener %s: %w", l.Name, err)
	}
	c := &cfg.SFTP
	front, err := sshd.New(s.manager, sshd.Options{
		Listener: l.Name, HostKeys: keys, Banner: first(l.Banner, c.Banner), Algorithms: alg,
		LoginTimeout: c.LoginTimeout.Std(), IdleTimeout: c.IdleTimeout.Std(), KeepAlive: c.KeepAlive.Std(),
		Ports: s.doors, Log: s.log.With("listener", l.Name),
	})
	if err != nil {
		return frontPlan{}, fmt.Errorf("listener %s: %w", l.Name, err)
	}
	return frontPlan{entry: *l, gen: &generation{front: front, backend: front, gate: newGate(so.acc), served: make(chan struct{})}}, nil
}

// algorithms are those of the policy in force.
func algorithms(cfg *config.Config) sshd.Algorithms {
	p := cfg.Crypto()
	return sshd.Algorithms{KeyExchanges: p.KeyExchanges, Ciphers: p.Ciphers, MACs: p.MACs, HostKeys: p.HostKeys, UserKeys: p.UserKeys}
}

// HostKeys reads the named private key files, or those in the data directory,
// which are made (mode 0600) where they are missing; at least one must be of one of the types. A certificate beside a
// key, in a file of the same name with -cert.pub added, belongs to it.
func HostKeys(dataDir string, files, types []string) ([]sshd.HostKey, error) {
	if len(files) == 0 {
		var err error
		if files, err = makeHostKeys(filepath.Join(dataDir, hostKeyDir)); err != nil {
			return nil, err
		}
	}
	keys := make([]sshd.HostKey, 0, len(files))
	offered := false
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("cannot read the host key: %w; give the server's user the right to read it", err)
		}
		cert, err := os.ReadFile(f + "-cert.pub")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot read the certificate of a host key: %w", err)
		}
		k, err := sshd.ParseHostKey(b, cert)
		if err != nil {
			return nil, fmt.Errorf("host key %s: %w", f, err)
		}
		keys = append(keys, k)
		offered = offered || k.Offered(types)
	}
	if !offered {
		return nil, fmt.Errorf("no host key is of a type that the crypto policy has (%s); add one, made with ssh-keygen -t TYPE -f FILE -N ''", strings.Join(types, ", "))
	}
	return keys, nil
}

func makeHostKeys(dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory for host keys: %w", err)
	}
	var files []string
	for _, kind := range sshd.HostKeyKinds {
		f := filepath.Join(dir, "ssh_host_"+kind+"_key")
		files = append(files, f)
		if _, err := os.Lstat(f); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot look for the host key: %w", err)
		}
		b, err := sshd.NewHostKey(kind)
		if err != nil {
			return nil, err
		}
		if err := writeKey(f, b); err != nil {
			return nil, fmt.Errorf("cannot keep the host key: %w", err)
		}
	}
	return files, nil
}

// writeKey makes the file whole or not at all: half a key would stop every later start.
func writeKey(name string, b []byte) error {
	w, err := os.CreateTemp(filepath.Dir(name), ".new-key-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	err = errors.Join(err, w.Sync(), w.Close())
	if err == nil {
		err = os.Link(w.Name(), name) // never replaces one that another process has just made
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	return errors.Join(err, os.Remove(w.Name()))
}

// userCA reads the authorities of user certificates, nil when none are named.
func userCA(cfg *config.Config) (*auth.UserCA, error) {
	c := &cfg.SFTP
	if c.TrustedUserCA == "" && c.RevokedKeys == "" {
		return nil, nil
	}
	var text [2][]byte
	for i, f := range [...]string{c.TrustedUserCA, c.RevokedKeys} {
		if f == "" {
			continue
		}
		var err error
		if text[i], err = os.ReadFile(f); err != nil {
			return nil, fmt.Errorf("cannot read what sftp names: %w", err)
		}
	}
	ca, err := auth.ParseUserCA(text[0], text[1])
	if err != nil {
		return nil, fmt.Errorf("sftp.%w", err)
	}
	return ca, nil
}
