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

// maxBatch bounds the body of an import, in bytes: some hundred thousand accounts.
const maxBatch = 256 << 20

type handler struct {
	admin  *admin.Service
	server Server
	mux    *http.ServeMux
	codes  *buckets // tries of second factors
}

// New returns the handler of the administrative API. It does not ask who
// calls: on the unix socket whoever can connect is an administrator, and
// Authenticated puts the tokens in front of it.
func New(a *admin.Service, s Server) http.Handler {
	h := &handler{admin: a, server: s, mux: http.NewServeMux(), codes: newBuckets(codeRate, codeBurst)}
	for _, rt := range h.routes() {
		h.mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) {
			err := h.may(r, &rt)
			if err == nil {
				err = rt.run(w, r)
			}
			if err != nil {
				fail(w, err)
			}
		})
	}
	h.mux.HandleFunc("/", h.unknown)
	return h
}

// may checks the scope that the table says. The admin service checks again
// where it changes something, for its other callers.
func (h *handler) may(r *http.Request, rt *route) error {
	if rt.scope == "" {
		return nil
	}
	if err := h.admin.May(r.Context(), rt.scope); err != nil {
		return err
	}
	if !delegated[rt.id] {
		return admin.Unlimited(r.Context(), "do this: "+rt.summary)
	}
	return nil
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	limit := int64(maxBody)
	if r.URL.Path == "/v1/accounts" || r.URL.Path == "/v1/state" {
		limit = maxBatch
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	w.Header().Set("Cache-Control", "no-store")
	// Nothing is unpacked here: a few octets can become gigabytes.
	if enc := r.Header.Get("Content-Encoding"); enc != "" {
		refuse(w, http.StatusUnsupportedMediaType, fault.Unsupported.String(), "requests are taken as they are, without Content-Encoding; send the body uncompressed")
		return
	}
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

// options reads the parameters of a list.
func options(r *http.Request) (admin.ListOptions, error) {
	q := r.URL.Query()
	o := admin.ListOptions{After: q.Get("after"), Match: q.Get("match"), Group: q.Get("group")}
	if l := q.Get("limit"); l != "" {
		n, err := strconv.Atoi(l)
		if err != nil || n < 1 || n > admin.MaxPage {
			return o, fault.Text(fault.Invalid, "limit must be a number from 1 to "+strconv.Itoa(admin.MaxPage)+", not "+strconv.Quote(l))
		}
		o.Limit = n
	}
	return o, nil
}

// versioned answers with one object and its version. A read whose
// If-None-Match names that version gets 304.
func versioned(w http.ResponseWriter, r *http.Request, status int, v any) error {
	tag := strconv.Quote(admin.Version(v))
	w.Header().Set("ETag", tag)
	if r.Method == "GET" && r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return write(w, status, v)
}

// ifMatch returns the version that a change is meant for, "" for any.
func ifMatch(r *http.Request) (string, error) {
	v := strings.TrimSpace(r.Header.Get("If-Match"))
	switch {
	case v == "" || v == "*":
		return "", nil
	case len(v) < 3 || v[0] != '"' || v[len(v)-1] != '"' || strings.Contains(v[1:len(v)-1], `"`):
		return "", fault.Text(fault.Invalid, `If-Match must be one ETag in quotes, as GET returned it`)
	}
	return v[1 : len(v)-1], nil
}

func (h *handler) listUsers(w http.ResponseWriter, r *http.Request) error {
	o, err := options(r)
	if err != nil {
		return err
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
	return versioned(w, r, http.StatusCreated, u)
}

func (h *handler) showUser(w http.ResponseWriter, r *http.Request) error {
	u, err := h.admin.User(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return versioned(w, r, http.StatusOK, u)
}

func (h *handler) updateUser(w http.ResponseWriter, r *http.Request) error {
	var s admin.Settings
	if err := read(r, &s); err != nil {
		return err
	}
	var err error
	if s.IfMatch, err = ifMatch(r); err != nil {
		return err
	}
	u, err := h.admin.UpdateUser(r.Context(), r.PathValue("name"), s)
	if err != nil {
		return err
	}
	return versioned(w, r, http.StatusOK, u)
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
	if err := h.admin.May(r.Context(), admin.ScopeRead); err != nil {
		return err
	}
	st, err := h.server.Status(r.Context())
	if err != nil {
		return err
	}
	if st.Sessions, err = h.admin.Sessions(r.Context()); err != nil { // those the caller may see
		return err
	}
	return write(w, http.StatusOK, st)
}

func (h *handler) reload(w http.ResponseWriter, r *http.Request) error {
	if err := h.admin.May(r.Context(), admin.ScopeServer); err != nil {
		return err
	}
	rep, err := h.server.Reload(r.Context())
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, rep)
}

func (h *handler) stop(w http.ResponseWriter, r *http.Request) error {
	if err := h.admin.May(r.Context(), admin.ScopeServer); err != nil {
		return err
	}
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
