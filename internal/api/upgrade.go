package api

import (
	"context"
	"net/http"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/fault"
)

// Upgrader is an optional ability of a Server: to hand its ports to a new process.
type Upgrader interface {
	Upgrade(ctx context.Context) (pid int, err error)
}

// Upgraded is the answer of POST /v1/upgrade.
type Upgraded struct {
	PID int `json:"pid"` // of the new process
}

func (h *handler) upgrade(w http.ResponseWriter, r *http.Request) error {
	if err := h.admin.May(r.Context(), admin.ScopeServer); err != nil {
		return err
	}
	u, ok := h.server.(Upgrader)
	if !ok {
		return fault.Text(fault.Unsupported, "this server cannot hand its ports over")
	}
	pid, err := u.Upgrade(r.Context())
	if err != nil {
		return &fault.Error{Kind: fault.Unavailable, Err: err}
	}
	return write(w, http.StatusOK, Upgraded{PID: pid})
}

// Upgrade makes the server start the program anew and hand its ports over.
func (c *Client) Upgrade(ctx context.Context) (Upgraded, error) {
	var u Upgraded
	err := c.call(ctx, "POST", "/v1/upgrade", nil, nil, &u)
	return u, err
}
