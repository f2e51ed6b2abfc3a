// Package limits owns what is counted against a ceiling: connections, failed
// log-ins and bans, octets per second, and stored bytes and files. It does not
// own who the users are (account), what they do (session) or where bans and
// quota use are kept (store, through the interfaces declared here).
//
// Everything is in memory and safe for concurrent use. Addresses are counted
// as /32 for IPv4 and /64 for IPv6, because one IPv6 customer owns a /64.
package limits

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults for zero fields of Config and Caps.
const (
	DefaultMaxSessions   = 10_000
	DefaultMaxPerAddress = 100
	DefaultMaxHalfOpen   = 10
	DefaultMaxHalfTotal  = 1000

	DefaultBanScore  = 20
	DefaultBanWindow = 5 * time.Minute
	DefaultBanFor    = 15 * time.Minute

	DefaultTableSize = 16_384
)

// Caps are the ceilings on connections. 0 is the default, negative is no limit.
type Caps struct {
	MaxSessions   int // in total
	MaxPerAddress int // per address
	MaxPerUser    int // per user, when the account says nothing; the default is no limit
	MaxHalfOpen   int // per address, connections that have not logged in yet
	// MaxHalfTotal is the ceiling of connections that have not logged in, from
	// all addresses. Above earlyDrop of it new ones are refused at random.
	MaxHalfTotal int
}

// Config says where the ceilings are. The zero value has every default.
type Config struct {
	Caps

	BanScore    int           // points that lead to a ban; negative: never ban
	BanWindow   time.Duration // in which they must come together
	BanFor      time.Duration // how long a ban lasts
	BanLoopback bool          // ban 127.0.0.0/8 and ::1 too; off because local proxies live there

	// Allow lists networks that are never banned, never delayed and not
	// counted per address; monitors and trusted proxies belong here.
	Allow []netip.Prefix

	NoLoginDelay bool // failed log-ins are answered at once; for tests
	TableSize    int  // entries kept for each table of addresses or accounts

	Down, Up int64 // octets per second for the whole server; 0 is no limit

	Bans  BanStore   // nil: bans are forgotten at the end
	Quota QuotaStore // nil: use is forgotten at the end
	Now   func() time.Time
}

// BanStore keeps bans over a restart. Errors are returned to whoever caused
// the write; the ban holds in memory all the same.
type BanStore interface {
	SaveBan(ctx context.Context, network netip.Prefix, until time.Time, reason string) error
	DeleteBan(ctx context.Context, network netip.Prefix) error
}

// QuotaStore keeps what an account has stored. The name is that of a user, or
// "mount:" and the source of a mount that has a quota of its own.
type QuotaStore interface {
	QuotaUsed(ctx context.Context, user string) (bytes, files int64, err error)
	AddQuota(ctx context.Context, user string, dBytes, dFiles int64) error
}

// QuotaJournal is an ability of a QuotaStore. A mark is set before a scope's
// use changes and taken away when the books are settled and nobody uses the
// scope any more. One that is found at a start is left from a crash: between a
// file and its booking there was none, so the files must be counted anew.
type QuotaJournal interface {
	MarkQuota(ctx context.Context, user string) error
	ClearQuota(ctx context.Context, user string) error
}

// Limits is the set of all counters of one server.
type Limits struct {
	now  func() time.Time
	caps atomic.Pointer[Caps]
	conf Config // immutable but for Caps and Allow, which live in caps and allow

	allow     atomic.Pointer[[]netip.Prefix]
	doors     atomic.Pointer[doors]
	countries atomic.Pointer[Countries] // nil: all
	dice      func() float64            // 0 to 1, for the early drop

	conns    conns
	throttle throttle
	bans     bans
	ledger   ledger

	down, up Bucket // the server's own
	paces    paces
}

// New returns counters that all stand at zero.
func New(c Config) *Limits {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.BanScore == 0 {
		c.BanScore = DefaultBanScore
	}
	if c.BanWindow <= 0 {
		c.BanWindow = DefaultBanWindow
	}
	if c.BanFor <= 0 {
		c.BanFor = DefaultBanFor
	}
	if c.TableSize <= 0 {
		c.TableSize = DefaultTableSize
	}
	l := &Limits{now: c.Now, conf: c, dice: rand.Float64}
	l.doors.Store(&doors{})
	l.SetCaps(c.Caps)
	l.SetAllow(c.Allow)
	l.conns.init()
	l.throttle.init(c.TableSize)
	l.bans.init(c.TableSize)
	l.ledger.init(c.Quota)
	l.paces.users = map[string]*userPace{}
	l.down.SetRate(c.Down)
	l.up.SetRate(c.Up)
	return l
}

// SetCaps replaces the ceilings on connections; those open stay open.
func (l *Limits) SetCaps(c Caps) {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.MaxSessions, DefaultMaxSessions)
	def(&c.MaxPerAddress, DefaultMaxPerAddress)
	def(&c.MaxPerUser, -1)
	def(&c.MaxHalfOpen, DefaultMaxHalfOpen)
	def(&c.MaxHalfTotal, DefaultMaxHalfTotal)
	l.caps.Store(&c)
}

// Caps returns the ceilings in force, defaults filled in.
func (l *Limits) Caps() Caps { return *l.caps.Load() }

// SetAllow replaces the list of networks that are never banned or delayed.
func (l *Limits) SetAllow(nets []netip.Prefix) {
	nets = slices.Clone(nets)
	l.allow.Store(&nets)
}

// SetBandwidth replaces the server's own rates in octets per second; 0 is no limit.
func (l *Limits) SetBandwidth(down, up int64) {
	l.down.SetRate(down)
	l.up.SetRate(up)
}

func (l *Limits) allowed(a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range *l.allow.Load() {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Key is the unit in which addresses are counted: the address itself for IPv4
// (also when it is written as IPv6), the /64 for IPv6. Zones are dropped.
func Key(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // fails only for the zero Addr, which is its own key
	return p
}

// paces is the table of shared bandwidth buckets of users with open sessions.
type paces struct {
	mu    sync.Mutex
	users map[string]*userPace
}
