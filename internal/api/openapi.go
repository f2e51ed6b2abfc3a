package api

import (
	"encoding"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/account"
)

// Contract returns the OpenAPI 3.1 document of the API, as YAML. It is made
// from the table of routes and the types that the handlers read and write, so
// it cannot say anything else than what the server does. The copy in
// openapi.yaml is kept equal by a test.
func Contract() string {
	contract.once.Do(func() { contract.text = document() })
	return contract.text
}

// contract is filled at its first use: an initialiser would refer to itself.
var contract struct {
	once sync.Once
	text string
}

func document() string {
	s := schemas{made: map[string]node{}}
	paths := node{}
	for _, rt := range (&handler{}).routes() {
		i := slices.IndexFunc(paths, func(p pair) bool { return p.key == rt.path })
		if i < 0 {
			i, paths = len(paths), append(paths, pair{rt.path, node{}})
		}
		paths[i].value = append(paths[i].value.(node), pair{strings.ToLower(rt.method), s.operation(rt)})
	}
	problemRef := s.of(reflect.TypeFor[problem]())
	components := node{}
	for _, name := range slices.Sorted(mapKeys(s.made)) {
		components = append(components, pair{name, s.made[name]})
	}
	doc := node{
		{"openapi", "3.1.0"},
		{"info", node{
			{"title", "Portreeve"}, {"version", "1"},
			{"description", "Administration of a Portreeve server. Errors are problem details (RFC 9457). Changes can be tied to a version with If-Match; creating calls can be repeated safely with an Idempotency-Key."},
			{"license", node{{"name", "Apache-2.0"}, {"identifier", "Apache-2.0"}}},
		}},
		{"servers", []any{node{{"url", "/"}}}},
		{"security", []any{node{{"token", []any{}}}}},
		{"paths", paths},
		{"components", node{
			{"schemas", components},
			{"responses", node{{"Problem", node{
				{"description", "The call failed; detail says why in a sentence."},
				{"content", node{{"application/problem+json", node{{"schema", problemRef}}}}},
			}}}},
			{"securitySchemes", node{{"token", node{{"type", "http"}, {"scheme", "bearer"}, {"description", "A token made with: portreeve token add; or a token of the identity provider, see getSignIn"}}}}},
		}},
	}
	var b strings.Builder
	b.WriteString("# Made by: go test ./internal/api -run Contract -update. Do not edit.\n")
	doc.yaml(&b, 0)
	return b.String()
}

func mapKeys(m map[string]node) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// node is a YAML mapping that keeps its order.
type node []pair

type pair struct {
	key   string
	value any // string, int, bool, node, []any
}

func (n node) yaml(b *strings.Builder, depth int) {
	for _, p := range n {
		b.WriteString(strings.Repeat("  ", depth) + yamlString(p.key) + ":")
		yamlValue(b, p.value, depth)
	}
}

func yamlValue(b *strings.Builder, v any, depth int) {
	switch v := v.(type) {
	case node:
		if len(v) == 0 {
			b.WriteString(" {}\n")
			return
		}
		b.WriteByte('\n')
		v.yaml(b, depth+1)
	case []any:
		if len(v) == 0 {
			b.WriteString(" []\n")
			return
		}
		b.WriteByte('\n')
		for _, e := range v {
			b.WriteString(strings.Repeat("  ", depth+1) + "-")
			if n, ok := e.(node); ok {
				var in strings.Builder
				n.yaml(&in, depth+2)
				b.WriteString(" " + strings.TrimPrefix(in.String(), strings.Repeat("  ", depth+2)))
				continue
			}
			yamlValue(b, e, depth+1)
		}
	case string:
		b.WriteString(" " + yamlString(v) + "\n")
	default:
		fmt.Fprintf(b, " %v\n", v)
	}
}

// yamlString quotes whatever is not plainly a word or a sentence.
func yamlString(s string) string {
	plain := s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_.,;()+- ") == "" &&
		strings.Trim(s[:1], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/") == "" && s != "true" && s != "false" && s != "null" && s != "no" && s != "yes" &&
		!strings.HasSuffix(s, " ")
	if plain {
		return s
	}
	return strconv.Quote(s)
}

// schemas collects the types that the operations name.
type schemas struct{ made map[string]node }

func (s *schemas) operation(rt route) node {
	op := node{{"operationId", rt.id}, {"summary", rt.summary}}
	if rt.scope != "" {
		op = append(op, pair{"description", "Needs the scope " + string(rt.scope) + "."})
	}
	params := []any{}
	for part := range strings.SplitSeq(rt.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			params = append(params, node{{"name", strings.TrimSuffix(name, "}")}, {"in", "path"}, {"required", true}, {"schema", node{{"type", "string"}}}})
		}
	}
	for _, p := range rt.query {
		params = append(params, node{{"name", p.name}, {"in", "query"}, {"required", p.required}, {"description", p.doc}, {"schema", node{{"type", p.kind}}}})
	}
	header := func(name, doc string) {
		params = append(params, node{{"name", name}, {"in", "header"}, {"required", false}, {"description", doc}, {"schema", node{{"type", "string"}}}})
	}
	if rt.versioned && rt.method == "PATCH" {
		header("If-Match", "The ETag of the version to change; 412 when it is not the present one.")
	}
	if rt.versioned && rt.method == "GET" {
		header("If-None-Match", "The ETag of the version known; 304 when it is the present one.")
	}
	if rt.method == "POST" {
		header("Idempotency-Key", "Any text chosen by the client. A repeated call with the same key and body gets the first answer again, for an hour.")
	}
	if len(params) > 0 {
		op = append(op, pair{"parameters", params})
	}
	if open := rt.id == "getContract" || rt.id == "getSignIn"; open {
		op = append(op, pair{"security", []any{}})
	}
	if rt.in != nil {
		op = append(op, pair{"requestBody", node{{"required", true}, {"content", node{{"application/json", node{{"schema", s.of(reflect.TypeOf(rt.in))}}}}}}})
	}
	answer := node{{"description", "Done."}}
	if rt.versioned {
		answer = append(answer, pair{"headers", node{{"ETag", node{{"description", "The version of the object."}, {"schema", node{{"type", "string"}}}}}}})
	}
	if rt.out != nil {
		kind := "application/json"
		if rt.id == "getContract" {
			kind = "application/yaml"
		}
		answer = append(answer, pair{"content", node{{kind, node{{"schema", s.of(reflect.TypeOf(rt.out))}}}}})
	}
	return append(op, pair{"responses", node{{strconv.Itoa(rt.status), answer}, {"default", node{{"$ref", "#/components/responses/Problem"}}}}})
}

var textType = reflect.TypeFor[encoding.TextMarshaler]()

// of returns the schema of a type: a reference for structs of ours.
func (s *schemas) of(t reflect.Type) node {
	if t.Kind() == reflect.Pointer {
		return s.of(t.Elem())
	}
	switch t {
	case reflect.TypeFor[time.Time]():
		return node{{"type", "string"}, {"format", "date-time"}}
	case reflect.TypeFor[json.RawMessage]():
		return node{{"type", "object"}}
	case reflect.TypeFor[netip.Prefix]():
		return node{{"type", "string"}, {"description", "A network such as 192.0.2.0/24."}}
	case reflect.TypeFor[account.Rights]():
		return node{{"type", "string"}, {"description", "none, all, read-only, read-write, or words joined by commas: list, download, upload, overwrite, append, delete, rename, mkdir, rmdir, chmod, times, link."}}
	case reflect.TypeFor[time.Weekday]():
		return node{{"type", "integer"}, {"description", "0 is Sunday."}, {"minimum", 0}, {"maximum", 6}}
	}
	if t.Implements(textType) {
		return node{{"type", "string"}}
	}
	switch t.Kind() {
	case reflect.String:
		return node{{"type", "string"}}
	case reflect.Bool:
		return node{{"type", "boolean"}}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return node{{"type", "integer"}, {"format", "int64"}}
	case reflect.Float64:
		return node{{"type", "number"}}
	case reflect.Map:
		return node{{"type", "object"}, {"additionalProperties", s.of(t.Elem())}}
	case reflect.Slice, reflect.Array:
		return node{{"type", "array"}, {"items", s.of(t.Elem())}}
	case reflect.Struct:
		name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
		if _, ok := s.made[name]; !ok {
			s.made[name] = nil // a type may hold itself
			s.made[name] = s.object(t)
		}
		return node{{"$ref", "#/components/schemas/" + name}}
	}
	panic("api: no schema for " + t.String()) // a mistake in the table of routes, seen by any test
}

func (s *schemas) object(t reflect.Type) node {
	props, required := node{}, []any{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		for i := range t.NumField() {
			f := t.Field(i)
			name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case name == "-" || !f.IsExported():
			case f.Anonymous && name == "":
				walk(f.Type)
			default:
				if name == "" {
					name = f.Name
				}
				props = append(props, pair{name, s.of(f.Type)})
				if !strings.Contains(rest, "omit") {
					required = append(required, name)
				}
			}
		}
	}
	walk(t)
	n := node{{"type", "object"}, {"properties", props}}
	if len(required) > 0 {
		n = append(n, pair{"required", required})
	}
	return n
}
