package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// field is one key of the schema, read from the struct tags.
type field struct {
	name     string // last part of the key
	index    int    // in its struct
	typ      reflect.Type
	doc      string
	def      string
	hasDef   bool
	example  string // as TOML, where the default would show nothing
	derived  string // what an absent key means, for people
	reload   string // "live" or "restart"
	required bool
	path     string // "file": must exist, "dir", "new"; "" not a path
	min, max string
}

// known keeps the keys of each struct, which reading a file asks for at every line.
var known sync.Map // reflect.Type -> []field

// fields lists the keys of a struct in order.
func fields(t reflect.Type) []field {
	if f, ok := known.Load(t); ok {
		return f.([]field)
	}
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("toml")
		if name == "" {
			continue
		}
		def, has := f.Tag.Lookup("default")
		out = append(out, field{
			name: name, index: i, typ: f.Type, doc: f.Tag.Get("doc"), def: def, hasDef: has,
			example: f.Tag.Get("example"), derived: f.Tag.Get("derived"), reload: f.Tag.Get("reload"), required: f.Tag.Get("required") == "true",
			path: f.Tag.Get("path"), min: f.Tag.Get("min"), max: f.Tag.Get("max"),
		})
	}
	known.Store(t, out)
	return out
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// shape classifies the type of a key.
type shape int

const (
	scalar shape = iota // string, bool, int, text value, or pointer to one
	list                // of scalars
	table               // struct
	tables              // list of structs
)

func shapeOf(t reflect.Type) shape {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case reflect.PointerTo(t).Implements(textType):
		return scalar
	case t.Kind() == reflect.Struct:
		return table
	case t.Kind() == reflect.Slice:
		if shapeOf(t.Elem()) == table {
			return tables
		}
		return list
	}
	return scalar
}

// setDefaults fills the zero c from the default tags.
func setDefaults(c *Config) { defaultsOf(reflect.ValueOf(c).Elem()) }

func defaultsOf(v reflect.Value) {
	for _, f := range fields(v.Type()) {
		switch fv := v.Field(f.index); {
		case shapeOf(f.typ) == table:
			defaultsOf(fv)
		case f.hasDef && f.def != "":
			if err := f.set(fv, f.def); err != nil {
				panic(fmt.Sprintf("config: default of %s: %v", f.name, err)) // a mistake in config.go, seen by any test
			}
		}
	}
}

// set gives a scalar the value written as s, as in the environment, on the
// command line or within quotes.
func (f *field) set(v reflect.Value, s string) error {
	if v.Kind() == reflect.Pointer {
		n := reflect.New(v.Type().Elem())
		if err := f.set(n.Elem(), s); err != nil {
			return err
		}
		v.Set(n)
		return nil
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(s)); err != nil {
			return err
		}
		return f.bounds(v)
	}
	if c, ok := v.Interface().(chooser); ok {
		for _, w := range c.choices() {
			if s == w {
				v.SetString(s)
				return nil
			}
		}
		text := fmt.Sprintf("%q is not one of %s", s, strings.Join(c.choices(), ", "))
		if n := nearest(s, c.choices()); n != "" {
			text += fmt.Sprintf("; did you mean %q?", n)
		}
		return fmt.Errorf("%s", text)
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		switch s {
		case "true", "false":
			v.SetBool(s == "true")
		default:
			return fmt.Errorf("%q is neither true nor false", s)
		}
	case reflect.Int:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", s)
		}
		v.SetInt(n)
	default:
		panic("config: no reader for " + v.Type().String())
	}
	return f.bounds(v)
}

// bounds checks the min and max tags.
func (f *field) bounds(v reflect.Value) error {
	if v.Kind() != reflect.Int && v.Kind() != reflect.Int64 {
		return nil
	}
	limit := func(text string) reflect.Value {
		l := reflect.New(v.Type()).Elem()
		plain := field{name: f.name}
		if err := plain.set(l, text); err != nil {
			panic(fmt.Sprintf("config: bound of %s: %v", f.name, err))
		}
		return l
	}
	if f.min != "" && v.Int() < limit(f.min).Int() {
		return fmt.Errorf("%s is too small; the least is %s", text(v), f.min)
	}
	if f.max != "" && v.Int() > limit(f.max).Int() {
		return fmt.Errorf("%s is too large; the most is %s", text(v), f.max)
	}
	return nil
}

// text writes a scalar as set reads it.
func text(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err == nil {
			return string(b)
		}
	}
	return fmt.Sprint(v.Interface())
}

// literal writes a scalar as TOML.
func literal(v reflect.Value) string {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if !reflect.PointerTo(v.Type()).Implements(textType) {
		switch v.Kind() {
		case reflect.Bool, reflect.Int:
			return fmt.Sprint(v.Interface())
		}
	}
	return quote(text(v))
}

// quote writes a TOML basic string. strconv.Quote would use \x, which TOML 1.0 has not.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

// schemaKey is one key of the schema; tables come before their keys.
type schemaKey struct {
	key string // "ftp.passive.ports", with "[]" after lists of tables
	f   field
}

// walkSchema visits every key and table in the order of the reference: the
// plain keys of a table before its sections.
func walkSchema(visit func(schemaKey)) {
	var walk func(prefix string, t reflect.Type)
	walk = func(prefix string, t reflect.Type) {
		all := fields(t)
		for _, f := range all {
			if shapeOf(f.typ) <= list {
				visit(schemaKey{join(prefix, f.name), f})
			}
		}
		for _, f := range all {
			key := join(prefix, f.name)
			switch shapeOf(f.typ) {
			case table:
				visit(schemaKey{key, f})
				walk(key, f.typ)
			case tables:
				visit(schemaKey{key, f})
				walk(key+"[]", f.typ.Elem())
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
}
