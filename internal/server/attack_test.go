package server

import (
	"net/netip"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/session"
)

// TestStaleProof: what was proved with a password that an administrator has
// replaced since is worth nothing. Somebody who knows a leaked first password
// could otherwise wait in the forced change and take the account over after
// the reset that was meant to end this.
func TestStaleProof(t *testing.T) {
	r := newFactorRig(t, account.User{Name: "fay", MustChange: true}, account.User{Name: "tom", TOTP: true})
	ctx := t.Context()
	c, err := ftp.Dial(ctx, r.address(0), ftp.ClientOptions{TLS: ftp.ImplicitTLS, TLSConfig: r.trust(), Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ctx, "fay", testPassword); err != nil {
		t.Fatal(err)
	}
	g, err := r.s.manager.Connect(ctx, auth.Origin{Protocol: "sftp", Remote: netip.MustParseAddrPort("127.0.0.1:4000")})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close(nil)
	if _, err := g.Login(ctx, auth.Password{User: "tom", Secret: testPassword}); fault.KindOf(err) == fault.None {
		t.Fatal("a password alone was enough")
	}
	h, err := r.s.verifier.hasher.Hash(ctx, "set-by-the-administrator")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fay", "tom"} {
		if err := r.s.Store().SetPassword(ctx, name, h, name == "fay"); err != nil {
			t.Fatal(err)
		}
	}
	rep, err := c.Cmd(ctx, `SITE PSWD "" chosen-by-the-thief`)
	if err != nil || rep.Code != 530 {
		t.Errorf("the forced change with a password that holds no more: %v, %v", rep, err)
	}
	if err := r.ftps(t, "fay", "chosen-by-the-thief", false); err == nil {
		t.Error("the thief logs in")
	}
	var s *session.Session
	if s, err = g.Login(ctx, auth.Code{User: "tom", Secret: r.code(t, "tom", 0)}); err == nil {
		s.Close(nil)
		t.Error("a code after a password that holds no more logged in")
	}
}
