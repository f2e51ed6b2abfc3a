package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// maxFile bounds the file that is read, so that a wrong path such as a disk
// image is an error and not a full memory.
const maxFile = 4 << 20

// Override sets one scalar key from the command line.
type Override struct {
	Key   string // such as "ftp.passive.ports"
	Value string
	Flag  string // such as "--passive-ports", for messages
}

// Overrides are applied in order, after file and environment.
type Overrides []Override

// position is where a key stands in the file.
type position struct{ line, col int }

// source remembers where values came from.
type source struct {
	file     string              // as given, for messages
	dir      string              // relative paths of the file start here
	at       map[string]position // by full key: "listen[0].address"
	origin   map[string]string   // likewise: "env NAME" or "flag --name"; from the file when only in at
	warnings Errors
}

// Load reads the file at path, then the environment (as of os.Environ), then
// the overrides. An empty path is an empty file. The error is Errors with
// every mistake, or says why the file cannot be read.
func Load(path string, env []string, over Overrides) (*Config, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = readFile(path); err != nil {
			return nil, err
		}
	}
	return build(path, data, env, over)
}

// Parse reads a file that is already in memory. Name is for messages and as
// the place that relative paths start from.
func Parse(name string, data []byte) (*Config, error) { return build(name, data, nil, nil) }

func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		if os.IsNotExist(err) {
			return nil, fmt.Errorf("%s: no such file; make one with \"portreeve init\", or name another with --config", printable(path))
		}
		return nil, fmt.Errorf("%s: %w", printable(path), err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file; name the configuration file itself", printable(path))
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes are too many for a configuration file; is it the right one?", printable(path), st.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", printable(path), err)
	}
	return data, nil
}

func build(name string, data []byte, env []string, over Overrides) (*Config, error) {
	c := Default()
	c.src = source{file: name, at: map[string]position{}, origin: map[string]string{}}
	if name != "" {
		c.src.dir = filepath.Dir(name)
	}
	errs := c.decode(data)
	errs = append(errs, c.applyEnv(env)...)
	errs = append(errs, c.applyOverrides(over)...)
	errs = append(errs, c.finish(errs)...)
	if err := errs.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// Complete fills derived values into a Config built by hand and checks it.
// It is idempotent.
func (c *Config) Complete() error {
	if c.src.at == nil {
		c.src.at = map[string]position{}
		c.src.origin = map[string]string{}
	}
	return c.finish(nil).err()
}

// EnvName returns the environment variable of a key: PORTREEVE_FTP_PASSIVE_PORTS.
func EnvName(key string) string {
	return "PORTREEVE_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// scalars calls visit for every scalar key outside lists of tables.
func (c *Config) scalars(visit func(key string, f *field, v reflect.Value)) {
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for _, f := range fields(v.Type()) {
			switch shapeOf(f.typ) {
			case table:
				walk(join(prefix, f.name), v.Field(f.index))
			case scalar:
				visit(join(prefix, f.name), &f, v.Field(f.index))
			}
		}
	}
	walk("", reflect.ValueOf(c).Elem())
}

// applyEnv sets scalar keys from the environment. An unknown PORTREEVE_ name
// is no error, since container platforms make such names for a service called
// portreeve; one that looks like a misspelling is a warning.
func (c *Config) applyEnv(env []string) Errors {
	var errs Errors
	values := map[string]string{}
	for _, e := range env {
		if k, v, ok := strings.Cut(e, "="); ok && strings.HasPrefix(k, "PORTREEVE_") {
			values[k] = v
		}
	}
	if len(values) == 0 {
		return nil
	}
	var names []string
	c.scalars(func(key string, f *field, v reflect.Value) {
		name := EnvName(key)
		names = append(names, name)
		value, ok := values[name]
		if !ok {
			return
		}
		delete(values, name)
		if err := f.set(v, value); err != nil {
			errs = append(errs, Error{File: name, Key: key, Text: err.Error()})
			return
		}
		c.src.origin[key] = "env " + name
	})
	for name := range values {
		if n := nearest(name, lower(names)); n != "" {
			c.src.warnings = append(c.src.warnings, Error{File: printable(name), Text: "no such setting, ignored; did you mean " + strings.ToUpper(n) + "?"})
		}
	}
	return errs
}

func lower(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = strings.ToLower(s)
	}
	return out
}

func (c *Config) applyOverrides(over Overrides) Errors {
	var errs Errors
	for _, o := range over {
		var known []string
		found := false
		c.scalars(func(key string, f *field, v reflect.Value) {
			known = append(known, key)
			if key != o.Key {
				return
			}
			found = true
			if err := f.set(v, o.Value); err != nil {
				errs = append(errs, Error{File: o.Flag, Key: key, Text: err.Error()})
				return
			}
			c.src.origin[key] = "flag " + o.Flag
		})
		if !found {
			errs = append(errs, Error{File: o.Flag, Key: o.Key, Text: "no such key" + hint(o.Key, known)})
		}
	}
	return errs
}
