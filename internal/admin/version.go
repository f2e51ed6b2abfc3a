package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// ErrConflict is the answer to a change that was meant for another version of
// the account or group.
var ErrConflict error = fault.Text(fault.Busy, "somebody else changed this in the meantime; read it again and repeat the change")

// Version names the state of a user or group. It changes with every setting,
// also with the password, and not with a log-in.
func Version(v any) string {
	secret := ""
	if u, ok := v.(account.User); ok {
		u.LastLogin = time.Time{}
		u.CreatedAt, u.UpdatedAt = u.CreatedAt.UTC(), u.UpdatedAt.UTC()
		secret, v = u.PasswordHash, u
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(append(b, secret...))
	return hex.EncodeToString(sum[:12])
}

// difference writes what changed, as "quota.bytes 0 -> 5; comment ...", for
// the trail. Times of the row itself are left out.
func difference(before, after any) string { return fieldsText(fieldsBetween(before, after)) }

func fieldsText(fields []Field) string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.Name + " " + orNone(f.Before) + " -> " + orNone(f.After)
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, "; ")
}

// whole is what happened to an object and all its settings, for one that is
// made (before nil) or goes (after nil).
func whole(what string, before, after any) string {
	if f := fieldsBetween(before, after); len(f) > 0 {
		what += ": " + fieldsText(f)
	}
	return what
}

// passwordMark is what the trail tells about one.
type passwordMark struct {
	Set        bool `json:"password"`
	MustChange bool `json:"must_change,omitempty"`
}

// ownFields are set by the database, not by administrators.
var ownFields = []string{"id", "name", "created_at", "updated_at", "last_login"}

// fieldsBetween lists the settings that differ, by name. before may be nil.
func fieldsBetween(before, after any) []Field {
	a, b := fieldsOf(before), fieldsOf(after)
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	var out []Field
	for k := range keys {
		if x, y := a[k], b[k]; x != y && !slices.Contains(ownFields, k) {
			out = append(out, Field{k, x, y})
		}
	}
	slices.SortFunc(out, func(x, y Field) int { return strings.Compare(x.Name, y.Name) })
	return out
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func fieldsOf(v any) map[string]string {
	b, err := json.Marshal(v)
	var raw map[string]json.RawMessage
	if err != nil || json.Unmarshal(b, &raw) != nil {
		return nil
	}
	out := make(map[string]string, len(raw))
	for k, v := range raw {
		out[k] = string(v)
	}
	return out
}
