//go:build !amd64

package tlsrec

import "testing"

func needWide(t testing.TB) { t.Skip("512-bit AES is of amd64 alone") }

func newWide(key []byte) sealer { return newStandard(key) }
