package session

import (
	"context"
	"net/netip"

	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/limits"
)

// Hostile counts against an address what no client of its protocol does:
// another protocol, text hidden behind a change to TLS, floods of nonsense.
func (m *Manager) Hostile(ctx context.Context, from auth.Origin, why string) {
	m.Report(ctx, from, limits.Protocol, why)
}

// Stranger counts a connection to somebody else's data port against the
// address it came from. at is the session whose port it was.
func (m *Manager) Stranger(ctx context.Context, at auth.Origin, stranger netip.AddrPort) {
	at.Remote = stranger
	m.Report(ctx, at, limits.Protocol, "connections to the data ports of others")
}
