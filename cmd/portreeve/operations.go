package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/events"
)

// operations is what the event, ban and quota commands need: the client of a
// running server, or the admin service on the database itself.
type operations interface {
	Events(ctx context.Context, q admin.EventQuery) ([]events.Event, error)
	VerifyEvents(ctx context.Context, marks []string) (admin.Trail, error)
	Bans(ctx context.Context) ([]admin.Ban, error)
	AddBan(ctx context.Context, n admin.NewBan) (admin.Ban, error)
	RemoveBan(ctx context.Context, network string) error
	Quotas(ctx context.Context, name string) ([]admin.Quota, error)
	Recount(ctx context.Context, name string) ([]admin.Quota, error)
}

// withOperations runs f against the running server, or against the database
// when there is none.
func (a *app) withOperations(cmd *cobra.Command, f func(context.Context, operations) error) error {
	return a.withAccounts(cmd, func(ctx context.Context, v accounts) error {
		o, ok := v.(operations)
		if !ok {
			return errors.New("this command is not possible here")
		}
		return f(ctx, o)
	})
}
