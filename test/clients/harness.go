//go:build clients

package clients

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Password is the password of every account that AddUser makes. It is long
// and odd enough to be looked for in a capture of the wire.
const Password = "Rook-7-Takes-Pawn"

// Listener is one [[listen]] entry of a test server.
type Listener struct {
	Name     string // key for Port and URL, and the listener's name in the log
	Protocol string // ftp, ftps or sftp
	Host     string // 127.0.0.1 when empty, or ::1
	Keys     string // further lines of the entry, such as `tls = "off"`
}

// Config says what Start runs.
type Config struct {
	Listen []Listener
	Extra  string // further TOML sections, such as "[limits]\nper_user = 2\n"
	// Tmpfs mounts a file system of that many bytes at Server.Small, in a mount
	// name space of the server alone: this process sees an empty directory.
	Tmpfs int64
	// ForgetLog keeps counts and the last lines only, for millions of lines.
	ForgetLog bool
}

// Server is a running portreeve.
type Server struct {
	Dir   string // everything of this server; gone after the test
	File  string // configuration file
	Small string // see Config.Tmpfs
	Log   *Log

	t     *testing.T
	ports map[string]int
	hosts map[string]string
	first int // of the passive ports
	cmd   *exec.Cmd
	done  chan struct{} // closed when the process has ended
}

// User is an account with a home directory.
type User struct {
	Name, Password, Home string
}

// Start builds and runs the program, and stops it when the test ends. A test
// that failed gets the end of the server's log.
func Start(t *testing.T, c Config) *Server {
	t.Helper()
	for try := 0; ; try++ {
		s, err := start(t, c)
		if err == nil {
			t.Cleanup(s.cleanup)
			return s
		}
		// A port can be taken between the choice and the start.
		if try == 4 || !strings.Contains(err.Error(), "in use") {
			t.Fatal(err)
		}
	}
}

func start(t *testing.T, c Config) (*Server, error) {
	bin := program(t)
	s := &Server{Dir: TempDir(t), t: t, ports: map[string]int{}, hosts: map[string]string{}, done: make(chan struct{})}
	s.File = filepath.Join(s.Dir, "portreeve.toml")
	s.Small = filepath.Join(s.Dir, "small")
	if err := os.Mkdir(s.Small, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.File, []byte(s.config(c)), 0o644); err != nil {
		return nil, err
	}
	args := []string{bin, "-c", s.File, "serve"}
	if c.Tmpfs > 0 {
		script := `mount -t tmpfs -o size="$1" portreeve-test "$2" && shift 2 && exec "$@"`
		args = append([]string{Tool(t, "unshare", "util-linux"), "--mount", "sh", "-c", script, "sh",
			strconv.FormatInt(c.Tmpfs, 10), s.Small}, args...)
		if os.Geteuid() != 0 {
			args = append([]string{args[0], "--map-root-user"}, args[1:]...)
		}
	}
	s.Log = newLog(c.ForgetLog)
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Env = environment(s.Dir)
	s.cmd.SysProcAttr = ours()
	pipe, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.Log.read(pipe)
		s.cmd.Wait()
		close(s.done)
	}()
	return s, s.ready()
}

const passivePorts = 300

// owns says whether a port is one of the server's.
func (s *Server) owns(port int) bool {
	for _, p := range s.ports {
		if p == port {
			return true
		}
	}
	return port >= s.first && port < s.first+passivePorts
}

// config writes the configuration with a free port for each listener.
func (s *Server) config(c Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir = %q\ndrain = \"1s\"\n", filepath.Join(s.Dir, "data"))
	for _, l := range c.Listen {
		host := l.Host
		if host == "" {
			host = "127.0.0.1"
		}
		// The port below belongs to active data connections.
		port := freeBlock(2) + 1
		s.ports[l.Name], s.hosts[l.Name] = port, host
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		s.hosts[l.Name] = host
		fmt.Fprintf(&b, "[[listen]]\nname = %q\nprotocol = %q\naddress = \"%s:%d\"\n%s\n", l.Name, l.Protocol, host, port, l.Keys)
	}
	s.first = freeBlock(passivePorts)
	fmt.Fprintf(&b, "[ftp.passive]\nports = \"%d-%d\"\n[log]\nlevel = \"debug\"\n", s.first, s.first+passivePorts-1)
	if !strings.Contains(c.Extra, "[limits]") {
		b.WriteString("[limits]\nper_address = 0\nnever_ban = [\"127.0.0.0/8\", \"::1/128\"]\n")
	}
	b.WriteString(c.Extra)
	return b.String()
}

func (s *Server) ready() error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		select {
		case <-s.done:
			return fmt.Errorf("the server ended at its start:\n%s", s.Log.Tail(40))
		default:
		}
		if s.Log.Contains("event=server.start") {
			return nil
		}
		if time.Now().After(end) {
			s.kill()
			return fmt.Errorf("the server was not ready in %v:\n%s", patience, s.Log.Tail(40))
		}
	}
}

// Stop ends the server as an operator does. It is called by itself at the end.
func (s *Server) Stop() {
	s.t.Helper()
	select {
	case <-s.done:
		return
	default:
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(patience):
		s.t.Errorf("the server did not stop within %v of SIGTERM; its goroutines:\n%s", patience, s.dump())
	}
}

// dump kills the server with SIGQUIT and returns its goroutines.
func (s *Server) dump() string {
	s.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
		s.kill()
	}
	return s.Log.Tail(400)
}

func (s *Server) kill() {
	s.cmd.Process.Kill()
	<-s.done
}

func (s *Server) cleanup() {
	s.Stop()
	for _, sign := range []string{" panic=", "panic: ", "fatal error: "} {
		if lines := s.Log.Grep(sign); lines != "" {
			s.t.Errorf("the server's log speaks of a fault:\n%s", lines)
		}
	}
	if s.t.Failed() {
		s.t.Logf("the end of the server's log:\n%s", s.Log.Tail(40))
	}
}

// Pid is the process id of the server.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Port is the port of the named listener.
func (s *Server) Port(listener string) int {
	p, ok := s.ports[listener]
	if !ok {
		s.t.Fatalf("no listener %q", listener)
	}
	return p
}

// Host is the address of the named listener, an IPv6 one in brackets.
func (s *Server) Host(listener string) string { return s.hosts[listener] }

// Addr is "host:port" of the named listener.
func (s *Server) Addr(listener string) string {
	return fmt.Sprintf("%s:%d", s.Host(listener), s.Port(listener))
}

// CLI runs "portreeve ARGS" with the server's configuration and returns its
// standard output.
func (s *Server) CLI(t *testing.T, args ...string) string {
	t.Helper()
	return s.cli(t, "", args...)
}

func (s *Server) cli(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	return Cmd{Args: append([]string{program(t), "-c", s.File}, args...), Stdin: stdin, Dir: s.Dir}.Must(t).Stdout
}

// AddUser makes an account by the command line, with a home directory of its
// own. Further arguments go to "portreeve user add"; a --home among them wins.
func (s *Server) AddUser(t *testing.T, name string, args ...string) User {
	t.Helper()
	u := User{Name: name, Password: Password, Home: filepath.Join(s.Dir, "home", name)}
	if err := os.MkdirAll(u.Home, 0o755); err != nil {
		t.Fatal(err)
	}
	s.cli(t, u.Password+"\n", append([]string{"user", "add", name, "--password-stdin", "--home", u.Home}, args...)...)
	return u
}

// Cmd is one run of a client.
type Cmd struct {
	Args    []string
	Dir     string        // working directory; the home of the client too
	Stdin   string        // given as standard input
	Timeout time.Duration // a minute when zero
	Env     []string      // further variables, NAME=value
	Fails   bool          // Must wants a failure
}

// Result is what a client left.
type Result struct {
	Stdout, Stderr string
	Err            error // nil when it ended with 0
}

// Text is all output.
func (r Result) Text() string { return r.Stdout + r.Stderr }

// Run runs the client; one that hangs is killed at its deadline.
func (c Cmd) Run(t *testing.T) Result {
	t.Helper()
	limit := c.Timeout
	if limit == 0 {
		limit = time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = append(environment(c.Dir), c.Env...)
	cmd.SysProcAttr = ours()
	cmd.WaitDelay = 5 * time.Second
	if c.Stdin != "" {
		cmd.Stdin = strings.NewReader(c.Stdin)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("still running after %v", limit)
	}
	return Result{stdout.String(), stderr.String(), err}
}

// Must is Run that ends the test unless the client succeeds (or, with Fails,
// unless it fails).
func (c Cmd) Must(t *testing.T) Result {
	t.Helper()
	r := c.Run(t)
	if (r.Err != nil) != c.Fails {
		t.Fatalf("%q: %v, wanted failure: %v\n%s", c.Args, r.Err, c.Fails, clip(r.Text(), 6000))
	}
	return r
}

// clip shortens long output to its end.
func clip(s string, n int) string {
	if len(s) > n {
		return "...\n" + s[len(s)-n:]
	}
	return s
}

// environment is that of every process: no proxy, no personal settings, UTF-8.
func environment(home string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + root, "LC_ALL=C.UTF-8", "TERM=dumb", "TZ=UTC", "NO_PROXY=*"}
}

// Tool finds a program, or fails with the line that installs it.
func Tool(t *testing.T, name, debian string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed; run: apt-get install -y --no-install-recommends %s", name, debian)
	}
	return p
}

// patience is how long anything may take on a slow and busy machine.
const patience = 30 * time.Second

// Eventually waits until done says true.
func Eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

var (
	buildOnce sync.Once
	buildPath string
	buildErr  error
)

// program builds portreeve once and returns its path. PORTREEVE_BINARY names a
// built one instead, such as the one of a package.
func program(t *testing.T) string {
	t.Helper()
	buildOnce.Do(func() {
		if buildPath = os.Getenv("PORTREEVE_BINARY"); buildPath != "" {
			return
		}
		buildPath = filepath.Join(root, "portreeve")
		cmd := exec.Command("go", "build", "-trimpath", "-o", buildPath, "github.com/portreeve/portreeve/cmd/portreeve")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			buildErr = errors.New(string(out))
		}
	})
	if buildErr != nil {
		t.Fatalf("building portreeve: %v", buildErr)
	}
	return buildPath
}

// Log is what a server wrote: all of it, or counts and the last lines.
type Log struct {
	mu     sync.Mutex
	lines  []string
	forget bool
	start  bool
	verbs  map[string]int // "listener verb"
	codes  map[string]int // "listener code"
}

func newLog(forget bool) *Log {
	return &Log{forget: forget, verbs: map[string]int{}, codes: map[string]int{}}
}

func (l *Log) read(r io.Reader) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		l.add(sc.Text())
	}
	io.Copy(io.Discard, r)
}

func (l *Log) add(line string) {
	listener, client, text := protocolLine(line)
	l.mu.Lock()
	defer l.mu.Unlock()
	if listener != "" {
		word, _, _ := strings.Cut(text, " ")
		if client {
			l.verbs[listener+" "+strings.ToUpper(word)]++
		} else {
			l.codes[listener+" "+word]++
		}
	}
	l.start = l.start || strings.Contains(line, "event=server.start")
	l.lines = append(l.lines, line)
	if l.forget && len(l.lines) > 4000 {
		l.lines = append(l.lines[:0:0], l.lines[2000:]...)
	}
}

// protocolLine takes a debug line of the control connection apart.
func protocolLine(line string) (listener string, client bool, text string) {
	if !strings.Contains(line, "level=DEBUG msg=line ") {
		return "", false, ""
	}
	_, rest, _ := strings.Cut(line, " listener=")
	listener, rest, _ = strings.Cut(rest, " ")
	client = strings.HasPrefix(rest, "from=client")
	_, text, _ = strings.Cut(rest, " line=")
	return listener, client, strings.Trim(text, `"`)
}

// Count is how often clients of a listener sent a command.
func (l *Log) Count(listener, verb string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.verbs[listener+" "+verb]
}

// Replies is how often the server sent a reply code on a listener.
func (l *Log) Replies(listener, code string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.codes[listener+" "+code]
}

// Contains says whether any line that is still kept holds the text.
func (l *Log) Contains(text string) bool { return l.Grep(text) != "" }

// Grep returns the kept lines that hold the text.
func (l *Log) Grep(text string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, s := range l.lines {
		if strings.Contains(s, text) {
			b.WriteString(s + "\n")
		}
	}
	return b.String()
}

// Tail returns the last lines.
func (l *Log) Tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines[max(0, len(l.lines)-n):], "\n")
}

// settle waits until no line has come for a moment: the server writes its log
// on its own time, after the client has its answer.
func (l *Log) settle() {
	before := -1
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(150 * time.Millisecond) {
		l.mu.Lock()
		n := len(l.lines)
		l.mu.Unlock()
		if n == before {
			return
		}
		before = n
	}
}

// Dialog returns the control dialogs of a user, for a failed test.
func (l *Log) Dialog(user string) string {
	l.settle()
	l.mu.Lock()
	defer l.mu.Unlock()
	conns := map[string]bool{}
	var b strings.Builder
	for _, s := range l.lines {
		listener, client, text := protocolLine(s)
		if listener == "" {
			if strings.Contains(s, " user="+user+" ") {
				b.WriteString(s + "\n")
			}
			continue
		}
		_, conn, _ := strings.Cut(s, " conn=")
		conn, _, _ = strings.Cut(conn, " ")
		if client && strings.HasPrefix(text, "USER ") {
			conns[conn] = text == "USER "+user
		}
		if conns[conn] {
			from := "S: "
			if client {
				from = "C: "
			}
			fmt.Fprintf(&b, "%s %s %s%s\n", conn[:6], listener, from, text)
		}
	}
	return b.String()
}
