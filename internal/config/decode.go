package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Why the syntax tree and not toml.Unmarshal into the structs: Unmarshal stops
// at the first wrong type and tells no position of a value that is well-formed
// but makes no sense. The tree gives a line for every key, so that all mistakes
// of a file are found in one go.

const (
	maxSyntaxErrors = 20
	maxErrors       = 200 // nobody reads more; bounds the work on hostile input
	maxEntries      = 1000
)

// decoder fills a Config from the expressions of a file.
type decoder struct {
	c    *Config
	p    unstable.Parser
	errs Errors
	// The table that key-values go to at present; invalid in one that is unknown.
	at      reflect.Value
	prefix  string // full key of at, "listen[0]"
	unknown bool
	lines   []int // offset of each line
}

// decode reads data into c, which holds the defaults.
func (c *Config) decode(data []byte) Errors {
	if len(data) > maxFile {
		return Errors{{File: c.src.file, Text: "too large for a configuration file; is it the right one?"}}
	}
	d := &decoder{c: c}
	if i := invalidUTF8(data); i >= 0 {
		d.index(data)
		d.fail(uint32(i), "", "not UTF-8 text; save the file as UTF-8")
		return d.errs
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // Windows editors put it there
	data = bytes.Clone(data)                        // lines are blanked below
	d.index(data)
	d.syntax(data)
	if len(d.errs) == 0 {
		d.duplicates(data)
	}
	d.run(data)
	return d.errs
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return -1
}

// index notes where lines start.
func (d *decoder) index(data []byte) {
	d.lines = append(d.lines[:0], 0)
	for i, b := range data {
		if b == '\n' {
			d.lines = append(d.lines, i+1)
		}
	}
}

// position turns an offset into line and column.
func (d *decoder) position(offset uint32) position {
	low, high := 0, len(d.lines)
	for high-low > 1 {
		if mid := (low + high) / 2; d.lines[mid] <= int(offset) {
			low = mid
		} else {
			high = mid
		}
	}
	return position{line: low + 1, col: int(offset) - d.lines[low] + 1}
}

func (d *decoder) fail(offset uint32, key, format string, args ...any) {
	if len(d.errs) >= maxErrors {
		return
	}
	at := d.position(offset)
	d.errs = append(d.errs, Error{File: d.c.src.file, Line: at.line, Col: at.col, Key: plainKey(key), Text: fmt.Sprintf(format, args...)})
}

// syntax reports broken lines and blanks them in data, so that the rest of the
// file can still be checked. It gives up where a line cannot be blamed, such as
// a string that is never closed.
func (d *decoder) syntax(data []byte) {
	last := -1
	for len(d.errs) < maxSyntaxErrors {
		d.p.Reset(data)
		for d.p.NextExpression() {
		}
		var perr *unstable.ParserError
		if !errors.As(d.p.Error(), &perr) {
			return
		}
		offset := uint32(0)
		if len(perr.Highlight) > 0 {
			offset = d.p.Range(perr.Highlight).Offset
		}
		line := d.position(offset).line - 1
		start, end := d.lines[line], len(data)
		if line+1 < len(d.lines) {
			end = d.lines[line+1] - 1
		}
		content := data[start:end]
		if line == last || len(bytes.TrimSpace(content)) == 0 || line < last {
			blank(data[start:]) // an error that came back, or at a line without content
			if last < 0 {
				d.fail(offset, "", "%s", syntaxText(perr.Message, content))
			}
			return
		}
		last = line
		d.fail(offset, "", "%s", syntaxText(perr.Message, content))
		if bytes.Contains(content, []byte(`"""`)) || bytes.Contains(content, []byte("'''")) {
			blank(data[start:])
			return
		}
		if bytes.HasPrefix(bytes.TrimSpace(content), []byte("[")) {
			end = d.nextHeader(data, line) // the keys below would land in the wrong section
		}
		blank(data[start:end])
	}
}

// nextHeader returns the offset of the first header after line.
func (d *decoder) nextHeader(data []byte, line int) int {
	for _, start := range d.lines[line+1:] {
		if bytes.HasPrefix(bytes.TrimLeft(data[start:], " \t"), []byte("[")) {
			return start
		}
	}
	return len(data)
}

func blank(b []byte) {
	for i, c := range b {
		if c != '\n' {
			b[i] = ' '
		}
	}
}

// syntaxText adds what to do to the parser's terse words.
func syntaxText(message string, line []byte) string {
	text := "not valid TOML: " + message
	key, value, ok := bytes.Cut(line, []byte("="))
	value, _, _ = bytes.Cut(value, []byte("#"))
	v := string(bytes.TrimSpace(value))
	switch {
	case bytes.HasPrefix(bytes.TrimSpace(line), []byte("[")):
		text += "; a section is written [name] or [[name]] on a line of its own"
	case !ok:
		text += "; a setting is written key = value, a comment starts with #"
	case v == "":
		text += fmt.Sprintf("; %s needs a value, an empty one is \"\"", printable(string(bytes.TrimSpace(key))))
	case strings.ContainsAny(v[:1], `"'[{`):
		text += "; is a quote or bracket missing, or a backslash within \"...\" not doubled?"
	case len(v) <= 80:
		text += fmt.Sprintf("; text goes in quotes: %q", v)
	}
	return text
}

// duplicates lets the full decoder find keys and tables defined twice, which
// the bare parser does not look for.
func (d *decoder) duplicates(data []byte) {
	var any map[string]any
	err := toml.Unmarshal(data, &any)
	var derr *toml.DecodeError
	if !errors.As(err, &derr) {
		if err != nil {
			d.errs = append(d.errs, Error{File: d.c.src.file, Text: "not valid TOML: " + strings.TrimPrefix(err.Error(), "toml: ")})
		}
		return
	}
	line, col := derr.Position()
	text := strings.TrimPrefix(derr.Error(), "toml: ")
	d.errs = append(d.errs, Error{File: d.c.src.file, Line: line, Col: col, Text: text + "; keep one of the two"})
}

// run walks the expressions of data, which parses.
func (d *decoder) run(data []byte) {
	d.at, d.prefix = reflect.ValueOf(d.c).Elem(), ""
	d.p.Reset(data)
	for d.p.NextExpression() && len(d.errs) < maxErrors {
		switch e := d.p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			d.header(e)
		case unstable.KeyValue:
			if !d.unknown {
				d.keyValue(d.at, d.prefix, e)
			}
		}
	}
}

// header enters [a.b] or [[a.b]].
func (d *decoder) header(e *unstable.Node) {
	d.at, d.prefix, d.unknown = reflect.ValueOf(d.c).Elem(), "", true
	it := e.Key()
	for it.Next() {
		n := it.Node()
		f, key, ok := d.lookup(d.at, d.prefix, n)
		if !ok {
			return
		}
		fv := d.at.Field(f.index)
		switch shapeOf(f.typ) {
		case table:
			if it.IsLast() && e.Kind == unstable.ArrayTable {
				d.fail(n.Raw.Offset, key, "there is only one; write [%s] with single brackets", plainKey(key))
				return
			}
			d.at, d.prefix = fv, key
		case tables:
			if !it.IsLast() && fv.Len() == 0 || it.IsLast() && e.Kind == unstable.Table {
				d.fail(n.Raw.Offset, key, "there may be several; write [[%s]] with double brackets", plainKey(key))
				return
			}
			if it.IsLast() && !d.add(fv, key, n.Raw.Offset) {
				return
			}
			d.prefix = fmt.Sprintf("%s[%d]", key, fv.Len()-1)
			d.at = fv.Index(fv.Len() - 1)
		default:
			d.fail(n.Raw.Offset, key, "not a section; write %s = ... instead", f.name)
			return
		}
		d.mark(d.prefix, n.Raw.Offset)
	}
	d.unknown = false
}

// add appends an element with its defaults to a list of tables.
func (d *decoder) add(list reflect.Value, key string, offset uint32) bool {
	if list.Len() >= maxEntries {
		d.fail(offset, key, "more than %d entries", maxEntries)
		return false
	}
	e := reflect.New(list.Type().Elem()).Elem()
	defaultsOf(e)
	list.Set(reflect.Append(list, e))
	return true
}

func (d *decoder) mark(key string, offset uint32) { d.c.src.at[key] = d.position(offset) }

// lookup finds the key n in the struct v.
func (d *decoder) lookup(v reflect.Value, prefix string, n *unstable.Node) (field, string, bool) {
	name := string(n.Data)
	all := fields(v.Type())
	names := make([]string, len(all))
	for i, f := range all {
		if f.name == name {
			return f, join(prefix, name), true
		}
		names[i] = f.name
	}
	text := "unknown key"
	if n := nearest(name, names); n != "" {
		text += fmt.Sprintf("; did you mean %s?", n)
	} else if home := whereIs(name); home != "" {
		text += fmt.Sprintf("; did you mean %s?", home)
	} else if len(names) <= 14 {
		text += "; known here: " + strings.Join(names, ", ")
	} else {
		text += "; docs/reference/config.md lists all"
	}
	d.fail(n.Raw.Offset, join(prefix, printable(clip(name))), "%s", text)
	return field{}, "", false
}

func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "..."
	}
	return s
}

// whereIs finds the section of a key that stands in the wrong one, which is
// what happens to keys written below a header they do not belong to.
func whereIs(name string) string {
	var found []string
	walkSchema(func(s schemaKey) {
		if s.f.name == name && shapeOf(s.f.typ) <= list {
			found = append(found, plainKey(s.key))
		}
	})
	if len(found) == 1 {
		return found[0]
	}
	return ""
}

// keyValue sets a (possibly dotted) key within the struct v.
func (d *decoder) keyValue(v reflect.Value, prefix string, e *unstable.Node) {
	it := e.Key()
	for it.Next() {
		n := it.Node()
		f, key, ok := d.lookup(v, prefix, n)
		if !ok {
			return
		}
		d.mark(key, n.Raw.Offset)
		if it.IsLast() {
			d.value(v.Field(f.index), &f, key, n.Raw.Offset, e.Value())
			return
		}
		if shapeOf(f.typ) != table {
			d.fail(n.Raw.Offset, key, "has no keys of its own; write %s = ...", f.name)
			return
		}
		v, prefix = v.Field(f.index), key
	}
}

// value sets a key to n.
func (d *decoder) value(v reflect.Value, f *field, key string, offset uint32, n *unstable.Node) {
	switch shapeOf(f.typ) {
	case scalar:
		if s, ok := d.scalarText(v, f, key, offset, n); ok {
			if err := f.set(v, s); err != nil {
				d.fail(offset, key, "%s", err)
			}
		}
	case list:
		d.list(v, f, key, offset, n)
	case table:
		if n.Kind != unstable.InlineTable {
			d.fail(offset, key, "is a section; write [%s] on a line of its own", plainKey(key))
			return
		}
		it := n.Children()
		for it.Next() {
			d.keyValue(v, key, it.Node())
		}
	case tables:
		if n.Kind != unstable.Array {
			d.fail(offset, key, "there may be several; write [[%s]] on a line of its own", plainKey(key))
			return
		}
		it := n.Children()
		for it.Next() {
			if it.Node().Kind != unstable.InlineTable {
				d.fail(offset, key, "each entry must be a table; write [[%s]] on a line of its own", plainKey(key))
				return
			}
			if !d.add(v, key, offset) {
				return
			}
			i := v.Len() - 1
			inner := fmt.Sprintf("%s[%d]", key, i)
			d.mark(inner, offset)
			kv := it.Node().Children()
			for kv.Next() {
				d.keyValue(v.Index(i), inner, kv.Node())
			}
		}
	}
}

func (d *decoder) list(v reflect.Value, f *field, key string, offset uint32, n *unstable.Node) {
	if n.Kind != unstable.Array {
		d.fail(offset, key, "must be a list; write %s = [%s]", f.name, clip(string(rawOf(&d.p, n))))
		return
	}
	v.SetZero()
	it := n.Children()
	for it.Next() {
		e := reflect.New(v.Type().Elem()).Elem()
		el := it.Node()
		at := offset
		if el.Raw.Length > 0 {
			at = el.Raw.Offset // lists may run over several lines
		}
		s, ok := d.scalarText(e, f, key, at, el)
		if !ok {
			continue
		}
		if v.Len() >= maxEntries {
			d.fail(at, key, "more than %d entries", maxEntries)
			return
		}
		if err := f.set(e, s); err != nil {
			d.fail(at, key, "%s", err)
			continue
		}
		v.Set(reflect.Append(v, e))
	}
}

func rawOf(p *unstable.Parser, n *unstable.Node) []byte {
	if n.Raw.Length > 0 {
		return p.Raw(n.Raw)
	}
	return []byte("...")
}

var kindNames = map[unstable.Kind]string{
	unstable.String: "text", unstable.Bool: "true or false", unstable.Float: "a number with a fraction", unstable.Integer: "a number",
	unstable.Array: "a list", unstable.InlineTable: "a table", unstable.LocalDate: "a date", unstable.LocalTime: "a time",
	unstable.LocalDateTime: "a date", unstable.DateTime: "a date",
}

// scalarText returns the text form of n if its TOML type suits v.
func (d *decoder) scalarText(v reflect.Value, f *field, key string, offset uint32, n *unstable.Node) (string, bool) {
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	isText := reflect.PointerTo(t).Implements(textType) || t.Kind() == reflect.String
	wrong := func(want string) (string, bool) {
		d.fail(offset, key, "must be %s, not %s%s", want, kindNames[n.Kind], rewrite(f.name, t, isText, d, n))
		return "", false
	}
	switch {
	case isText && n.Kind == unstable.String:
		return string(n.Data), true
	case (t == reflect.TypeFor[Size]() || t == reflect.TypeFor[Rate]()) && n.Kind == unstable.Integer,
		t == reflect.TypeFor[Duration]() && n.Kind == unstable.Integer && string(n.Data) == "0":
		return integerText(n.Data), true
	case isText:
		return wrong("text in quotes")
	case t.Kind() == reflect.Bool && n.Kind == unstable.Bool, t.Kind() == reflect.Int && n.Kind == unstable.Integer:
		return integerText(n.Data), true
	case t.Kind() == reflect.Bool:
		return wrong("true or false without quotes")
	}
	return wrong("a whole number without quotes")
}

// rewrite shows the right way when it can be guessed.
func rewrite(name string, t reflect.Type, isText bool, d *decoder, n *unstable.Node) string {
	raw := string(n.Data)
	switch {
	case len(raw) > 40:
		return ""
	case t == reflect.TypeFor[Duration]() && n.Kind == unstable.Integer:
		return fmt.Sprintf("; write %s = \"%ss\" for seconds", name, raw)
	case isText && n.Kind != unstable.Array && n.Kind != unstable.InlineTable:
		return fmt.Sprintf("; write %s = %s", name, quote(raw))
	case n.Kind == unstable.String && t.Kind() == reflect.Bool && (raw == "true" || raw == "false"),
		n.Kind == unstable.String && t.Kind() == reflect.Int && strings.Trim(raw, "0123456789") == "" && raw != "":
		return fmt.Sprintf("; write %s = %s", name, raw)
	}
	return ""
}

// integerText turns 1_000 and 0x10 into decimal digits; other text stays.
func integerText(raw []byte) string {
	if n, err := strconv.ParseInt(string(raw), 0, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	return string(raw)
}

// plainKey drops the indexes of lists: "listen[0].address" is "listen.address"
// to people, who have the line.
func plainKey(key string) string {
	for {
		i := strings.IndexByte(key, '[')
		if i < 0 {
			return key
		}
		j := strings.IndexByte(key[i:], ']')
		if j < 0 {
			return key
		}
		key = key[:i] + key[i+j+1:]
	}
}
