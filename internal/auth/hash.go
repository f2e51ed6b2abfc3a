package auth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/go-crypt/crypt"
	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/md5crypt"
	"github.com/go-crypt/crypt/algorithm/pbkdf2"
	"github.com/go-crypt/crypt/algorithm/scrypt"
	"github.com/go-crypt/crypt/algorithm/shacrypt"

	"github.com/portreeve/portreeve/internal/fault"
)

// MaxPassword is the longest password in octets. Longer ones are refused
// before any hashing, so that a client cannot buy work with length.
const MaxPassword = 1024

// Params is the cost of argon2id.
type Params struct {
	MemoryKiB uint32
	Passes    uint32
	Lanes     uint32
}

// DefaultParams is what new passwords cost: 19 MiB, two passes, one lane
// (the OWASP recommendation; about 20 ms on a present core).
var DefaultParams = Params{MemoryKiB: 19 * 1024, Passes: 2, Lanes: 1}

// Hasher makes and verifies password hashes. It bounds how many are computed at
// once, which bounds their memory to slots x 19 MiB. Safe for concurrent use.
type Hasher struct {
	params  Params
	wait    time.Duration
	slots   chan struct{}
	decoder *crypt.Decoder
	argon   *argon2.Hasher
	dummy   string // a hash that no password matches by chance, of the same cost
}

// HasherOptions sets a Hasher up; zero values choose the defaults in brackets.
type HasherOptions struct {
	Params Params        // [DefaultParams]
	Slots  int           // hashes computed at once [number of CPUs]
	Wait   time.Duration // how long one waits for a slot [15 s]
}

// NewHasher returns a hasher; it fails on parameters that argon2 refuses.
func NewHasher(o HasherOptions) (*Hasher, error) {
	if o.Params == (Params{}) {
		o.Params = DefaultParams
	}
	if o.Slots <= 0 {
		o.Slots = runtime.NumCPU()
	}
	if o.Wait <= 0 {
		o.Wait = 15 * time.Second // a crowd that comes at once waits its turn; clients wait 30 s and more
	}
	a, err := argon2.New(argon2.WithVariant(argon2.VariantID), argon2.WithM(o.Params.MemoryKiB),
		argon2.WithT(int(o.Params.Passes)), argon2.WithP(int(o.Params.Lanes)), argon2.WithK(32), argon2.WithS(16))
	if err != nil {
		return nil, fault.New(fault.Invalid, "set up argon2id", "", err)
	}
	h := &Hasher{params: o.Params, wait: o.Wait, slots: make(chan struct{}, o.Slots), argon: a, decoder: crypt.NewDecoder()}
	for _, register := range []func(algorithm.DecoderRegister) error{
		argon2.RegisterDecoder, bcrypt.RegisterDecoder, scrypt.RegisterDecoder, pbkdf2.RegisterDecoder,
		shacrypt.RegisterDecoder, md5crypt.RegisterDecoderCommon,
	} {
		if err := register(h.decoder); err != nil {
			return nil, fault.New(fault.Internal, "set up password formats", "", err)
		}
	}
	h.dummy = standIn(o.Params)
	return h, nil
}

// standIn is a hash in PHC form that no password is known for: salt and key are
// random. Nothing is computed, so that a start and each command do without the
// memory and time of a hash.
func standIn(p Params) string {
	var b [16 + 32]byte
	rand.Read(b[:]) // never fails
	enc := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", p.MemoryKiB, p.Passes, p.Lanes, enc(b[:16]), enc(b[16:]))
}

// Hash returns a new argon2id hash in PHC form. The password must pass
// CheckPassword (fault.Invalid). Limit, Canceled: see Verify.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if err := CheckPassword(password); err != nil {
		return "", err
	}
	return compute(ctx, h, func() (string, error) {
		d, err := h.argon.Hash(password)
		if err != nil {
			return "", err
		}
		return d.Encode(), nil
	})
}

// CheckPassword tells whether a password may be set at all; fault.Invalid.
func CheckPassword(password string) error {
	switch {
	case password == "":
		return fault.Text(fault.Invalid, "the password is empty")
	case len(password) > MaxPassword:
		return fault.Text(fault.Invalid, fmt.Sprintf("the password is %d octets long; at most %d are allowed", len(password), MaxPassword))
	}
	if strings.ContainsRune(password, 0) {
		// C implementations of bcrypt and crypt stop there, ours does not.
		return fault.Text(fault.Invalid, "the password contains a NUL")
	}
	return nil
}

// Verify reports whether the password matches the hash. Known forms: argon2id,
// argon2i and argon2d, bcrypt ($2a$ $2b$ $2x$ $2y$), scrypt ($scrypt$), yescrypt
// ($y$), PBKDF2 ($pbkdf2...$), SHA-256 and SHA-512 crypt ($5$ $6$), MD5 crypt ($1$),
// and those of foreign.
// An empty hash, and a password that CheckPassword refuses, never match and
// cost nothing. Errors: fault.Limit when no slot came free in time, fault.Canceled
// when ctx ended, fault.Unsupported for a hash it cannot read or that costs too much.
func (h *Hasher) Verify(ctx context.Context, hash, password string) (bool, error) {
	if hash == "" || CheckPassword(password) != nil {
		return false, nil
	}
	return compute(ctx, h, func() (bool, error) {
		if match, ok, err := foreign(hash); ok {
			if err != nil {
				return false, unreadable(hash, err)
			}
			return match(password), nil
		}
		d, err := h.decode(hash)
		if err != nil {
			return false, err
		}
		return d.MatchAdvanced(password)
	})
}

// Waste costs what Verify costs for a hash made with the present parameters
// and always says no. Unknown and closed accounts go this way.
func (h *Hasher) Waste(ctx context.Context, password string) error {
	_, err := h.Verify(ctx, h.dummy, password)
	return err
}

// Check tells whether Verify can read the hash, without computing it; for
// importers and "user add --hash". fault.Unsupported.
func (h *Hasher) Check(hash string) error {
	if _, ok, err := foreign(hash); ok {
		if err != nil {
			return unreadable(hash, err)
		}
		return nil
	}
	_, err := h.decode(hash)
	return err
}

// Outdated reports whether a hash should be made anew at the next log-in:
// another algorithm than argon2id or a lower cost.
func (h *Hasher) Outdated(hash string) bool {
	var p Params
	var version int
	n, _ := fmt.Sscanf(hash, "$argon2id$v=%d$m=%d,t=%d,p=%d$", &version, &p.MemoryKiB, &p.Passes, &p.Lanes)
	return n != 4 || p.MemoryKiB < h.params.MemoryKiB || p.Passes < h.params.Passes
}

func (h *Hasher) decode(hash string) (d algorithm.Digest, err error) {
	defer func() {
		// The decoders index into what they split; a malformed row must not end the server.
		if r := recover(); r != nil {
			err = unreadable(hash, fmt.Errorf("panic: %v", r))
		}
	}()
	if err := affordable(hash); err != nil {
		return nil, unreadable(hash, err)
	}
	if d, err = h.decoder.Decode(hash); err != nil {
		return nil, unreadable(hash, err)
	}
	return d, nil
}

// unreadable names the format but never the hash itself, which would reach the log.
func unreadable(hash string, err error) error {
	format := "no known prefix"
	if parts := strings.SplitN(hash, "$", 3); len(parts) == 3 && parts[0] == "" && len(parts[1]) <= 20 {
		format = "prefix $" + parts[1] + "$"
	}
	return fault.New(fault.Unsupported, "read password hash with "+format, "", err)
}

// compute waits for a slot and runs f on a goroutine of its own: argon2 and
// bcrypt need deep stacks, which must not stay with the session's goroutine
// (docs/design/performance.md section 6). A computation cannot be stopped;
// when ctx ends first it keeps its slot until it is done.
func compute[T any](ctx context.Context, h *Hasher, f func() (T, error)) (T, error) {
	var none T
	select {
	case h.slots <- struct{}{}:
	default:
		t := time.NewTimer(h.wait)
		defer t.Stop()
		select {
		case h.slots <- struct{}{}:
		case <-t.C:
			return none, fault.Text(fault.Limit, "busy, try again")
		case <-ctx.Done():
			return none, fault.New(fault.Canceled, "wait to check a password", "", context.Cause(ctx))
		}
	}
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1) // the value travels with the answer: the caller may be gone
	go func() {
		defer func() { <-h.slots }()
		defer func() {
			if r := recover(); r != nil {
				done <- result{err: fault.New(fault.Unsupported, "compute password hash", "", fmt.Errorf("panic: %v", r))}
			}
		}()
		v, err := f()
		if err != nil {
			v = none
			if !errors.As(err, new(*fault.Error)) {
				err = fault.New(fault.Unsupported, "compute password hash", "", err)
			}
		}
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		return none, fault.New(fault.Canceled, "check a password", "", context.Cause(ctx))
	}
}

// RandomPassword returns 24 characters (120 random bits) of small letters and
// digits, without those that are mistaken for each other (0 o, 1 l).
func RandomPassword() string {
	const alphabet = "abcdefghijkmnpqrstuvwxyz23456789" // 32, so that a mask keeps them equally likely
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	for i := range b {
		b[i] = alphabet[b[i]&31]
	}
	return string(b)
}
