package store

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/account"
)

// BenchmarkUsers shows that looking up one user and listing a page take the
// same time however many users there are: 1,000, 100,000, 1,000,000. Run it with
//
//	go test ./internal/store -run '^$' -bench Users -benchtime 2000x
func BenchmarkUsers(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		db := open(b, filepath.Join(b.TempDir(), FileName))
		fillUsers(b, db, n)
		ctx := context.Background()
		b.Run(fmt.Sprintf("lookup/%d", n), func(b *testing.B) {
			for i := range b.N {
				if _, err := db.UserByName(ctx, userName(i*7919%n)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("page/%d", n), func(b *testing.B) {
			for i := range b.N {
				us, err := db.ListUsers(ctx, userName(i*7919%n*9/10), 100)
				if err != nil || len(us) == 0 {
					b.Fatalf("%d users, %v", len(us), err)
				}
			}
		})
	}
}

func userName(i int) string { return fmt.Sprintf("user%07d", i) }

// fillUsers makes n users in batches, each with a hash, a key's worth of rows
// less: what a look-up reads is the same for all.
func fillUsers(b testing.TB, db *DB, n int) {
	b.Helper()
	const step = 50_000
	for at := 0; at < n; at += step {
		err := db.update(context.Background(), "fill", func(q tx) error {
			marks := make([]string, strings.Count(userColumns, ",")+1)
			for i := range marks {
				marks[i] = fmt.Sprint("$", i+1)
			}
			insert, err := q.PrepareContext(context.Background(), `INSERT INTO users (`+userColumns+`) VALUES (`+strings.Join(marks, ",")+`)`)
			if err != nil {
				return err
			}
			defer insert.Close()
			for i := at; i < min(n, at+step); i++ {
				args, err := userValues(account.User{Name: userName(i), Home: "/srv/" + userName(i), PasswordHash: "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})
				if err != nil {
					return err
				}
				if _, err := insert.Exec(args...); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// TestFillUsers keeps the benchmark working when users get another column.
func TestFillUsers(t *testing.T) {
	db := open(t, memory)
	fillUsers(t, db, 30)
	if us, err := db.ListUsers(t.Context(), userName(9), 100); err != nil || len(us) != 20 {
		t.Errorf("%d users, %v", len(us), err)
	}
}
