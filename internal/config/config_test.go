package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const minimal = "[[listen]]\nprotocol = \"ftp\"\naddress = \":21\"\n"

func parse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("portreeve.toml", []byte(text))
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, text)
	}
	return c
}

// The file of the first issue, which must always mean what it says there.
func TestParsePromisedFile(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"cert.pem", "key.pem"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := `data_dir = "/var/lib/portreeve"

[[listen]]
protocol = "ftp"            # explicit TLS on offer
address  = ":21"
tls      = "required"       # off | offered | required

[[listen]]
protocol = "ftps"           # implicit
address  = ":990"

[ftp.passive]
ports   = "50000-50999"
address = ""                # empty: the address the client reached

[tls]
cert = "cert.pem"
key  = "key.pem"
`
	c, err := Parse(filepath.Join(dir, "portreeve.toml"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	a, b := c.Listen[0], c.Listen[1]
	if a.Name != "ftp-21" || a.Protocol != ProtocolFTP || a.TLS != Required || a.DataTLS != Required || a.DataSession != BindPrefer || a.ClientCert != CertOff || a.Implicit() {
		t.Errorf("first listener %+v", a)
	}
	if b.Name != "ftps-990" || b.TLS != Required || b.DataTLS != Required || !b.Implicit() || b.Port() != 990 || b.Host().IsValid() || b.Network() != "tcp" {
		t.Errorf("second listener %+v", b)
	}
	if c.DataDir != "/var/lib/portreeve" || c.Admin.Socket != "/var/lib/portreeve/portreeve.sock" ||
		c.TLS.Cert != filepath.Join(dir, "cert.pem") || c.FTP.Passive.Ports != (PortRange{50000, 50999}) || c.File() != filepath.Join(dir, "portreeve.toml") {
		t.Errorf("%+v", c)
	}
	if c.FTP.LoginTimeout.Std() != time.Minute || c.Limits.MaxConnections != 10000 || !c.FTP.Active || c.Upload.Mode != UploadAtomic || c.Drain.Std() != 10*time.Minute {
		t.Errorf("defaults: %+v %+v %+v", c.FTP, c.Limits, c.Upload)
	}
	if len(c.Warnings()) != 0 {
		t.Errorf("warnings: %v", c.Warnings())
	}
}

// Each text has exactly these mistakes, and each is reported as written.
func TestMistakes(t *testing.T) {
	l := minimal // lines 1 to 3
	tests := []struct {
		name, text string
		want       []string
	}{
		{"reversed range", l + "\n\n[ftp.passive]\nports = \"50000-49999\"\n", []string{
			`portreeve.toml:7: ftp.passive.ports: first port 50000 is above last 49999; write the lower one first`}},
		{"several at once", l + "banner = 5\ncolour = 1\n[ftp]\nlogin_timeout = 60\nidle_timeot = \"5m\"\nactive = \"true\"\n[limits]\nper_user = \"3\"\nbandwidth_up = \"fast\"\n", []string{
			`portreeve.toml:4: listen.banner: must be text in quotes, not a number; write banner = "5"`,
			`portreeve.toml:5: listen.colour: unknown key; docs/reference/config.md lists all`,
			`portreeve.toml:7: ftp.login_timeout: must be text in quotes, not a number; write login_timeout = "60s" for seconds`,
			`portreeve.toml:8: ftp.idle_timeot: unknown key; did you mean idle_timeout?`,
			`portreeve.toml:9: ftp.active: must be true or false without quotes, not text; write active = true`,
			`portreeve.toml:11: limits.per_user: must be a whole number without quotes, not text; write per_user = 3`,
			`portreeve.toml:12: limits.bandwidth_up: "fast" is not a size; write it like "10MB/s" or "80Mbit/s"`}},
		{"key in the wrong section", l + "[ftp]\nmin_version = \"1.2\"\n", []string{
			`portreeve.toml:5: ftp.min_version: unknown key; did you mean tls.min_version?`}},
		{"unknown section", l + "[fpt]\nanything = 1\nmore = 2\n", []string{
			`portreeve.toml:4: fpt: unknown key; did you mean ftp?`}},
		{"syntax, and the rest is still checked", l + "[ftp]\nbanner = hello\nactive\n[log]\nlevel = \"loud\"\n", []string{
			`portreeve.toml:5: not valid TOML: `,
			`portreeve.toml:6: not valid TOML: `,
			`portreeve.toml:8: log.level: "loud" is not one of debug, info, warn, error`}},
		{"broken header", l + "[ftp\nactive = true\nnonsense = 1\n[log]\nformat = \"xml\"\n", []string{
			`portreeve.toml:4: not valid TOML: `,
			`portreeve.toml:8: log.format: "xml" is not one of text, json`}},
		{"open string", l + "[ftp]\nbanner = \"hello\n", []string{`portreeve.toml:5: not valid TOML: `}},
		{"open multi-line string", l + "[ftp]\nbanner = \"\"\"hello\nactive = x\n", []string{`: not valid TOML: `}},
		{"twice", l + "[ftp]\nactive = true\nactive = false\n", []string{`portreeve.toml:6: `}},
		{"section twice", l + "[log]\nlevel = \"info\"\n[log]\nformat = \"text\"\n", []string{`portreeve.toml:6: `}},
		{"single brackets", "[listen]\nprotocol = \"ftp\"\n", []string{`portreeve.toml:1: listen: there may be several; write [[listen]] with double brackets`}},
		{"double brackets", l + "[[ftp]]\nactive = true\n", []string{`portreeve.toml:4: ftp: there is only one; write [ftp] with single brackets`}},
		{"key as section", l + "[ftp.active]\nx = 1\n", []string{`portreeve.toml:4: ftp.active: not a section; write active = ... instead`}},
		{"section as key", "log = \"debug\"\n" + l, []string{`portreeve.toml:1: log: is a section; write [log] on a line of its own`}},
		{"listen as text", "listen = \":21\"\n", []string{`portreeve.toml:1: listen: there may be several; write [[listen]] on a line of its own`}},
		{"listen as list of text", "listen = [\":21\"]\n", []string{`portreeve.toml:1: listen: each entry must be a table; write [[listen]] on a line of its own`}},
		{"dotted key of a scalar", l + "[ftp]\nbanner.text = \"x\"\n", []string{`portreeve.toml:5: ftp.banner: has no keys of its own; write banner = ...`}},
		{"scalar for a list", l + "hosts = \"a.example\"\n", []string{`portreeve.toml:4: listen.hosts: must be a list; write hosts = ["a.example"]`}},
		{"lines of a list", l + "proxy = [\n \"10.0.0.0/8\",\n \"10.0.0.5/8\",\n 7,\n]\n", []string{
			`portreeve.toml:6: listen.proxy: 10.0.0.5/8 has bits beyond its length; write 10.0.0.0/8 for the network or 10.0.0.5 for the one address`,
			`portreeve.toml:7: listen.proxy: must be text in quotes, not a number`}},
		{"no listener", "data_dir = \"/x\"\n", []string{`portreeve.toml: listen: no listener; add [[listen]] with protocol = "ftp"`}},
		{"protocol missing", "\n[[listen]]\naddress = \":21\"\n", []string{`portreeve.toml:2: listen.protocol: missing; write protocol = "ftp", "ftps" or "sftp"`}},
		{"protocol unknown", "[[listen]]\nprotocol = \"fttp\"\n", []string{`portreeve.toml:2: listen.protocol: "fttp" is not one of ftp, ftps, sftp; did you mean "ftp"?`}},
		{"address without colon", "[[listen]]\nprotocol = \"ftp\"\naddress = \"21\"\n", []string{`portreeve.toml:3: listen.address: "21" lacks a colon; write ":21"`}},
		{"address without port", "[[listen]]\nprotocol = \"ftp\"\naddress = \"::1\"\n", []string{`portreeve.toml:3: listen.address: "::1" has no port; write "[::1]:21"`}},
		{"address port too high", "[[listen]]\nprotocol = \"ftp\"\naddress = \":70000\"\n", []string{`portreeve.toml:3: listen.address: port 70000 does not exist; the last one is 65535`}},
		{"address by name", "[[listen]]\nprotocol = \"ftp\"\naddress = \"localhost:21\"\n", []string{`portreeve.toml:3: listen.address: "localhost" is not an IP address`}},
		{"port taken twice", l + "[[listen]]\nprotocol = \"ftps\"\naddress = \"127.0.0.1:21\"\n", []string{
			`portreeve.toml:6: listen.address: port 21 is already taken by listener ftp-21 in line 3; choose another port or address`}},
		{"name twice", "[[listen]]\nname = \"a\"\nprotocol = \"ftp\"\n[[listen]]\nprotocol = \"ftps\"\nname = \"a\"\n", []string{
			`portreeve.toml:6: listen.name: "a" is already the name of another listener in line 2; choose another`}},
		{"range over own port", "[[listen]]\nprotocol = \"ftp\"\naddress = \":2121\"\n[ftp.passive]\nports = \"2000-3000\"\n", []string{
			`portreeve.toml:5: ftp.passive.ports: 2000-3000 contains port 2121 of listener ftp-2121 in line 3; move one of them`}},
		{"own range over another's port", "[[listen]]\nprotocol = \"sftp\"\naddress = \":2222\"\n[[listen]]\nprotocol = \"ftp\"\npassive_ports = \"2222\"\n", []string{
			`portreeve.toml:6: listen.passive_ports: 2222 contains port 2222 of listener sftp-2222 in line 3; move one of them`}},
		{"range below 1024", l + "[ftp.passive]\nports = \"1000-2000\"\n", []string{`portreeve.toml:5: ftp.passive.ports: port 1000 is below 1024`}},
		{"range above 65535", l + "[ftp.passive]\nports = \"65000-66000\"\n", []string{`portreeve.toml:5: ftp.passive.ports: port 66000 does not exist; the last one is 65535`}},
		{"range as number", l + "[ftp.passive]\nports = 50000\n", []string{`portreeve.toml:5: ftp.passive.ports: must be text in quotes, not a number; write ports = "50000"`}},
		{"ftps without tls", "[[listen]]\nprotocol = \"ftps\"\ntls = \"offered\"\n", []string{`portreeve.toml:3: listen.tls: "offered" is not possible with ftps`}},
		{"data above control", l + "tls = \"off\"\ndata_tls = \"required\"\n", []string{`portreeve.toml:5: listen.data_tls: "required" needs TLS on the control connection, but tls is "off"`}},
		{"certificates without tls", l + "tls = \"off\"\nclient_cert = \"optional\"\nlegacy_tls = true\n", []string{
			`portreeve.toml:5: listen.client_cert: client certificates need TLS, but tls is "off"`,
			`portreeve.toml:6: listen.legacy_tls: has no effect with tls = "off"`}},
		{"any certificate will do", l + "client_cert = \"required\"\n", []string{`portreeve.toml:4: listen.client_cert: "required" without tls.client_ca would accept a certificate that anybody made`}},
		{"cert_login without certificate", l + "cert_login = true\n", []string{`portreeve.toml:4: listen.cert_login: no client certificate is asked for`}},
		{"binding of nothing", l + "data_tls = \"off\"\ndata_session = \"require\"\n", []string{`portreeve.toml:5: listen.data_session: "require" has no effect with data_tls = "off"`}},
		{"sftp with tls", "[[listen]]\nprotocol = \"sftp\"\ntls = \"required\"\n", []string{`portreeve.toml:3: listen.tls: sftp is SSH and has no TLS; remove the key`}},
		{"cert without key", l + "[tls]\ncert = \"/dev/null/none\"\n", []string{
			`portreeve.toml:5: tls.cert: stat /dev/null/none: not a directory; the server must be able to read it`,
			`portreeve.toml:5: tls.cert: tls.key is missing; name the private key of this certificate`}},
		{"key without cert, missing file", l + "[tls]\nkey = \"/nonexistent/key.pem\"\n", []string{
			`portreeve.toml:5: tls.key: no such file: /nonexistent/key.pem; check the path`,
			`portreeve.toml:5: tls.key: tls.cert is missing; name the certificate of this key`}},
		{"certificate entry", l + "[[tls.certificate]]\n", []string{
			`portreeve.toml:4: tls.certificate.cert: missing; name the certificate file`,
			`portreeve.toml:4: tls.certificate.key: missing; name the private key file`}},
		{"durations", l + "[ftp]\nlogin_timeout = \"-1s\"\nidle_timeout = \"0\"\nstall_timeout = \"2\"\ndata_timeout = \"soon\"\n", []string{
			`portreeve.toml:5: ftp.login_timeout: -1s is negative; a time span is 0 or more`,
			`portreeve.toml:6: ftp.idle_timeout: 0s is too small; the least is 1s`,
			`portreeve.toml:7: ftp.stall_timeout: 2 has no unit; write "2s" for seconds or "2m" for minutes`,
			`portreeve.toml:8: ftp.data_timeout: "soon" is not a time span; write it like "90s", "15m", "1h30m" or "2d"`}},
		{"numbers", l + "[ftp]\nmax_line = 100\nlist_depth = 1000\n[limits]\nmax_connections = -1\nper_address = 1.5\n", []string{
			`portreeve.toml:5: ftp.max_line: 100 is too small; the least is 512`,
			`portreeve.toml:6: ftp.list_depth: 1000 is too large; the most is 256`,
			`portreeve.toml:8: limits.max_connections: -1 is too small; the least is 0`,
			`portreeve.toml:9: limits.per_address: must be a whole number without quotes, not a number with a fraction`}},
		{"passive addresses", l + "passive_address = \"0.0.0.0\"\n[ftp.passive]\naddress = \"ftp.example.org:21\"\n", []string{
			`portreeve.toml:4: listen.passive_address: 0.0.0.0 is not an address a client can connect to`,
			`portreeve.toml:6: ftp.passive.address: "ftp.example.org:21" is neither an IP address nor a host name`}},
		{"mistyped address", l + "[ftp.passive]\naddress = \"300.1.2.3\"\n", []string{`portreeve.toml:5: ftp.passive.address: "300.1.2.3" is neither`}},
		{"rule without anything", l + "[[ftp.passive.rule]]\n", []string{
			`portreeve.toml:4: ftp.passive.rule.networks: missing`,
			`portreeve.toml:4: ftp.passive.rule.address: missing`}},
		{"hosts", l + "hosts = [\"ok.example\", \"bad host\", \"*.ok.example\", \"a.*.example\"]\n", []string{
			`portreeve.toml:4: listen.hosts: "bad host" is not a host name`,
			`portreeve.toml:4: listen.hosts: "a.*.example" is not a host name`}},
		{"banner with a control character", l + "[ftp]\nbanner = \"a\\rb\"\n", []string{`portreeve.toml:5: ftp.banner: contains the control character U+000D`}},
		{"anonymous without home", l + "[anonymous]\nenabled = true\n", []string{`portreeve.toml:4: anonymous.home: missing; name the directory that anonymous users see`}},
		{"anonymous without directory", l + "[anonymous]\nenabled = true\nhome = \"/nonexistent/x\"\n", []string{`portreeve.toml:6: anonymous.home: no such directory: /nonexistent/x`}},
		{"log nowhere", l + "[log]\nfile = \"/nonexistent/x.log\"\n", []string{`portreeve.toml:5: log.file: no such directory: /nonexistent`}},
		{"socket path", "data_dir = \"/" + strings.Repeat("x", 110) + "\"\n" + l, []string{`admin.socket: the path /` + strings.Repeat("x", 110) + `/portreeve.sock has 126 bytes, the system allows 103; set admin.socket`}},
		{"not UTF-8", l + "[ftp]\nbanner = \"\xff\"\n", []string{`portreeve.toml:5: not UTF-8 text; save the file as UTF-8`}},
		{"hostile key", l + "\"\\u001b[2J\" = 1\n", []string{`portreeve.toml:4: listen."\x1b[2J": unknown key`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("portreeve.toml", []byte(tt.text))
			var errs Errors
			if !errors.As(err, &errs) {
				t.Fatalf("error is %v", err)
			}
			got := strings.Split(errs.Error(), "\n")
			if len(got) != len(tt.want) {
				t.Fatalf("got %d mistakes, want %d:\n%s", len(got), len(tt.want), err)
			}
			for i := range got {
				if !strings.Contains(got[i], tt.want[i]) {
					t.Errorf("got  %s\nwant %s", got[i], tt.want[i])
				}
				if errs[i].Line > 0 && (errs[i].Col < 1 || errs[i].File != "portreeve.toml") {
					t.Errorf("position %+v", errs[i])
				}
			}
		})
	}
}

func TestInlineAndDottedForms(t *testing.T) {
	c := parse(t, `listen = [{protocol = "ftp", address = "127.0.0.1:2121", tls = "off"}, {protocol = "ftps"}]
log = {level = "debug"}
[ftp]
passive.ports = "40000-40010"
passive.address = "ftp.example.org"
list_depth = 0x10
`)
	if len(c.Listen) != 2 || c.Listen[0].DataTLS != Off || c.Listen[1].Address != ":990" || c.FTP.Passive.Ports.Len() != 11 || c.Log.Level != "debug" || c.FTP.Passive.Address != "ftp.example.org" || c.FTP.ListDepth != 16 {
		t.Errorf("%+v", c)
	}
}

func TestListenersSideBySide(t *testing.T) {
	c := parse(t, `[[listen]]
protocol = "ftp"
address = "0.0.0.0:2121"
[[listen]]
protocol = "ftp"
address = "[::]:2121"
[[listen]]
protocol = "ftp"
address = "*:2122"
[[listen]]
protocol = "ftp"
address = "127.0.0.1:0"
[[listen]]
protocol = "ftp"
address = "127.0.0.1:0"
`)
	var names, networks []string
	for i := range c.Listen {
		names, networks = append(names, c.Listen[i].Name), append(networks, c.Listen[i].Network())
	}
	if got := fmt.Sprint(names, networks); got != "[ftp-2121 ftp-2121-2 ftp-2122 ftp-0 ftp-0-2] [tcp4 tcp6 tcp tcp4 tcp4]" {
		t.Error(got)
	}
	for _, pair := range [][2]string{{":21", ":21"}, {":21", "[::1]:21"}, {"0.0.0.0:21", "127.0.0.1:21"}, {"[::]:21", "[::1]:21"}, {"127.0.0.1:21", "127.0.0.1:021"}} {
		_, err := Parse("x", []byte(fmt.Sprintf("[[listen]]\nprotocol=\"ftp\"\naddress=%q\n[[listen]]\nprotocol=\"ftp\"\naddress=%q\n", pair[0], pair[1])))
		if err == nil || !strings.Contains(err.Error(), "already taken") {
			t.Errorf("%v: %v", pair, err)
		}
	}
}

func TestPrecedenceAndOrigin(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "portreeve.toml")
	text := "data_dir = \"data\"\n[ftp.passive]\nports = \"40000-40100\"\nresolve = \"1m\"\n[ftp]\nlogin_timeout = \"10s\"\n" + minimal
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"PORTREEVE_FTP_PASSIVE_PORTS=41000-41100", "PORTREEVE_FTP_PASSIVE_RESOLVE=2m", "PORTREEVE_SERVICE_HOST=10.0.0.1", "PORTREEVE_FTP_PASIVE_PORTS=1", "HOME=/"}
	c, err := Load(file, env, Overrides{{"ftp.passive.resolve", "3m", "--resolve"}, {"log.level", "debug", "--log-level"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.FTP.Passive.Ports != (PortRange{41000, 41100}) || c.FTP.Passive.Resolve.Std() != 3*time.Minute || c.FTP.LoginTimeout.Std() != 10*time.Second || c.Log.Level != "debug" || c.DataDir != filepath.Join(dir, "data") {
		t.Errorf("%+v", c)
	}
	if w := c.Warnings(); len(w) != 1 || w[0].Error() != "PORTREEVE_FTP_PASIVE_PORTS: no such setting, ignored; did you mean PORTREEVE_FTP_PASSIVE_PORTS?" {
		t.Errorf("warnings %v", w)
	}
	origins := map[string]string{}
	for _, v := range c.Values() {
		origins[v.Key] = v.Origin
	}
	for key, want := range map[string]string{
		"ftp.passive.ports": "env PORTREEVE_FTP_PASSIVE_PORTS", "ftp.passive.resolve": "flag --resolve", "ftp.login_timeout": file + ":6",
		"ftp.idle_timeout": "default", "data_dir": file + ":1", "listen[ftp-21].data_tls": "derived", "listen[ftp-21].address": file + ":9", "admin.socket": "derived",
	} {
		if origins[key] != want {
			t.Errorf("%s from %q, want %q", key, origins[key], want)
		}
	}
	if s := c.Show(true); !strings.Contains(s, "# env PORTREEVE_FTP_PASSIVE_PORTS\n") || strings.Contains(c.Show(false), "#") {
		t.Errorf("show:\n%s", s)
	}
}

func TestMistakesOfEnvironmentAndFlags(t *testing.T) {
	_, err := Load("", []string{"PORTREEVE_FTP_PASSIVE_PORTS=2-1", "PORTREEVE_TLS_KEY=/nonexistent/k"}, Overrides{{"log.level", "loud", "--log-level"}, {"log.levl", "x", "--x"}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"PORTREEVE_FTP_PASSIVE_PORTS: ftp.passive.ports: first port 2 is above last 1",
		"PORTREEVE_TLS_KEY: tls.key: no such file: /nonexistent/k",
		`--log-level: log.level: "loud" is not one of`,
		"--x: log.levl: no such key; did you mean log.level?",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, maxFile+1); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{filepath.Join(dir, "none"): "portreeve init", dir: "not a regular file", big: "too many"} {
		if _, err := Load(path, nil, nil); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestShowReadsBack(t *testing.T) {
	c := parse(t, `data_dir = "/x \"y\" \\ \t \u0085 \u0001 z"
[[listen]]
protocol = "ftp"
address = "127.0.0.1:2121"
hosts = ["a.example", "*.b.example"]
proxy = ["10.0.0.1", "2001:db8::/32"]
passive_ports = "6000"
banner = "two\nlines and \u00e9"
[[listen]]
protocol = "ftps"
[[ftp.passive.rule]]
networks = ["10.0.0.0/8"]
address = "10.0.0.1"
[[ftp.passive.rule]]
networks = ["192.168.0.0/16"]
address = "gw.example"
[limits]
bandwidth_up = "80Mbit/s"
upload_size = "1.5 GiB"
ban_time = "36h"
[ftp]
banner = "hi"
`)
	again := parse(t, c.Show(true))
	if d := Diff(c, again); len(d) != 0 {
		t.Errorf("differs: %+v\n%s", d, c.Show(true))
	}
	// Diff reads the same texts as Show: compare the values themselves too.
	c.src, again.src = source{}, source{}
	if !reflect.DeepEqual(c, again) {
		t.Errorf("got %+v\nwant %+v", again, c)
	}
	if c.Limits.BandwidthUp != 10_000_000 || c.Limits.UploadSize != 3<<29 || c.Limits.BanTime.Std() != 36*time.Hour {
		t.Errorf("%+v", c.Limits)
	}
}

func TestDiff(t *testing.T) {
	a := parse(t, minimal+"[[listen]]\nprotocol=\"ftps\"\n[[ftp.passive.rule]]\nnetworks=[\"10.0.0.0/8\"]\naddress=\"10.0.0.1\"\n")
	b := parse(t, "data_dir=\"/other\"\n[[listen]]\nprotocol=\"sftp\"\n"+minimal+"tls=\"offered\"\npassive_ports=\"6000-6001\"\n[[ftp.passive.rule]]\nnetworks=[\"10.0.0.0/8\"]\naddress=\"10.0.0.2\"\n[log]\nlevel=\"debug\"\n")
	var got []string
	for _, c := range Diff(a, b) {
		got = append(got, fmt.Sprintf("%s: %s -> %s (%s)", c.Key, c.Old, c.New, c.Reload))
	}
	want := []string{
		`data_dir: "/var/lib/portreeve" -> "/other" (restart)`,
		`listen[ftp-21].tls: "required" -> "offered" (live)`,
		`listen[ftp-21].data_tls: "required" -> "offered" (live)`,
		`listen[ftp-21].passive_ports:  -> "6000-6001" (live)`,
		`ftp.passive.rule: networks = ["10.0.0.0/8"]; address = "10.0.0.1" -> networks = ["10.0.0.0/8"]; address = "10.0.0.2" (live)`,
		`log.level: "info" -> "debug" (live)`,
		`admin.socket: "/var/lib/portreeve/portreeve.sock" -> "/other/portreeve.sock" (restart)`,
		`listen[ftps-990]: ":990" ->  (live)`,
		`listen[sftp-22]:  -> ":22" (live)`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if d := Diff(b, b); len(d) != 0 {
		t.Errorf("differs from itself: %v", d)
	}
	none := parse(t, minimal)
	if d := Diff(a, none); len(d) != 2 || d[0].Key != "ftp.passive.rule" || d[0].New != "" || d[1].Key != "listen[ftps-990]" {
		t.Errorf("removal: %v", d)
	}
}

func TestQuickStart(t *testing.T) {
	tests := []struct {
		address, ftp, ftps string
		tls                Policy
	}{
		{"", "127.0.0.1:2121", "127.0.0.1:2990", Offered},
		{"localhost", "127.0.0.1:2121", "127.0.0.1:2990", Offered},
		{"::1", "[::1]:2121", "[::1]:2990", Offered},
		{"0.0.0.0", "0.0.0.0:2121", "0.0.0.0:2990", Required},
		{"*", ":2121", ":2990", Required},
		{"192.0.2.1:2100", "192.0.2.1:2100", "192.0.2.1:2990", Required},
		{"[::1]:2100", "[::1]:2100", "[::1]:2990", Offered},
	}
	dir := t.TempDir()
	for _, tt := range tests {
		c, err := QuickStart(dir, tt.address, "PORTREEVE_LOG_LEVEL=debug")
		if err != nil {
			t.Errorf("%q: %v", tt.address, err)
			continue
		}
		if len(c.Listen) != 3 || c.Listen[2].Protocol != ProtocolSFTP || c.Listen[2].Port() != 2022 || c.Listen[0].Address != tt.ftp || c.Listen[0].TLS != tt.tls || c.Listen[0].DataTLS != tt.tls ||
			c.Listen[1].Address != tt.ftps || c.Listen[1].TLS != Required || c.DataDir != dir || c.Log.Level != "debug" {
			t.Errorf("%q: %+v", tt.address, c.Listen)
		}
	}
	for _, bad := range []string{"ftp.example.org", "300.1.1.1", "127.0.0.1:x", "127.0.0.1:2990"} {
		if _, err := QuickStart(dir, bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestCompleteByHand(t *testing.T) {
	c := Default()
	c.DataDir = t.TempDir()
	c.Listen = []Listen{{Protocol: ProtocolFTP, Address: "127.0.0.1:0", TLS: Off}}
	for range 2 {
		if err := c.Complete(); err != nil {
			t.Fatal(err)
		}
	}
	if l := c.Listen[0]; l.Name != "ftp-0" || l.DataTLS != Off || l.DataSession != BindPrefer || l.ClientCert != CertOff || c.Admin.Socket == "" {
		t.Errorf("%+v", l)
	}
	if r := c.Ports(&c.Listen[0]); r != c.FTP.Passive.Ports {
		t.Errorf("range %v", r)
	}
	own := PortRange{6000, 6001}
	c.Listen[0].PassivePorts = &own
	if r := c.Ports(&c.Listen[0]); r != own {
		t.Errorf("own range %v", r)
	}
	c.FTP.Passive.Ports, c.Listen[0].PassivePorts = PortRange{}, nil
	if err := c.Complete(); err == nil {
		t.Error("empty range accepted")
	}
}

func TestWarnings(t *testing.T) {
	c := parse(t, "[[listen]]\nprotocol=\"ftp\"\ntls=\"off\"\nproxy=[\"0.0.0.0/0\"]\n[[listen]]\nprotocol=\"ftp\"\naddress=\":2121\"\ntls=\"offered\"\npassive_ports=\"50900-51000\"\nlegacy_tls=true\n"+
		"[[listen]]\nprotocol=\"ftp\"\naddress=\"127.0.0.1:2122\"\ntls=\"off\"\n[[listen]]\nprotocol=\"ftps\"\ndata_tls=\"offered\"\n[ftp]\nfxp=[\"::/0\"]\n")
	var lines []int
	for _, w := range c.Warnings() {
		lines = append(lines, w.Line)
	}
	if !reflect.DeepEqual(lines, []int{3, 4, 8, 9, 10, 17, 19}) {
		t.Errorf("warnings at %v:\n%v", lines, c.Warnings())
	}
}

func TestAcceptsHost(t *testing.T) {
	l := Listen{Hosts: []string{"FTP.example.org", "*.example.net"}}
	for name, want := range map[string]bool{"ftp.example.org": true, "ftp.example.org.": true, "x.example.net": true, "X.EXAMPLE.NET": true, "a.b.example.net": false, "example.net": false, ".example.net": false, "other": false, "": false} {
		if got := l.AcceptsHost(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	if !(&Listen{}).AcceptsHost("anything") {
		t.Error("an empty list must accept any")
	}
}

func TestMatch(t *testing.T) {
	var a, b Prefix
	if err := errors.Join(a.UnmarshalText([]byte("10.0.0.0/8")), b.UnmarshalText([]byte("fe80::1"))); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "11.0.0.1": false, "fe80::1%eth0": true, "fe80::2": false} {
		if got := Match([]Prefix{a, b}, netip.MustParseAddr(s)); got != want {
			t.Errorf("%s: %v", s, got)
		}
	}
}

func TestByteOrderMarkAndCRLF(t *testing.T) {
	c := parse(t, "\ufeff"+strings.ReplaceAll(minimal, "\n", "\r\n"))
	if len(c.Listen) != 1 {
		t.Errorf("%+v", c.Listen)
	}
}

func TestErrorsUnwrap(t *testing.T) {
	_, err := Parse("p", []byte("x = 1\n"))
	var one Error
	if !errors.As(err, &one) || one.Line != 1 || one.Col != 1 || one.Key != "x" {
		t.Errorf("%+v from %v", one, err)
	}
}

// Hostile files are answered in reasonable time: nothing is quadratic in what
// an attacker or an accident can make long.
func TestLargeFiles(t *testing.T) {
	for name, text := range map[string]string{
		"syntax":   strings.Repeat("x\n", 500_000),
		"unknown":  strings.Repeat("[nope]\n[[nope2]]\n", 50_000),
		"entries":  strings.Repeat("[[listen]]\nprotocol='ftp'\n", 50_000),
		"list":     minimal + "hosts = [" + strings.Repeat("'a.b',", 200_000) + "]\n",
		"brackets": "x = " + strings.Repeat("[", 500_000),
	} {
		start := time.Now()
		_, err := Parse("p", []byte(text))
		var errs Errors
		if !errors.As(err, &errs) || len(errs) > maxErrors+2*maxEntries {
			t.Errorf("%s: %d mistakes", name, len(errs))
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}
