package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/api"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/server"
)

// control is the service that answers the other commands on the unix socket.
func control(socket string) server.Service {
	return func(ctx context.Context, s *server.Server) error {
		hasher, err := auth.NewHasher(auth.HasherOptions{})
		if err != nil {
			return err
		}
		provider, err := server.Provider(s.Config(), s.Log())
		if err != nil {
			return err
		}
		svc, err := admin.New(admin.Config{Store: s.Store(), Events: s.Bus(), Live: s.Manager(), Hash: hasher.Hash, CheckHash: hasher.Check, DataDir: s.Config().DataDir, Log: s.Log(),
			Policy: func(user, password string) error { return server.PasswordPolicy(s.Config()).Check(user, password) },
			Limits: s.Limits(), Transcripts: s.Transcripts(), Measure: s.Measure,
			Hooks: func() (admin.Hooks, error) { return s.Hooks(), nil }, Tasks: func() (admin.Tasks, error) { return s.Tasks(), nil }, Provider: provider})
		if err != nil {
			return err
		}
		var repair sync.WaitGroup
		defer repair.Wait()
		repair.Go(func() { repairQuota(ctx, s, svc) })
		ln, err := api.Listen(socket)
		if err != nil {
			return err
		}
		h := api.NewServer(svc, running{s, svc})
		done := make(chan error, 1)
		go func() { done <- h.Serve(ln) }()
		s.ControlReady()
		stopAdmin := serveAdmin(s, svc)
		defer stopAdmin()
		select {
		case err = <-done:
			return err
		case <-ctx.Done():
		}
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if h.Shutdown(end) != nil {
			h.Close()
		}
		if err = <-done; errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		return err
	}
}

// serveAdmin answers administrators at [admin] address, if there is one. The
// function it returns ends that; calls under way get a second.
func serveAdmin(s *server.Server, svc *admin.Service) (stop func()) {
	ln, c := s.AdminListener()
	if ln == nil {
		return func() {}
	}
	h := api.NewTLSServer(svc, running{s, svc}, c)
	h.ErrorLog = slog.NewLogLogger(s.Log().Handler(), slog.LevelDebug) // handshakes that fail are nobody's concern
	s.Log().Info("administration over HTTPS", "address", ln.Addr().String())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := h.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.Log().Error("administration over HTTPS ended; the server goes on without it", "err", err)
		}
	}()
	return func() {
		end, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if h.Shutdown(end) != nil {
			h.Close()
		}
		<-done
	}
}

// repairQuota counts anew what a crash of the server before this one left in doubt.
func repairQuota(ctx context.Context, s *server.Server, svc *admin.Service) {
	qs, err := svc.RepairQuota(ctx)
	for _, q := range qs {
		s.Log().Info("quota counted anew after a crash", "account", q.Name, "bytes", q.UsedBytes, "bytes_before", *q.WasBytes, "files", q.UsedFiles, "files_before", *q.WasFiles)
	}
	if err != nil && ctx.Err() == nil {
		s.Log().Error("quota use may be wrong since a crash and could not be counted anew; run \"portreeve quota rescan\"", "err", err)
	}
}

// running shows a server to the API.
type running struct {
	s     *server.Server
	admin *admin.Service
}

func (r running) Status(ctx context.Context) (api.Status, error) {
	v := r.s.Status()
	ss, err := r.admin.Sessions(ctx)
	out := api.Status{Version: v.Version, PID: v.PID, Started: v.Started, ConfigFile: v.ConfigFile, DataDir: v.DataDir, Stopping: v.Stopping,
		PassiveInUse: v.PassiveInUse, BytesDown: v.BytesDown, BytesUp: v.BytesUp, Warnings: v.Warnings, Sessions: ss}
	for _, l := range v.Listeners {
		out.Listeners = append(out.Listeners, api.Listener{Name: l.Name, Protocol: l.Protocol, Address: l.Address, TLS: l.TLS, Passive: l.Passive,
			Announce: l.Announce, ActiveSource: l.ActiveSource, Proxy: l.Proxy, Sessions: l.Sessions})
	}
	for _, c := range v.Certificates {
		out.Certificates = append(out.Certificates, api.Certificate{Names: c.Names, Fingerprint: c.Fingerprint, NotAfter: c.NotAfter, SelfSigned: c.SelfSigned, Source: c.Source})
	}
	return out, err
}

func (r running) Reload(ctx context.Context) (api.Reloaded, error) {
	v, err := r.s.Reload(ctx)
	if err != nil {
		// Whatever stopped it, it was the file or what the file names.
		return api.Reloaded{}, &fault.Error{Kind: fault.Invalid, Err: err}
	}
	return api.Reloaded{Changed: v.Changed, Restart: v.Restart, Opened: v.Opened, Closed: v.Closed}, nil
}

// Upgrade must outlive the request, which ends when a client gives up.
func (r running) Upgrade(ctx context.Context) (int, error) {
	return r.s.Upgrade(context.WithoutCancel(ctx))
}

func (r running) Stop(reason string) { r.s.Stop(reason) }
