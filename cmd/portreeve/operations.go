package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/hook"
	"github.com/portreeve/portreeve/internal/task"
)

// operations is what the event, ban, quota, hook and task commands need: the client of a
// running server, or the admin service on the database itself.
type operations interface {
	Events(ctx context.Context, q admin.EventQuery) ([]events.Event, error)
	VerifyEvents(ctx context.Context, marks []string) (admin.Trail, error)
	Bans(ctx context.Context) ([]admin.Ban, error)
	AddBan(ctx context.Context, n admin.NewBan) (admin.Ban, error)
	RemoveBan(ctx context.Context, network string) error
	Quotas(ctx context.Context, name string) ([]admin.Quota, error)
	Recount(ctx context.Context, name string) ([]admin.Quota, error)
	Hooks(ctx context.Context) ([]hook.State, error)
	TestHook(ctx context.Context, name string) (hook.Tested, error)
	DeadDeliveries(ctx context.Context, after int64, limit int) ([]events.Delivery, error)
	RetryDeliveries(ctx context.Context, id int64) (admin.Moved, error)
	DropDeliveries(ctx context.Context, id int64) (admin.Moved, error)
	Tasks(ctx context.Context) ([]task.State, error)
	RunTask(ctx context.Context, name string, dry bool) (task.Report, error)
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
