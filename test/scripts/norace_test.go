//go:build !race

package scripts

// buildFlags: see race_test.go.
var buildFlags []string
