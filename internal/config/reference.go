package config

import (
	"fmt"
	"reflect"
	"strings"
)

const referenceHead = `# Configuration reference

<!-- Made from internal/config by "go test ./internal/config -run Reference -update". Do not edit. -->

One TOML file. A key that is not listed here is an error, and so is a value of
the wrong type; all mistakes are reported at once, with file and line.
"portreeve check FILE" looks without starting anything, "portreeve config
example" prints a file with every key.

A value is taken from the command line, else from the environment, else from
the file, else it is the default; "portreeve config show --origin" names the
source of each. Every key outside a list has an environment variable: its name
in capitals with "_" for ".", after "PORTREEVE_": ftp.passive.ports is
PORTREEVE_FTP_PASSIVE_PORTS. Lists, and the keys of sections written in double
brackets, can only be set in the file.

Time spans are written "90s", "15m", "1h30m" or "2d"; sizes "500MB" (decimal)
or "10 GiB" (binary) or as a number of bytes; rates like "10MB/s" or
"80Mbit/s". Relative paths start at the directory of the file.

The column *change* says whether "portreeve reload" applies a new value to the
running server ("live") or only a restart does.
`

// Reference returns docs/reference/config.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	header := func(title, doc string) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", title, doc)
		b.WriteString("| key | value | default | change | meaning |\n|---|---|---|---|---|\n")
	}
	header("Top of the file", "These keys stand before the first section.")
	walkSchema(func(s schemaKey) {
		key := strings.ReplaceAll(s.key, "[]", "")
		switch shapeOf(s.f.typ) {
		case table:
			header("`["+key+"]`", s.f.doc)
		case tables:
			header("`[["+key+"]]`", s.f.doc)
		default:
			doc := s.f.doc
			if r := limits(&s.f); r != "" {
				doc += " " + r
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.f.name, cell(kindOf(s.f.typ)), cell(defaultOf(&s.f)), s.f.reload, cell(doc))
		}
	})
	return b.String()
}

func limits(f *field) string {
	switch {
	case f.min != "" && f.max != "":
		return fmt.Sprintf("From %s to %s.", f.min, f.max)
	case f.min != "" && f.min != "0":
		return fmt.Sprintf("At least %s.", f.min)
	}
	return ""
}

func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "*.", "\\*.").Replace(s)
}

// kindOf describes the values of a key.
func kindOf(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		return kindOf(t.Elem())
	}
	if c, ok := reflect.Zero(t).Interface().(chooser); ok {
		return "`" + strings.Join(c.choices(), "`, `") + "`"
	}
	switch t {
	case reflect.TypeFor[Duration]():
		return "time span"
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[Rate]():
		return "rate"
	case reflect.TypeFor[PortRange]():
		return "ports"
	case reflect.TypeFor[Prefix]():
		return "network"
	case reflect.TypeFor[Country]():
		return "country code"
	}
	switch t.Kind() {
	case reflect.Slice:
		return "list of " + kindOf(t.Elem())
	case reflect.Bool:
		return "`true`, `false`"
	case reflect.Int:
		return "number"
	}
	return "text"
}

// defaultOf describes what an absent key means.
func defaultOf(f *field) string {
	switch {
	case f.required:
		return "must be given"
	case f.derived != "":
		return f.derived
	case shapeOf(f.typ) == list:
		return "`[]`"
	}
	return "`" + defaultLiteral(f) + "`"
}

// defaultLiteral writes the default as TOML.
func defaultLiteral(f *field) string {
	v := reflect.New(f.typ).Elem()
	if f.def != "" {
		if err := f.set(v, f.def); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", f.name, err))
		}
	}
	return settingText(v)
}

const exampleHead = `# Portreeve configuration. Keys behind # show their default or an example.
# "portreeve check" looks for mistakes; docs/reference/config.md explains more.
`

// Example returns a commented configuration file with every key, which can be
// used as it is: explicit FTP on port 21 and implicit FTPS on port 990.
func Example() string {
	var b strings.Builder
	b.WriteString(exampleHead)
	walkSchema(func(s schemaKey) {
		key := strings.ReplaceAll(s.key, "[]", "")
		switch shapeOf(s.f.typ) {
		case table:
			b.WriteByte('\n')
			comment(&b, s.f.doc)
			fmt.Fprintf(&b, "[%s]\n", key)
		case tables:
			b.WriteByte('\n')
			comment(&b, s.f.doc)
			mark := ""
			if key != "listen" {
				mark = "# "
			}
			fmt.Fprintf(&b, "%s[[%s]]\n", mark, key)
		default:
			comment(&b, s.f.doc)
			if set := exampleSet[s.key]; set != "" {
				fmt.Fprintf(&b, "%s = %s\n", s.f.name, set)
				return
			}
			value := s.f.example
			if value == "" {
				value = defaultLiteral(&s.f)
			}
			fmt.Fprintf(&b, "# %s = %s\n", s.f.name, value)
		}
	})
	out := b.String()
	// The second listener follows the first with only what differs.
	i := strings.Index(out, "\n# The FTP protocol")
	return out[:i] + "\n# The same with TLS from the first byte.\n[[listen]]\nprotocol = \"ftps\"\naddress = \":990\"\n" + out[i:]
}

// exampleSet are the keys that the example sets.
var exampleSet = map[string]string{
	"data_dir":          `"/var/lib/portreeve"`,
	"listen[].protocol": `"ftp"`,
	"listen[].address":  `":21"`,
	"listen[].tls":      `"required"`,
	"ftp.passive.ports": `"50000-50999"`,
}

// comment writes doc as comment lines of at most 78 bytes.
func comment(b *strings.Builder, doc string) {
	line := "#"
	for word := range strings.FieldsSeq(doc) {
		if len(line)+1+len(word) > 78 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
