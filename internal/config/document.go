package config

import (
	"errors"
	"fmt"

	"github.com/pelletier/go-toml/v2"
)

// Document reads a TOML file that is not a configuration, such as a state of
// accounts, as maps, lists and plain values. The error has file and line.
func Document(file string, text []byte) (map[string]any, error) {
	var doc map[string]any
	err := toml.Unmarshal(text, &doc)
	var de *toml.DecodeError
	if errors.As(err, &de) {
		line, column := de.Position()
		return nil, fmt.Errorf("%s:%d:%d: %s", file, line, column, de.Error())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return doc, nil
}
