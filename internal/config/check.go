package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// checker fills derived values and finds values that make no sense.
type checker struct {
	c       *Config
	earlier Errors // of decoding; a key that is already wrong is not judged again
	errs    Errors
}

func (c *Config) finish(earlier Errors) Errors {
	k := &checker{c: c, earlier: earlier}
	k.paths(reflect.ValueOf(c).Elem(), "")
	k.listeners()
	k.ftp()
	k.tls()
	p := c.Crypto()
	c.CryptoPolicy, c.TLS.MinVersion = p.Name, p.MinVersion
	k.acme()
	k.security()
	k.rest()
	k.audit()
	k.hooks()
	k.tasks()
	if len(earlier)+len(k.errs) == 0 {
		k.warn()
	}
	return k.errs
}

// at finds the best place to blame for key: itself or the table it is missing from.
func (k *checker) at(key string) Error {
	e := Error{File: k.c.src.file, Key: plainKey(key)}
	if o := k.c.src.origin[key]; o != "" {
		_, e.File, _ = strings.Cut(o, " ") // "env NAME", "flag --name"
		return e
	}
	for p := key; p != ""; {
		if at, ok := k.c.src.at[p]; ok {
			e.Line, e.Col = at.line, at.col
			break
		}
		p = p[:max(0, strings.LastIndexByte(p, '.'))]
	}
	return e
}

func (k *checker) fail(key, format string, args ...any) {
	e := k.at(key)
	e.Text = fmt.Sprintf(format, args...)
	for _, o := range k.earlier {
		if o.Key == e.Key && o.Line == e.Line && o.File == e.File {
			return
		}
	}
	k.errs = append(k.errs, e)
}

func (k *checker) warning(key, format string, args ...any) {
	e := k.at(key)
	e.Text = fmt.Sprintf(format, args...)
	k.c.src.warnings = append(k.c.src.warnings, e)
}

// paths makes every path absolute: those of the file start at its directory,
// those of environment and flags at the working directory.
func (k *checker) paths(v reflect.Value, prefix string) {
	for _, f := range fields(v.Type()) {
		key, fv := join(prefix, f.name), v.Field(f.index)
		switch shapeOf(f.typ) {
		case table:
			k.paths(fv, key)
		case tables:
			for i := range fv.Len() {
				k.paths(fv.Index(i), fmt.Sprintf("%s[%d]", key, i))
			}
		case scalar:
			if f.path != "" && fv.String() != "" {
				k.path(fv, &f, key)
			}
		}
	}
}

func (k *checker) path(v reflect.Value, f *field, key string) {
	p := v.String()
	if strings.ContainsRune(p, 0) {
		k.fail(key, "a path cannot contain a zero byte")
		return
	}
	if !filepath.IsAbs(p) {
		if k.c.src.origin[key] == "" {
			p = filepath.Join(k.c.src.dir, p)
		}
		abs, err := filepath.Abs(p)
		if err != nil {
			k.fail(key, "%v; write an absolute path", err)
			return
		}
		p = abs
	}
	v.SetString(filepath.Clean(p))
	st, err := os.Stat(p)
	switch {
	case f.path == "file" && os.IsNotExist(err):
		k.fail(key, "no such file: %s; check the path, relative ones start at the directory of this file", printable(p))
	case f.path == "file" && err != nil:
		k.fail(key, "%v; the server must be able to read it", err)
	case f.path == "file" && !st.Mode().IsRegular():
		k.fail(key, "%s is not a regular file", printable(p))
	case f.path == "dir" && err == nil && !st.IsDir():
		k.fail(key, "%s is not a directory", printable(p))
	case f.path == "new" && err == nil && st.IsDir():
		k.fail(key, "%s is a directory; name a file in it", printable(p))
	}
}

// ranges checks that no listener's own port lies in a passive range.
func (k *checker) ranges() {
	global := false
	for i := range k.c.Listen {
		l := &k.c.Listen[i]
		if l.Protocol == ProtocolSFTP || l.Protocol == "" {
			continue
		}
		if l.PassivePorts == nil {
			global = true
			continue
		}
		k.rangeFree(fmt.Sprintf("listen[%d].passive_ports", i), *l.PassivePorts)
	}
	if global {
		k.rangeFree("ftp.passive.ports", k.c.FTP.Passive.Ports)
	}
}

func (k *checker) rangeFree(key string, r PortRange) {
	if r.First == 0 || r.Last < r.First { // a Config built by hand
		k.fail(key, "%s is not a range of ports within 1024-65535", r)
		return
	}
	for i := range k.c.Listen {
		if l := &k.c.Listen[i]; l.Port() != 0 && r.Contains(l.Port()) {
			k.fail(key, "%s contains port %d of listener %s%s; move one of them", r, l.Port(), l.Name, k.where(fmt.Sprintf("listen[%d].address", i)))
		}
	}
}

func (k *checker) ftp() {
	k.banner("ftp.banner", k.c.FTP.Banner)
	k.banner("sftp.banner", k.c.SFTP.Banner)
	k.passiveAddress("ftp.passive.address", k.c.FTP.Passive.Address)
	k.shared()
	for i, r := range k.c.FTP.Passive.Rules {
		key := fmt.Sprintf("ftp.passive.rule[%d]", i)
		if len(r.Networks) == 0 {
			k.fail(key+".networks", "missing; write networks = [\"10.0.0.0/8\"]")
		}
		if r.Address == "" {
			k.fail(key+".address", "missing; write the address that these clients should connect to")
		}
		k.passiveAddress(key+".address", r.Address)
		k.external(key+".external_ports", r.External)
	}
	k.external("ftp.passive.external_ports", k.c.FTP.Passive.ExternalPorts)
	if s := k.c.NAT.STUN; s != "" {
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
			k.fail("nat.stun", "%q is not host:port, such as stun.example.org:3478", s)
		}
	}
}

// external checks the outside numbers of the passive range.
func (k *checker) external(key string, r *PortRange) {
	if in := k.c.FTP.Passive.Ports; r != nil && r.Len() != in.Len() {
		k.fail(key, "%s has %d ports and ftp.passive.ports (%s) has %d; a router forwards them one to one, so write as many", r, r.Len(), in, in.Len())
	}
}

// shared checks the one port for protected data connections: it must be
// nobody else's.
func (k *checker) shared() {
	p := &k.c.FTP.Passive
	if p.Shared == "" {
		return
	}
	const key = "ftp.passive.shared"
	if _, err := checkAddress(p.Shared); err != nil {
		k.fail(key, "%s", err)
		return
	}
	l := Listen{Address: p.Shared}
	if p.Ports.Contains(l.Port()) {
		k.fail(key, "port %d lies in ftp.passive.ports (%s); move one of them", l.Port(), p.Ports)
	}
	for i := range k.c.Listen {
		if o := &k.c.Listen[i]; o.Port() == l.Port() && l.Port() != 0 {
			k.fail(key, "port %d belongs to listener %s%s; data connections need a port of their own, such as :989", l.Port(), o.Name, k.where(fmt.Sprintf("listen[%d].address", i)))
		}
	}
}

func (k *checker) tls() {
	t := &k.c.TLS
	switch {
	case t.Cert != "" && t.Key == "":
		k.fail("tls.cert", "tls.key is missing; name the private key of this certificate")
	case t.Key != "" && t.Cert == "":
		k.fail("tls.key", "tls.cert is missing; name the certificate of this key")
	}
	for i, c := range t.Certificates {
		key := fmt.Sprintf("tls.certificate[%d]", i)
		if c.Cert == "" {
			k.fail(key+".cert", "missing; name the certificate file")
		}
		if c.Key == "" {
			k.fail(key+".key", "missing; name the private key file")
		}
	}
}

// security checks the roots.
func (k *checker) security() {
	for i, r := range k.c.Security.Roots {
		key := fmt.Sprintf("security.roots[%d]", i)
		switch {
		case !filepath.IsAbs(r):
			k.fail(key, "%q is not an absolute path; write it from / on", clip(r))
		case filepath.Clean(r) == "/":
			k.fail(key, "/ is everything, which is no sandbox; name the directories that homes lie in, or leave roots out")
		default:
			k.c.Security.Roots[i] = filepath.Clean(r)
		}
	}
	if k.c.Security.Landlock == LandlockRequired && len(k.c.Security.Roots) == 0 {
		k.fail("security.landlock", "required needs security.roots, the directories that homes lie in")
	}
}

// Files lists the files that the configuration names and the server reads,
// among them certificates, keys and secrets.
func (c *Config) Files() []string {
	out := []string{}
	if c.src.file != "" {
		out = append(out, c.src.file)
	}
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		for _, f := range fields(v.Type()) {
			fv := v.Field(f.index)
			switch shapeOf(f.typ) {
			case table:
				walk(fv)
			case tables:
				for i := range fv.Len() {
					walk(fv.Index(i))
				}
			case scalar:
				if f.path == "file" && fv.String() != "" {
					out = append(out, fv.String())
				}
			}
		}
	}
	walk(reflect.ValueOf(c).Elem())
	for i := range c.Listen {
		out = append(out, c.Listen[i].HostKeys...)
	}
	return out
}

// acme checks what an authority would refuse.
func (k *checker) acme() {
	a := &k.c.TLS.ACME
	if a.Address == "" {
		a.Address = map[Challenge]string{ChallengeHTTP: "[::]:80", ChallengeTLS: "[::]:443"}[a.Challenge]
	}
	if len(a.Domains) == 0 {
		return
	}
	for i, d := range a.Domains {
		d = strings.ToLower(strings.TrimSuffix(d, "."))
		last := d[strings.LastIndexByte(d, '.')+1:]
		if !validHost(d) || !strings.Contains(d, ".") || strings.Contains(d, "*") || strings.Trim(last, "0123456789") == "" {
			k.fail(fmt.Sprintf("tls.acme.domains[%d]", i), "%q is not a public host name, such as ftp.example.org; the challenges here cannot prove *", clip(d))
		}
		a.Domains[i] = d
	}
	if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		k.fail("tls.acme.directory", "%q is not an https address", clip(a.Directory))
	}
	if _, err := netip.ParseAddrPort(a.Address); err != nil {
		k.fail("tls.acme.address", "%q is not an IP address and port, such as [::]:80 or 0.0.0.0:80", clip(a.Address))
	}
	if a.Email != "" && (!strings.Contains(a.Email, "@") || strings.ContainsAny(a.Email, " ,\r\n")) {
		k.fail("tls.acme.email", "%q is not an address", clip(a.Email))
	}
}

// maxSocketPath is what fits into sockaddr_un of every system, with its final zero byte.
const maxSocketPath = 103

func (k *checker) rest() {
	c := k.c
	if c.DataDir == "" {
		k.fail("data_dir", "empty; name a directory that the server may write to")
	}
	if c.Admin.Socket == "" && c.DataDir != "" {
		c.Admin.Socket = filepath.Join(c.DataDir, "portreeve.sock")
	}
	if n := len(c.Admin.Socket); n > maxSocketPath {
		k.fail("admin.socket", "the path %s has %d bytes, the system allows %d; set admin.socket to a shorter one, such as /run/portreeve.sock", printable(c.Admin.Socket), n, maxSocketPath)
	}
	if a := &c.Anonymous; a.Enabled {
		if a.Home == "" {
			k.fail("anonymous.home", "missing; name the directory that anonymous users see")
		} else if _, err := os.Stat(a.Home); os.IsNotExist(err) {
			k.fail("anonymous.home", "no such directory: %s; make it, or name another", printable(a.Home))
		}
	}
	if c.Log.File != "" {
		if _, err := os.Stat(filepath.Dir(c.Log.File)); os.IsNotExist(err) {
			k.fail("log.file", "no such directory: %s; make it, or name another file", printable(filepath.Dir(c.Log.File)))
		}
	}
}

// warn notes what is allowed but seldom meant.
func (k *checker) warn() {
	c := k.c
	own := c.src.warnings
	c.src.warnings = nil
	for _, w := range own {
		if w.Key == "" { // of the environment; the others are made anew below
			c.src.warnings = append(c.src.warnings, w)
		}
	}
	for i := range c.Listen {
		l, key := &c.Listen[i], fmt.Sprintf("listen[%d]", i)
		open := !l.Host().IsLoopback() && l.Protocol != ProtocolSFTP
		if len(l.HostKeys) > 0 && l.Protocol != ProtocolSFTP {
			k.warning(key+".host_keys", "only sftp has host keys; the key has no effect here")
		}
		switch {
		case open && l.TLS == Off:
			k.warning(key+".tls", "passwords and files cross the network unprotected on %s; \"required\" is safe", l.Address)
		case open && l.TLS == Offered:
			k.warning(key+".tls", "a client that does not ask for TLS sends its password unprotected on %s; \"required\" is safe", l.Address)
		case open && l.DataTLS != Required:
			k.warning(key+".data_tls", "files may cross the network unprotected on %s; \"required\" is safe", l.Address)
		}
		if l.LegacyTLS {
			k.warning(key+".legacy_tls", "TLS 1.0 and 1.1 are broken; let only the devices that need them reach %s", l.Address)
		}
		for _, p := range l.Proxy {
			if p.Bits() == 0 {
				k.warning(key+".proxy", "%s lets every client forge its address; name the load balancers alone", p)
			}
		}
		if l.PassivePorts != nil && *l.PassivePorts != c.FTP.Passive.Ports &&
			l.PassivePorts.First <= c.FTP.Passive.Ports.Last && c.FTP.Passive.Ports.First <= l.PassivePorts.Last {
			k.warning(key+".passive_ports", "%s overlaps ftp.passive.ports (%s), so the two compete for ports", l.PassivePorts, c.FTP.Passive.Ports)
		}
	}
	for _, p := range c.FTP.FXP {
		if p.Bits() == 0 {
			k.warning("ftp.fxp", "%s lets users aim this server's connections at any host; name the other servers alone", p)
		}
	}
	if ap, err := netip.ParseAddrPort(c.Metrics.Address); err == nil && !ap.Addr().IsLoopback() {
		k.warning("metrics.address", "everybody who reaches %s can read the counters; 127.0.0.1 is safe", ap)
	}
	k.crypto()
	c.src.warnings.sort()
}
