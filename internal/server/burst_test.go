package server

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
)

// TestCrowdBehindOneAddress: an office behind one address starts its day. All
// of its 64 clients get in with the default limits and hash, none is told to
// come again.
func TestCrowdBehindOneAddress(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "offered"`))
	realAccount(t, r, "eve")
	r.run()
	addr := r.s.Status().Listeners[0].Address
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			c, err := ftp.Dial(t.Context(), addr, ftp.ClientOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if err := c.Login(t.Context(), "eve", testPassword); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// realAccount adds an account with the default hash, which takes its time and
// memory; other tests have a cheap one.
func realAccount(t *testing.T, r *rig, name string) {
	t.Helper()
	h, err := auth.NewHasher(auth.HasherOptions{})
	if err != nil {
		t.Fatal(err)
	}
	hash, err := h.Hash(t.Context(), testPassword)
	if err != nil {
		t.Fatal(err)
	}
	db, err := openStore(context.Background(), filepath.Join(r.dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.CreateUser(t.Context(), account.User{Name: name, Home: r.home, PasswordHash: hash}); err != nil {
		t.Fatal(err)
	}
	db.Close()
}
