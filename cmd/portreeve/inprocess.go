package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/store"
)

// inProcess runs f on the database itself, when no server is there to do it.
func (a *app) inProcess(ctx context.Context, cfg *config.Config, f func(context.Context, accounts) error) (err error) {
	db, err := store.Open(ctx, filepath.Join(cfg.DataDir, store.FileName))
	if errors.Is(err, fs.ErrPermission) {
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
	svc, err := admin.New(admin.Config{Store: db, Events: bus, Hash: hasher.Hash, DataDir: cfg.DataDir})
	if err != nil {
		return err
	}
	return f(admin.WithActor(ctx, admin.LocalActor(os.Geteuid())), svc)
}
