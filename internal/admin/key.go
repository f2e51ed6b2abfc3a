package admin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
)

// Key is an SSH public key of an account as administrators see it.
type Key struct {
	Fingerprint string    `json:"fingerprint"` // "SHA256:..."
	Type        string    `json:"type"`
	Comment     string    `json:"comment,omitempty"`
	From        string    `json:"from,omitempty"`      // addresses it may be used from
	Expires     time.Time `json:"expires,omitzero"`    // when it stops working
	Authority   bool      `json:"authority,omitempty"` // signs certificates
	Principals  []string  `json:"principals,omitempty"`
	Line        string    `json:"line"`            // as it is stored
	Fault       string    `json:"fault,omitempty"` // why it cannot be used
}

// maxKeys bounds what a log-in has to look through.
const maxKeys = 200

func showKey(line string) Key {
	k, err := auth.ParseKey(line)
	v := Key{Fingerprint: k.Fingerprint, Type: k.Type, Comment: k.Comment, From: k.From, Expires: k.Expires, Authority: k.Authority, Principals: k.Principals, Line: line}
	if err != nil {
		v.Fault = err.Error()
	}
	return v
}

// Keys returns the keys of an account, in the order they were added.
// Faults: Invalid, NotExist, Unavailable.
func (s *Service) Keys(ctx context.Context, name string) ([]Key, error) {
	u, err := s.User(ctx, name)
	if err != nil {
		return nil, err
	}
	keys := []Key{}
	for _, line := range u.Keys {
		keys = append(keys, showKey(line))
	}
	return keys, nil
}

// AddKeys adds lines of an authorized_keys file to an account, all or none,
// and returns those that were not there yet. A key that is there with other
// options is replaced. Faults: Invalid, NotExist, Unavailable.
func (s *Service) AddKeys(ctx context.Context, name string, lines []string) ([]Key, error) {
	if err := account.ValidName(name); err != nil {
		return nil, err
	}
	if err := s.may(ctx, ScopeUsers); err != nil {
		return nil, err
	}
	if len(lines) == 0 {
		return nil, fault.Text(fault.Invalid, "no key is given")
	}
	var parsed []auth.Key
	for i, line := range lines {
		k, err := auth.ParseKey(line)
		if err != nil && len(lines) > 1 {
			err = fmt.Errorf("key %d: %w", i+1, err)
		}
		if err != nil {
			return nil, auth.KeyFault(err)
		}
		parsed = append(parsed, k)
	}
	var added []Key
	err := s.store.UpdateUser(ctx, name, func(u *account.User) error {
		added = added[:0]
		for _, k := range parsed {
			i := slices.IndexFunc(u.Keys, func(l string) bool { return showKey(l).Fingerprint == k.Fingerprint })
			switch {
			case i >= 0 && u.Keys[i] == k.Line:
				continue
			case i >= 0:
				u.Keys[i] = k.Line
			default:
				u.Keys = append(u.Keys, k.Line)
			}
			added = append(added, showKey(k.Line))
		}
		if len(u.Keys) > maxKeys {
			return fault.Text(fault.Invalid, fmt.Sprintf("an account can have %d keys at most; for more people use certificates of an authority", maxKeys))
		}
		return nil
	})
	if err != nil {
		return nil, missing(name, err)
	}
	for _, k := range added {
		s.changed(ctx, name, "key added: "+k.Fingerprint)
	}
	return added, nil
}

// RemoveKey removes the key with that fingerprint ("SHA256:...", or its
// beginning when that names one key), comment or line, and returns it.
// Faults: Invalid, NotExist, Unavailable.
func (s *Service) RemoveKey(ctx context.Context, name, which string) (Key, error) {
	if err := account.ValidName(name); err != nil {
		return Key{}, err
	}
	if err := s.may(ctx, ScopeUsers); err != nil {
		return Key{}, err
	}
	var gone Key
	err := s.store.UpdateUser(ctx, name, func(u *account.User) error {
		var found []int
		for i, line := range u.Keys {
			k := showKey(line)
			if which == line || which == k.Fingerprint || which != "" && which == k.Comment ||
				len(which) >= len("SHA256:")+4 && len(which) < len(k.Fingerprint) && k.Fingerprint[:len(which)] == which {
				found = append(found, i)
			}
		}
		switch len(found) {
		case 0:
			return fault.Text(fault.Invalid, fmt.Sprintf("%s has no key %q; \"portreeve user key list %s\" shows them", name, which, name))
		case 1:
			gone = showKey(u.Keys[found[0]])
			u.Keys = slices.Delete(u.Keys, found[0], found[0]+1)
			return nil
		}
		return fault.Text(fault.Invalid, fmt.Sprintf("%q stands for %d keys of %s; give more of the fingerprint", which, len(found), name))
	})
	if err != nil {
		return Key{}, missing(name, err)
	}
	s.changed(ctx, name, "key removed: "+gone.Fingerprint)
	return gone, nil
}
