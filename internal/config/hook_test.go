package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const hookBase = "[[listen]]\nprotocol = \"ftp\"\n"

func TestHookMistakes(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "p")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	mail := "[mail]\nserver = \"127.0.0.1:25\"\ntls = \"off\"\nfrom = \"a@example.org\"\n"
	good := "name = \"n\"\non = [\"upload\"]\n"
	tests := []struct{ name, toml, want string }{
		{"webhook", "[[hook]]\n" + good + "deliver = \"webhook\"\nurl = \"https://a.example.org/\"\n", ""},
		{"program", "[[hook]]\n" + good + "deliver = \"program\"\nprogram = [\"" + program + "\", \"-x\"]\n", ""},
		{"mail", mail + "[[hook]]\n" + good + "deliver = \"mail\"\nto = [\"b@example.org\"]\n", ""},
		{"underscores", "[[hook]]\nname = \"n\"\non = [\"login_failed\", \"data_failure\", \"quota\"]\ndeliver = \"webhook\"\nurl = \"https://a.example.org/\"\n", ""},
		{"no kind of delivery", "[[hook]]\n" + good, `hook.deliver: missing`},
		{"no event", "[[hook]]\nname = \"n\"\ndeliver = \"webhook\"\nurl = \"https://a/\"\n", `hook.on: missing`},
		{"unknown event", "[[hook]]\nname = \"n\"\non = [\"uplaod\"]\n", `did you mean "upload"?`},
		{"two of a name", strings.Repeat("[[hook]]\n"+good+"deliver = \"webhook\"\nurl = \"https://a.example.org/\"\n", 2), `already the name of another hook in line 4`},
		{"bad name", "[[hook]]\nname = \"a b\"\non = [\"upload\"]\n", "a name is up to 64 letters"},
		{"password in the URL", "[[hook]]\n" + good + "deliver = \"webhook\"\nurl = \"https://u:p@a.example.org/\"\n", "the URL holds a password"},
		{"other scheme", "[[hook]]\n" + good + "deliver = \"webhook\"\nurl = \"file:///etc/passwd\"\n", "is not a URL"},
		{"relative program", "[[hook]]\n" + good + "deliver = \"program\"\nprogram = [\"sh\", \"-c\"]\n", "is not an absolute path"},
		{"program that climbs", "[[hook]]\n" + good + "deliver = \"program\"\nprogram = [\"/usr/../bin/sh\"]\n", "is not an absolute path"},
		{"no program", "[[hook]]\n" + good + "deliver = \"program\"\nprogram = [\"" + dir + "/none\"]\n", "no such file"},
		{"mail without server", "[[hook]]\n" + good + "deliver = \"mail\"\nto = [\"b@example.org\"]\n", "mail needs a mail server"},
		{"header in address", mail + "[[hook]]\n" + good + "deliver = \"mail\"\nto = [\"b@example.org\\nBcc: c@example.org\"]\n", "is not a mail address"},
		{"header in subject", mail + "[[hook]]\n" + good + "deliver = \"mail\"\nto = [\"b@example.org\"]\nsubject = \"a\\r\\nBcc: c@example.org\"\n", "a subject is one line"},
		{"asking by mail", mail + "[[hook]]\n" + good + "mode = \"ask\"\ndeliver = \"mail\"\nto = [\"b@example.org\"]\n", "mail gives no answer"},
		{"asking about the past", "[[hook]]\nname = \"n\"\non = [\"logout\"]\nmode = \"ask\"\ndeliver = \"webhook\"\nurl = \"https://a.example.org/\"\n", "cannot be refused"},
		{"asking with a size", "[[hook]]\n" + good + "mode = \"ask\"\nmin_size = \"1k\"\ndeliver = \"webhook\"\nurl = \"https://a.example.org/\"\n", "size is not known"},
		{"asking with a largest size", "[[hook]]\n" + good + "mode = \"ask\"\nmax_size = \"1k\"\ndeliver = \"webhook\"\nurl = \"https://a.example.org/\"\n", "size is not known"},
		{"asking about failures", "[[hook]]\n" + good + "mode = \"ask\"\noutcome = \"failed\"\ndeliver = \"webhook\"\nurl = \"https://a.example.org/\"\n", "nothing has failed"},
		{"asking for long", "[[hook]]\n" + good + "mode = \"ask\"\ntimeout = \"2m\"\ndeliver = \"webhook\"\nurl = \"https://a.example.org/\"\n", "the most is 1m"},
		{"mail in clear", "[mail]\nserver = \"smtp.example.org:25\"\ntls = \"off\"\nfrom = \"a@example.org\"\n", "mail would cross the network in clear"},
		{"sizes", "[[hook]]\n" + good + "min_size = \"2 MiB\"\nmax_size = 5\ndeliver = \"webhook\"\nurl = \"https://a.example.org/\"\n", "no transfer would ever match"},
		{"missing variable", "[[hook]]\n" + good + "deliver = \"webhook\"\nurl = \"https://a.example.org/\"\nsecret_env = \"PORTREEVE_NO_SUCH\"\n", "is not set or empty"},
		{"task", "[[task]]\nname = \"n\"\ndo = \"retention\"\nschedule = \"30 3 * * *\"\nusers = [\"*\"]\npath = \"/in\"\nolder = \"30d\"\n", ""},
		{"task without files", "[[task]]\nname = \"n\"\ndo = \"retention\"\nschedule = \"@daily\"\npath = \"/in\"\nolder = \"1d\"\n", "say whose files"},
		{"task for ever", "[[task]]\nname = \"n\"\ndo = \"retention\"\nschedule = \"@daily\"\nusers = [\"*\"]\npath = \"/in\"\n", "from which age on"},
		{"archive in path", "[[task]]\nname = \"n\"\ndo = \"retention\"\nschedule = \"@daily\"\nusers = [\"*\"]\npath = \"/in\"\nolder = \"1d\"\narchive = \"/in\"\n", "the same as path"},
		{"path that climbs", "[[task]]\nname = \"n\"\ndo = \"retention\"\nschedule = \"@daily\"\nusers = [\"*\"]\npath = \"/in/../x\"\nolder = \"1d\"\n", "is not the path of a directory"},
		{"bad schedule", "[[task]]\nname = \"n\"\ndo = \"sweep\"\nschedule = \"61 * * * *\"\n", "is not a schedule"},
		{"no such day", "[[task]]\nname = \"n\"\ndo = \"sweep\"\nschedule = \"0 0 31 2 *\"\n", "never comes"},
		{"no schedule", "[[task]]\nname = \"n\"\ndo = \"sweep\"\n", "say when it runs"},
		{"hostile zone", "[[task]]\nname = \"n\"\ndo = \"sweep\"\nschedule = \"TZ=0\"\n", "is not a schedule"},
	}
	for _, tt := range tests {
		_, err := Parse("portreeve.toml", []byte(hookBase+tt.toml))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v; want %q", tt.name, err, tt.want)
		}
	}
}

// Schedules follow the clock on the wall: a run at 3:30 stays at 3:30 when the
// clocks change.
func TestScheduleOverClockChange(t *testing.T) {
	var s Schedule
	if err := s.UnmarshalText([]byte("CRON_TZ=Europe/Berlin 30 3 * * *")); err != nil {
		t.Fatal(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 28, 12, 0, 0, 0, berlin) // the day before the change
	for _, want := range []string{"2026-03-29 03:30 CEST", "2026-03-30 03:30 CEST"} {
		at = s.Next(at)
		if got := at.In(berlin).Format("2006-01-02 15:04 MST"); got != want {
			t.Errorf("next run %s, want %s", got, want)
		}
	}
}
