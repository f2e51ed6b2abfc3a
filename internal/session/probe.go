package session

import (
	"context"

	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
)

// Probe tells whether Login with this key would get past the verifier, without
// counting anything: SSH clients ask about each key they hold before they sign
// with one. nil says yes; fault.Login or another fault of Login says no.
func (g *Guest) Probe(ctx context.Context, k auth.PublicKey) error {
	from, err := g.ready()
	if err != nil {
		return err
	}
	from = g.proved(k.User).at(from)
	p, ok := g.m.verifier.(auth.Prober)
	if !ok {
		return fault.New(fault.Login, "login", "", auth.ErrBad)
	}
	return p.Probe(ctx, from, k)
}
