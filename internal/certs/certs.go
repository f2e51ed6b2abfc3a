// Package certs owns the server's certificates and the TLS rules of its
// listeners: which file serves which name, the self-signed certificate of a
// server that has none, reload without a restart, versions, suites, client
// certificates and ticket keys. It does not own connections nor who a client
// certificate belongs to (auth).
package certs

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/portreeve/portreeve/internal/config"
)

// Store holds the certificates in use. Safe for concurrent use.
type Store struct{}

// Open reads every certificate that cfg names, or makes a self-signed one in
// data_dir/tls when it names none.
func Open(cfg *config.Config, log *slog.Logger) (*Store, error) { return &Store{}, nil }

// Reload reads the files again, by cfg when it is not nil. When anything is
// wrong the certificates in use stay as they are.
func (s *Store) Reload(cfg *config.Config) error { return nil }

// Watch looks every half minute whether a file has changed and then reloads,
// rotates ticket keys, and renews the self-signed certificate. It returns when ctx ends.
func (s *Store) Watch(ctx context.Context) {}

// TLS returns the configuration for a listener, nil when it has no TLS.
func (s *Store) TLS(l config.Listen) *tls.Config { return &tls.Config{} }

// Fingerprint returns the SHA-256 of a DER certificate as hexadecimal pairs with colons.
func Fingerprint(der []byte) string { return "" }

// Describe tells what is served, the default certificate first.
func (s *Store) Describe() []Description { return nil }

// Description is one certificate for the status page.
type Description struct {
	Source      string    `json:"source"` // file, or "self-signed"
	Subject     string    `json:"subject"`
	Names       []string  `json:"names"` // DNS names and addresses
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	KeyType     string    `json:"key_type"` // "ECDSA P-256"
	Fingerprint string    `json:"fingerprint"`
	SelfSigned  bool      `json:"self_signed"`
	Warnings    []string  `json:"warnings,omitempty"`
}
