//go:build torture

package torture

// What issue and documentation promise.
const (
	kills         = 200
	upgrades      = 10
	busy          = 200
	floodLimit    = 4096
	floodAttempts = 12000
)
