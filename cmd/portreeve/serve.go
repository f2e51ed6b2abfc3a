package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/server"
)

// quickDir is the data directory of a server without a configuration.
const quickDir = "portreeve-data"

func (a *app) serveCommand() *cobra.Command {
	var address string
	c := &cobra.Command{Use: "serve", Short: "Run the server in the foreground", Args: args(),
		Long: `Run the server in the foreground. Without a configuration file it starts at once
on 127.0.0.1: FTP with TLS on offer at port 2121, implicit FTPS at port 2990, files
and a first account in ./` + quickDir + `. Ctrl-C stops it when transfers are done, a
second one at once; SIGHUP reads the configuration again.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file := a.configFile()
			if file != "" {
				if address != "" {
					return usagef(cmd, "--address is for a start without a configuration; here %s says the addresses, in its [[listen]] entries", file)
				}
				cfg, err := config.Load(file, a.env, nil)
				if err != nil {
					return err
				}
				for _, w := range cfg.Warnings() {
					fmt.Fprintln(a.err, "warning:", w)
				}
				return a.serve(cmd.Context(), cfg, server.Options{Load: func() (*config.Config, error) { return config.Load(file, a.env, nil) }})
			}
			return a.serveQuick(cmd.Context(), address)
		}}
	c.Flags().StringVar(&address, "address", "", "without a configuration: listen on this IP `ADDRESS`; other than a loopback one TLS is required")
	return c
}

func (a *app) serveQuick(ctx context.Context, address string) error {
	q, err := server.QuickStart(server.QuickOptions{Dir: quickDir, Address: address, Env: a.env})
	if err != nil {
		return err
	}
	// The screen is what matters here; the log says only what needs a look.
	log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return a.serve(ctx, q.Config, server.Options{
		Log:   log,
		Load:  func() (*config.Config, error) { return q.Config, nil },
		Ready: func(*server.Server) { quickScreen(a.out, q) },
	})
}

// serve runs the server with the control socket beside it until a signal or
// the stop command ends it.
func (a *app) serve(ctx context.Context, cfg *config.Config, opt server.Options) error {
	opt.Version = build().Version
	opt.Services = append(opt.Services, control(cfg.Admin.Socket))
	s, err := server.New(cfg, opt)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR2)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go a.onSignals(ctx, s, signals)
	return s.Run(ctx)
}

// sameStop is how close two signals must be to count as one: timeout(1) and
// some supervisors signal the process and then its group.
const sameStop = time.Second

func (a *app) onSignals(ctx context.Context, s *server.Server, signals <-chan os.Signal) {
	var stopped time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-signals:
			if sig == syscall.SIGUSR2 {
				go s.Upgrade(ctx) // which tells the log how it went
				continue
			}
			if sig != syscall.SIGHUP {
				if time.Since(stopped) > sameStop {
					stopped = time.Now()
					s.Stop("signal " + sig.String())
				}
				continue
			}
			// Beside the signals: a reload takes its time, and nobody may be reading
			// what it says.
			go func() {
				if _, err := s.Reload(ctx); err != nil && !errors.Is(err, context.Canceled) {
					fmt.Fprintln(a.err, err)
					fmt.Fprintln(a.err, "portreeve: not reloaded; the old configuration stays in force")
				}
			}()
		}
	}
}

// quickScreen tells what a first-time user needs, and one line to copy.
func quickScreen(w io.Writer, q *server.Quick) {
	var b strings.Builder
	fmt.Fprintf(&b, "Portreeve %s is running. Press Ctrl-C to stop.\n\n", build().Version)
	for _, p := range q.Ports {
		fmt.Fprintf(&b, "  %-22s %s\n", p.Address, p.What)
	}
	fmt.Fprintf(&b, "  %-22s %s\n\n", q.Passive, "passive data connections")
	fmt.Fprintf(&b, "  data directory   %s\n", q.Dir)
	fmt.Fprintf(&b, "  files            %s\n", q.Home)
	fmt.Fprintf(&b, "  user             %s\n", q.User)
	if q.Password != "" {
		fmt.Fprintf(&b, "  password         %s\n", q.Password)
	}
	fmt.Fprintf(&b, "\nTry it from another terminal:\n\n  %s\n  %s\n", q.Curl, q.SFTP)
	for _, n := range q.Notes {
		fmt.Fprintf(&b, "\nNote: %s\n", n)
	}
	io.WriteString(w, b.String())
}
