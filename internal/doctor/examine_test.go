package doctor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/firewall"
)

// store is a backend with one directory of files in memory. Everybody may log in but "nobody".
type store struct {
	mu    sync.Mutex
	files map[string][]byte
	sight []string
}

func (s *store) Login(_ context.Context, _ *ftp.Conn, c ftp.Credentials) (ftp.Session, error) {
	if !c.Complete {
		return nil, ftp.ErrPassword
	}
	if c.User == "nobody" {
		return nil, &ftp.Error{Code: 530, Message: "No."}
	}
	return s, nil
}

func (s *store) Diagnose(context.Context, *ftp.Conn) ([]string, error) {
	if s.sight == nil {
		return nil, fs.ErrPermission
	}
	return s.sight, nil
}
func (s *store) Close(error)                                  {}
func (s *store) Mkdir(context.Context, string) error          { return fs.ErrPermission }
func (s *store) Rmdir(context.Context, string) error          { return fs.ErrPermission }
func (s *store) Rename(context.Context, string, string) error { return fs.ErrPermission }
func (s *store) Remove(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, name)
	return nil
}
func (s *store) Stat(_ context.Context, name string) (ftp.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "/" {
		return ftp.Info{Name: "/", Mode: fs.ModeDir | 0o755}, nil
	}
	b, ok := s.files[name]
	if !ok {
		return ftp.Info{}, fs.ErrNotExist
	}
	return ftp.Info{Name: name[1:], Size: int64(len(b)), Mode: 0o644}, nil
}
func (s *store) List(context.Context, string) iter.Seq2[ftp.Info, error] {
	return func(yield func(ftp.Info, error) bool) { yield(ftp.Info{Name: "hello.txt", Size: 5, Mode: 0o644}, nil) }
}

type source struct{ io.Reader }

func (source) Close(error) error { return nil }

type sink struct {
	bytes.Buffer
	s    *store
	name string
}

func (k *sink) Commit(context.Context) error {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	k.s.files[k.name] = k.Bytes()
	return nil
}
func (k *sink) Close(error) error { return nil }

func (s *store) Open(_ context.Context, name string, _ int64) (ftp.Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return source{bytes.NewReader(s.files[name])}, nil
}
func (s *store) Create(_ context.Context, name string, _ ftp.CreateOptions) (ftp.Sink, error) {
	return &sink{s: s, name: name}, nil
}

// astray is a passive port whose announcement leads elsewhere.
type astray struct {
	ftp.PassivePorts
	port func(n uint16) uint16
	addr netip.Addr
}

type wrongLease struct {
	ftp.Lease
	addr netip.AddrPort
}

func (w wrongLease) Addr() netip.AddrPort { return w.addr }

func (a astray) Lease(ctx context.Context, c *ftp.Conn) (ftp.Lease, error) {
	l, err := a.PassivePorts.Lease(ctx, c)
	if err != nil {
		return nil, err
	}
	return wrongLease{l, netip.AddrPortFrom(a.addr, a.port(l.Addr().Port()))}, nil
}

func serve(t *testing.T, cfg ftp.Config) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Backend == nil {
		cfg.Backend = &store{files: map[string][]byte{}}
	}
	cfg.DataTimeout = 2 * time.Second
	srv := &ftp.Server{Config: cfg}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	return uint16(ln.Addr().(*net.TCPAddr).Port)
}

// raw answers every connection with text and closes it when the peer does.
func raw(t *testing.T, text string, hangUp bool) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.WriteString(c, text)
				if !hangUp {
					io.Copy(io.Discard, c)
				}
			}()
		}
	}()
	return uint16(ln.Addr().(*net.TCPAddr).Port)
}

func examine(t *testing.T, port uint16, o ClientOptions) *Report {
	t.Helper()
	u := &url.URL{Scheme: "ftp", Host: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()}
	o.Idle, o.Timeout, o.ImplicitPort = -1, 2*time.Second, 1 // tcpmux: nobody has it
	o.Rules = func(context.Context) []firewall.RuleSet { return nil }
	r, err := Examine(t.Context(), u, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func codes(fs []Finding) []string {
	var out []string
	for _, f := range fs {
		if f.Severity != Note {
			out = append(out, f.Code)
		}
	}
	return out
}

func TestExamine(t *testing.T) {
	all := &ftp.PortRange{First: 21100, Last: 21199}
	tests := []struct {
		name  string
		port  func(t *testing.T) uint16
		opt   ClientOptions
		want  []string
		could string
	}{
		{"good", func(t *testing.T) uint16 { return serve(t, ftp.Config{Passive: all}) }, ClientOptions{Write: true}, nil, ""},
		{"nobody there", func(t *testing.T) uint16 { return 1 }, ClientOptions{}, []string{"CONTROL_BLOCKED"}, "NOT_RUNNING"},
		{"web server", func(t *testing.T) uint16 { return raw(t, "HTTP/1.1 400 Bad Request\r\n\r\n", true) }, ClientOptions{}, []string{"NOT_FTP"}, ""},
		{"SSH", func(t *testing.T) uint16 { return raw(t, "SSH-2.0-OpenSSH_9.2\r\n", false) }, ClientOptions{}, []string{"WRONG_DOOR"}, ""},
		{"silent", func(t *testing.T) uint16 { return raw(t, "", false) }, ClientOptions{}, []string{"PROXY_MISSING"}, "WRONG_DOOR"},
		{"hangs up", func(t *testing.T) uint16 { return raw(t, "", true) }, ClientOptions{}, []string{"CONTROL_BLOCKED"}, "CLIENT_BANNED"},
		{"full", func(t *testing.T) uint16 { return raw(t, "421 Too many connections.\r\n", true) }, ClientOptions{}, []string{"BUSY"}, ""},
		{"binary noise", func(t *testing.T) uint16 { return raw(t, "\x00\xff\x16\x03\x01\x00", false) }, ClientOptions{}, []string{"NOT_FTP"}, ""},
		{"greets and falls silent", func(t *testing.T) uint16 { return raw(t, "220 hello\r\n", true) }, ClientOptions{}, []string{"CONTROL_BLOCKED"}, "CLIENT_BANNED"},
		{"log-in refused", func(t *testing.T) uint16 { return serve(t, ftp.Config{Passive: all}) }, ClientOptions{User: "nobody", Password: "x"}, []string{"LOGIN"}, ""},
		{"no passive mode", func(t *testing.T) uint16 { return serve(t, ftp.Config{}) }, ClientOptions{}, []string{"PASSIVE_OFF"}, ""},
		{"no active mode", func(t *testing.T) uint16 { return serve(t, ftp.Config{Passive: all, NoActive: true}) }, ClientOptions{}, nil, ""},
		{"range refused", func(t *testing.T) uint16 {
			return serve(t, ftp.Config{Passive: astray{PassivePorts: all, port: func(n uint16) uint16 { return 2 }}})
		}, ClientOptions{}, []string{"SERVER_FW_RANGE"}, "DOCKER_PUBLISH"},
		{"every second port dead", func(t *testing.T) uint16 {
			n := 0
			return serve(t, ftp.Config{Passive: astray{PassivePorts: all, port: func(p uint16) uint16 {
				if n++; n%2 == 0 {
					return 2
				}
				return p
			}}})
		}, ClientOptions{}, []string{"RANGE_PARTIAL"}, ""},
		{"another address", func(t *testing.T) uint16 {
			return serve(t, ftp.Config{Passive: all, PassiveAddress: func(*ftp.Conn) netip.Addr { return netip.MustParseAddr("127.0.0.77") }})
		}, ClientOptions{}, []string{"PASV_ADDR_STALE"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := examine(t, tt.port(t), tt.opt)
			got := codes(r.Findings)
			if !slices.Equal(got, tt.want) {
				t.Fatalf("findings %v, want %v: %+v", got, tt.want, r.Findings)
			}
			if tt.could != "" && !slices.Contains(r.Findings[0].Could, tt.could) {
				t.Errorf("could be %v, want %s among them", r.Findings[0].Could, tt.could)
			}
		})
	}
}

func TestExamineWriteCleansUp(t *testing.T) {
	s := &store{files: map[string][]byte{}}
	r := examine(t, serve(t, ftp.Config{Backend: s, Passive: &ftp.PortRange{First: 21200, Last: 21220}}), ClientOptions{Write: true})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) != 0 || len(codes(r.Findings)) != 0 {
		t.Errorf("left behind: %v; findings %v", s.files, r.Findings)
	}
}

// TestExamineAsksTheServer checks that the server's word decides where a client cannot see.
func TestExamineAsksTheServer(t *testing.T) {
	s := &store{files: map[string][]byte{}, sight: []string{"you from=127.0.0.1:5 reached=127.0.0.1:21 listener=x", "passive ports=2-2 announced=x", "active allowed=true",
		"firewall of=passive-data state=closed code=SERVER_FW_RANGE", "others reached=0 unreached=0"}}
	p := serve(t, ftp.Config{Backend: s, Passive: astray{PassivePorts: &ftp.PortRange{First: 21230, Last: 21250}, port: func(uint16) uint16 { return 2 }}})
	r := examine(t, p, ClientOptions{})
	if r.Server == nil || len(r.Findings) == 0 || r.Findings[0].Code != "SERVER_FW_RANGE" || len(r.Findings[0].Could) != 0 || !strings.Contains(r.Findings[0].Fix, "2-2") {
		t.Errorf("findings %+v", r.Findings)
	}
}

// TestPasswordStaysProtected checks that ftps:// sends no password in the clear
// or to a server that cannot be verified.
func TestPasswordStaysProtected(t *testing.T) {
	port := raw(t, "220 ready\r\n", false)
	u := &url.URL{Scheme: "ftps", Host: "127.0.0.1:1"}
	r, err := Examine(t.Context(), u, ClientOptions{User: "ann", Password: "secret", PlainPort: port, Idle: -1, Timeout: time.Second, Rules: func(context.Context) []firewall.RuleSet { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Probes {
		if p.Security == Plain {
			t.Errorf("plain was tried: %+v", p)
		}
	}
	if len(r.Notes) == 0 {
		t.Error("the report does not say that plain was left out")
	}
}

func TestExamineStops(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	u := &url.URL{Scheme: "ftp", Host: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), raw(t, "", false)).String()}
	begin := time.Now()
	if _, err := Examine(ctx, u, ClientOptions{ImplicitPort: 1, Rules: func(context.Context) []firewall.RuleSet { return nil }}); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 8*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}
