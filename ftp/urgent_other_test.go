//go:build !unix

package ftp

import (
	"io"
	"net"
	"testing"
)

// sendUrgent sends b without urgency: the standard library cannot do it here.
func sendUrgent(t *testing.T, c net.Conn, b string) {
	t.Helper()
	if _, err := io.WriteString(c, b); err != nil {
		t.Fatal(err)
	}
}
