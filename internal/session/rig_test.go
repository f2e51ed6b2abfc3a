package session

import (
	"context"
	"io"
	"net/netip"
	"sync"
	"testing"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/vfs"
	"github.com/portreeve/portreeve/internal/vfs/memfs"
)

// rig is a manager on memory storage, with accounts whose password is "secret".
type rig struct {
	t   testing.TB
	m   *Manager
	l   *limits.Limits
	bus *events.Bus

	mu       sync.Mutex
	users    map[string]account.User
	stores   map[string]vfs.FS // by source
	quota    map[string][2]int64
	recorded []events.Event
}

func newRig(t testing.TB, cfg Config, lc limits.Config) *rig {
	r := &rig{t: t, users: map[string]account.User{}, stores: map[string]vfs.FS{}, quota: map[string][2]int64{}}
	lc.Quota = r
	r.l = limits.New(lc)
	r.bus = events.NewBus(events.Options{Sink: r})
	t.Cleanup(func() { r.bus.Close(context.Background()) })
	cfg.Users = r
	r.m = NewManager(cfg, r, r.open, r.l, r.bus)
	return r
}

func (r *rig) Append(_ context.Context, es []events.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recorded = append(r.recorded, es...)
	return nil
}

func (r *rig) QuotaUsed(_ context.Context, name string) (int64, int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.quota[name][0], r.quota[name][1], nil
}

func (r *rig) AddQuota(_ context.Context, name string, b, f int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quota[name] = [2]int64{r.quota[name][0] + b, r.quota[name][1] + f}
	return nil
}

func (r *rig) UserByName(_ context.Context, name string) (account.User, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u, ok := r.users[name]
	if !ok {
		return u, fault.New(fault.NotExist, "load user", "", nil)
	}
	return u, nil
}

func (r *rig) Verify(ctx context.Context, _ auth.Origin, c auth.Credential) (auth.Identity, error) {
	p, ok := c.(auth.Password)
	u, err := r.UserByName(ctx, c.Username())
	switch {
	case p.Secret == "down":
		return auth.Identity{}, fault.Text(fault.Unavailable, "database is locked")
	case p.Secret == "more":
		return auth.Identity{}, auth.ErrMore
	case !ok || err != nil || p.Secret != "secret":
		return auth.Identity{}, auth.ErrBad
	}
	return auth.Identity{User: u, Method: "password"}, nil
}

func (r *rig) open(_ context.Context, m account.Mount, _ account.Policy) (vfs.FS, error) {
	return r.store(m.Source), nil
}

// store is the storage itself, past all rules.
func (r *rig) store(source string) vfs.FS {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.stores[source]
	if f == nil {
		f = memfs.New()
		r.stores[source] = f
	}
	return f
}

// user adds or replaces an account; its home is its own.
func (r *rig) user(u account.User) account.User {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.Home == "" {
		u.Home = "/srv/" + u.Name
	}
	if u.PasswordHash == "" {
		u.PasswordHash = "hash"
	}
	r.users[u.Name] = u
	return u
}

func origin(i int) auth.Origin {
	return auth.Origin{Protocol: "ftp", Listener: "test", Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2 + byte(i>>8), byte(i)}), 4000)}
}

func (r *rig) connect() *Guest {
	r.t.Helper()
	g, err := r.m.Connect(context.Background(), origin(1))
	if err != nil {
		r.t.Fatal(err)
	}
	return g
}

// login connects and logs in.
func (r *rig) login(name string) *Session {
	r.t.Helper()
	g := r.connect()
	s, err := g.Login(context.Background(), auth.Password{User: name, Secret: "secret"})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// put writes a file past all rules.
func (r *rig) put(source, name, content string) {
	r.t.Helper()
	ctx := context.Background()
	f := r.store(source)
	for i := 1; i < len(name); i++ {
		if name[i] == '/' {
			if err := f.Mkdir(ctx, name[:i], 0o755); err != nil && fault.KindOf(err) != fault.Exist {
				r.t.Fatal(err)
			}
		}
	}
	w, err := f.Create(ctx, name, vfs.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		r.t.Fatal(err)
	}
	if err := w.Commit(ctx); err != nil {
		r.t.Fatal(err)
	}
}

// get reads a file past all rules; "<none>" when it is not there.
func (r *rig) get(source, name string) string {
	rd, err := r.store(source).Open(context.Background(), name, 0)
	if err != nil {
		return "<none>"
	}
	defer rd.Close()
	b, err := io.ReadAll(rd)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// events stops the bus and returns what was recorded, of the kinds if any.
func (r *rig) events(kinds ...events.Kind) []events.Event {
	r.t.Helper()
	if err := r.bus.Close(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	var es []events.Event
	for _, e := range r.recorded {
		for _, k := range kinds {
			if e.Kind == k {
				es = append(es, e)
			}
		}
		if len(kinds) == 0 {
			es = append(es, e)
		}
	}
	return es
}

func (r *rig) want(err error, k fault.Kind) {
	r.t.Helper()
	if fault.KindOf(err) != k {
		r.t.Fatalf("got %v (%v), want %v", err, fault.KindOf(err), k)
	}
}

// store one file through the session.
func upload(s *Session, name, content string, o vfs.CreateOptions) error {
	f, err := s.Create(context.Background(), name, o)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, content)
	if err == nil {
		err = f.Commit(context.Background())
	}
	if e := f.Close(err); err == nil {
		err = e
	}
	return err
}

func download(s *Session, name string) (string, error) {
	f, err := s.Open(context.Background(), name, 0)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(f)
	if e := f.Close(err); err == nil {
		err = e
	}
	return string(b), err
}

func (r *rig) idle() {
	r.t.Helper()
	if c := r.l.Counts(); c != (limits.Counts{}) {
		r.t.Errorf("slots left: %+v", c)
	}
	if n, _ := r.m.Counts(); n != 0 {
		r.t.Errorf("%d guests left", n)
	}
	if n := len(r.m.policies); n != 0 {
		r.t.Errorf("%d shared policies left", n)
	}
	for i := range r.m.books.stripes {
		if n := len(r.m.books.stripes[i].open); n != 0 {
			r.t.Errorf("%d pinned files left", n)
		}
	}
}
