package api

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/fault"
)

// maxBody bounds a request body in bytes; the largest honest one is a user
// with some hundred rules.
const maxBody = 1 << 20

type handler struct {
	admin  *admin.Service
	server Server
	mux    *http.ServeMux
}

// New returns the handler of the administrative API. Authorisation is not in
// it: whoever can connect to the socket it is served on is an administrator.
func New(a *admin.Service, s Server) http.Handler {
	h := &handler{admin: a, server: s, mux: http.NewServeMux()}
	for pattern, f := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /v1/users":                 h.listUsers,
		"POST /v1/users":                h.createUser,
		"GET /v1/users/{name}":          h.showUser,
		"PATCH /v1/users/{name}":        h.updateUser,
		"DELETE /v1/users/{name}":       h.deleteUser,
		"PUT /v1/users/{name}/password": h.setPassword,
		"GET /v1/users/{name}/keys":     h.listKeys,
		"POST /v1/users/{name}/keys":    h.addKeys,
		"DELETE /v1/users/{name}/keys":  h.removeKey,
		"GET /v1/sessions":              h.listSessions,
		"DELETE /v1/sessions/{id}":      h.kickSession,
		"DELETE /v1/sessions":           h.kickUser,
		"GET /v1/sessions/{id}/data":    h.listData,
		"GET /v1/data":                  h.listData,
		"GET /v1/ports":                 h.listPorts,
		"GET /v1/ports/matrix":          h.matrix,
		"GET /v1/status":                h.status,
		"POST /v1/reload":               h.reload,
		"POST /v1/stop":                 h.stop,
	} {
		h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := f(w, r); err != nil {
				fail(w, err)
			}
		})
	}
	h.mux.HandleFunc("/", h.unknown)
	return h
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	w.Header().Set("Cache-Control", "no-store")
	h.mux.ServeHTTP(w, r)
}

// unknown tells a wrong method from a wrong path; ServeMux itself cannot once
// a catch-all is registered.
func (h *handler) unknown(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		probe := &http.Request{Method: m, URL: &url.URL{Path: r.URL.Path}, Host: r.Host}
		if _, pattern := h.mux.Handler(probe); pattern != "/" && pattern != "" {
			allow = append(allow, m)
		}
	}
	if len(allow) > 0 {
		w.Header().Set("Allow", strings.Join(allow, ", "))
		refuse(w, http.StatusMethodNotAllowed, "", r.Method+" is not possible on "+r.URL.Path+"; use "+strings.Join(allow, ", "))
		return
	}
	refuse(w, http.StatusNotFound, fault.NotExist.String(), "there is nothing at "+r.URL.Path+"; the paths begin with /v1/users, /v1/sessions, /v1/data, /v1/ports, /v1/status, /v1/reload, /v1/stop")
}

// read decodes a request body strictly: one JSON value, no unknown fields.
func read(r *http.Request, v any) error {
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != "application/json" {
			return fault.Text(fault.Invalid, "the request body must be application/json, not "+ct)
		}
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		var big *http.MaxBytesError
		switch {
		case errors.As(err, &big):
			return err
		case errors.Is(err, io.EOF):
			return fault.Text(fault.Invalid, "the request has no body; it needs a JSON object")
		}
		return fault.Text(fault.Invalid, "the request body is not what this call takes: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fault.Text(fault.Invalid, "the request body goes on after its JSON object")
	}
	return nil
}

func write(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(b, '\n')) // the client has gone when this fails
	return nil
}

func (h *handler) listUsers(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	o := admin.ListOptions{After: q.Get("after"), Match: q.Get("match")}
	if l := q.Get("limit"); l != "" {
		n, err := strconv.Atoi(l)
		if err != nil || n < 1 || n > admin.MaxPage {
			return fault.Text(fault.Invalid, "limit must be a number from 1 to "+strconv.Itoa(admin.MaxPage)+", not "+strconv.Quote(l))
		}
		o.Limit = n
	}
	users, next, err := h.admin.Users(r.Context(), o)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, UserList{Users: users, Next: next})
}

func (h *handler) createUser(w http.ResponseWriter, r *http.Request) error {
	var n admin.NewUser
	if err := read(r, &n); err != nil {
		return err
	}
	u, err := h.admin.CreateUser(r.Context(), n)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/users/"+url.PathEscape(u.Name))
	return write(w, http.StatusCreated, u)
}

func (h *handler) showUser(w http.ResponseWriter, r *http.Request) error {
	u, err := h.admin.User(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, u)
}

func (h *handler) updateUser(w http.ResponseWriter, r *http.Request) error {
	var s admin.Settings
	if err := read(r, &s); err != nil {
		return err
	}
	u, err := h.admin.UpdateUser(r.Context(), r.PathValue("name"), s)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, u)
}

func (h *handler) deleteUser(w http.ResponseWriter, r *http.Request) error {
	if err := h.admin.DeleteUser(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// password is the body of PUT /v1/users/{name}/password.
type password struct {
	Password string `json:"password"`
}

func (h *handler) setPassword(w http.ResponseWriter, r *http.Request) error {
	var p password
	if err := read(r, &p); err != nil {
		return err
	}
	if err := h.admin.SetPassword(r.Context(), r.PathValue("name"), p.Password); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) listSessions(w http.ResponseWriter, r *http.Request) error {
	ss, err := h.admin.Sessions(r.Context())
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, SessionList{Sessions: ss})
}

func (h *handler) kickSession(w http.ResponseWriter, r *http.Request) error {
	if err := h.admin.Kick(r.Context(), r.PathValue("id"), r.URL.Query().Get("reason")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// kicked is the answer of DELETE /v1/sessions?user=NAME.
type kicked struct {
	Kicked int `json:"kicked"`
}

func (h *handler) kickUser(w http.ResponseWriter, r *http.Request) error {
	name := r.URL.Query().Get("user")
	if name == "" {
		return fault.Text(fault.Invalid, "say whose sessions to end: /v1/sessions?user=NAME")
	}
	n, err := h.admin.KickUser(r.Context(), name, r.URL.Query().Get("reason"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, kicked{Kicked: n})
}

func (h *handler) status(w http.ResponseWriter, r *http.Request) error {
	st, err := h.server.Status(r.Context())
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, st)
}

func (h *handler) reload(w http.ResponseWriter, r *http.Request) error {
	rep, err := h.server.Reload(r.Context())
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, rep)
}

func (h *handler) stop(w http.ResponseWriter, r *http.Request) error {
	reason := r.URL.Query().Get("reason")
	if reason == "" {
		reason = "an administrator asked for it"
	}
	w.WriteHeader(http.StatusAccepted)
	// The answer must be on its way before the stop begins to close sockets.
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	h.server.Stop(reason)
	return nil
}
