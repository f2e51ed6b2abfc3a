package main

import (
	"context"

	"github.com/portreeve/portreeve/internal/api"
	"github.com/portreeve/portreeve/internal/ports"
)

// Ports, Matrix and Data show the recorder to the API; see api.Diagnostics.

func (r running) Ports(context.Context) (api.Ports, error) {
	live, stats := r.s.LivePorts()
	return api.Ports{Sockets: live, Pools: stats}, nil
}

func (r running) Matrix(context.Context) (ports.Matrix, error) { return r.s.Recorder().Matrix(), nil }

func (r running) Data(_ context.Context, id string) ([]ports.Attempt, error) {
	if id != "" {
		return r.s.Recorder().Session(id), nil
	}
	return r.s.Recorder().Recent(200), nil
}
