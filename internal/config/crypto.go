package config

import (
	"crypto/fips140"
	"fmt"
	"slices"
	"strings"
)

// CryptoName names a dated policy, such as "2026-11".
type CryptoName string

// Crypto is a named, dated set of algorithms. A set never changes once a
// release has had it: whoever names one keeps it through upgrades. Names are
// those of IANA for TLS and of the SSH protocol for SSH.
type Crypto struct {
	Name       CryptoName
	MinVersion TLSVersion
	Suites     []string // of TLS 1.2; those of TLS 1.3 are all good
	Curves     []string // key exchange of TLS

	KeyExchanges []string // of SSH, the preferred first
	Ciphers      []string
	MACs         []string
	HostKeys     []string // types of host keys that clients are shown
	UserKeys     []string // types and signatures of users' keys

	Note string // what a reader of the log should know; empty for the safe ones
}

// Prefixes and suffixes of policy names.
const (
	legacyPrefix = "legacy-"
	fipsSuffix   = "-fips"
)

// The parts that several policies share. TLS suites have forward secrecy and
// authenticated encryption. SSH has no CBC, no SHA-1, no key exchange below 128
// bits of strength and MACs over the cipher text only.
var (
	gcmSuites    = []string{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"}
	chachaSuites = []string{"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"}
	legacySuites = []string{"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "TLS_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_256_GCM_SHA384"}
	nistCurves   = []string{"SecP256r1MLKEM768", "SecP384r1MLKEM1024", "secp256r1", "secp384r1", "secp521r1"}
	goodCurves   = append([]string{"X25519MLKEM768", "x25519"}, nistCurves...)

	goodKex     = []string{"mlkem768x25519-sha256", "curve25519-sha256", "diffie-hellman-group16-sha512"}
	nistKex     = []string{"ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521"}
	goodCiphers = []string{"aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr"}
	goodMACs    = []string{"hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"}
	plainMACs   = []string{"hmac-sha2-256", "hmac-sha2-512"}
	ecdsaKeys   = []string{"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"}
	goodUsers   = append([]string{"ssh-ed25519", "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"}, append(slices.Clip(ecdsaKeys), "rsa-sha2-512", "rsa-sha2-256")...)
)

// cryptos is the table of policies, the default one first and then from new to
// old. A new date is a new row; rows that a release had stay as they are.
var cryptos = []Crypto{
	{Name: "2026-11", MinVersion: TLS12, Suites: both(gcmSuites, chachaSuites), Curves: goodCurves,
		KeyExchanges: goodKex, Ciphers: goodCiphers, MACs: goodMACs, HostKeys: []string{"ssh-ed25519", "ssh-rsa"}, UserKeys: goodUsers},
	{Name: "2026-11-fips", MinVersion: TLS12, Suites: gcmSuites, Curves: nistCurves,
		KeyExchanges: nistKex, Ciphers: []string{"aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr"},
		MACs: goodMACs, HostKeys: both(ecdsaKeys, []string{"ssh-rsa"}), UserKeys: append(slices.Clip(ecdsaKeys), "rsa-sha2-512", "rsa-sha2-256"),
		Note: "approved algorithms only; what of them runs in the validated module is in docs/guides/operations.md"},
	{Name: "legacy-2026-11", MinVersion: TLS12, Suites: both(gcmSuites, chachaSuites, legacySuites), Curves: goodCurves,
		KeyExchanges: both(goodKex, nistKex, []string{"diffie-hellman-group14-sha256"}), Ciphers: goodCiphers, MACs: both(goodMACs, plainMACs),
		HostKeys: both([]string{"ssh-ed25519", "ssh-rsa"}, ecdsaKeys), UserKeys: goodUsers,
		Note: "old clients are given algorithms that audits object to"},
}

func both(lists ...[]string) []string { return slices.Concat(lists...) }

func (CryptoName) choices() []string {
	var out []string
	for _, p := range cryptos {
		out = append(out, string(p.Name))
	}
	return out
}

// CryptoNames lists the policies, the default one first.
func CryptoNames() []CryptoName {
	var out []CryptoName
	for _, p := range cryptos {
		out = append(out, p.Name)
	}
	return out
}

// newestCrypto is the policy of a configuration that names none. In a process
// whose cryptography is in FIPS 140-3 mode it is one of approved algorithms.
func newestCrypto(table []Crypto, fips bool) Crypto {
	for _, p := range table {
		if strings.HasSuffix(string(p.Name), fipsSuffix) == fips && !strings.HasPrefix(string(p.Name), legacyPrefix) {
			return p
		}
	}
	panic("config: no crypto policy")
}

// date is the date in the name of a policy.
func (n CryptoName) date() string {
	return strings.TrimSuffix(strings.TrimPrefix(string(n), legacyPrefix), fipsSuffix)
}

// Crypto returns the algorithms in force: those of crypto_policy, with what
// tls.min_version and sftp.compatible change. The lists must not be changed.
func (c *Config) Crypto() Crypto {
	p := newestCrypto(cryptos, fips140.Enabled())
	for _, q := range cryptos {
		if q.Name == c.CryptoPolicy {
			p = q
		}
	}
	if c.TLS.MinVersion != "" {
		p.MinVersion = c.TLS.MinVersion
	}
	if c.SFTP.Compatible {
		p.KeyExchanges = union(p.KeyExchanges, nistKex, []string{"diffie-hellman-group14-sha256"})
		p.MACs = union(p.MACs, plainMACs)
		p.HostKeys = union(p.HostKeys, ecdsaKeys)
	}
	return p
}

func union(lists ...[]string) []string {
	var out []string
	for _, l := range lists {
		for _, s := range l {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// Text describes the policy for people, a line for each part, without the name.
func (p Crypto) Text() string {
	var b strings.Builder
	row := func(what string, list ...string) { fmt.Fprintf(&b, "  %-18s %s\n", what, strings.Join(list, " ")) }
	row("TLS from version", string(p.MinVersion))
	row("TLS 1.2 suites", p.Suites...)
	row("TLS key exchange", p.Curves...)
	row("SSH key exchange", p.KeyExchanges...)
	row("SSH ciphers", p.Ciphers...)
	row("SSH MACs", p.MACs...)
	row("SSH host keys", p.HostKeys...)
	row("SSH user keys", p.UserKeys...)
	return b.String()
}

// CryptoWarning says what is wrong with the policy that c names; "" is nothing.
func (c *Config) CryptoWarning() string {
	return cryptoWarning(c.CryptoPolicy, cryptos, fips140.Enabled())
}

// crypto warns about a policy that is not the newest safe one, and about keys that change it.
func (k *checker) crypto() {
	c := k.c
	if w := c.CryptoWarning(); w != "" {
		k.warning("crypto_policy", "%s", w)
	}
	plain := *c
	plain.TLS.MinVersion, plain.SFTP.Compatible = "", false
	p := plain.Crypto()
	if v := c.TLS.MinVersion; v != "" && v != p.MinVersion {
		k.warning("tls.min_version", "overrides crypto_policy %s, which has TLS %s and later", p.Name, p.MinVersion)
	}
	if c.SFTP.Compatible && len(c.Crypto().KeyExchanges)+len(c.Crypto().HostKeys) > len(p.KeyExchanges)+len(p.HostKeys) {
		k.warning("sftp.compatible", "overrides crypto_policy %s: old clients are given algorithms that audits object to", p.Name)
	}
}

// cryptoWarning says what there is to say about naming a policy; "" is nothing.
func cryptoWarning(name CryptoName, table []Crypto, fips bool) string {
	if name == "" {
		return ""
	}
	newest := newestCrypto(table, fips)
	switch own := strings.HasSuffix(string(name), fipsSuffix); {
	case name.date() < newest.Name.date():
		return fmt.Sprintf("%s is older than %s, which this version has; compare them with \"portreeve check --crypto\" and move on", name, newest.Name)
	case strings.HasPrefix(string(name), legacyPrefix):
		return fmt.Sprintf("%s gives old clients algorithms that audits object to; %s is safe", name, newest.Name)
	case fips && !own:
		return fmt.Sprintf("this program runs in FIPS 140-3 mode, and %s has algorithms that are not approved; they are refused or outside the module. %s is made for it", name, newest.Name)
	case own && !fips:
		return fmt.Sprintf("%s limits the algorithms, but this program does not run in FIPS 140-3 mode; that takes the build of \"make fips\"", name)
	}
	return ""
}
