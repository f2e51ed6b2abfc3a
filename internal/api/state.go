package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/fault"
)

func (h *handler) stateRoutes() []route {
	return []route{{"applyState", "POST", "/v1/state", "Make accounts, groups and administrators what a document says, all of it or nothing, and tell the difference", admin.ScopeUsers, []param{
		{name: "dry_run", kind: "string", doc: "With true only the difference is told."},
		{name: "prune", kind: "string", doc: "With true what the sections of the document do not name is removed; else it stays."},
		{name: "plan", kind: "string", doc: "Digest of the plan that was looked at: another difference is refused with 412."},
	}, admin.State{}, admin.Plan{}, http.StatusOK, false, h.applyState}}
}

func (h *handler) applyState(w http.ResponseWriter, r *http.Request) error {
	var s admin.State
	if err := read(r, &s); err != nil {
		return err
	}
	q := r.URL.Query()
	o := admin.ApplyOptions{Plan: q.Get("plan")}
	for name, to := range map[string]*bool{"dry_run": &o.DryRun, "prune": &o.Prune} {
		switch q.Get(name) {
		case "", "false":
		case "true":
			*to = true
		default:
			return fault.Text(fault.Invalid, name+" must be true or false")
		}
	}
	p, err := h.admin.Apply(r.Context(), s, o)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, p)
}

// Apply is admin.Service.Apply on the server.
func (c *Client) Apply(ctx context.Context, s admin.State, o admin.ApplyOptions) (p admin.Plan, err error) {
	q := url.Values{}
	if o.DryRun {
		q.Set("dry_run", "true")
	}
	if o.Prune {
		q.Set("prune", "true")
	}
	if o.Plan != "" {
		q.Set("plan", o.Plan)
	}
	return p, c.call(ctx, "POST", "/v1/state", q, s, &p)
}
