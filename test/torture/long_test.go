//go:build torture

package torture

import "time"

// What issue and documentation promise.
const (
	kills         = 200
	upgrades      = 10
	busy          = 200
	floodLimit    = 4096
	floodAttempts = 12000

	sustained = 3 * time.Minute
)
