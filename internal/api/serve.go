package api

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/portreeve/portreeve/internal/admin"
)

// NewServer returns the HTTP server for the unix socket that Listen makes. It
// notes the user at the other end as the actor of every change.
func NewServer(a *admin.Service, s Server) *http.Server {
	return &http.Server{
		Handler:           New(a, s),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return admin.WithActor(ctx, peer(c))
		},
	}
}
