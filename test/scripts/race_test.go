//go:build race

package scripts

// buildFlags makes the program report races when the test itself does.
var buildFlags = []string{"-race"}
