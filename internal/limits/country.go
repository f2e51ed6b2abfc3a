package limits

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// maxAtlas is the largest database that is read, in octets. One of countries
// has about 10 MB, one of cities 60.
const maxAtlas = 512 << 20

// Atlas tells the country of an address. It may be used concurrently.
type Atlas struct{ db *maxminddb.Reader }

// OpenAtlas reads a file in the MaxMind DB format to its end and checks all of
// it. It is kept in memory and not mapped: whoever replaces the file by writing
// into it would otherwise end the process with SIGBUS.
func OpenAtlas(file string) (*Atlas, error) {
	i, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("the database of countries cannot be read: %w", err)
	}
	if i.Size() > maxAtlas {
		return nil, fmt.Errorf("the database of countries %s has %d octets, more than %d; use one of countries alone", file, i.Size(), maxAtlas)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("the database of countries cannot be read: %w", err)
	}
	return newAtlas(file, b)
}

func newAtlas(file string, b []byte) (*Atlas, error) {
	db, err := maxminddb.OpenBytes(b)
	if err == nil {
		err = db.Verify()
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not a whole database in the MaxMind DB format; fetch it again: %w", file, err)
	}
	return &Atlas{db}, nil
}

// Made is when the database was made.
func (a *Atlas) Made() time.Time { return time.Unix(int64(a.db.Metadata.BuildEpoch), 0) }

// Kind is what the database calls itself, such as "GeoLite2-Country".
func (a *Atlas) Kind() string { return a.db.Metadata.DatabaseType }

// Country is the code of two letters, "" when it is not known. It is found at
// country.iso_code, as MaxMind and DB-IP have it, or at country_code (IPinfo).
func (a *Atlas) Country(addr netip.Addr) (code string) {
	r := a.db.Lookup(addr.Unmap().WithZone(""))
	if !r.Found() {
		return ""
	}
	if r.DecodePath(&code, "country", "iso_code") == nil && code != "" {
		return code
	}
	code = ""
	_ = r.DecodePath(&code, "country_code") // not there: not known
	return code
}

// Countries say from where connections may come.
type Countries struct {
	Atlas       *Atlas   // nil: from everywhere
	Allow, Deny []string // codes; an empty Allow is every country, and Deny wins
	DenyUnknown bool     // addresses whose country is not known
}

// SetCountries replaces the countries that connections may come from.
func (l *Limits) SetCountries(c Countries) {
	if c.Atlas == nil || len(c.Allow)+len(c.Deny) == 0 && !c.DenyUnknown {
		l.countries.Store(nil)
		return
	}
	c.Allow, c.Deny = slices.Clone(c.Allow), slices.Clone(c.Deny)
	l.countries.Store(&c)
}

// carrier is the network that providers use behind their own NAT (RFC 6598).
var carrier = netip.MustParsePrefix("100.64.0.0/10")

// placeless reports whether an address belongs to no country: loopback,
// private, link-local and carrier-grade NAT.
func placeless(a netip.Addr) bool {
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || carrier.Contains(a)
}

// Abroad is how Shut's reasons begin that a country is to blame for.
const Abroad = "country "

// abroad tells whether the country of an address keeps it out. Networks that are
// never banned, and addresses that belong to no country, are let in.
func (l *Limits) abroad(a netip.Addr) (why string, shut bool) {
	c := l.countries.Load()
	if c == nil || placeless(a) || l.allowed(a) {
		return "", false
	}
	code := c.Atlas.Country(a)
	switch {
	case code == "":
		return Abroad + "not known", c.DenyUnknown
	case slices.Contains(c.Deny, code):
		return Abroad + code + " denied", true
	case len(c.Allow) > 0 && !slices.Contains(c.Allow, code):
		return Abroad + code + " not allowed", true
	}
	return "", false
}
