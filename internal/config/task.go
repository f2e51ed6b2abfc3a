package config

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/netresearch/go-cron"
)

// Schedule says when a task runs: five fields of cron, @daily and the like, or
// "@every 6h". Times are those of the server's zone; "CRON_TZ=Europe/Berlin"
// in front names another.
type Schedule struct {
	text string
	next cron.Schedule
}

// UnmarshalText reads a schedule.
func (s *Schedule) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	next, err := cron.ParseStandard(text)
	if err != nil {
		return fmt.Errorf("%q is not a schedule such as \"30 3 * * *\" (minute, hour, day, month, weekday), \"@daily\" or \"@every 6h\": %w", clip(text), err)
	}
	if next.Next(time.Now()).IsZero() {
		return fmt.Errorf("%q never comes", clip(text))
	}
	*s = Schedule{text, next}
	return nil
}

// String writes what UnmarshalText reads.
func (s Schedule) String() string { return s.text }

// MarshalText writes what UnmarshalText reads.
func (s Schedule) MarshalText() ([]byte, error) { return []byte(s.text), nil }

// Next is the first time after t that the schedule names; zero: never.
func (s Schedule) Next(t time.Time) time.Time {
	if s.next == nil {
		return time.Time{}
	}
	return s.next.Next(t)
}

// Work is what a task does.
type Work string

// The kinds of work.
const (
	WorkRetention Work = "retention"
	WorkSweep     Work = "sweep"
	WorkQuota     Work = "quota"
	WorkEvents    Work = "events"
)

// EmptyDirs says what becomes of directories that a retention rule has emptied.
type EmptyDirs string

func (Work) choices() []string      { return []string{"retention", "sweep", "quota", "events"} }
func (EmptyDirs) choices() []string { return []string{"keep", "remove"} }

// Task is one [[task]] entry.
type Task struct {
	Name      string    `toml:"name" example:"\"clean-inbox\"" reload:"live" required:"true" doc:"Name in lists, logs and the trail."`
	Do        Work      `toml:"do" example:"\"retention\"" reload:"live" required:"true" doc:"retention deletes or archives old files; sweep removes what broken uploads left; quota counts the files of accounts with a quota anew; events lets old events of the trail go."`
	Schedule  Schedule  `toml:"schedule" example:"\"30 3 * * *\"" reload:"live" required:"true" doc:"When it runs: minute, hour, day, month and weekday as in cron, @hourly, @daily, @weekly, @monthly, or @every 6h. Times are local; CRON_TZ=Europe/Berlin in front names a zone. A run that falls into a stop of the server is left out."`
	Users     []string  `toml:"users" example:"[\"acme-*\"]" reload:"live" doc:"Accounts whose files a retention rule is for; * stands for any text, ? for one character."`
	Groups    []string  `toml:"groups" example:"[\"partners\"]" reload:"live" doc:"Groups whose members' files a retention rule is for, besides users."`
	Path      string    `toml:"path" default:"" example:"\"/in\"" reload:"live" doc:"Directory as these users see it; the rule is for the files below."`
	Older     Duration  `toml:"older" default:"0s" example:"\"30d\"" reload:"live" doc:"Age from which a file goes, by its time of modification, which many clients set to that of the original; or an event of the trail."`
	Match     []string  `toml:"match" example:"[\"*.csv\"]" reload:"live" doc:"Only files of these names, without the directory; * stands for any text, ? for one character. Empty is every file."`
	Except    []string  `toml:"except" example:"[\"README*\"]" reload:"live" doc:"Files of these names stay."`
	Archive   string    `toml:"archive" default:"" example:"\"/old\"" reload:"live" doc:"Directory, as the users see it, that files are moved to with the directories they were in. Empty deletes them."`
	EmptyDirs EmptyDirs `toml:"empty_dirs" default:"keep" reload:"live" doc:"Whether directories below path that the rule has emptied stay."`
	DryRun    bool      `toml:"dry_run" default:"false" reload:"live" doc:"Whether it only says what it would do."`
}

// tasks checks [[task]].
func (k *checker) tasks() {
	names := map[string]string{}
	for i := range k.c.Tasks {
		t, key := &k.c.Tasks[i], fmt.Sprintf("task[%d]", i)
		k.entryName(key, "task", t.Name, names)
		if t.Schedule.text == "" {
			k.fail(key+".schedule", "missing; say when it runs, such as \"@daily\"")
		}
		switch t.Do {
		case WorkRetention:
			k.retention(t, key)
		case WorkEvents:
			if t.Older <= 0 {
				k.fail(key+".older", "missing; say from which age on events go, such as \"400d\"")
			}
		case WorkSweep, WorkQuota:
		default:
			k.fail(key+".do", "missing; write do = \"retention\", \"sweep\", \"quota\" or \"events\"")
		}
	}
}

func (k *checker) retention(t *Task, key string) {
	if len(t.Users)+len(t.Groups) == 0 {
		k.fail(key+".users", "missing; say whose files it is for, with users or groups (users = [\"*\"] is everybody)")
	}
	if t.Older <= 0 {
		k.fail(key+".older", "missing; say from which age on files go, such as \"30d\"")
	}
	good := func(what, p string) bool {
		if path.IsAbs(p) && path.Clean(p) == p {
			return true
		}
		k.fail(key+"."+what, "%q is not the path of a directory as users see it, such as /in", clip(p))
		return false
	}
	if t.Path == "" {
		k.fail(key+".path", "missing; name the directory as the users see it, such as \"/in\" (\"/\" is all)")
		return
	}
	if !good("path", t.Path) || t.Archive == "" || !good("archive", t.Archive) {
		return
	}
	if t.Archive == t.Path {
		k.fail(key+".archive", "it is the same as path; choose another directory")
	}
}
