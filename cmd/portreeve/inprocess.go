package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/server"
	"github.com/portreeve/portreeve/internal/store"
)

// inProcess runs f on the database itself, when no server is there to do it.
func (a *app) inProcess(ctx context.Context, cfg *config.Config, f func(context.Context, accounts) error) (err error) {
	path, err := server.Database(cfg)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, path)
	if err != nil && forbidden(path) {
		return fmt.Errorf("this user may not use the data directory %s; run the command as the server's user or as root, for example with sudo", cfg.DataDir)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	bus := events.NewBus(events.Options{Sink: db})
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = errors.Join(err, bus.Close(end))
	}()
	hasher, err := auth.NewHasher(auth.HasherOptions{})
	if err != nil {
		return err
	}
	svc, err := admin.New(admin.Config{Store: db, Events: bus, Hash: hasher.Hash, CheckHash: hasher.Check, DataDir: cfg.DataDir,
		Policy: server.PasswordPolicy(cfg).Check, Measure: server.Measure,
		Hooks: func() (admin.Hooks, error) { return server.HooksOf(cfg, db, bus) },
		Tasks: func() (admin.Tasks, error) { return server.TasksOf(cfg, db, bus), nil }})
	if err != nil {
		return err
	}
	return f(admin.WithActor(ctx, admin.LocalActor(os.Geteuid())), svc)
}

// forbidden reports whether a database that could not be opened is somebody
// else's; the database library itself says only that it cannot be opened.
func forbidden(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, fs.ErrPermission)
}
