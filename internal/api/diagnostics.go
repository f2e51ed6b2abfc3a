package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/ports"
)

// Diagnostics is an optional ability of a Server: what it knows about data
// connections and passive ports.
type Diagnostics interface {
	Ports(ctx context.Context) (Ports, error)
	Matrix(ctx context.Context) (ports.Matrix, error)
	// Data returns what is kept of one session, or of all when id is empty.
	Data(ctx context.Context, id string) ([]ports.Attempt, error)
}

// Ports are the passive ports that are open now.
type Ports struct {
	Sockets []ports.LiveSocket `json:"sockets"`
	Pools   []ports.Stats      `json:"pools"`
}

// DataList is the answer of GET /v1/data and GET /v1/sessions/{id}/data.
type DataList struct {
	Attempts []ports.Attempt `json:"attempts"`
}

func (h *handler) diagnostics() (Diagnostics, error) {
	d, ok := h.server.(Diagnostics)
	if !ok {
		return nil, fault.Text(fault.Unsupported, "this server keeps no record of data connections")
	}
	return d, nil
}

func (h *handler) listPorts(w http.ResponseWriter, r *http.Request) error {
	d, err := h.diagnostics()
	if err != nil {
		return err
	}
	p, err := d.Ports(r.Context())
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, p)
}

func (h *handler) matrix(w http.ResponseWriter, r *http.Request) error {
	d, err := h.diagnostics()
	if err != nil {
		return err
	}
	m, err := d.Matrix(r.Context())
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, m)
}

func (h *handler) listData(w http.ResponseWriter, r *http.Request) error {
	d, err := h.diagnostics()
	if err != nil {
		return err
	}
	a, err := d.Data(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, DataList{Attempts: a})
}

// Ports asks which passive ports are open now.
func (c *Client) Ports(ctx context.Context) (p Ports, err error) {
	err = c.call(ctx, "GET", "/v1/ports", nil, nil, &p)
	return p, err
}

// Matrix asks what the recorder has counted.
func (c *Client) Matrix(ctx context.Context) (m ports.Matrix, err error) {
	err = c.call(ctx, "GET", "/v1/ports/matrix", nil, nil, &m)
	return m, err
}

// Data returns the recorded data connections of a session, or of all when id
// is empty; none is no error, since a session may have had none.
func (c *Client) Data(ctx context.Context, id string) ([]ports.Attempt, error) {
	path := "/v1/data"
	if id != "" {
		path = "/v1/sessions/" + url.PathEscape(id) + "/data"
	}
	var l DataList
	err := c.call(ctx, "GET", path, nil, nil, &l)
	return l.Attempts, err
}
