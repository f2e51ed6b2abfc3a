package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Value is one effective setting.
type Value struct {
	Key    string `json:"key"`    // "ftp.passive.ports", listeners by name: "listen[ftp-21].address"
	Value  string `json:"value"`  // as TOML, "" when it is not set
	Origin string `json:"origin"` // "default", "derived", "portreeve.toml:7", "env PORTREEVE_X", "flag --x"
	Reload string `json:"reload"` // "live" or "restart"

	section string // header the key stands under, "[ftp.passive]"
	name    string // last part of the key
}

// Change is a key whose value differs between two configurations.
type Change struct {
	Key    string `json:"key"`    // "ftp.passive.ports"; a listener that came or went is "listen[name]"
	Old    string `json:"old"`    // as TOML, "" when it was not set
	New    string `json:"new"`    // as TOML, "" when it is not set any more
	Reload string `json:"reload"` // "live", or "restart" when only a restart applies it
}

// Warnings lists what is allowed but probably not meant.
func (c *Config) Warnings() Errors { return c.src.warnings }

// origin names the source of a key.
func (c *Config) origin(key string, f *field) string {
	if o := c.src.origin[key]; o != "" {
		return o
	}
	if at, ok := c.src.at[key]; ok {
		return fmt.Sprintf("%s:%d", printable(c.src.file), at.line)
	}
	if f.derived != "" {
		return "derived"
	}
	return "default"
}

// Values lists every effective setting in the order of the reference.
func (c *Config) Values() []Value {
	var out []Value
	var walk func(prefix, shown, section string, v reflect.Value)
	walk = func(prefix, shown, section string, v reflect.Value) {
		all := fields(v.Type())
		for _, f := range all {
			if shapeOf(f.typ) > list {
				continue
			}
			key := join(prefix, f.name)
			out = append(out, Value{
				Key: join(shown, f.name), Value: settingText(v.Field(f.index)), Origin: c.origin(key, &f),
				Reload: f.reload, section: section, name: f.name,
			})
		}
		for _, f := range all {
			key, label, fv := join(prefix, f.name), join(shown, f.name), v.Field(f.index)
			switch shapeOf(f.typ) {
			case table:
				walk(key, label, "["+key+"]", fv)
			case tables:
				for i := range fv.Len() {
					name := fmt.Sprint(i)
					if l, ok := fv.Index(i).Interface().(Listen); ok && l.Name != "" {
						name = l.Name
					}
					// The number keeps the headers of two entries apart; Show cuts it off.
					walk(fmt.Sprintf("%s[%d]", key, i), fmt.Sprintf("%s[%s]", label, name), fmt.Sprintf("[[%s]]%d", key, i), fv.Index(i))
				}
			}
		}
	}
	walk("", "", "", reflect.ValueOf(c).Elem())
	return out
}

// settingText writes a scalar or a list, "" for a pointer that is not set.
func settingText(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil():
		return ""
	case shapeOf(v.Type()) == list:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = literal(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return literal(v)
}

// Show writes the effective configuration as TOML that Parse accepts and reads
// back as the same. With origin each line ends with a comment that names its source.
func (c *Config) Show(origin bool) string {
	var b strings.Builder
	section := ""
	for _, v := range c.Values() {
		if v.section != section {
			section = v.section
			fmt.Fprintf(&b, "\n%s\n", strings.TrimRight(section, "0123456789"))
		}
		if v.Value == "" {
			continue
		}
		line := v.name + " = " + v.Value
		if origin {
			line = fmt.Sprintf("%-48s # %s", line, v.Origin)
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// Diff lists the keys that differ, in the order of the reference. Listeners are
// matched by name; a list of other tables counts as one key.
func Diff(old, new *Config) []Change {
	type entry struct{ value, reload string }
	collect := func(c *Config) (map[string]entry, []string) {
		m, order := map[string]entry{}, []string{}
		for _, v := range c.Values() {
			key, value := v.Key, v.Value
			if strings.HasPrefix(v.section, "[[") && !strings.HasPrefix(key, "listen[") {
				key = strings.Trim(v.section, "[]0123456789")
				if value == "" {
					continue // an optional key that is not there
				}
				value = strings.TrimPrefix(m[key].value+"; "+v.name+" = "+value, "; ")
			}
			if _, ok := m[key]; !ok {
				order = append(order, key)
			}
			m[key] = entry{value, v.Reload}
		}
		return m, order
	}
	a, aOrder := collect(old)
	b, bOrder := collect(new)
	named := func(c *Config) map[string]*Listen {
		m := map[string]*Listen{}
		for i := range c.Listen {
			m[c.Listen[i].Name] = &c.Listen[i]
		}
		return m
	}
	aListen, bListen := named(old), named(new)
	// gone tells whether a key belongs to a listener that the other side lacks.
	gone := func(key string, other map[string]*Listen) bool {
		name, ok := strings.CutPrefix(key, "listen[")
		if ok {
			name = name[:strings.LastIndexByte(name, ']')]
			_, there := other[name]
			return !there
		}
		return false
	}
	var out []Change
	for _, key := range bOrder {
		if x, y := a[key], b[key]; x.value != y.value && !gone(key, aListen) {
			out = append(out, Change{key, x.value, y.value, y.reload})
		}
	}
	for _, key := range aOrder {
		if _, still := b[key]; !still && !gone(key, bListen) {
			out = append(out, Change{key, a[key].value, "", a[key].reload})
		}
	}
	for i := range old.Listen {
		if l := &old.Listen[i]; bListen[l.Name] == nil {
			out = append(out, Change{Key: "listen[" + l.Name + "]", Old: quote(l.Address), Reload: "live"})
		}
	}
	for i := range new.Listen {
		if l := &new.Listen[i]; aListen[l.Name] == nil {
			out = append(out, Change{Key: "listen[" + l.Name + "]", New: quote(l.Address), Reload: "live"})
		}
	}
	return out
}
