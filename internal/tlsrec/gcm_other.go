//go:build !amd64

package tlsrec

// Wide reports whether the processor has 512-bit AES; only amd64 is looked at.
func Wide() bool { return false }

func newSealer(key []byte, _ bool) sealer { return newStandard(key) }
