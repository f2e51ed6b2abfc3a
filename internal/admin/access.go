package admin

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// Access tells what a user may do at a path, each right with the rule that
// decided. Faults: Invalid, NotExist, Unavailable.
func (s *Service) Access(ctx context.Context, name string, q account.Question) (account.Explanation, error) {
	if !strings.HasPrefix(q.Path, "/") || strings.ContainsRune(q.Path, 0) {
		return account.Explanation{}, fault.Text(fault.Invalid, fmt.Sprintf("%q is not a path as the user sees it, such as /in/report.csv", q.Path))
	}
	q.Path = path.Clean(q.Path)
	if !q.At.IsZero() {
		q.At = q.At.Local() // a session judges hours by this server's clock, wherever the question comes from
	}
	u, err := s.User(ctx, name)
	if err != nil {
		return account.Explanation{}, err
	}
	groups, err := s.store.GroupsOf(ctx, u)
	if err != nil {
		return account.Explanation{}, err
	}
	return account.Explain(u, groups, q), nil
}
