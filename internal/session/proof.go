package session

import (
	"slices"

	"github.com/portreeve/portreeve/internal/auth"
)

// proof is what a connection has proved of a user on the way to a log-in. It
// holds for that name only.
type proof struct {
	user    string
	factors []string
	methods []string
	stamp   string   // of the account's credentials, see auth.Identity
	granted []string // groups, likewise
}

// with returns p and what a credential has proved.
func (p proof) with(user string, id auth.Identity) proof {
	return proof{user, append(slices.Clone(p.factors), id.Proved...), append(slices.Clone(p.methods), id.Method), id.Stamp, id.Granted}
}

// at is the origin of a connection that has proved this.
func (p proof) at(from auth.Origin) auth.Origin {
	from.Proved, from.Stamp, from.Granted = p.factors, p.stamp, p.granted
	return from
}

// proved returns the proof of a name; of another name there is none.
func (g *Guest) proved(user string) proof {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.proof == nil || g.proof.user != user {
		return proof{}
	}
	return *g.proof
}

func (g *Guest) prove(p *proof) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proof = p
}

// Restart forgets what was proved, for a log-in that begins anew.
func (g *Guest) Restart() { g.prove(nil) }
