package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

// EventList is the answer of POST /v1/events/query.
type EventList struct {
	Events []events.Event `json:"events"`
}

// marks is the body of POST /v1/events/verify.
type marks struct {
	Marks []string `json:"marks,omitempty"`
}

// BanList is the answer of GET /v1/bans.
type BanList struct {
	Bans []admin.Ban `json:"bans"`
}

// QuotaList is the answer of the quota calls.
type QuotaList struct {
	Quotas []admin.Quota `json:"quotas"`
}

// trailRoutes are the calls of this file. A query is a POST because paths in
// it may be any octets.
func (h *handler) trailRoutes() []route {
	const ok, made, none = http.StatusOK, http.StatusCreated, http.StatusNoContent
	who := []param{{name: "name", kind: "string", doc: "Only of this account; empty is every one."}}
	return []route{
		{"queryEvents", "POST", "/v1/events/query", "List events of the audit trail", admin.ScopeRead, nil, admin.EventQuery{}, EventList{}, ok, false, h.queryEvents},
		{"verifyEvents", "POST", "/v1/events/verify", "Check that no event was changed or removed", admin.ScopeRead, nil, marks{}, admin.Trail{}, ok, false, h.verifyEvents},
		{"listBans", "GET", "/v1/bans", "List the networks that are kept out", admin.ScopeRead, nil, nil, BanList{}, ok, false, h.listBans},
		{"createBan", "POST", "/v1/bans", "Keep a network out and end its connections", admin.ScopeServer, nil, admin.NewBan{}, admin.Ban{}, made, false, h.addBan},
		{"deleteBan", "DELETE", "/v1/bans", "Let a network in again", admin.ScopeServer, []param{{name: "network", kind: "string", doc: "The address or network.", required: true}}, nil, nil, none, false, h.removeBan},
		{"upgrade", "POST", "/v1/upgrade", "Start the program anew and hand the ports over", admin.ScopeServer, nil, nil, Upgraded{}, ok, false, h.upgrade},
		{"listQuotas", "GET", "/v1/quota", "List the quotas and what is used of them", admin.ScopeRead, who, nil, QuotaList{}, ok, false, h.listQuota},
		{"recountQuotas", "POST", "/v1/quota/recount", "Count the files of accounts with a quota anew", admin.ScopeServer, who, nil, QuotaList{}, ok, false, h.recountQuota},
	}
}

func (h *handler) queryEvents(w http.ResponseWriter, r *http.Request) error {
	var q admin.EventQuery
	if err := read(r, &q); err != nil {
		return err
	}
	es, err := h.admin.Events(r.Context(), q)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, EventList{es})
}

func (h *handler) verifyEvents(w http.ResponseWriter, r *http.Request) error {
	var m marks
	if err := read(r, &m); err != nil {
		return err
	}
	t, err := h.admin.VerifyEvents(r.Context(), m.Marks)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, t)
}

func (h *handler) listBans(w http.ResponseWriter, r *http.Request) error {
	bs, err := h.admin.Bans(r.Context())
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, BanList{bs})
}

func (h *handler) addBan(w http.ResponseWriter, r *http.Request) error {
	var n admin.NewBan
	if err := read(r, &n); err != nil {
		return err
	}
	b, err := h.admin.AddBan(r.Context(), n)
	if err != nil {
		return err
	}
	return write(w, http.StatusCreated, b)
}

func (h *handler) removeBan(w http.ResponseWriter, r *http.Request) error {
	network := r.URL.Query().Get("network")
	if network == "" {
		return fault.Text(fault.Invalid, "say which ban to lift: /v1/bans?network=192.0.2.1")
	}
	if err := h.admin.RemoveBan(r.Context(), network); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) listQuota(w http.ResponseWriter, r *http.Request) error {
	qs, err := h.admin.Quotas(r.Context(), r.URL.Query().Get("name"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, QuotaList{qs})
}

func (h *handler) recountQuota(w http.ResponseWriter, r *http.Request) error {
	qs, err := h.admin.Recount(r.Context(), r.URL.Query().Get("name"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, QuotaList{qs})
}

// Events is admin.Service.Events on the server.
func (c *Client) Events(ctx context.Context, q admin.EventQuery) ([]events.Event, error) {
	var l EventList
	err := c.call(ctx, "POST", "/v1/events/query", nil, q, &l)
	return l.Events, err
}

// VerifyEvents is admin.Service.VerifyEvents on the server.
func (c *Client) VerifyEvents(ctx context.Context, m []string) (t admin.Trail, err error) {
	err = c.call(ctx, "POST", "/v1/events/verify", nil, marks{m}, &t)
	return t, err
}

// Bans is admin.Service.Bans on the server.
func (c *Client) Bans(ctx context.Context) ([]admin.Ban, error) {
	var l BanList
	err := c.call(ctx, "GET", "/v1/bans", nil, nil, &l)
	return l.Bans, err
}

// AddBan is admin.Service.AddBan on the server.
func (c *Client) AddBan(ctx context.Context, n admin.NewBan) (b admin.Ban, err error) {
	err = c.call(ctx, "POST", "/v1/bans", nil, n, &b)
	return b, err
}

// RemoveBan is admin.Service.RemoveBan on the server.
func (c *Client) RemoveBan(ctx context.Context, network string) error {
	return c.call(ctx, "DELETE", "/v1/bans", url.Values{"network": {network}}, nil, nil)
}

// Quotas is admin.Service.Quotas on the server.
func (c *Client) Quotas(ctx context.Context, name string) ([]admin.Quota, error) {
	var l QuotaList
	err := c.call(ctx, "GET", "/v1/quota", url.Values{"name": {name}}, nil, &l)
	return l.Quotas, err
}

// Recount is admin.Service.Recount on the server.
func (c *Client) Recount(ctx context.Context, name string) ([]admin.Quota, error) {
	var l QuotaList
	err := c.call(ctx, "POST", "/v1/quota/recount", url.Values{"name": {name}}, nil, &l)
	return l.Quotas, err
}
