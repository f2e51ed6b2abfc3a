//go:build !unix

package ports

import (
	"errors"
	"net"
)

// keepable: rest is impossible here, so listeners are closed instead of kept.
const keepable = false

func drain(*net.TCPListener) (int, error) { return 0, errors.ErrUnsupported }

func rest(*net.TCPListener) (int, error) { return 0, errors.ErrUnsupported }

func resume(*net.TCPListener) error { return errors.ErrUnsupported }

func shrinkBacklog(*net.TCPListener, int) {}

// waiting cannot tell here: connections are taken in the ordinary way.
func waiting(*net.TCPListener) bool { return false }
