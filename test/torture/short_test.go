//go:build !torture

package torture

// The short form, for every run of the tests.
const (
	kills         = 10
	upgrades      = 3
	busy          = 12
	floodLimit    = 256
	floodAttempts = 700
)
