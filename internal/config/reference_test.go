package config

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/reference/config.md")

func TestReferenceIsFresh(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "reference", "config.md")
	want := Reference()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("docs/reference/config.md is not what the structs say (%v); run: go test ./internal/config -run Reference -update", err)
	}
	walkSchema(func(s schemaKey) {
		if shapeOf(s.f.typ) <= list && !strings.Contains(want, "| `"+s.f.name+"` |") {
			t.Errorf("%s is not in the reference", s.key)
		}
	})
}

func TestExampleIsValid(t *testing.T) {
	c, err := Parse("portreeve.toml", []byte(Example()))
	if err != nil {
		t.Fatalf("%v\n%s", err, Example())
	}
	if len(c.Listen) != 2 || c.Listen[0].Name != "ftp-21" || c.Listen[1].Name != "ftps-990" || len(c.Warnings()) != 0 {
		t.Errorf("listeners %+v, warnings %v", c.Listen, c.Warnings())
	}
}

// Every key that the example only mentions is spelled right and has a value of
// the right type: only missing files and sense may be complained about.
func TestExampleMentionsEveryKey(t *testing.T) {
	live := regexp.MustCompile(`(?m)^# ([a-z0-9_]+ = |\[\[)`).ReplaceAllString(Example(), "$1")
	_, err := Parse("portreeve.toml", []byte(live))
	if errs, ok := err.(Errors); ok {
		for _, e := range errs {
			if !strings.HasPrefix(e.Text, "no such") {
				t.Error(e)
			}
		}
	} else if err != nil {
		t.Error(err)
	}
	walkSchema(func(s schemaKey) {
		if shapeOf(s.f.typ) <= list && !strings.Contains(live, "\n"+s.f.name+" = ") {
			t.Errorf("the example does not mention %s", s.key)
		}
	})
	for line := range strings.Lines(Example()) {
		if len(line) > 100 {
			t.Errorf("long line: %s", line)
		}
	}
}

func TestSchemaIsComplete(t *testing.T) {
	keys, env := 0, map[string]string{}
	walkSchema(func(s schemaKey) {
		if s.f.doc == "" {
			t.Errorf("%s has no doc", s.key)
		}
		if shapeOf(s.f.typ) > list {
			return
		}
		keys++
		if s.f.reload != "live" && s.f.reload != "restart" {
			t.Errorf("%s: reload is %q", s.key, s.f.reload)
		}
		if !s.f.hasDef && s.f.derived == "" && !s.f.required && shapeOf(s.f.typ) != list {
			t.Errorf("%s: nothing says what its absence means", s.key)
		}
		for _, word := range []string{"password", "secret", "token", "passphrase"} {
			if strings.Contains(s.f.name, word) && !strings.HasSuffix(s.f.name, "_file") && !strings.HasSuffix(s.f.name, "_env") {
				t.Errorf("%s: a secret must be a file, or the name of a variable", s.key)
			}
		}
		if name := EnvName(s.key); env[name] != "" {
			t.Errorf("%s and %s share %s", s.key, env[name], name)
		} else {
			env[name] = s.key
		}
	})
	if keys >= 190 { // over 50 of them are of hooks, tasks, countries and traces, which a plain server has none of
		t.Errorf("%d keys; the aim is under 190", keys)
	}
	for i := range reflect.TypeFor[Config]().NumField() {
		f := reflect.TypeFor[Config]().Field(i)
		if f.IsExported() && f.Tag.Get("toml") == "" {
			t.Errorf("Config.%s has no toml tag", f.Name)
		}
	}
}
