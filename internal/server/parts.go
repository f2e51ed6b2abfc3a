package server

import (
	"context"
	"crypto/fips140"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/ports"
	"github.com/portreeve/portreeve/internal/session"
	"github.com/portreeve/portreeve/internal/store"
	"github.com/portreeve/portreeve/internal/transcript"
	"github.com/portreeve/portreeve/internal/vfs"
)

// openStore opens the database of a data directory and migrates it.
func openStore(ctx context.Context, dataDir string, how ...store.Option) (*store.DB, error) {
	return store.Open(ctx, filepath.Join(dataDir, store.FileName), how...)
}

// Database returns where the accounts and the trail are: the file in the data
// directory, or the URL in database_url_file. It may hold a password; store.DB's
// Path is what to show.
func Database(cfg *config.Config) (string, error) {
	if cfg.Database == "" {
		return filepath.Join(cfg.DataDir, store.FileName), nil
	}
	b, err := os.ReadFile(cfg.Database)
	if err != nil {
		return "", fmt.Errorf("database_url_file: %w", err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	if line = strings.TrimSpace(line); !strings.HasPrefix(line, "postgres://") && !strings.HasPrefix(line, "postgresql://") {
		return "", fmt.Errorf("database_url_file: the first line of %s is not a URL like postgres://user:password@host/name", cfg.Database)
	}
	return line, nil
}

// newLimits makes the counters and puts kept bans in force.
func newLimits(ctx context.Context, cfg *config.Config, db *store.DB) (*limits.Limits, error) {
	c := cfg.Limits
	l := limits.New(limits.Config{
		Caps:     caps(cfg),
		BanScore: orNone(c.LoginFailures), BanWindow: c.LoginWindow.Std(), BanFor: c.BanTime.Std(),
		Allow: prefixes(c.NeverBan), Down: int64(c.BandwidthDown), Up: int64(c.BandwidthUp),
		Bans: db, Quota: db,
	})
	l.SetDoors(prefixes(c.Allow), prefixes(c.Deny))
	if _, err := db.PruneBans(ctx, time.Now()); err != nil {
		return nil, err
	}
	kept, err := db.ListBans(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	bans := make([]limits.Ban, len(kept))
	for i, b := range kept {
		if b.Until.IsZero() { // for ever; the counters compare with the clock
			b.Until = time.Now().AddDate(100, 0, 0)
		}
		bans[i] = limits.Ban{Network: b.Network, Until: b.Until, Reason: b.Reason}
	}
	l.Restore(bans)
	return l, nil
}

// countries opens the database of [geoip] anew; its lists without one are none.
func countries(cfg *config.Config) (limits.Countries, error) {
	g := cfg.GeoIP
	if g.Database == "" {
		return limits.Countries{}, nil
	}
	a, err := limits.OpenAtlas(g.Database)
	if err != nil {
		return limits.Countries{}, fmt.Errorf("geoip.database: %w", err)
	}
	c := limits.Countries{Atlas: a, DenyUnknown: g.Unknown == config.UnknownDeny}
	for _, code := range g.Allow {
		c.Allow = append(c.Allow, string(code))
	}
	for _, code := range g.Deny {
		c.Deny = append(c.Deny, string(code))
	}
	return c, nil
}

// useCountries puts them in force and says how old they are.
func (s *Server) useCountries(c limits.Countries) {
	s.limits.SetCountries(c)
	if c.Atlas != nil {
		s.log.Info("database of countries loaded", "kind", c.Atlas.Kind(), "made", c.Atlas.Made().UTC().Format(time.DateOnly), "allow", strings.Join(c.Allow, " "), "deny", strings.Join(c.Deny, " "), "deny_unknown", c.DenyUnknown)
	}
}

// caps translates the ceilings: 0 is none in the file, and the default in limits.
func caps(cfg *config.Config) limits.Caps {
	c := cfg.Limits
	return limits.Caps{MaxSessions: sessionCap(c.MaxConnections), MaxPerAddress: orNone(c.PerAddress), MaxPerUser: orNone(c.PerUser),
		MaxHalfOpen: orNone(c.HalfOpen), MaxHalfTotal: orNone(c.MaxHalfOpen)}
}

// sessionCap is the configured ceiling, or what the descriptors allow.
func sessionCap(configured int) int {
	if budget := fileBudget(); configured == 0 || configured > budget {
		return budget
	}
	return configured
}

func orNone(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// verifier is the chain in force; a reload replaces it.
type verifier struct {
	users  *store.DB
	hasher *auth.Hasher
	log    *slog.Logger
	chain  atomic.Pointer[auth.Chain]
	ca     atomic.Pointer[auth.UserCA]                                      // of SSH certificates; nil: none
	change func(ctx context.Context, u account.User, password string) error // see auth.Factors; set before the first log-in
}

func newVerifier(cfg *config.Config, db *store.DB, log *slog.Logger) (*verifier, error) {
	h, err := auth.NewHasher(auth.HasherOptions{})
	if err != nil {
		return nil, err
	}
	v := &verifier{users: db, hasher: h, log: log}
	v.set(cfg)
	return v, nil
}

// set builds the chain. Anonymous comes first, so that it costs no hash.
func (v *verifier) set(cfg *config.Config) {
	var chain auth.Chain
	if a := cfg.Anonymous; a.Enabled {
		rights := account.ReadOnly
		if a.Upload {
			rights |= account.Upload
		}
		chain = append(chain, &auth.AnonymousVerifier{Account: account.Anonymous(a.Home, rights)})
	}
	if ca, err := userCA(cfg); err == nil {
		v.ca.Store(ca)
	} else { // a reload has read it a moment ago; keep what holds
		v.log.Error("the authorities of SSH certificates could not be read again", "err", err)
	}
	rehash := v.users.Rehash
	if !cfg.Passwords.Rehash {
		rehash = nil
	}
	chain = append(chain,
		&auth.KeyVerifier{Users: v.users, CA: v.ca.Load},
		&auth.CertVerifier{Users: v.users, Mapping: auth.MapCommonName | auth.MapEmail},
		&auth.PasswordVerifier{Users: v.users, Hasher: v.hasher, Rehash: rehash, Logger: v.log})
	if l, err := directory(cfg, v.users, v.log); err != nil {
		// Fails closed: nobody is let in by a directory that cannot be asked.
		v.log.Error("the directory cannot be used; accounts that are in it cannot log in", "err", err)
		chain = append(chain, closed{err})
	} else if l != nil {
		chain = append(chain, l)
	}
	if x, err := external(cfg, v.users, v.log); err != nil {
		v.log.Error("the external check of passwords cannot be used; accounts that need it cannot log in", "err", err)
		chain = append(chain, closed{err})
	} else if x != nil {
		chain = append(chain, x)
	}
	v.chain.Store(&chain)
}

// Verify implements auth.Verifier.
func (v *verifier) Verify(ctx context.Context, from auth.Origin, c auth.Credential) (auth.Identity, error) {
	return v.factors().Verify(ctx, from, c)
}

// Probe implements auth.Prober.
func (v *verifier) Probe(ctx context.Context, from auth.Origin, k auth.PublicKey) error {
	return v.factors().Probe(ctx, from, k)
}

func (v *verifier) factors() *auth.Factors {
	return &auth.Factors{Verifier: *v.chain.Load(), Users: v.users, Codes: v.users, Change: v.change, Waste: v.hasher.Waste}
}

// PasswordPolicy is what [passwords] says about new ones.
func PasswordPolicy(cfg *config.Config) auth.Policy {
	return auth.Policy{MinLength: cfg.Passwords.MinLength, RefuseCommon: cfg.Passwords.RefuseCommon}
}

// ownPassword stores a password that its owner has chosen at a log-in; see
// auth.Factors. Other sessions that used the old one end.
func (s *Server) ownPassword(ctx context.Context, u account.User, password string) error {
	if strings.ContainsFunc(password, unicode.IsControl) {
		return fault.Text(fault.Invalid, "the password contains a control character, which not every client can send")
	}
	if err := PasswordPolicy(s.Config()).Check(u.Name, password); err != nil {
		return err
	}
	if same, err := s.verifier.hasher.Verify(ctx, u.PasswordHash, password); err == nil && same {
		return fault.Text(fault.Invalid, "the new password is the old one; choose another")
	}
	h, err := s.verifier.hasher.Hash(ctx, password)
	if err == nil {
		err = s.db.ChangePassword(ctx, u, h)
	}
	if fault.KindOf(err) == fault.NotExist { // an administrator was faster
		return auth.ErrBad
	}
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := s.manager.Refresh(ctx, u.Name); err != nil {
		s.log.Error("live sessions did not follow a new password", "user", u.Name, "err", err)
	}
	return s.bus.Publish(ctx, events.Event{Kind: events.UserChanged, User: u.Name, Detail: "password changed by its owner at a log-in"})
}

// sessionConfig translates [upload] and wires the accounts.
func sessionConfig(cfg *config.Config, db *store.DB, log *slog.Logger) session.Config {
	return session.Config{
		Upload: uploadMode(cfg.Upload.Mode), KeepPartial: cfg.Upload.KeepPartial, Sync: cfg.Upload.Sync == config.SyncClose,
		Log: log, Users: db,
		Groups: func(ctx context.Context, names []string) ([]account.Group, error) {
			return db.GroupsOf(ctx, account.User{Groups: names})
		},
	}
}

func transcriptLimits(cfg *config.Config) transcript.Limits {
	c := cfg.Transcript
	return transcript.Limits{Keep: c.Keep.Std(), Session: int64(c.MaxSession), Total: int64(c.MaxTotal)}
}

func uploadMode(m config.UploadMode) vfs.Upload {
	switch m {
	case config.UploadVisible:
		return vfs.Visible
	case config.UploadAtomicResume:
		return vfs.AtomicResume
	}
	return vfs.Atomic
}

// planWarnings checks the port plan against this machine. Binding is the real
// test of a port, so what only a bind can tell is left to that.
func planWarnings(cfg *config.Config) []string {
	facts := ports.Host().Facts()
	facts.Listening = nil
	plan := ports.Compile(cfg, facts)
	var out []string
	for _, c := range plan.Checks {
		if c.Code == "BIND_ADDR" && cfg.File() == "" {
			continue // without a file the address is the loopback's on purpose
		}
		if c.Severity != ports.Note {
			out = append(out, fmt.Sprintf("%s: %s; %s", c.Subject, c.Cause, c.Cure))
		}
	}
	for _, w := range cfg.Warnings() {
		out = append(out, w.Error())
	}
	return out
}

// sayCrypto tells the log which algorithms hold.
func (s *Server) sayCrypto(cfg *config.Config) {
	p := cfg.Crypto()
	args := []any{"name", p.Name, "tls_from", p.MinVersion, "fips140", fips140.Enabled(),
		"tls_suites", strings.Join(p.Suites, " "), "tls_key_exchange", strings.Join(p.Curves, " "),
		"ssh_key_exchange", strings.Join(p.KeyExchanges, " "), "ssh_ciphers", strings.Join(p.Ciphers, " "), "ssh_macs", strings.Join(p.MACs, " ")}
	if p.Note != "" {
		s.log.Warn("crypto policy: "+p.Note, args...)
		return
	}
	s.log.Info("crypto policy", args...)
}
