package auth

import (
	"fmt"
	"strconv"
	"strings"
)

// Ceilings for hashes that come from elsewhere: a row with m=4 GiB must not
// take the server down at the next log-in. All are far above what any system
// uses as a default.
const (
	maxMemoryKiB = 512 << 10 // argon2, scrypt, yescrypt
	maxPasses    = 64
	maxLanes     = 64
	maxBcrypt    = 16 // log2; 14 takes a second
	maxRounds    = 10_000_000
)

// affordable refuses a hash whose parameters, as written, cost more than the
// ceilings. It reads numbers only; the decoder judges the form.
func affordable(hash string) error {
	parts := strings.Split(hash, "$")
	if len(parts) < 4 || parts[0] != "" {
		return nil
	}
	id := parts[1]
	switch {
	case strings.HasPrefix(id, "argon2"):
		for _, p := range parts[2:4] {
			for k, v := range pairs(p) {
				if k == "m" && v > maxMemoryKiB || k == "t" && v > maxPasses || k == "p" && (v > maxLanes || v == 0) {
					return fmt.Errorf("%s=%d is above what is allowed", k, v)
				}
			}
		}
	case id == "scrypt":
		kv := pairs(parts[2])
		ln, r, p := get(kv, "ln", 16), get(kv, "r", 8), get(kv, "p", 1)
		if ln > 24 || r > 64 || p > maxLanes || ln == 0 || r == 0 || p == 0 || (128*r<<ln)>>10 > maxMemoryKiB {
			return fmt.Errorf("ln=%d,r=%d,p=%d is above what is allowed", ln, r, p)
		}
	case id == "y":
		return yescryptCost(parts[2])
	case id == "2" || id == "2a" || id == "2b" || id == "2x" || id == "2y":
		if n, err := strconv.ParseUint(parts[2], 10, 8); err == nil && n > maxBcrypt {
			return fmt.Errorf("cost %d is above what is allowed (%d)", n, maxBcrypt)
		}
	case strings.HasPrefix(id, "bcrypt"):
		if n := get(pairs(parts[2]), "r", 0); n > maxBcrypt {
			return fmt.Errorf("cost %d is above what is allowed (%d)", n, maxBcrypt)
		}
	case strings.HasPrefix(id, "pbkdf2"):
		if n, err := strconv.ParseUint(parts[2], 10, 64); err == nil && n > maxRounds {
			return fmt.Errorf("%d rounds are more than allowed (%d)", n, maxRounds)
		}
	case id == "5" || id == "6":
		if n := get(pairs(parts[2]), "rounds", 0); n > maxRounds {
			return fmt.Errorf("%d rounds are more than allowed (%d)", n, maxRounds)
		}
	}
	return nil
}

func pairs(s string) map[string]uint64 {
	m := map[string]uint64{}
	for f := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(f, "=")
		if n, err := strconv.ParseUint(v, 10, 64); ok && err == nil {
			m[k] = n
		}
	}
	return m
}

func get(m map[string]uint64, k string, def uint64) uint64 {
	if v, ok := m[k]; ok {
		return v
	}
	return def
}

// yescryptCost reads the setting of $y$: flavour, log2 N, r, each one letter of
// the crypt alphabet in the range any system writes; more letters (p, t, g)
// are settings the decoder would ignore, so the hash would never match.
func yescryptCost(setting string) error {
	const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	if len(setting) != 3 {
		return fmt.Errorf("yescrypt setting %q has other parameters than N and r", setting)
	}
	ln, r := strings.IndexByte(alphabet, setting[1])+1, strings.IndexByte(alphabet, setting[2])+1
	if ln < 1 || r < 1 || ln > 24 || (uint64(128*r)<<ln)>>10 > maxMemoryKiB {
		return fmt.Errorf("yescrypt setting %q costs more than is allowed", setting)
	}
	return nil
}
