package ftp

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

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
