package doctor

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// weak says why an algorithm should not be offered any more, "" when nothing
// is known against it. Names are those of RFC 4253 and its successors.
func weak(kind, alg string) string {
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(alg, p) })
	}
	switch kind {
	case "key exchange":
		switch {
		case strings.HasPrefix(alg, "diffie-hellman-group1-"):
			return "a group of 1024 bits, and SHA-1 (Logjam)"
		case strings.HasSuffix(alg, "-sha1"):
			return "SHA-1"
		}
	case "host key":
		switch {
		case strings.HasPrefix(alg, "ssh-dss"):
			return "DSA with 1024 bits"
		case alg == ssh.KeyAlgoRSA || strings.HasPrefix(alg, "ssh-rsa-cert"):
			return "RSA signatures over SHA-1"
		}
	case "cipher":
		switch {
		case alg == "none":
			return "no encryption at all"
		case has("arcfour"):
			return "RC4"
		case has("3des", "blowfish", "cast128", "idea"):
			return "blocks of 64 bits (Sweet32)"
		case has("-cbc"):
			return "CBC, which leaks plain text in SSH"
		}
	case "MAC":
		switch {
		case alg == "none":
			return "no protection against changes"
		case has("md5"):
			return "MD5"
		case has("-96"):
			return "cut to 96 bits"
		case has("umac-64"):
			return "64 bits"
		case has("sha1"):
			return "SHA-1"
		}
	}
	return ""
}

// offers are the lists with the name of the option that sets them in sshd_config.
func (s *SSH) offers() []struct {
	kind, option string
	list         []string
} {
	return []struct {
		kind, option string
		list         []string
	}{{"key exchange", "KexAlgorithms", s.Kex}, {"host key", "HostKeyAlgorithms", s.HostKeys}, {"cipher", "Ciphers", s.Ciphers}, {"MAC", "MACs", s.MACs}}
}

// judgeOffer explains an identification or a list that could not be read.
func (c *Client) judgeOffer(s *SSH, err error) []Finding {
	if s.Version != "" && !strings.HasPrefix(s.Version, "SSH-2.0-") && !strings.HasPrefix(s.Version, "SSH-1.99-") {
		return []Finding{finding("SSH_OLD", Error, c.fill(), "the server says %q: SFTP needs SSH version 2", s.Version)}
	}
	return []Finding{finding("SSH_HANDSHAKE", Error, c.fill(), "the server greets with %q, and then: %v", s.Version, err)}
}

// judgeSSH looks at keys and algorithms.
func (c *Client) judgeSSH(s *SSH) []Finding {
	var out []Finding
	if strings.HasPrefix(s.Version, "SSH-1.99-") {
		out = append(out, finding("SSH_OLD", Warning, c.fill(), "the server says %q: it also speaks SSH version 1, which is broken", s.Version))
	}
	var lines, cure []string
	for _, o := range s.offers() {
		var names []string
		for _, alg := range o.list {
			if why := weak(o.kind, alg); why != "" {
				lines = append(lines, fmt.Sprintf("%s %s: %s", o.kind, alg, why))
				names = append(names, alg)
			}
		}
		if len(names) > 0 {
			cure = append(cure, o.option+" -"+strings.Join(names, ","))
		}
	}
	if len(lines) > 0 {
		f := finding("SSH_WEAK", Warning, c.fill(), "%d of the algorithms it offers should not be used any more", len(lines))
		f.Evidence = lines
		f.Fix += "\nOpenSSH, in sshd_config:\n  " + strings.Join(cure, "\n  ")
		out = append(out, f)
	}
	for _, k := range s.Keys {
		switch {
		case k.Type == "ssh-dss":
			out = append(out, finding("SSH_WEAK_KEY", Warning, c.fill(), "the host key %s is DSA", k.Fingerprint))
		case k.Type == ssh.KeyAlgoRSA && k.Bits < 2048:
			out = append(out, finding("SSH_WEAK_KEY", Warning, c.fill(), "the host key %s is RSA with %d bits", k.Fingerprint, k.Bits))
		}
		switch k.Known {
		case "changed":
			out = append(out, finding("SSH_HOSTKEY_CHANGED", Error, c.fill(), "the server's %s key is %s; %s has another one for it", k.Type, k.Fingerprint, c.opt.KnownHosts))
		case "revoked":
			out = append(out, finding("SSH_HOSTKEY_CHANGED", Error, c.fill(), "the server's %s key is %s, which %s marks as revoked", k.Type, k.Fingerprint, c.opt.KnownHosts))
		}
	}
	if c.opt.KnownHosts != "" && len(s.Keys) > 0 && !slices.ContainsFunc(s.Keys, func(k SSHKey) bool { return k.Known != "no" && k.Known != "" }) {
		f := finding("SSH_HOSTKEY_UNKNOWN", Warning, c.fill(), "%s has no key of this server", c.opt.KnownHosts)
		f.Fix = fmt.Sprintf("compare the fingerprint with what the administrator says, then: ssh-keyscan -p %d %s >>%s", s.addr.Port(), c.host, c.opt.KnownHosts)
		for _, k := range s.Keys {
			f.Evidence = append(f.Evidence, k.Type+" "+k.Fingerprint)
		}
		out = append(out, f)
	}
	if len(s.Keys) == 0 {
		out = append(out, finding("SSH_HANDSHAKE", Error, c.fill(), "no key exchange comes about; the server offers %s with host keys %s", orNothing(s.Kex), orNothing(s.HostKeys)))
	}
	return out
}

func orNothing(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}
