package server

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/importer"
)

// importedPassword is the password behind every hash of the samples.
const importedPassword = "open-sesame-77"

// TestImportedUsersLogIn takes over every sample of the importers and logs
// each user in over FTPS with the password the old server knew, twice: the
// second time against the hash that the first log-in made anew.
func TestImportedUsersLogIn(t *testing.T) {
	r := start(t, listenTOML("ftps", "127.0.0.1:0", ""))
	hasher, err := auth.NewHasher(auth.HasherOptions{})
	if err != nil {
		t.Fatal(err)
	}
	formats := map[string]string{} // hash format -> first user who has it
	n := 0
	for _, format := range importer.Formats() {
		dirs, err := filepath.Glob(filepath.Join("..", "importer", "testdata", format, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range dirs {
			if st, err := os.Stat(dir); err != nil || !st.IsDir() {
				continue
			}
			res, err := importer.Read(format, dir, importer.Options{CheckHash: hasher.Check})
			if err != nil {
				t.Fatalf("%s: %v", dir, err)
			}
			for _, u := range res.Users {
				kind := hashKind(u.PasswordHash)
				if u.PasswordHash == "" || formats[kind] != "" {
					continue
				}
				n++
				formats[kind] = dir + " " + u.Name
				r.logInImported(t, u.User, kind)
			}
		}
	}
	for _, want := range []string{"$1$", "$5$", "$6$", "$y$", "$2a$", "$2b$", "$2y$", "$7$", "$apr1$", "$argon2id$", "$argon2i$", "$pbkdf2$", "$pbkdf2-sha256$", "$pbkdf2-sha512$", "{MD5}", "{SHA256}", "{SSHA512}"} {
		if formats[want] == "" {
			t.Errorf("no sample has a password of the format %s", want)
		}
	}
	if n < 16 {
		t.Errorf("only %d users were tried", n)
	}
}

// hashKind is the prefix of a hash that names its format.
func hashKind(h string) string {
	for i := 1; i < len(h); i++ {
		if h[i] == '$' || h[i] == '}' {
			return h[:i+1]
		}
	}
	return h
}

func (r *rig) logInImported(t *testing.T, u account.User, kind string) {
	t.Helper()
	ctx := context.Background()
	// The old homes are not on this machine, and the clock and address of a test are what they are.
	u.Name = "i" + time.Now().Format("150405.000000")
	u.Home, u.Mounts, u.Groups, u.Networks, u.Hours, u.Expires, u.Keys, u.Disabled = t.TempDir(), nil, nil, nil, nil, time.Time{}, nil, false
	old := u.PasswordHash
	if _, err := r.s.Store().CreateUser(ctx, u); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	login := func(password string) error {
		c, err := ftp.Dial(ctx, r.address(0), ftp.ClientOptions{TLS: ftp.ImplicitTLS, TLSConfig: r.trust(), Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.Login(ctx, u.Name, password)
	}
	for range 2 {
		if err := login(importedPassword); err != nil {
			t.Errorf("a password of the format %s does not log in: %v", kind, err)
		}
	}
	now, err := r.s.Store().UserByName(ctx, u.Name)
	if err != nil {
		t.Fatal(err)
	}
	if kind != "$argon2id$" && now.PasswordHash == old {
		t.Errorf("the password of the format %s was not stored anew", kind)
	}
	if kind == "{SSHA512}" {
		if err := login("wrong"); err == nil || fault.KindOf(err) == fault.None {
			t.Error("a wrong password logged in")
		}
	}
}
