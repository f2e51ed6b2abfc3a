package importer

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// element is an XML element with the line it begins on.
type element struct {
	name     string
	attr     map[string]string
	text     string
	line     int
	children []*element
}

// maxDepth bounds the nesting; the formats need less than ten.
const maxDepth = 64

// xmlTree reads a whole document; a mistake is a problem with its line.
func (s *state) xmlTree(file string) *element {
	d := xml.NewDecoder(bytes.NewReader(s.read(file)))
	d.CharsetReader = func(label string, r io.Reader) (io.Reader, error) {
		if l := strings.ToLower(label); l == "utf-8" || l == "us-ascii" {
			return r, nil
		}
		return nil, fmt.Errorf("the encoding %q is not UTF-8", label)
	}
	root := &element{}
	stack := []*element{root}
	for {
		at, _ := d.InputPos()
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			n, _ := d.InputPos()
			text := err.Error()
			var se *xml.SyntaxError
			if errors.As(err, &se) {
				n, text = se.Line, se.Msg
			}
			s.problem(file, n, "the XML is broken: %s", text)
			return nil
		}
		top := stack[len(stack)-1]
		switch t := t.(type) {
		case xml.StartElement:
			e := &element{name: t.Name.Local, line: at, attr: map[string]string{}}
			for _, a := range t.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			top.children = append(top.children, e)
			if stack = append(stack, e); len(stack) > maxDepth {
				s.problem(file, at, "the XML is nested more than %d deep", maxDepth)
				return nil
			}
		case xml.EndElement:
			top.text = strings.TrimSpace(top.text)
			stack = stack[:len(stack)-1]
		case xml.CharData:
			top.text += string(t)
		}
	}
	if len(root.children) != 1 {
		s.problem(file, 1, "the XML has %d outermost elements, not one", len(root.children))
		return nil
	}
	return root.children[0]
}

// child returns the element at a path of names, an empty one when there is none.
func (e *element) child(path ...string) *element {
	for _, name := range path {
		var next *element
		for _, c := range e.children {
			if c.name == name {
				next = c
				break
			}
		}
		if next == nil {
			return &element{name: name, attr: map[string]string{}, line: e.line}
		}
		e = next
	}
	return e
}

// all returns the children of a name.
func (e *element) all(name string) (out []*element) {
	for _, c := range e.children {
		if c.name == name {
			out = append(out, c)
		}
	}
	return out
}
