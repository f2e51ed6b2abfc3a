//go:build !linux

package sandbox

import "errors"

// ErrUnsupported is Enter's answer on a system without Landlock.
var ErrUnsupported = errors.New("only Linux has Landlock")

// ABI is 0: there is no Landlock.
func ABI() int { return 0 }

// Enter changes nothing.
func Enter(Paths) error { return ErrUnsupported }
