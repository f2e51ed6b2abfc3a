package config

import (
	"fmt"
	"slices"
	"strings"
)

// Country is a country's code of two capital letters (ISO 3166-1 alpha-2).
type Country string

// countries are the codes that are assigned, and XK, which databases use for Kosovo.
var countries = strings.Fields(`AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY
HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY
MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW
SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW`)

// UnmarshalText reads a code. One that stands for no country would be a rule
// that never holds.
func (c *Country) UnmarshalText(b []byte) error {
	s := strings.ToUpper(strings.TrimSpace(string(b)))
	switch {
	case s == "UK":
		return fmt.Errorf("UK is not the code of a country; the United Kingdom is GB")
	case !slices.Contains(countries, s):
		return fmt.Errorf("%q is not the code of a country, such as DE or US (ISO 3166-1, two letters)", clip(string(b)))
	}
	*c = Country(s)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (c Country) MarshalText() ([]byte, error) { return []byte(c), nil }

// UnknownCountry says what becomes of addresses whose country the database does not know.
type UnknownCountry string

// The choices.
const (
	UnknownAllow UnknownCountry = "allow"
	UnknownDeny  UnknownCountry = "deny"
)

func (UnknownCountry) choices() []string { return []string{"allow", "deny"} }

// geoip checks [geoip].
func (k *checker) geoip() {
	g := &k.c.GeoIP
	if g.Database == "" && (len(g.Allow) > 0 || len(g.Deny) > 0 || g.Unknown == UnknownDeny) {
		k.fail("geoip.database", "missing; without it nobody's country is known. Name a file in the MaxMind DB format")
	}
	for _, c := range g.Deny {
		if slices.Contains(g.Allow, c) {
			k.fail("geoip.deny", "%s is in geoip.allow, too; take it out of one", c)
		}
	}
}
