package sshd

import (
	"slices"

	"golang.org/x/crypto/ssh"
)

// identity is the version line (RFC 4253 section 4.2). It names no version:
// that would help nobody but an attacker.
const identity = "SSH-2.0-Portreeve"

// maxAuthTries is how many keys and passwords a client may try. An agent with
// several keys offers them all.
const maxAuthTries = 12

// Algorithms are what a listener offers, by their names in the protocol, the
// preferred first. The dated policies that fill it are config's.
type Algorithms struct {
	KeyExchanges []string
	Ciphers      []string
	MACs         []string
	HostKeys     []string // types of host keys that clients are shown
	UserKeys     []string // algorithms of users' keys
}

// policy returns the library's configuration, which adds strict key exchange by itself.
func policy(a Algorithms) ssh.ServerConfig {
	return ssh.ServerConfig{
		Config:                  ssh.Config{KeyExchanges: a.KeyExchanges, Ciphers: a.Ciphers, MACs: a.MACs},
		PublicKeyAuthAlgorithms: a.UserKeys,
		MaxAuthTries:            maxAuthTries,
		ServerVersion:           identity,
	}
}

// check finds what the library does not have, so that a policy cannot promise
// more than is done.
func (a Algorithms) check() []string {
	can, weak := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	var missing []string
	look := func(want, have, more []string) {
		for _, n := range want {
			if !slices.Contains(have, n) && !slices.Contains(more, n) {
				missing = append(missing, n)
			}
		}
	}
	look(a.KeyExchanges, can.KeyExchanges, weak.KeyExchanges)
	look(a.Ciphers, can.Ciphers, weak.Ciphers)
	look(a.MACs, can.MACs, weak.MACs)
	look(a.UserKeys, can.PublicKeyAuths, weak.PublicKeyAuths)
	return missing
}
