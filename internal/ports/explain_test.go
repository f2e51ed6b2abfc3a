package ports

import (
	"errors"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/config"
)

func TestExplain(t *testing.T) {
	nat := Compile(testConfig(func(c *config.Config) { c.FTP.Passive.Address = "198.51.100.20" }), testHost(behindNAT))
	none := Compile(testConfig(func(c *config.Config) { c.Listen = c.Listen[2:] }), testHost(nil))
	clear := Compile(testConfig(func(c *config.Config) {
		c.Listen = c.Listen[:1]
		c.Listen[0].TLS = config.Off
		c.FTP.Active = false
	}), testHost(nil))
	all := ""
	for _, topic := range Topics() {
		s, err := nat.Explain(topic.Name)
		if err != nil || !strings.HasPrefix(s, topic.Question) {
			t.Errorf("%s: %v %q", topic.Name, err, s)
		}
		all += s + "\n"
	}
	golden(t, "explain.txt", all)

	for _, tt := range []struct {
		plan  Plan
		topic string
		want  []string
		never []string
	}{
		{nat, "ftps", []string{"Explicit FTPS: the client connects to TCP port 21", "Implicit FTPS: the client connects to TCP port 990", "20000-20099", "source ports 20, 989"}, []string{"port 22"}},
		{nat, "20-and-989", []string{"20 for FTP on 21", "no inbound rule", "source ports 20, 989"}, nil},
		{nat, "client-firewall", []string{"198.51.100.20", "port 990", "Inbound: nothing"}, []string{"port 20:", "port 989"}},
		{nat, "nat", []string{"198.51.100.20 port 20000-20099 to 192.168.1.5 port 20000-20099"}, nil},
		{none, "ftps", []string{"does not offer FTPS"}, []string{"21", "990"}},
		{none, "ftp", []string{"does not offer FTP"}, nil},
		{none, "21-or-990", []string{"Neither"}, nil},
		{none, "passive", []string{"no passive ports"}, nil},
		{clear, "ftps", []string{"does not offer FTPS"}, nil},
		{clear, "active", []string{"switched off"}, nil},
		{clear, "20-and-989", []string{"does not use them"}, nil},
		{clear, "sftp", []string{"does not offer SFTP"}, nil},
	} {
		s, err := tt.plan.Explain(tt.topic)
		if err != nil {
			t.Fatal(err)
		}
		body := s[strings.Index(s, "\n"):] // without the question
		for _, w := range tt.want {
			if !strings.Contains(body, w) {
				t.Errorf("%s does not say %q:\n%s", tt.topic, w, s)
			}
		}
		for _, w := range tt.never {
			if strings.Contains(body, w) {
				t.Errorf("%s says %q:\n%s", tt.topic, w, s)
			}
		}
	}
	if _, err := nat.Explain("gopher"); !errors.Is(err, ErrTopic) || !strings.Contains(err.Error(), "client-firewall") {
		t.Errorf("%v", err)
	}
}
