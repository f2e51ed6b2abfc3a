package doctor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// SSHKey is a host key that the server has shown.
type SSHKey struct {
	Type        string `json:"type"`
	Bits        int    `json:"bits,omitempty"` // RSA
	Fingerprint string `json:"fingerprint"`    // SHA256:...
	SSHFP       string `json:"sshfp"`          // record for the DNS, RFC 4255
	Known       string `json:"known,omitempty"`

	key ssh.PublicKey
}

// SSH is what an SSH server shows and offers.
type SSH struct {
	Addr     string   `json:"address"`
	Version  string   `json:"version"` // its identification, RFC 4253 section 4.2
	Keys     []SSHKey `json:"host_keys"`
	Kex      []string `json:"key_exchanges"`
	HostKeys []string `json:"host_key_algorithms"`
	Ciphers  []string `json:"ciphers"`
	MACs     []string `json:"macs"`
	Auth     []string `json:"auth_methods,omitempty"` // for the user that was given; nil: not known
	Login    string   `json:"login,omitempty"`        // "ok", or why there was none
	Transfer string   `json:"transfer,omitempty"`     // what was listed, or stored and read back

	addr netip.AddrPort
}

// greetingWait is how long an SSH server may take until it greets: some look
// names up first. A third of it goes by before we speak.
func (c *Client) greetingWait() time.Duration { return min(2*c.opt.Timeout, bannerWait) }

// examineSSH is Examine for sftp://.
func (c *Client) examineSSH(ctx context.Context, u *url.URL) {
	c.ctx = ctx
	c.port = 22
	if p := u.Port(); p != "" {
		fmt.Sscan(p, &c.port)
	}
	c.say("looking up %s", c.host)
	if !c.resolve(ctx) {
		return
	}
	c.local = readRules(ctx, c.opt.Rules)
	for _, a := range c.addrs {
		d := c.lookSSH(ctx, a)
		c.rep.Doors = append(c.rep.Doors, d)
		if d.Says != "ssh" {
			c.rep.Findings = append(c.rep.Findings, c.wrongDoor(d)...)
			continue
		}
		if c.rep.Product == "" {
			c.rep.Product = d.Banner
		}
		s, fs := c.probeSSH(ctx, netip.AddrPortFrom(a, c.port), true)
		c.rep.SSH = append(c.rep.SSH, s)
		c.rep.Findings = append(c.rep.Findings, fs...)
	}
	dead := func(d Door) bool { return d.Says != "ssh" }
	if slices.ContainsFunc(c.rep.Doors, dead) && !slices.ContainsFunc(c.rep.Doors, func(d Door) bool { return !dead(d) }) {
		c.traces(ctx)
	}
}

// besides looks at an SSH server that was found beside an FTP one. Whatever it
// lacks is a note: it is not what was asked about.
func (c *Client) besides(ctx context.Context) {
	for _, d := range c.rep.Doors {
		if d.Says != "ssh" || d.port != 22 {
			continue
		}
		s, fs := c.probeSSH(ctx, netip.AddrPortFrom(d.addr, d.port), c.opt.KnownHosts != "")
		c.rep.SSH = append(c.rep.SSH, s)
		for _, f := range fs {
			f.Severity = Note
			c.rep.Findings = append(c.rep.Findings, f)
		}
		return // one address is enough to tell
	}
}

// lookSSH connects once, reads what is said first, and speaks when nothing is.
func (c *Client) lookSSH(ctx context.Context, a netip.Addr) Door {
	d := Door{Family: way{addr: a}.family(), Addr: netip.AddrPortFrom(a, c.port).String(), Says: "silent", addr: a, port: c.port}
	c.say("looking at port %d of %s", c.port, a)
	begin := time.Now()
	nc, err := (&net.Dialer{Timeout: c.opt.Timeout, KeepAlive: -1}).DialContext(ctx, "tcp", d.Addr)
	d.Took = time.Since(begin)
	if err != nil {
		var p Probe
		p.fail(err, &recording{})
		d.Outcome, d.Error, d.Says = p.Outcome, p.Error, ""
		return d
	}
	defer nc.Close()
	d.Outcome = OK
	buf := make([]byte, 512)
	read := func(wait time.Duration) (string, error) {
		nc.SetReadDeadline(time.Now().Add(wait))
		n, err := nc.Read(buf)
		return string(buf[:n]), err
	}
	first, err := read(c.greetingWait() / 3)
	if first == "" && isTimeout(err) { // HTTP and TLS wait for us, and answer nonsense with their own kind of error
		io.WriteString(nc, "SSH-2.0-portreeve_doctor\r\n")
		first, err = read(c.greetingWait() * 2 / 3)
	}
	line, _, _ := strings.Cut(first, "\n")
	d.Banner = strings.ToValidUTF8(strings.TrimSpace(line), "?")
	switch {
	case strings.HasPrefix(first, "SSH-"):
		d.Says = "ssh"
	case (strings.HasPrefix(first, "220") || strings.HasPrefix(first, "120") || strings.HasPrefix(first, "421")) && !strings.Contains(first, "SMTP"):
		d.Says = "ftp" // mail greets with the same code
	case strings.HasPrefix(first, "\x15\x03"), strings.HasPrefix(first, "\x16\x03"):
		d.Says, d.Banner = "tls", "a TLS alert"
	case first != "":
		d.Says = "other"
	case err != nil && !isTimeout(err):
		d.Says = "closed"
	}
	return d
}

// wrongDoor explains a port that is not SSH's.
func (c *Client) wrongDoor(d Door) []Finding {
	switch {
	case d.Outcome != OK:
		return c.sshDead(d)
	case d.Says == "ftp":
		f := finding("WRONG_DOOR", Error, c.fill(), "port %d speaks FTP (%s): SFTP is another protocol, over SSH, usually on port 22", d.port, d.Banner)
		f.Fix = fmt.Sprintf("use ftp://%s:%d for this port, or the port of the server's SSH", c.host, d.port)
		return []Finding{f}
	case d.Says == "tls":
		f := finding("WRONG_DOOR", Error, c.fill(), "port %d waits for TLS from the first byte: implicit FTPS or HTTPS, not SSH", d.port)
		f.Fix = fmt.Sprintf("if it is implicit FTPS, use ftps://%s:%d; SFTP is usually on port 22", c.host, d.port)
		return []Finding{f}
	case d.Says == "other":
		return []Finding{finding("NOT_SSH", Error, c.fill(), "port %d answers %q", d.port, d.Banner)}
	case d.Says == "closed":
		f := finding("CONTROL_BLOCKED", Error, c.fill(), "port %d accepts the connection and closes it without a word", d.port)
		f.Could = []string{"CLIENT_BANNED", "BUSY", "PROXY_MISSING", "LB_WRONG_NODE"}
		return []Finding{f}
	}
	f := finding("PROXY_MISSING", Error, c.fill(), "port %d accepts the connection and says nothing, before and after our greeting", d.port)
	f.Could = []string{"PROXY_MISSING", "NOT_SSH", "MTU_BLACKHOLE"}
	return []Finding{f}
}

// sshDead explains an SSH port that cannot be connected to.
func (c *Client) sshDead(d Door) []Finding {
	if why, yes := c.local.blocks(true, !d.addr.Is4(), d.port); yes {
		f := finding("CLIENT_FW_OUT_21", Error, c.fill(), "this computer's own firewall stops connections to port %d: %s", d.port, why)
		f.Box = "client"
		return []Finding{f}
	}
	f := finding("CONTROL_BLOCKED", Error, c.fill(), "port %d of %s does not answer (%s)", d.port, d.addr, d.Outcome)
	switch d.Outcome {
	case Refused:
		f.Cause = fmt.Sprintf("port %d of %s refuses connections: nothing listens there, or a router in front says no", d.port, d.addr)
		f.Could = []string{"NOT_RUNNING", "BIND_ADDR", "CONTROL_NOT_FORWARDED"}
	case Unreachable:
		f.Cause = fmt.Sprintf("there is no way to %s: %s", d.addr, d.Error)
		f.Could = []string{"SERVER_ROUTE", "CLIENT_NO_V4", "CONTROL_NOT_FORWARDED"}
	default:
		f.Could = []string{"SERVER_FW_RANGE", "CONTROL_NOT_FORWARDED", "CLIENT_FW_OUT_21", "CLIENT_BANNED", "CGNAT", "DOUBLE_NAT"}
	}
	f.Severity = Error
	if len(c.addrs) > 1 && !d.addr.Is4() {
		f.Severity = Warning // clients fall back to IPv4
	}
	return []Finding{f}
}

// offer reads identification and KEXINIT, which come in the clear (RFC 4253
// sections 4.2 and 7.1).
func offer(nc net.Conn) (version string, lists [10][]string, err error) {
	if _, err = io.WriteString(nc, "SSH-2.0-portreeve_doctor\r\n"); err != nil {
		return "", lists, err
	}
	r := bufio.NewReaderSize(nc, 36<<10)
	for range 50 { // lines before the identification are permitted
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", lists, fmt.Errorf("no identification: %w", err)
		}
		if bytes.HasPrefix(line, []byte("SSH-")) {
			version = strings.TrimSpace(string(line))
			break
		}
	}
	switch {
	case version == "":
		return "", lists, errors.New("no identification in 50 lines")
	case !strings.HasPrefix(version, "SSH-2.0-") && !strings.HasPrefix(version, "SSH-1.99-"):
		return version, lists, errors.New("this is not version 2")
	}
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return version, lists, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 17+1 || n > 35000 {
		return version, lists, fmt.Errorf("a packet of %d octets where the algorithms should be", n)
	}
	p := make([]byte, n-1)
	if _, err := io.ReadFull(r, p); err != nil {
		return version, lists, err
	}
	if p[0] != 20 { // SSH_MSG_KEXINIT
		return version, lists, fmt.Errorf("message %d where the algorithms should be", p[0])
	}
	p = p[17:]
	for i := range lists {
		if len(p) < 4 || uint32(len(p)-4) < binary.BigEndian.Uint32(p) {
			return version, lists, errors.New("the list of algorithms is cut short")
		}
		end := 4 + binary.BigEndian.Uint32(p)
		if end > 4 {
			lists[i] = strings.Split(string(p[4:end]), ",")
		}
		p = p[end:]
	}
	return version, lists, nil
}

// errSeen ends a handshake that was only to show a key.
var errSeen = errors.New("doctor: key seen")

// sshConfig accepts everything old, to see it; secrets go nowhere before the
// key is known.
func (c *Client) sshConfig(key func(string, net.Addr, ssh.PublicKey) error) *ssh.ClientConfig {
	all, old := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	return &ssh.ClientConfig{User: c.opt.User, ClientVersion: "SSH-2.0-portreeve_doctor", HostKeyCallback: key, Timeout: c.opt.Timeout,
		HostKeyAlgorithms: append(slices.Clone(all.HostKeys), old.HostKeys...),
		Config: ssh.Config{KeyExchanges: append(slices.Clone(all.KeyExchanges), old.KeyExchanges...),
			Ciphers: append(slices.Clone(all.Ciphers), old.Ciphers...), MACs: append(slices.Clone(all.MACs), old.MACs...)}}
}

// shake does one handshake, with a log-in as far as cfg has methods.
func (c *Client) shake(ctx context.Context, at netip.AddrPort, cfg *ssh.ClientConfig) (*ssh.Client, error) {
	nc, err := (&net.Dialer{Timeout: c.opt.Timeout, KeepAlive: -1}).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(max(c.opt.Timeout, bannerWait)))
	sc, chans, reqs, err := ssh.NewClientConn(nc, net.JoinHostPort(c.host, fmt.Sprint(at.Port())), cfg)
	if err != nil {
		nc.Close()
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(4 * max(c.opt.Timeout, bannerWait)))
	return ssh.NewClient(sc, chans, reqs), nil
}

// probeSSH looks at one SSH server; login says whether to try it with the
// account that was given.
func (c *Client) probeSSH(ctx context.Context, at netip.AddrPort, login bool) (SSH, []Finding) {
	s := SSH{Addr: at.String(), addr: at, Keys: []SSHKey{}}
	c.say("SSH: what %s offers", at)
	nc, err := (&net.Dialer{Timeout: c.opt.Timeout, KeepAlive: -1}).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return s, []Finding{finding("SSH_HANDSHAKE", Error, c.fill(), "the second connection to %s fails: %v", at, err)}
	}
	nc.SetDeadline(time.Now().Add(max(c.opt.Timeout, bannerWait)))
	version, lists, err := offer(nc)
	nc.Close()
	s.Version, s.Kex, s.HostKeys, s.Ciphers, s.MACs = version, lists[0], lists[1], union(lists[2], lists[3]), union(lists[4], lists[5])
	if err != nil {
		return s, c.judgeOffer(&s, err)
	}
	for _, alg := range s.HostKeys {
		if ctx.Err() != nil || strings.Contains(alg, "-cert-") || slices.ContainsFunc(s.Keys, func(k SSHKey) bool { return sameKind(k.Type, alg) }) {
			continue
		}
		if k, ok := c.hostKey(ctx, at, alg); ok {
			s.Keys = append(s.Keys, k)
		}
	}
	known := c.compareKeys(&s)
	c.methods(ctx, &s)
	out := c.judgeSSH(&s)
	if login {
		out = append(out, c.loginSSH(ctx, &s, known)...)
	}
	return s, out
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, x := range b {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

// sameKind reports whether an algorithm shows a key of a type: RSA keys have
// several algorithms.
func sameKind(keyType, alg string) bool {
	return keyType == alg || keyType == ssh.KeyAlgoRSA && strings.HasPrefix(alg, "rsa-sha2-")
}

// hostKey makes the server prove one key, and logs in nowhere.
func (c *Client) hostKey(ctx context.Context, at netip.AddrPort, alg string) (k SSHKey, ok bool) {
	cfg := c.sshConfig(func(_ string, _ net.Addr, key ssh.PublicKey) error {
		sum := sha256.Sum256(key.Marshal())
		k = SSHKey{Type: key.Type(), Fingerprint: ssh.FingerprintSHA256(key), key: key}
		if kind := sshfpKinds[key.Type()]; kind != 0 {
			k.SSHFP = fmt.Sprintf("%s. IN SSHFP %d 2 %s", strings.TrimSuffix(c.host, "."), kind, hex.EncodeToString(sum[:]))
		}
		if ck, is := key.(ssh.CryptoPublicKey); is {
			if r, is := ck.CryptoPublicKey().(*rsa.PublicKey); is {
				k.Bits = r.N.BitLen()
			}
		}
		return errSeen
	})
	cfg.HostKeyAlgorithms = []string{alg}
	_, err := c.shake(ctx, at, cfg)
	return k, k.key != nil && err != nil
}

// sshfpKinds are the numbers of RFC 4255, 6594 and 7479.
var sshfpKinds = map[string]int{ssh.KeyAlgoRSA: 1, "ssh-dss": 2, ssh.KeyAlgoECDSA256: 3, ssh.KeyAlgoECDSA384: 3, ssh.KeyAlgoECDSA521: 3, ssh.KeyAlgoED25519: 4}

// compareKeys looks the keys up in the file of known hosts; known reports that
// at least one is in it and none contradicts.
func (c *Client) compareKeys(s *SSH) (known bool) {
	if c.opt.KnownHosts == "" {
		return false
	}
	check, err := knownhosts.New(c.opt.KnownHosts)
	if err != nil {
		c.rep.Notes = append(c.rep.Notes, fmt.Sprintf("the file of known hosts cannot be used: %v", err))
		return false
	}
	bad := false
	for i := range s.Keys {
		k := &s.Keys[i]
		err := check(net.JoinHostPort(c.host, fmt.Sprint(s.addr.Port())), net.TCPAddrFromAddrPort(s.addr), k.key)
		var ke *knownhosts.KeyError
		var re *knownhosts.RevokedError
		switch {
		case err == nil:
			k.Known, known = "yes", true
		case errors.As(err, &re):
			k.Known, bad = "revoked", true
		case errors.As(err, &ke) && slices.ContainsFunc(ke.Want, func(w knownhosts.KnownKey) bool { return w.Key.Type() == k.Type }):
			k.Known, bad = "changed", true
		default:
			k.Known = "no"
		}
	}
	return known && !bad
}

// methods finds out how the user may log in, without trying to: each kind is
// asked for once and given up as soon as the server wants it.
func (c *Client) methods(ctx context.Context, s *SSH) {
	seen := func(string, net.Addr, ssh.PublicKey) error { return nil } // nothing secret is sent
	for _, m := range []struct {
		name string
		auth func(*bool) ssh.AuthMethod
	}{
		{"publickey", func(hit *bool) ssh.AuthMethod {
			return ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { *hit = true; return nil, errSeen })
		}},
		{"password", func(hit *bool) ssh.AuthMethod {
			return ssh.PasswordCallback(func() (string, error) { *hit = true; return "", errSeen })
		}},
		{"keyboard-interactive", func(hit *bool) ssh.AuthMethod {
			return ssh.KeyboardInteractive(func(string, string, []string, []bool) ([]string, error) { *hit = true; return nil, errSeen })
		}},
	} {
		var hit bool
		cfg := c.sshConfig(seen)
		cfg.Auth = []ssh.AuthMethod{m.auth(&hit)}
		cl, err := c.shake(ctx, s.addr, cfg)
		if err == nil { // the server asks for nothing
			cl.Close()
			s.Auth = append(s.Auth, "none")
			return
		}
		if hit {
			s.Auth = append(s.Auth, m.name)
		}
	}
}

// loginSSH logs in and moves a little, if that is safe.
func (c *Client) loginSSH(ctx context.Context, s *SSH, known bool) []Finding {
	switch {
	case c.opt.Password == "" || c.opt.User == "anonymous":
		s.Login = "not tried: no account was given (--user, --password-stdin)"
		return nil
	case !known && !c.opt.Insecure:
		s.Login = "not tried: the host key is not verified"
		c.rep.Notes = append(c.rep.Notes, "the password was not sent, because nothing says that the host key is the server's: compare the fingerprints, and give --known-hosts FILE, or --insecure")
		return nil
	}
	c.say("SSH: logging in to %s", s.addr)
	cfg := c.sshConfig(func(_ string, _ net.Addr, key ssh.PublicKey) error {
		for _, k := range s.Keys { // the key that was compared, and no other now
			if bytes.Equal(k.key.Marshal(), key.Marshal()) && (k.Known == "yes" || c.opt.Insecure) {
				return nil
			}
		}
		return errors.New("another host key than a moment ago")
	})
	if !c.opt.Insecure {
		cfg.HostKeyAlgorithms = slices.DeleteFunc(cfg.HostKeyAlgorithms, func(alg string) bool {
			return !slices.ContainsFunc(s.Keys, func(k SSHKey) bool { return k.Known == "yes" && sameKind(k.Type, alg) })
		})
	}
	cfg.Auth = []ssh.AuthMethod{ssh.Password(c.opt.Password), ssh.KeyboardInteractive(func(_, _ string, questions []string, echo []bool) ([]string, error) {
		answers := make([]string, len(questions))
		for i := range answers {
			if !echo[i] {
				answers[i] = c.opt.Password
			}
		}
		return answers, nil
	})}
	cl, err := c.shake(ctx, s.addr, cfg)
	if err != nil {
		s.Login = err.Error()
		if !slices.Contains(s.Auth, "password") && !slices.Contains(s.Auth, "keyboard-interactive") {
			return []Finding{finding("SSH_AUTH", Error, c.fill(), "user %s cannot use a password: the server offers %s", c.opt.User, orNothing(s.Auth))}
		}
		return []Finding{finding("LOGIN", Error, c.fill(), "SSH, user %s: %v", c.opt.User, err)}
	}
	defer cl.Close()
	s.Login = "ok"
	return c.moveSSH(cl, s)
}

// moveSSH lists the first directory, and with Write stores a file and reads it back.
func (c *Client) moveSSH(cl *ssh.Client, s *SSH) []Finding {
	f, err := sftp.NewClient(cl)
	if err != nil {
		return []Finding{finding("SFTP_OFF", Error, c.fill(), "the log-in works; the sftp subsystem does not: %v", err)}
	}
	defer f.Close()
	files, err := f.ReadDir(".")
	if err != nil {
		return []Finding{finding("LIST_FAILED", Error, c.fill(), "SFTP: %v", err)}
	}
	s.Transfer = fmt.Sprintf("%d names listed", len(files))
	if !c.opt.Write {
		return nil
	}
	id := make([]byte, 6)
	rand.Read(id)
	name := "portreeve-doctor-" + hex.EncodeToString(id) + ".tmp"
	data := bytes.Repeat([]byte("0123456789abcdef"), testSize/16)
	if err := c.roundTrip(f, name, data); err != nil {
		return []Finding{c.wrote("moving", err, 0)}
	}
	s.Transfer += fmt.Sprintf(", %d KiB stored and read back", testSize>>10)
	return nil
}

func (c *Client) roundTrip(f *sftp.Client, name string, data []byte) error {
	w, err := f.Create(name)
	if err != nil {
		return err
	}
	defer f.Remove(name)
	if _, err := w.Write(data); err != nil {
		w.Close()
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	r, err := f.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(io.LimitReader(r, int64(len(data))+1))
	if err == nil && !bytes.Equal(got, data) {
		err = errors.New("other bytes came back than were stored")
	}
	return err
}
