package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/api"
	"github.com/portreeve/portreeve/internal/fault"
)

func TestSize(t *testing.T) {
	tests := map[int64]string{0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 102399: "100 KiB",
		1048524: "1.0 MiB", 1048575: "1.0 MiB", 10 << 30: "10.0 GiB", 1<<63 - 1: "8.0 EiB"}
	for n, want := range tests {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	tests := map[time.Duration]string{0: "0s", -time.Second: "0s", 59 * time.Second: "59s", 60 * time.Second: "1m00s", 3599 * time.Second: "59m59s",
		time.Hour: "1h00m", 25 * time.Hour: "1d01h", 100 * 24 * time.Hour: "100d00h"}
	for d, want := range tests {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestPlainDisarmsTerminals(t *testing.T) {
	tests := map[string]string{
		"report 2024.csv":  "report 2024.csv",
		"grün/日本":          "grün/日本",
		"a\x1b[2Jb":        `a\x1b[2Jb`,
		"a\r\nb":           `a\r\nb`,
		"\u202efdp.exe":    `\u202efdp.exe`, // right-to-left override
		"bad\xffbyte":      `bad\xffbyte`,
		"tab\there":        `tab\there`,
		"quote\"s and 's'": "quote\"s and 's'",
	}
	for in, want := range tests {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestExpiry(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct{ in, want string }{
		{"2026-12-31", "2027-01-01T00:00:00Z"}, // to the end of the day
		{"2026-12-31T18:00:00+01:00", "2026-12-31T17:00:00Z"},
		{"30d", "2026-03-31T12:00:00Z"},
		{"12h", "2026-03-02T00:00:00Z"},
		{"never", ""},
		{"", ""},
	}
	for _, tt := range tests {
		got, err := expiry(tt.in, now)
		if err != nil {
			t.Errorf("%q: %v", tt.in, err)
			continue
		}
		text := ""
		if !got.IsZero() {
			text = got.UTC().Format(time.RFC3339)
		}
		if text != tt.want {
			t.Errorf("expiry(%q) = %s, want %s", tt.in, text, tt.want)
		}
	}
	for _, bad := range []string{"soon", "2026-13-01", "0d", "-5d", "30"} {
		if _, err := expiry(bad, now); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestFingerprints(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.pem"), filepath.Join(dir, "bad.pem")
	if err := errors.Join(os.WriteFile(good, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(bad, []byte("hello"), 0o600)); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	want := hex.EncodeToString(sum[:])
	colons := strings.ToUpper(want[:2])
	for i := 2; i < len(want); i += 2 {
		colons += ":" + strings.ToUpper(want[i:i+2])
	}
	got, err := fingerprints([]string{good, colons, want})
	if err != nil || len(*got) != 3 || (*got)[0] != want || (*got)[1] != want || (*got)[2] != want {
		t.Errorf("got %v, %v; want three times %s", got, err, want)
	}
	if got, err := fingerprints([]string{"none"}); err != nil || len(*got) != 0 {
		t.Errorf("none: %v, %v", got, err)
	}
	for _, w := range []string{bad, filepath.Join(dir, "missing.pem"), want[:62], "zz" + want[2:]} {
		if _, err := fingerprints([]string{w}); err == nil {
			t.Errorf("%q was taken", w)
		}
	}
}

// settingsOf parses flags as user set does.
func settingsOf(t *testing.T, flags ...string) (admin.Settings, error) {
	t.Helper()
	var f userFlags
	cmd := &cobra.Command{}
	cmd.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "right" {
			name = "rights"
		}
		return pflag.NormalizedName(name)
	})
	f.register(cmd.Flags())
	if err := cmd.ParseFlags(flags); err != nil {
		t.Fatal(err)
	}
	return f.settings(cmd)
}

func TestSettingsFromFlags(t *testing.T) {
	s, err := settingsOf(t, "--home", "/srv/ann", "--right", "ro", "--rule", "/in=rw,-delete", "--rule", "/old=", "--mount", "/pub=/srv/p:ub:ro",
		"--mount", "/tmp=mem:", "--mount", "/gone=", "--quota-bytes", "10GiB", "--bandwidth-up", "5MB/s", "--network", "10.0.0.0/8,192.0.2.7", "--protocol", "FTPS", "--max-sessions", "0",
		"--deny", "/in=*.exe, *.bat", "--hide", "/=", "--hours", "fri-mon 22:00-06:00", "--group", "staff,temps", "--mount", "/box=/srv/box:quota=1GiB:files=7:ro")
	if err != nil {
		t.Fatal(err)
	}
	if *s.Home != "/srv/ann" || *s.QuotaBytes != 10<<30 || *s.BandwidthUp != 5_000_000 || *s.MaxSessions != 0 || (*s.Protocols)[0] != "ftps" {
		t.Errorf("settings %+v", s)
	}
	if s.QuotaFiles != nil || s.BandwidthDown != nil || s.Comment != nil || s.Expires != nil || s.Disabled != nil {
		t.Errorf("what was not given is set: %+v", s)
	}
	if r := s.ChangeRules; len(r) != 4 || !slices.Equal(*r[2].Deny, []string{"*.exe", "*.bat"}) || r[2].Rights != nil || r[3].Path != "/" || len(*r[3].Hide) != 0 || r[0].Path != "/" || *r[0].Rights != account.ReadOnly || *r[1].Rights != account.ReadWrite&^account.Delete || s.DropRules[0] != "/old" {
		t.Errorf("rules %+v, dropped %v", r, s.DropRules)
	}
	want := []account.Mount{{Path: "/pub", Source: "/srv/p:ub", ReadOnly: true}, {Path: "/tmp", Source: "mem:"}}
	if h := (*s.Hours)[0]; h.String() != "sun,mon,fri,sat 22:00-06:00" || !slices.Equal(*s.Groups, []string{"staff", "temps"}) {
		t.Errorf("hours %v, groups %v", h, *s.Groups)
	}
	if m := s.Mounts[2]; m.Source != "/srv/box" || !m.ReadOnly || m.Quota != (account.Quota{Bytes: 1 << 30, Files: 7}) {
		t.Errorf("mount with options %+v", m)
	}
	if len(s.Mounts) != 3 || s.Mounts[0] != want[0] || s.Mounts[1] != want[1] || s.DropMounts[0] != "/gone" {
		t.Errorf("mounts %+v, dropped %v", s.Mounts, s.DropMounts)
	}
	if n := *s.Networks; len(n) != 2 || n[0].String() != "10.0.0.0/8" || n[1].String() != "192.0.2.7/32" {
		t.Errorf("networks %v", *s.Networks)
	}
	if s, err = settingsOf(t, "--network", "any", "--protocol", "any", "--quota-bytes", "0"); err != nil || len(*s.Networks) != 0 || len(*s.Protocols) != 0 || *s.QuotaBytes != 0 {
		t.Errorf("lifting limits: %+v, %v", s, err)
	}
	if s, err = settingsOf(t); err != nil || !s.Empty() {
		t.Errorf("no flags: %+v, %v", s, err)
	}
	_, err = settingsOf(t, "--rights", "fly", "--rule", "in", "--mount", "/x", "--home", "", "--network", "300.1.1.1")
	for _, f := range []string{"--rights:", "--rule:", "--mount:", "--home:", "--network:"} {
		if err == nil || !strings.Contains(err.Error(), f) {
			t.Errorf("error %q does not name %s", err, f)
		}
	}
	var ue *usageError
	if !errors.As(err, &ue) {
		t.Errorf("a wrong flag is no usage error: %v", err)
	}
}

func TestWatchLines(t *testing.T) {
	now := time.Now()
	st := api.Status{Version: "1", PID: 7, Started: now.Add(-time.Minute), Sessions: []admin.Session{
		{ID: "a", User: "ann", Transfer: "download", Path: "/reports/2024/summary of everything.csv", Bytes: 50 << 20, Size: 200 << 20, Rate: 10 << 20},
		{ID: "b", User: "a-very-long-user-name", Transfer: "upload", Path: "/x\x1b[2J", Bytes: 3 << 20, Rate: 1 << 20},
		{ID: "c", User: "idle", Remote: "192.0.2.1:5", Command: "NOOP"},
	}}
	lines := watchLines(st, now, 90, 24)
	text := strings.Join(lines, "\n")
	for _, want := range []string{
		"portreeve 1, pid 7, up 1m00s",
		"3 sessions, 2 transfers; down 10.0 MiB/s, up 1.0 MiB/s",
		"-> [#####...............]       25%   10.0 MiB/s     15s",
		"of everything.csv",
		"a-very-long~ <- [--------------------]   3.0 MiB",
		`/x\x1b[2J`,
		"idle         192.0.2.1:5",
		"q quits",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	for _, l := range lines {
		if n := len([]rune(l)); n > 90 {
			t.Errorf("%d characters in %q", n, l)
		}
	}
	for range 50 {
		st.Sessions = append(st.Sessions, st.Sessions[0])
	}
	lines = watchLines(st, now, 40, 10)
	if len(lines) > 10 {
		t.Errorf("%d lines on a screen of 10", len(lines))
	}
	if !strings.Contains(strings.Join(lines, "\n"), "and 49 more") {
		t.Errorf("no word about the rest:\n%s", strings.Join(lines, "\n"))
	}
}

func TestTransferLineFull(t *testing.T) {
	l := transferLine(admin.Session{User: "x", Transfer: "download", Bytes: 10, Size: 10}, 80)
	if !strings.Contains(l, "[####################]      100%") {
		t.Error(l)
	}
}

func TestQuoteArg(t *testing.T) {
	tests := map[string]string{"a/b.toml": "a/b.toml", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$(x)": "'$(x)'"}
	for in, want := range tests {
		if got := quoteArg(in); got != want {
			t.Errorf("quoteArg(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestReadPassword(t *testing.T) {
	tests := []struct{ in, want string }{
		{"secret\n", "secret"}, {"secret\r\n", "secret"}, {"secret", "secret"}, {" a b \nnext\n", " a b "},
		{"", ""}, {"\n", ""}, {strings.Repeat("x", maxPassword+1) + "\n", ""},
	}
	for _, tt := range tests {
		a := newApp(strings.NewReader(tt.in), nil, nil, nil)
		got, err := a.readPassword()
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%.20q: %.20q, %v", tt.in, got, err)
		}
	}
}

func TestReportExitCodes(t *testing.T) {
	cmd := &cobra.Command{Use: "portreeve"}
	tests := []struct {
		err  error
		code int
		says string
	}{
		{nil, 0, ""},
		{errQuiet, 1, ""},
		{errFindings, 3, ""},
		{errors.New("a\nb"), 1, "portreeve: a\n  b\n"},
		{fault.Text(fault.NotExist, "there is none"), 1, "portreeve: there is none\n"},
		{&fault.Error{Kind: fault.Invalid, Op: "open", Err: errors.New("bad")}, 1, "portreeve: open: bad\n"},
		{usagef(cmd, "no %s", "way"), 2, "portreeve: no way\nSee \"portreeve --help\".\n"},
	}
	for _, tt := range tests {
		var b bytes.Buffer
		a := newApp(nil, nil, &b, nil)
		if code := a.report(cmd, tt.err); code != tt.code || b.String() != tt.says {
			t.Errorf("%v: code %d, %q; want %d, %q", tt.err, code, b.String(), tt.code, tt.says)
		}
	}
}

func TestInitTextForPlaces(t *testing.T) {
	f := initFlags{passive: "50000-50099", address: "2001:db8::1", ftpPort: 21, ftpsPort: 990}
	if text := f.file("/etc/portreeve/portreeve.toml"); !strings.Contains(text, `data_dir = "/var/lib/portreeve"`) || !strings.Contains(text, `"[2001:db8::1]:21"`) {
		t.Error(text)
	}
	if text := f.file("here.toml"); !strings.Contains(text, `data_dir = "portreeve-data"`) {
		t.Error(text)
	}
}

func TestConfigFileOrder(t *testing.T) {
	t.Chdir(t.TempDir())
	a := newApp(nil, nil, nil, []string{"PORTREEVE_CONFIG=env.toml"})
	if got := a.configFile(); got != "env.toml" {
		t.Error(got)
	}
	a.configFlag = "flag.toml"
	if got := a.configFile(); got != "flag.toml" {
		t.Error(got)
	}
	if err := os.WriteFile("portreeve.toml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := newApp(nil, nil, nil, nil).configFile(); got != "portreeve.toml" {
		t.Error(got)
	}
}

func TestSalvageReadsTheTwoKeys(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	text := "  data_dir = \"state\" # here\ncolour = 1\n[log]\nsocket = \"no\"\n[admin]\nsocket = \"run/s.sock\"\n[ftp]\ndata_dir = 7\n"
	if err := os.WriteFile("portreeve.toml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	gotDir, gotSocket, err := newApp(nil, nil, nil, nil).place()
	if err != nil || gotDir != filepath.Join(dir, "state") || gotSocket != filepath.Join(dir, "run/s.sock") {
		t.Errorf("place %q, %q, %v", gotDir, gotSocket, err)
	}
}
