package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
)

func (k *checker) listeners() {
	c := k.c
	if len(c.Listen) == 0 && len(k.earlier) == 0 && c.src.file != "" {
		k.fail("listen", "no listener; add [[listen]] with protocol = \"ftp\"")
	}
	names := map[string]int{}
	for i := range c.Listen {
		if n := c.Listen[i].Name; n != "" {
			key := fmt.Sprintf("listen[%d].name", i)
			if j, ok := names[n]; ok {
				k.fail(key, "%q is already the name of another listener%s; choose another", n, k.where(fmt.Sprintf("listen[%d].name", j)))
			} else if strings.Trim(n, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" || len(n) > 64 {
				k.fail(key, "%s: a name is up to 64 letters, digits, dots, dashes and underscores", strconv.Quote(clip(n)))
			}
			names[n] = i
		}
	}
	for i := range c.Listen {
		l, key := &c.Listen[i], fmt.Sprintf("listen[%d]", i)
		k.listener(l, key)
		if l.Name == "" && l.Protocol != "" {
			base := string(l.Protocol) + "-" + strconv.Itoa(int(l.Port()))
			l.Name = base
			for n := 2; ; n++ {
				if _, taken := names[l.Name]; !taken {
					break
				}
				l.Name = base + "-" + strconv.Itoa(n)
			}
			names[l.Name] = i
		}
		for j := range i {
			if clash(&c.Listen[j], l) {
				k.fail(key+".address", "port %d is already taken by listener %s%s; choose another port or address", l.Port(), c.Listen[j].Name, k.where(fmt.Sprintf("listen[%d].address", j)))
				break
			}
		}
	}
	k.ranges()
}

// where is " in line 7", or nothing when the key is not in the file.
func (k *checker) where(key string) string {
	if e := k.at(key); e.Line > 0 {
		return fmt.Sprintf(" in line %d", e.Line)
	}
	return ""
}

// clash reports whether a and b cannot be bound at the same time.
func clash(a, b *Listen) bool {
	if a.Port() != b.Port() || a.Port() == 0 {
		return false
	}
	x, y := a.Host(), b.Host()
	switch {
	case !x.IsValid() || !y.IsValid():
		return true
	case x.IsUnspecified() || y.IsUnspecified():
		return x.Is4() == y.Is4()
	}
	return x == y
}

var defaultPort = map[Protocol]string{ProtocolFTP: ":21", ProtocolFTPS: ":990", ProtocolSFTP: ":22"}

func (k *checker) listener(l *Listen, key string) {
	if l.Protocol == "" {
		k.fail(key+".protocol", "missing; write protocol = \"ftp\", \"ftps\" or \"sftp\"")
		return
	}
	if l.Address == "" {
		l.Address = defaultPort[l.Protocol]
	}
	if fixed, err := checkAddress(l.Address); err != nil {
		k.fail(key+".address", "%s", err)
		l.Address = ":0" // so that nothing is derived from it
	} else {
		l.Address = fixed
	}
	k.listenerTLS(l, key)
	for _, h := range l.Hosts {
		if !validHost(strings.TrimPrefix(h, "*.")) {
			k.fail(key+".hosts", "%q is not a host name; write it like \"ftp.example.org\" or \"*.example.org\"", clip(h))
		}
	}
	k.passiveAddress(key+".passive_address", l.PassiveAddress)
	k.banner(key+".banner", l.Banner)
	k.hostKeys(l, key+".host_keys")
}

// hostKeys makes the paths absolute, as paths does for single ones.
func (k *checker) hostKeys(l *Listen, key string) {
	for i, p := range l.HostKeys {
		if !filepath.IsAbs(p) && k.c.src.dir != "" {
			p = filepath.Join(k.c.src.dir, p)
		}
		st, err := os.Stat(p)
		switch {
		case os.IsNotExist(err):
			k.fail(key, "no such file: %s; check the path, relative ones start at the directory of this file", printable(p))
		case err != nil:
			k.fail(key, "%v; the server must be able to read it", err)
		case !st.Mode().IsRegular():
			k.fail(key, "%s is not a regular file", printable(p))
		}
		l.HostKeys[i] = filepath.Clean(p)
	}
}

func (k *checker) listenerTLS(l *Listen, key string) {
	if l.Protocol == ProtocolSFTP {
		if l.TLS != "" && l.TLS != Off {
			k.fail(key+".tls", "sftp is SSH and has no TLS; remove the key")
		}
		if l.DataTLS != "" && l.DataTLS != Off {
			k.fail(key+".data_tls", "sftp is SSH and has no TLS; remove the key")
		}
		if l.ClientCert != "" && l.ClientCert != CertOff {
			k.fail(key+".client_cert", "sftp is SSH and has no TLS; remove the key")
		}
		l.TLS, l.DataTLS = Off, Off
		return
	}
	switch {
	case l.TLS == "":
		l.TLS = Required
	case l.Protocol == ProtocolFTPS && l.TLS != Required:
		k.fail(key+".tls", "%q is not possible with ftps, which starts with TLS; remove the key or write protocol = \"ftp\"", string(l.TLS))
	}
	if l.DataTLS == "" {
		l.DataTLS = l.TLS
	}
	if l.TLS == Off && l.DataTLS != Off {
		k.fail(key+".data_tls", "%q needs TLS on the control connection, but tls is \"off\"; write tls = \"offered\" or data_tls = \"off\"", string(l.DataTLS))
	}
	if l.DataTLS == Off && l.DataSession == BindRequire {
		k.fail(key+".data_session", "\"require\" has no effect with data_tls = \"off\"; remove one of them")
	}
	if l.DataSession == "" {
		l.DataSession = BindPrefer
	}
	if l.ClientCert == "" {
		l.ClientCert = CertOff
	}
	if l.ClientCert != CertOff && l.TLS == Off {
		k.fail(key+".client_cert", "client certificates need TLS, but tls is \"off\"")
	}
	if l.CertLogin && l.ClientCert == CertOff {
		k.fail(key+".cert_login", "no client certificate is asked for; write client_cert = \"optional\" or \"required\"")
	}
	if l.ClientCert == CertRequired && !l.CertLogin && k.c.TLS.ClientCA == "" {
		k.fail(key+".client_cert", "\"required\" without tls.client_ca would accept a certificate that anybody made; set tls.client_ca, or cert_login = true")
	}
	if l.LegacyTLS && l.TLS == Off {
		k.fail(key+".legacy_tls", "has no effect with tls = \"off\"; remove one of them")
	}
}

// checkAddress accepts an IP address or nothing, a colon and a port.
func checkAddress(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if a, aerr := netip.ParseAddr(s); aerr == nil {
			return "", fmt.Errorf("%q has no port; write %q", s, net.JoinHostPort(a.String(), "21"))
		}
		if _, perr := strconv.ParseUint(s, 10, 16); perr == nil {
			return "", fmt.Errorf("%q lacks a colon; write %q", s, ":"+s)
		}
		return "", fmt.Errorf("%q is not an address; write it like \":21\", \"192.0.2.1:21\" or \"[2001:db8::1]:21\"", clip(s))
	}
	if n, err := strconv.ParseUint(port, 10, 64); err != nil || strings.HasPrefix(port, "+") {
		return "", fmt.Errorf("%q is not a port number; write it like \":21\"", clip(port))
	} else if n > 65535 {
		return "", fmt.Errorf("port %s does not exist; the last one is 65535", clip(port))
	} else {
		port = strconv.FormatUint(n, 10)
	}
	if host == "" || host == "*" {
		return ":" + port, nil
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return "", fmt.Errorf("%q is not an IP address; a listener needs one of this machine's addresses, such as \"127.0.0.1:%s\", or none: \":%s\"", clip(host), port, port)
	}
	if a.IsMulticast() {
		return "", fmt.Errorf("%s is a multicast address, on which nobody can connect", a)
	}
	return net.JoinHostPort(a.Unmap().String(), port), nil
}

// validHost checks the syntax of a DNS name.
func validHost(s string) bool {
	if len(s) > 253 || s == "" {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// AcceptsHost reports whether name, from HOST or a TLS server name, is one of
// l's hosts. An empty list accepts any. Upper and lower case are the same.
func (l *Listen) AcceptsHost(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for _, h := range l.Hosts {
		h = strings.ToLower(strings.TrimSuffix(h, "."))
		if name == h {
			return true
		}
		if rest, ok := strings.CutPrefix(h, "*."); ok {
			if first, tail, dot := strings.Cut(name, "."); dot && first != "" && tail == rest {
				return true
			}
		}
	}
	return len(l.Hosts) == 0
}

// passiveAddress checks an announced address: literal, name or nothing.
func (k *checker) passiveAddress(key, s string) {
	if s == "" {
		return
	}
	if a, err := netip.ParseAddr(s); err == nil {
		switch {
		case a.IsUnspecified():
			k.fail(key, "%s is not an address a client can connect to; leave it empty for the address the client reached", s)
		case a.IsMulticast(), a.Zone() != "":
			k.fail(key, "%s is not an address a client can connect to; write the server's public address", s)
		}
		return
	}
	last := s[strings.LastIndexByte(s, '.')+1:] // 300.1.1.1 is a mistyped address, not a name
	if !validHost(s) || strings.Trim(last, "0123456789") == "" {
		k.fail(key, "%q is neither an IP address nor a host name; write the address without port", clip(s))
	}
}

func (k *checker) banner(key, s string) {
	if len(s) > 4000 {
		k.fail(key, "%d bytes are too long; the most is 4000", len(s))
	}
	for _, r := range s {
		if unicode.IsControl(r) && r != '\n' {
			k.fail(key, "contains the control character %U; only line breaks are possible", r)
			return
		}
	}
}
