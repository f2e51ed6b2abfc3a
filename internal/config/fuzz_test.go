package config

import (
	"errors"
	"testing"
)

// FuzzParse: whatever the file holds, the answer is a configuration that Show
// can write and Parse reads back as the same, or a list of mistakes that each
// say something and lie within the file.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		minimal, Example(), "", "\ufeff", "[listen]\n", "listen = [{protocol=\"ftp\"}]\n", "a.b.c = {d = [1, {e = 2}]}\n",
		minimal + "banner = \"\"\"two\nlines\"\"\"\n[ftp.passive]\nports = \"1-0\"\n[[ftp.passive.rule]]\nnetworks = [\"::/0\"]\naddress = \"x\"\n",
		"[ftp\nx", "x = \"", "x = \"\"\"\n", "[[listen]]\n[[listen]]\n", "[limits]\nbandwidth_up = \"1e9\"\nper_user = 0xffffffffffffffff\n",
		"log.level = \"debug\"\nlog = 3\n", "[ftp.passive.rule]\n[[ftp.passive.rule.x]]\n", "[listen.x]\n", "\x00", "drain = 1979-05-27\n",
		"data_dir = \"\\u0000\"\n" + minimal,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("/nonexistent/portreeve.toml", data)
		if err == nil {
			if c == nil {
				t.Fatal("neither configuration nor error")
			}
			again, err := Parse("/nonexistent/portreeve.toml", []byte(c.Show(true)))
			if err != nil {
				t.Fatalf("does not read back: %v\n%s", err, c.Show(true))
			}
			if d := Diff(c, again); len(d) != 0 {
				t.Fatalf("reads back differently: %v", d)
			}
			return
		}
		var errs Errors
		if c != nil || !errors.As(err, &errs) || len(errs) == 0 {
			t.Fatalf("%v, %v", c, err)
		}
		lines := 1
		for _, b := range data {
			if b == '\n' {
				lines++
			}
		}
		for _, e := range errs {
			if e.Text == "" || e.File == "" || e.Line > lines || e.Line > 0 && e.Col < 1 {
				t.Fatalf("useless mistake %+v", e)
			}
		}
	})
}
