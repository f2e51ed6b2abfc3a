package ftp

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The transcripts in testdata/dialog run against this package's server, or
// against any other with -target. Each is a txtar archive:
//
//	# RFC 959 section 5.4: what it shows      (the first line cites the source)
//	-- config --         key=value lines, see dialogConfig
//	-- files/NAME --     files that exist at the start; escapes as in commands
//	-- dialog --         the conversation, one step a line:
//
//	C: LINE              send a command; \r \n \0 \xff and \\ are understood
//	C+ BYTES             send bytes as they are
//	S: CODE [TEXT|~RE]   expect a reply; CODE may be an expression ("425|426");
//	                     the last line has this text, or matches the expression
//	S? CODE              the same, but the reply may be missing
//	S~ RE, S! RE         some (no) line of the last reply matches
//	D> BYTES             send on the data connection
//	D< BYTES, D<~ RE     read the data connection to its end; it brought exactly
//	                     this, or something that matches. Several D< are joined
//	D!                   end the data connection properly
//	DX                   cut it
//	DERR                 the data connection does not come about or breaks
//	NODATA               do not open the next data connection
//	FRESH                the next ones do not resume the control connection's TLS
//	PLAINDATA            ... do not use TLS in spite of PROT P
//	DFIN                 end the data connection without a TLS close_notify
//	URGENT BYTES         send on the control connection, the last byte urgent
//	TLS, CLEAR           begin, end TLS on the control connection
//	CLOSED               the server closes the control connection
//	FILE NAME BYTES      this server's tree now has this file (own server only)
//	GONE NAME            ... does not have it
//
// A command with $PORT or $EPRT opens a port and names it. The data connection
// is made when a command that needs one follows PASV, EPSV, PORT or EPRT, and
// is protected after PROT P. Unless the config says login=no the log-in has
// happened, and TYPE I with it.
var (
	targetAddr = flag.String("target", "", "host:port of another FTP server to run the transcripts against")
	targetUser = flag.String("user", "ann", "user at -target")
	targetPass = flag.String("pass", "secret", "password at -target")
)

// dialogConfig are the keys of a config section.
var dialogConfig = map[string]string{
	"login":       "no: the dialog begins after the greeting; another word: this user logs in",
	"type":        "no: TYPE I is not sent after the log-in",
	"zeros":       "NAME:SIZE: a big file",
	"dir":         "NAME: an empty directory",
	"tls":         "off, offered, required, implicit",
	"data":        "required: transfers need PROT P",
	"bind":        "require, off: TLS session binding",
	"clientcert":  "NAME: the client shows a certificate of this name",
	"sni":         "NAME: the server name of the client's handshakes",
	"ip":          "6: over IPv6",
	"anonymous":   "yes",
	"host":        "NAME: a host that HOST accepts",
	"quota":       "BYTES",
	"disk":        "BYTES",
	"plain":       "yes: the backend has no abilities beyond the required ones",
	"refuse":      "TEXT: the connection is refused",
	"active":      "off",
	"passive":     "off, or ADDRESS to announce",
	"ccc":         "yes: CCC is allowed",
	"idle":        "DURATION",
	"logintime":   "DURATION",
	"datatime":    "DURATION",
	"stall":       "DURATION",
	"maxline":     "BYTES",
	"maxfailures": "N",
	"only":        "TEXT: why other servers need not agree",
}

// foreign are the keys that another server can satisfy too.
var foreignKeys = []string{"login", "type", "zeros", "dir"}

func TestDialogs(t *testing.T) {
	files, err := filepath.Glob("testdata/dialog/*.txtar")
	if err != nil || len(files) < 400 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	ran := 0
	for _, f := range files {
		d := parseDialog(t, f)
		if *targetAddr != "" && !d.foreign() {
			continue
		}
		ran++
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) {
			if *targetAddr == "" {
				t.Parallel()
			}
			d.run(t)
		})
	}
	t.Logf("%d of %d transcripts", ran, len(files))
}

type dialog struct {
	file   string
	cites  string
	config map[string][]string
	files  []archiveFile
	steps  []dialogStep
}

type dialogStep struct {
	line      int
	verb, arg string
}

var citation = regexp.MustCompile(`^# (RFC \d+ section [A-Z0-9.]*[A-Z0-9]|draft-[a-z0-9-]+|de facto)(, RFC \d+ section [0-9.]*[0-9])*: .+`)

func parseDialog(t *testing.T, file string) *dialog {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	comment, files := parseArchive(string(text))
	d := &dialog{file: file, config: map[string][]string{}}
	head, _, _ := strings.Cut(comment, "\n")
	if !citation.MatchString(head) {
		t.Errorf("%s: the first line %q does not cite its source", file, head)
	}
	d.cites = strings.TrimPrefix(head, "# ")
	line := strings.Count(comment, "\n")
	for _, f := range files {
		line++
		switch body := f.Data; {
		case f.Name == "config":
			for l := range strings.Lines(body) {
				k, v, ok := strings.Cut(strings.TrimSpace(l), "=")
				if !ok || dialogConfig[k] == "" {
					t.Fatalf("%s: unknown config line %q", file, l)
				}
				d.config[k] = append(d.config[k], v)
			}
		case strings.HasPrefix(f.Name, "files/"):
			name, err := unescape(strings.TrimPrefix(f.Name, "files/"))
			if err != nil {
				t.Fatal(err)
			}
			f.Name = "/" + name
			d.files = append(d.files, f)
		case f.Name == "dialog":
			for i, l := range strings.Split(body, "\n") {
				if l == "" || l[0] == '#' {
					continue
				}
				verb, arg, _ := strings.Cut(l, " ")
				d.steps = append(d.steps, dialogStep{line + i + 1, verb, arg})
			}
		default:
			t.Fatalf("%s: unknown section %q", file, f.Name)
		}
		line += strings.Count(f.Data, "\n")
	}
	if len(d.steps) == 0 {
		t.Fatalf("%s: no dialog", file)
	}
	return d
}

type archiveFile struct{ Name, Data string }

// parseArchive reads the txtar format: a comment, then files that each begin
// with a line "-- NAME --".
func parseArchive(text string) (comment string, files []archiveFile) {
	for l := range strings.Lines(text) {
		name, isMark := strings.CutPrefix(strings.TrimSuffix(l, "\n"), "-- ")
		if name, isMark = strings.CutSuffix(name, " --"); isMark && strings.HasPrefix(l, "-- ") {
			files = append(files, archiveFile{Name: name})
			continue
		}
		if n := len(files); n > 0 {
			files[n-1].Data += l
		} else {
			comment += l
		}
	}
	return comment, files
}

func (d *dialog) get(key string) string {
	if v := d.config[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (d *dialog) foreign() bool {
	for k := range d.config {
		if !slices.Contains(foreignKeys, k) {
			return false
		}
	}
	return d.get("login") == "" || d.get("login") == "no"
}

// player carries out one dialog.
type player struct {
	t      *testing.T
	d      *dialog
	b      *memBackend // nil at a foreign target
	at     dialogStep
	raw    net.Conn
	conn   net.Conn
	br     *bufio.Reader
	tlsCfg *tls.Config
	cache  sessionCache
	last   Reply
	held   *Reply // read by S? but not wanted by it

	prot   bool
	noData bool
	fresh  bool
	ln     net.Listener // after PORT or EPRT
	addr   string       // after PASV or EPSV
	data   *playerData
	got    string // what D< lines have expected so far
}

// playerData is a data connection that comes about in the background.
type playerData struct {
	ready chan struct{}
	raw   net.Conn
	conn  net.Conn
	err   error
}

const dialogPatience = 10 * time.Second

func (d *dialog) run(t *testing.T) {
	p := &player{t: t, d: d}
	addr := *targetAddr
	if addr == "" {
		addr = p.serve()
	} else {
		p.upload(addr)
	}
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close(); p.dropData() })
	p.raw, p.conn, p.br = raw, raw, bufio.NewReader(raw)
	name := cmpOr(d.get("sni"), "ftp.test")
	p.tlsCfg = &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: []string{"ftp"}, ClientSessionCache: &p.cache}
	if cn := d.get("clientcert"); cn != "" {
		p.tlsCfg.Certificates = []tls.Certificate{testCert(t, cn)}
	}
	if d.get("tls") == "implicit" {
		p.startTLS()
	}
	if d.get("refuse") == "" {
		p.begin()
	}
	for _, p.at = range d.steps {
		p.step()
	}
	if p.held != nil {
		p.fail("an unexpected reply is left: %d %s", p.held.Code, p.held.Text)
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (p *player) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s:%d: %s %s: %s", p.d.file, p.at.line, p.at.verb, p.at.arg, fmt.Sprintf(format, args...))
}

// begin reads the greeting and logs in.
func (p *player) begin() {
	p.expect("220")
	user, pass := "ann", "secret"
	if *targetAddr != "" {
		user, pass = *targetUser, *targetPass
	}
	switch l := p.d.get("login"); l {
	case "no":
		return
	case "":
	default:
		user = l
	}
	if p.d.get("tls") == "required" {
		p.command("AUTH TLS")
		p.expect("234")
		p.startTLS()
	}
	p.command("USER " + user)
	p.expect("230|331")
	if p.last.Code == 331 {
		p.command("PASS " + pass)
		p.expect("230")
	}
	if p.d.get("type") != "no" {
		p.command("TYPE I")
		p.expect("200")
	}
}

func (p *player) step() {
	switch a := p.at.arg; p.at.verb {
	case "C:":
		p.flushData()
		p.command(p.unescape(a))
	case "C+":
		p.write(p.unescape(a))
	case "S:":
		p.flushData()
		p.expect(a)
	case "S?":
		r := p.next()
		if code, _, _ := strings.Cut(a, " "); !p.matches("^(?:"+code+")$", strconv.Itoa(r.Code)) {
			p.held = &r
			return
		}
		p.last = r
	case "S~", "S!":
		found := false
		for _, l := range append(slices.Clone(p.last.Lines), p.last.Text) {
			found = found || p.matches(a, l)
		}
		if found != (p.at.verb == "S~") {
			p.fail("lines of the reply: %q, %q", p.last.Lines, p.last.Text)
		}
	case "D>":
		c := p.dataConn()
		if _, err := c.Write([]byte(p.unescape(a))); err != nil {
			p.fail("%v", err)
		}
	case "D<":
		p.got += p.unescape(a)
		if p.got == "" {
			p.got = "\x00empty"
		}
	case "D<~":
		data, err := io.ReadAll(p.dataConn())
		if err != nil {
			p.fail("%v", err)
		}
		p.dropData()
		if !p.matches(a, string(data)) {
			p.fail("received %q", clip(string(data)))
		}
	case "D!":
		c := p.dataConn()
		if tc, ok := c.(*tls.Conn); ok {
			tc.CloseWrite()
			io.Copy(io.Discard, tc)
		}
		p.dropData()
	case "DX":
		p.dataConn()
		if tc, ok := p.data.raw.(*net.TCPConn); ok {
			tc.SetLinger(0)
		}
		p.data.raw.Close()
		p.data = nil
	case "DERR":
		p.dataBreaks()
	case "NODATA":
		p.noData = true
	case "FRESH":
		p.fresh = true
	case "PLAINDATA":
		p.prot = false
	case "DFIN":
		p.dataConn()
		p.data.raw.(*net.TCPConn).CloseWrite() // without close_notify
		io.Copy(io.Discard, p.data.raw)
		p.dropData()
	case "URGENT":
		sendUrgent(p.t, p.raw, p.unescape(a))
	case "TLS":
		p.startTLS()
	case "CLEAR":
		p.clear()
	case "CLOSED":
		p.raw.SetReadDeadline(time.Now().Add(dialogPatience))
		if b, err := io.ReadAll(p.br); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			p.fail("the connection is open: %q, %v", b, err)
		}
	case "FILE":
		name, want, _ := strings.Cut(a, " ")
		if p.b == nil {
			return
		}
		if got, ok := p.b.Content(name); !ok || got != p.unescape(want) {
			p.fail("the file is %q, exists: %v", clip(got), ok)
		}
	case "GONE":
		if p.b == nil {
			return
		}
		if _, ok := p.b.Content(a); ok {
			p.fail("the file exists")
		}
	default:
		p.fail("unknown step")
	}
}

func (p *player) matches(expr, s string) bool {
	re, err := regexp.Compile(expr)
	if err != nil {
		p.fail("%v", err)
	}
	return re.MatchString(s)
}

func unescape(s string) (string, error) {
	return strconv.Unquote(`"` + strings.ReplaceAll(strings.ReplaceAll(s, `\0`, `\x00`), `"`, `\"`) + `"`)
}

func (p *player) unescape(s string) string {
	u, err := unescape(s)
	if err != nil {
		p.fail("%v", err)
	}
	return u
}

func (p *player) write(s string) {
	p.raw.SetWriteDeadline(time.Now().Add(dialogPatience))
	if _, err := io.WriteString(p.conn, s); err != nil {
		p.fail("%v", err)
	}
}

// command sends a line and does what a client has to do with it.
func (p *player) command(line string) {
	if strings.Contains(line, "$PORT") || strings.Contains(line, "$EPRT") {
		local := addrPort(p.raw.LocalAddr())
		ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(local.Addr(), 0)))
		if err != nil {
			p.fail("%v", err)
		}
		p.forget()
		p.ln = ln
		ap := addrPort(ln.Addr())
		line = strings.NewReplacer("$PORT", FormatPort(ap), "$EPRT", FormatEPRT(ap)).Replace(line)
	}
	verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
	prepared := p.addr != "" || p.ln != nil
	switch verb {
	case "RETR", "STOR", "STOU", "APPE", "LIST", "NLST", "MLSD":
		if prepared && !p.noData {
			p.write(line + "\r\n")
			p.openData()
			return
		}
		p.noData = false
	}
	p.write(line + "\r\n")
}

func (p *player) next() Reply {
	if r := p.held; r != nil {
		p.held = nil
		return *r
	}
	p.raw.SetReadDeadline(time.Now().Add(dialogPatience))
	r, err := readReply(p.br, nil)
	if err != nil {
		p.fail("no reply: %v", err)
	}
	return r
}

func (p *player) expect(want string) {
	r := p.next()
	p.last = r
	code, text, hasText := strings.Cut(want, " ")
	if !p.matches("^(?:"+code+")$", strconv.Itoa(r.Code)) {
		p.fail("got %d %s %q", r.Code, r.Text, r.Lines)
	}
	re, isRE := strings.CutPrefix(text, "~")
	switch {
	case isRE && !p.matches(re, r.Text), hasText && !isRE && r.Text != text:
		p.fail("got %d %s", r.Code, r.Text)
	}
	switch r.Code {
	case 227:
		ap, err := ParsePASVReply(r.Text)
		if err != nil {
			p.fail("%v", err)
		}
		p.forget()
		p.addr = ap.String()
	case 229:
		port, err := ParseEPSVReply(r.Text)
		if err != nil {
			p.fail("%v", err)
		}
		p.forget()
		p.addr = netip.AddrPortFrom(addrPort(p.raw.RemoteAddr()).Addr(), port).String()
	case 220:
		p.prot = false
	case 200:
		if strings.HasPrefix(strings.ToUpper(p.prev()), "PROT ") {
			p.prot = strings.EqualFold(p.prev(), "PROT P")
		}
	}
}

// prev is the last command of the dialog.
func (p *player) prev() string {
	last := ""
	for _, s := range p.d.steps {
		if s.line >= p.at.line {
			break
		}
		if s.verb == "C:" {
			last = s.arg
		}
	}
	return last
}

func (p *player) startTLS() {
	t := tls.Client(p.raw, p.tlsCfg)
	p.raw.SetDeadline(time.Now().Add(dialogPatience))
	if err := t.Handshake(); err != nil {
		p.fail("TLS: %v", err)
	}
	p.conn = t
	p.br.Reset(t)
}

// clear ends TLS on the control connection, as CCC asks. The server's
// close_notify is a record of its own, and nothing may follow it yet.
func (p *player) clear() {
	t := p.conn.(*tls.Conn)
	if n, err := p.br.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		p.fail("no close_notify after CCC: %v", err)
	}
	t.CloseWrite()
	p.conn = p.raw
	p.br.Reset(p.raw)
}

// forget drops an announced but unused data connection.
func (p *player) forget() {
	if p.ln != nil {
		p.ln.Close()
	}
	p.ln, p.addr = nil, ""
}

func (p *player) openData() {
	d := &playerData{ready: make(chan struct{})}
	ln, addr, prot, fresh := p.ln, p.addr, p.prot, p.fresh
	p.ln, p.addr, p.data = nil, "", d
	go func() {
		defer close(d.ready)
		if ln != nil {
			ln.(*net.TCPListener).SetDeadline(time.Now().Add(dialogPatience))
			d.raw, d.err = ln.Accept()
			ln.Close()
		} else {
			d.raw, d.err = net.DialTimeout("tcp", addr, dialogPatience)
		}
		if d.conn = d.raw; d.err != nil {
			return
		}
		d.raw.SetDeadline(time.Now().Add(dialogPatience))
		if !prot {
			return
		}
		cfg := p.tlsCfg.Clone()
		cfg.ClientSessionCache = readOnlySessions{&p.cache}
		if fresh {
			cfg.ClientSessionCache = nil
		}
		t := tls.Client(d.raw, cfg)
		d.err, d.conn = t.Handshake(), t
	}()
}

func (p *player) dataConn() net.Conn {
	if p.data == nil {
		p.fail("no data connection was set up")
	}
	<-p.data.ready
	if p.data.err != nil {
		p.fail("data connection: %v", p.data.err)
	}
	return p.data.conn
}

// dataBreaks expects an error, or an end without a byte. In TLS 1.3 a refusal
// of the server arrives after the client's handshake.
func (p *player) dataBreaks() {
	if p.data == nil {
		p.fail("no data connection was set up")
	}
	<-p.data.ready
	if p.data.err == nil {
		n, err := p.data.conn.Read(make([]byte, 1))
		if n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			p.fail("the data connection works: %d bytes, %v", n, err)
		}
	}
	p.dropData()
}

// flushData compares what D< lines have promised.
func (p *player) flushData() {
	if p.got == "" {
		return
	}
	want := strings.TrimPrefix(p.got, "\x00empty")
	p.got = ""
	data, err := io.ReadAll(p.dataConn())
	if err != nil {
		p.fail("data: %v", err)
	}
	if string(data) != want {
		p.fail("received %q, want %q", clip(string(data)), clip(want))
	}
	p.dropData()
}

func (p *player) dropData() {
	if p.data == nil {
		return
	}
	<-p.data.ready
	if p.data.raw != nil {
		p.data.raw.Close()
	}
	p.data = nil
}

var testPorts = &PortRange{First: 20000, Last: 29999}

// serve starts this package's server as the config section says.
func (p *player) serve() string {
	d, b := p.d, newMemBackend()
	p.b = b
	for _, f := range d.files {
		b.File(f.Name, f.Data)
	}
	for _, z := range d.config["zeros"] {
		name, n, _ := strings.Cut(z, ":")
		b.Zeros(name, p.number(n))
	}
	for _, n := range d.config["dir"] {
		b.Dir(n)
	}
	b.Anonymous, b.CertUser, b.Hosts = d.get("anonymous") == "yes", d.get("clientcert"), d.config["host"]
	b.Quota, b.Disk, b.Plain, b.Refuse = p.number(d.get("quota")), p.number(d.get("disk")), d.get("plain") == "yes", d.get("refuse")
	cfg := Config{Backend: b, Passive: testPorts, DataTimeout: p.duration("datatime", 5*time.Second), IdleTimeout: p.duration("idle", time.Minute),
		LoginTimeout: p.duration("logintime", time.Minute), StallTimeout: p.duration("stall", time.Minute),
		MaxLine: int(p.number(d.get("maxline"))), MaxFailures: int(p.number(d.get("maxfailures"))), NoActive: d.get("active") == "off", AllowCCC: d.get("ccc") == "yes"}
	switch v := d.get("passive"); v {
	case "":
	case "off":
		cfg.Passive = nil
	default:
		cfg.PassiveAddress = func(*Conn) netip.Addr { return netip.MustParseAddr(v) }
	}
	switch d.get("tls") {
	case "off":
		cfg.ControlTLS = TLSOff
	case "required":
		cfg.ControlTLS = TLSRequired
	case "implicit":
		cfg.Implicit = true
	}
	if d.get("tls") != "" && d.get("tls") != "off" {
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{testCert(p.t, "ftp.test")}, NextProtos: []string{"ftp"}, ClientAuth: tls.RequestClientCert}
	}
	if d.get("data") == "required" {
		cfg.DataTLS = TLSRequired
	}
	switch d.get("bind") {
	case "require":
		cfg.Binding = BindRequire
	case "off":
		cfg.Binding = BindOff
	}
	at := "127.0.0.1:0"
	if d.get("ip") == "6" {
		at = "[::1]:0"
	}
	ln, err := net.Listen("tcp", at)
	if err != nil {
		p.t.Fatal(err)
	}
	srv := &Server{Config: cfg}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	p.t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, ErrServerClosed) {
			p.t.Errorf("Serve: %v", err)
		}
		if n := b.Open(); n != 0 {
			p.t.Errorf("%d sessions of the backend were not closed", n)
		}
	})
	return ln.Addr().String()
}

func (p *player) number(s string) int64 {
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		p.t.Fatalf("%s: %v", p.d.file, err)
	}
	return n
}

func (p *player) duration(key string, def time.Duration) time.Duration {
	v := p.d.get(key)
	if v == "" {
		return def
	}
	dur, err := time.ParseDuration(v)
	if err != nil {
		p.t.Fatalf("%s: %v", p.d.file, err)
	}
	return dur
}

// upload brings a foreign server's home directory into the dialog's initial
// state; what was there before is removed.
func (p *player) upload(addr string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := Dial(ctx, addr, ClientOptions{Timeout: 20 * time.Second})
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	check := func(err error) {
		p.t.Helper()
		if err != nil {
			p.t.Fatalf("preparing %s: %v", addr, err)
		}
	}
	check(c.Login(ctx, *targetUser, *targetPass))
	home, err := c.WorkingDir(ctx)
	check(err)
	emptyDir(ctx, c, home)
	made := map[string]bool{}
	mkdirs := func(name string) {
		for i, r := range strings.TrimPrefix(name, "/") {
			if d := name[1 : i+1]; r == '/' && !made[d] {
				made[d] = true
				c.Mkdir(ctx, path.Join(home, d))
			}
		}
	}
	for _, f := range p.d.files {
		mkdirs(f.Name)
		_, err := c.Store(ctx, path.Join(home, f.Name), strings.NewReader(f.Data), 0)
		check(err)
	}
	for _, z := range p.d.config["zeros"] {
		name, n, _ := strings.Cut(z, ":")
		mkdirs(name)
		_, err := c.Store(ctx, path.Join(home, name), io.LimitReader(zeroReader{}, p.number(n)), 0)
		check(err)
	}
	for _, n := range p.d.config["dir"] {
		mkdirs(n + "/")
	}
	c.Quit(ctx)
}

func emptyDir(ctx context.Context, c *Client, dir string) {
	var all []Entry
	for e, err := range c.List(ctx, dir) {
		if err != nil {
			break
		}
		all = append(all, e)
	}
	for _, e := range all {
		name := path.Join(dir, path.Base(e.Name))
		if e.IsDir() {
			emptyDir(ctx, c, name)
			c.Rmdir(ctx, name)
		} else {
			c.Remove(ctx, name)
		}
	}
}

var (
	testCertsMu sync.Mutex
	testCerts   = map[string]tls.Certificate{}
)

// testCert makes a self-signed certificate, once for each name.
func testCert(t *testing.T, name string) tls.Certificate {
	t.Helper()
	testCertsMu.Lock()
	defer testCertsMu.Unlock()
	if c, ok := testCerts[name]; ok {
		return c
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	c.Leaf, _ = x509.ParseCertificate(der)
	testCerts[name] = c
	return c
}
