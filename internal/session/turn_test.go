package session

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/limits"
)

// outOfTurn answers every credential that its turn has not come.
type outOfTurn struct{}

func (outOfTurn) Verify(context.Context, auth.Origin, auth.Credential) (auth.Identity, error) {
	return auth.Identity{}, &auth.More{Next: []string{account.FactorPassword}}
}

// TestOutOfTurnTakesItsTime: the time of the answer to a certificate that is
// not looked at does not tell that the account exists and begins with another factor.
func TestOutOfTurnTakesItsTime(t *testing.T) {
	r := newRig(t, Config{}, limits.Config{})
	r.m.verifier = outOfTurn{}
	g := r.connect()
	defer g.Close(nil)
	began := time.Now()
	_, err := g.Login(bg, auth.ClientCert{User: "ann"})
	if took := time.Since(began); !errors.Is(err, auth.ErrMore) || took < 240*time.Millisecond {
		t.Errorf("%v after %v", err, took)
	}
}
