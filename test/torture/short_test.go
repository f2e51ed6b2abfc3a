//go:build !torture

package torture

import "time"

// The short form, for every run of the tests.
const (
	kills         = 10
	upgrades      = 3
	busy          = 12
	floodLimit    = 256
	floodAttempts = 700

	sustained = 6 * time.Second
)
