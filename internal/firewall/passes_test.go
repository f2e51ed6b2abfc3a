package firewall

import "testing"

func TestPasses(t *testing.T) {
	const rules = `*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A OUTPUT -p tcp -m tcp --dport 40000:65535 -j DROP
COMMIT
`
	tests := []struct {
		format  string
		out, v6 bool
		port    uint16
		want    Status
	}{
		{FormatIptables, false, false, 22, Open},
		{FormatIptables, false, false, 40001, Closed},
		{FormatIptables, true, false, 21, Open},
		{FormatIptables, true, false, 50000, Closed},
		{FormatIptables, true, true, 50000, Open}, // says nothing about IPv6
	}
	for _, tt := range tests {
		got, why, err := Passes(tt.format, rules, tt.out, tt.v6, tt.port)
		if err != nil || got != tt.want || (got == Closed) != (why != "") {
			t.Errorf("%+v: %v %q %v", tt, got, why, err)
		}
	}
	if _, _, err := Passes("pf", rules, true, false, 21); err == nil {
		t.Error("an unknown format is no error")
	}
}
