package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/config"
)

const (
	// validity is the longest that clients with the rules of the public web accept.
	validity = 397 * 24 * time.Hour
	// renewBefore leaves people who pinned the certificate a year, and nobody an expired one.
	renewBefore = 7 * 24 * time.Hour
	maxNames    = 100
)

// renewalDue reports whether a self-signed certificate must be replaced.
func renewalDue(leaf *x509.Certificate, now time.Time) bool {
	return !now.Before(leaf.NotAfter.Add(-renewBefore))
}

// selfSigned returns the certificate of a server that has none, made on first
// use and kept, so that clients can remember it. Key and certificate are one
// file: a crash cannot leave a pair that does not match. A second file holds
// the certificate alone, to be given to clients.
func (s *Store) selfSigned(st *state, cfg *config.Config) (*certificate, error) {
	dir := filepath.Join(cfg.DataDir, "tls")
	name := filepath.Join(dir, "selfsigned.pem")
	c, err := st.loadSelfSigned(name)
	if err != nil {
		return nil, err
	}
	if c != nil && !renewalDue(c.Leaf, time.Now()) {
		return c, nil
	}
	if err := makeSelfSigned(dir, name, cfg); err != nil {
		return nil, fmt.Errorf("self-signed certificate cannot be made: %w; let the server write to %s, or set tls.cert and tls.key", err, dir)
	}
	if c, err = st.loadSelfSigned(name); err != nil {
		return nil, err
	}
	if c == nil {
		return nil, fmt.Errorf("self-signed certificate %s vanished while it was made; is another server using this data_dir?", name)
	}
	s.log.Info("self-signed certificate made; clients must be told to trust it", "path", filepath.Join(dir, "selfsigned-cert.pem"), "sha256", Fingerprint(c.Certificate.Certificate[0]))
	return c, nil
}

// loadSelfSigned returns nil when there is none yet.
func (st *state) loadSelfSigned(name string) (*certificate, error) {
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	c, err := st.loadPair(name, name)
	if err != nil {
		return nil, fmt.Errorf("%w; delete the file to have a new one made", err)
	}
	c.selfSigned = true
	return c, nil
}

func makeSelfSigned(dir, name string, cfg *config.Config) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	hostname, err := os.Hostname()
	if err != nil || hostname == "" {
		hostname = "localhost"
	}
	names, addresses := ownNames(cfg, hostname)
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)), // RFC 5280 section 4.1.2.2: positive
		Subject:               pkix.Name{CommonName: shorten(hostname, 64), Organization: []string{"Portreeve self-signed"}},
		NotBefore:             now.Add(-time.Hour), // clients whose clock is slow
		NotAfter:              now.Add(validity),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              names,
		IPAddresses:           addresses,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	both := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), cert...)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := writeFile(name, both, 0o600); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "selfsigned-cert.pem"), cert, 0o644)
}

func shorten(s string, n int) string { return s[:min(n, len(s))] }

// ownNames lists what clients may call this server.
func ownNames(cfg *config.Config, hostname string) ([]string, []net.IP) {
	names := []string{"localhost"}
	addresses := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	add := func(s string) {
		if a, err := netip.ParseAddr(s); err == nil {
			addresses = append(addresses, a)
		} else if s != "" && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789.-*") == "" {
			names = append(names, strings.ToLower(strings.TrimSuffix(s, ".")))
		}
	}
	add(hostname)
	add(cfg.FTP.Passive.Address)
	for i := range cfg.Listen {
		l := &cfg.Listen[i]
		add(l.PassiveAddress)
		for _, h := range l.Hosts {
			add(h)
		}
		if h := l.Host(); h.IsValid() {
			addresses = append(addresses, h)
		}
	}
	local, _ := net.InterfaceAddrs() // without them the certificate is still of use
	for _, a := range local {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				addresses = append(addresses, ip)
			}
		}
	}
	var ips []net.IP
	seen := map[netip.Addr]bool{}
	for _, a := range addresses {
		a = a.Unmap()
		if a.IsUnspecified() || a.Zone() != "" || a.IsLinkLocalUnicast() || seen[a] || len(ips) == maxNames {
			continue
		}
		seen[a] = true
		ips = append(ips, a.AsSlice())
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), maxNames)], ips
}

// writeFile replaces a file as a whole and makes it durable.
func writeFile(name string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	_, err = bytes.NewReader(data).WriteTo(f)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
