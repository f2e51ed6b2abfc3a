package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/hook"
	"github.com/portreeve/portreeve/internal/task"
)

// HookList is the answer of GET /v1/hooks.
type HookList struct {
	Hooks []hook.State `json:"hooks"`
}

// DeadList is the answer of GET /v1/deliveries/dead.
type DeadList struct {
	Deliveries []events.Delivery `json:"deliveries"`
}

// TaskList is the answer of GET /v1/tasks.
type TaskList struct {
	Tasks []task.State `json:"tasks"`
}

// hookRoutes are the calls of this file.
func (h *handler) hookRoutes() []route {
	const ok = http.StatusOK
	which := []param{{name: "id", kind: "integer", doc: "Number of the delivery; without it, all that are dead."}}
	return []route{
		{"listHooks", "GET", "/v1/hooks", "List the hooks and what waits for them", admin.ScopeRead, nil, nil, HookList{}, ok, false, h.listHooks},
		{"testHook", "POST", "/v1/hooks/{name}/test", "Send a made-up event to a hook", admin.ScopeServer, nil, nil, hook.Tested{}, ok, false, h.testHook},
		{"listDead", "GET", "/v1/deliveries/dead", "List the deliveries that were given up, the oldest first", admin.ScopeRead, []param{
			{name: "after", kind: "integer", doc: "Numbers after this one."}, {name: "limit", kind: "integer", doc: "The most entries, 1 to 1000."},
		}, nil, DeadList{}, ok, false, h.listDead},
		{"retryDead", "POST", "/v1/deliveries/dead/retry", "Try dead deliveries again", admin.ScopeServer, which, nil, admin.Moved{}, ok, false, h.retryDead},
		{"dropDead", "DELETE", "/v1/deliveries/dead", "Remove dead deliveries", admin.ScopeServer, which, nil, admin.Moved{}, ok, false, h.dropDead},
		{"listTasks", "GET", "/v1/tasks", "List the tasks and their last runs", admin.ScopeRead, nil, nil, TaskList{}, ok, false, h.listTasks},
		{"runTask", "POST", "/v1/tasks/{name}/run", "Run a task now and wait for its end", admin.ScopeServer,
			[]param{{name: "dry_run", kind: "boolean", doc: "Only say what it would do."}}, nil, task.Report{}, ok, false, h.runTask},
	}
}

// number reads an integer parameter, 0 when it is absent.
func number(r *http.Request, name string) (int64, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		return 0, fault.Text(fault.Invalid, name+" must be a number from 1 on, not "+strconv.Quote(s))
	}
	return n, nil
}

func (h *handler) listHooks(w http.ResponseWriter, r *http.Request) error {
	hs, err := h.admin.Hooks(r.Context())
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, HookList{hs})
}

func (h *handler) testHook(w http.ResponseWriter, r *http.Request) error {
	t, err := h.admin.TestHook(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, t)
}

func (h *handler) listDead(w http.ResponseWriter, r *http.Request) error {
	after, err := number(r, "after")
	if err != nil {
		return err
	}
	limit, err := number(r, "limit")
	if err != nil {
		return err
	}
	ds, err := h.admin.DeadDeliveries(r.Context(), after, int(min(limit, 1000)))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, DeadList{ds})
}

func (h *handler) retryDead(w http.ResponseWriter, r *http.Request) error {
	return h.moveDead(w, r, h.admin.RetryDeliveries)
}

func (h *handler) dropDead(w http.ResponseWriter, r *http.Request) error {
	return h.moveDead(w, r, h.admin.DropDeliveries)
}

func (h *handler) moveDead(w http.ResponseWriter, r *http.Request, do func(context.Context, int64) (admin.Moved, error)) error {
	id, err := number(r, "id")
	if err != nil {
		return err
	}
	m, err := do(r.Context(), id)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, m)
}

func (h *handler) listTasks(w http.ResponseWriter, r *http.Request) error {
	ts, err := h.admin.Tasks(r.Context())
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, TaskList{ts})
}

func (h *handler) runTask(w http.ResponseWriter, r *http.Request) error {
	dry := false
	if s := r.URL.Query().Get("dry_run"); s != "" {
		var err error
		if dry, err = strconv.ParseBool(s); err != nil {
			return fault.Text(fault.Invalid, "dry_run must be true or false, not "+strconv.Quote(s))
		}
	}
	rep, err := h.admin.RunTask(r.Context(), r.PathValue("name"), dry)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, rep)
}

// Hooks is admin.Service.Hooks on the server.
func (c *Client) Hooks(ctx context.Context) ([]hook.State, error) {
	var l HookList
	err := c.call(ctx, "GET", "/v1/hooks", nil, nil, &l)
	return l.Hooks, err
}

// TestHook is admin.Service.TestHook on the server.
func (c *Client) TestHook(ctx context.Context, name string) (t hook.Tested, err error) {
	err = c.call(ctx, "POST", "/v1/hooks/"+url.PathEscape(name)+"/test", nil, nil, &t)
	return t, err
}

// DeadDeliveries is admin.Service.DeadDeliveries on the server.
func (c *Client) DeadDeliveries(ctx context.Context, after int64, limit int) ([]events.Delivery, error) {
	q := url.Values{}
	for name, n := range map[string]int64{"after": after, "limit": int64(limit)} {
		if n > 0 {
			q.Set(name, strconv.FormatInt(n, 10))
		}
	}
	var l DeadList
	err := c.call(ctx, "GET", "/v1/deliveries/dead", q, nil, &l)
	return l.Deliveries, err
}

func whichDead(id int64) url.Values {
	if id == 0 {
		return nil
	}
	return url.Values{"id": {strconv.FormatInt(id, 10)}}
}

// RetryDeliveries is admin.Service.RetryDeliveries on the server.
func (c *Client) RetryDeliveries(ctx context.Context, id int64) (m admin.Moved, err error) {
	err = c.call(ctx, "POST", "/v1/deliveries/dead/retry", whichDead(id), nil, &m)
	return m, err
}

// DropDeliveries is admin.Service.DropDeliveries on the server.
func (c *Client) DropDeliveries(ctx context.Context, id int64) (m admin.Moved, err error) {
	err = c.call(ctx, "DELETE", "/v1/deliveries/dead", whichDead(id), nil, &m)
	return m, err
}

// Tasks is admin.Service.Tasks on the server.
func (c *Client) Tasks(ctx context.Context) ([]task.State, error) {
	var l TaskList
	err := c.call(ctx, "GET", "/v1/tasks", nil, nil, &l)
	return l.Tasks, err
}

// RunTask is admin.Service.RunTask on the server.
func (c *Client) RunTask(ctx context.Context, name string, dry bool) (rep task.Report, err error) {
	err = c.call(ctx, "POST", "/v1/tasks/"+url.PathEscape(name)+"/run", url.Values{"dry_run": {strconv.FormatBool(dry)}}, nil, &rep)
	return rep, err
}
