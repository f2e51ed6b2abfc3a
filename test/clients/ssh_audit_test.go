//go:build clients

package clients

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// unknown are algorithms that the ssh-audit of Debian 12 is too old to know;
// newer ones rate them good.
var unknown = []string{"mlkem768x25519-sha256", "kex-strict-s-v00@openssh.com"}

// TestSSHAudit: the policy passes without a failure or warning.
func TestSSHAudit(t *testing.T) {
	s := sshServer(t, "")
	r := Cmd{Args: []string{Tool(t, "ssh-audit", "ssh-audit"), "-n", "-p", strconv.Itoa(s.Port("sftp")), "127.0.0.1"}}.Run(t)
	text := r.Text()
	if !strings.Contains(text, "SSH-2.0-Portreeve") || !strings.Contains(text, "(key) ssh-ed25519") {
		t.Fatalf("ssh-audit did not talk to the server:\n%s", text)
	}
	bad := regexp.MustCompile(`\[(fail|warn)\]|CVE-`)
lines:
	for _, line := range strings.Split(text, "\n") {
		if !bad.MatchString(line) {
			continue
		}
		for _, u := range unknown {
			if strings.Contains(line, u) && strings.Contains(line, "unknown algorithm") {
				continue lines
			}
		}
		t.Errorf("ssh-audit says: %s", line)
	}
}
