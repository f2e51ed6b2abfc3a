package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/fault"
)

// The rates of the HTTPS listener: calls of one administrator, and calls with
// no good token from one address, which are guesses.
const (
	callRate, callBurst   = 50, 200
	guessRate, guessBurst = 0.2, 10
	maxBuckets            = 10_000
)

// NewTLSServer returns the HTTP server for the administrative interface on the
// network: TLS alone, a bearer token with every call, limited in rate. c comes
// from the certificates in use; HTTP/2 is on.
func NewTLSServer(a *admin.Service, s Server, c *tls.Config) *http.Server {
	return &http.Server{
		Handler:           Authenticated(New(a, s), a.Authenticate),
		TLSConfig:         c,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
}

// Authenticated demands a bearer token (RFC 6750) for everything but the
// contract and where to log in, limits the rate, and lets a call with an Idempotency-Key happen once.
func Authenticated(next http.Handler, who func(ctx context.Context, token string) (admin.Principal, error)) http.Handler {
	calls, guesses := newBuckets(callRate, callBurst), newBuckets(guessRate, guessBurst)
	once := &replays{kept: map[string]*replay{}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Strict-Transport-Security", "max-age=31536000")
		h.Set("X-Content-Type-Options", "nosniff")
		if r.Method == "GET" && (r.URL.Path == "/v1/openapi.yaml" || r.URL.Path == "/v1/sign-in") {
			next.ServeHTTP(w, r)
			return
		}
		from := addressKey(r.RemoteAddr)
		if guesses.empty(from) {
			slowDown(w, 30*time.Second)
			return
		}
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || token == "" {
			guesses.take(from)
			h.Set("WWW-Authenticate", `Bearer realm="portreeve"`)
			refuse(w, http.StatusUnauthorized, fault.Login.String(), "a token is needed: Authorization: Bearer ...; make one with \"portreeve token add\"")
			return
		}
		p, err := who(r.Context(), strings.TrimSpace(token))
		if err != nil {
			if fault.KindOf(err) == fault.Login {
				guesses.take(from)
				h.Set("WWW-Authenticate", `Bearer realm="portreeve", error="invalid_token"`)
			}
			fail(w, err)
			return
		}
		if !calls.take(p.Name) {
			slowDown(w, time.Second)
			return
		}
		// An answer, which may hold a secret, is given again to equal rights only: a
		// token for less, or without the second factor, must not get it by the key.
		rights := fmt.Sprintf("%q %q %q %t", p.Name, p.Scopes, p.Groups, p.Unverified)
		once.serve(w, r.WithContext(admin.WithPrincipal(r.Context(), p)), rights, next)
	})
}

func slowDown(w http.ResponseWriter, after time.Duration) {
	w.Header().Set("Retry-After", fmt.Sprint(int(after.Seconds())))
	refuse(w, http.StatusTooManyRequests, fault.Limit.String(), fmt.Sprintf("too many calls; try again in %s", after))
}

// addressKey is what guesses are counted by: an IPv4 address or an IPv6 /64.
func addressKey(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if a = a.Unmap(); a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// buckets are rates by key. A full table forgets those that are full again.
type buckets struct {
	mu    sync.Mutex
	rate  rate.Limit
	burst int
	by    map[string]*rate.Limiter
}

func newBuckets(r rate.Limit, burst int) *buckets {
	return &buckets{rate: r, burst: burst, by: map[string]*rate.Limiter{}}
}

func (b *buckets) take(key string) bool { return b.get(key).Allow() }

func (b *buckets) empty(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.by[key]
	return l != nil && l.Tokens() < 1
}

func (b *buckets) get(key string) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.by[key]
	if l == nil {
		if len(b.by) >= maxBuckets {
			for k, old := range b.by {
				if old.Tokens() >= float64(b.burst) {
					delete(b.by, k)
				}
			}
			for k := range b.by { // an attack from everywhere: forget at random rather than grow
				if len(b.by) < maxBuckets {
					break
				}
				delete(b.by, k)
			}
		}
		l = rate.NewLimiter(b.rate, b.burst)
		b.by[key] = l
	}
	return l
}

// replays keeps the answers to calls with an Idempotency-Key.
type replays struct {
	mu   sync.Mutex
	kept map[string]*replay
}

type replay struct {
	done   chan struct{} // closed when the answer is there
	until  time.Time
	call   [32]byte
	status int
	header http.Header
	body   []byte
}

const (
	replayFor  = time.Hour
	maxReplays = 1000
)

func (rs *replays) serve(w http.ResponseWriter, r *http.Request, who string, next http.Handler) {
	key := r.Header.Get("Idempotency-Key")
	if r.Method != "POST" || key == "" {
		next.ServeHTTP(w, r)
		return
	}
	if len(key) > 255 {
		refuse(w, http.StatusBadRequest, fault.Invalid.String(), "the Idempotency-Key is longer than 255 characters")
		return
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		fail(w, err)
		return
	}
	call := sha256.Sum256([]byte(r.URL.RequestURI() + "\x00" + body.String()))
	rp, first := rs.claim(who+"\x00"+key, call)
	switch {
	case rp == nil:
		slowDown(w, time.Minute)
	case rp.call != call:
		refuse(w, http.StatusUnprocessableEntity, fault.Invalid.String(), "this Idempotency-Key was used for another call; choose a new one")
	case first:
		rec := &recorder{header: http.Header{}, status: http.StatusOK}
		defer func() {
			// A call that failed for a reason outside of it may be tried again.
			if rec.status >= 500 || rec.status == http.StatusTooManyRequests || recover() != nil {
				rs.forget(who + "\x00" + key)
				rec.status = max(rec.status, http.StatusInternalServerError)
			}
			rp.status, rp.header, rp.body = rec.status, rec.header, rec.body.Bytes()
			close(rp.done)
			rp.write(w)
		}()
		r.Body = readCloser{&body}
		next.ServeHTTP(rec, r)
	default:
		select {
		case <-rp.done:
			w.Header().Set("Idempotent-Replayed", "true")
			rp.write(w)
		case <-r.Context().Done():
		}
	}
}

// claim returns the replay of a key and whether the caller is the first; nil
// when too many are kept.
func (rs *replays) claim(key string, call [32]byte) (rp *replay, first bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	now := time.Now()
	if rp := rs.kept[key]; rp != nil && now.Before(rp.until) {
		return rp, false
	}
	if len(rs.kept) >= maxReplays {
		for k, old := range rs.kept {
			if now.After(old.until) {
				delete(rs.kept, k)
			}
		}
		if len(rs.kept) >= maxReplays {
			return nil, false
		}
	}
	rp = &replay{done: make(chan struct{}), until: now.Add(replayFor), call: call}
	rs.kept[key] = rp
	return rp, true
}

func (rs *replays) forget(key string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.kept, key)
}

func (rp *replay) write(w http.ResponseWriter) {
	for k, v := range rp.header {
		w.Header()[k] = v
	}
	w.WriteHeader(rp.status)
	w.Write(rp.body) // the client has gone when this fails
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	wrote  bool
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(status int) {
	if !r.wrote {
		r.status, r.wrote = status, true
	}
}
func (r *recorder) Write(b []byte) (int, error) { r.wrote = true; return r.body.Write(b) }

type readCloser struct{ *bytes.Buffer }

func (readCloser) Close() error { return nil }
