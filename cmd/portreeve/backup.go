package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/server"
	"github.com/portreeve/portreeve/internal/store"
)

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{Use: "backup FILE", Short: "Copy the database to a new file; the server may run", Args: args("FILE"),
		Long: `Copy the database, with accounts, groups, rights, keys and the trail, to a new
file. It is consistent also while the server runs. Keep it as safe as the data
directory: it holds password hashes. Users' files, the configuration and
certificates are not in it.

The file is the same for SQLite and PostgreSQL, so that "portreeve restore" also
moves from one to the other.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			to, err := filepath.Abs(names[0])
			if err != nil {
				return err
			}
			where, err := server.Database(cfg)
			if err != nil {
				return err
			}
			db, err := store.Open(cmd.Context(), where)
			if err != nil {
				return err
			}
			defer db.Close()
			if err := db.Backup(cmd.Context(), to); fault.KindOf(err) == fault.Exist {
				return fmt.Errorf("%s exists already and is left as it is; name another file", plain(to))
			} else if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "wrote %s\n", plain(to))
			return nil
		}}
}

func (a *app) restoreCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{Use: "restore FILE", Short: "Put a backup in the place of the database; the server must not run", Args: args("FILE"),
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx := cmd.Context()
			cfg, err := a.load()
			if err != nil {
				return err
			}
			running, err := probe(ctx, cfg.DataDir, cfg.Admin.Socket)
			if err != nil {
				return err
			}
			if running {
				return errors.New("the server is running; stop it first with \"portreeve stop\"")
			}
			path, err := server.Database(cfg)
			if err != nil {
				return err
			}
			where := path
			if cfg.Database != "" {
				where = "the database of the configuration" // its URL may hold a password
				fmt.Fprintf(a.err, "This puts %s into %s, which must be empty.\n", plain(names[0]), where)
			} else {
				fmt.Fprintf(a.err, "This puts %s in the place of %s, which is kept beside it.\n", plain(names[0]), plain(path))
			}
			if !yes {
				if err := a.confirm("Restore it?"); err != nil {
					return err
				}
			}
			return a.restore(ctx, names[0], path, where)
		}}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) restore(ctx context.Context, from, path, where string) error {
	kept, err := store.Restore(ctx, from, path)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "restored %s\n", plain(where))
	if kept != "" {
		fmt.Fprintf(a.out, "the former database is %s\n", plain(kept))
	}
	return nil
}
