package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/fault"
)

// KeyList is the answer of the calls on /v1/users/{name}/keys.
type KeyList struct {
	Keys []admin.Key `json:"keys"`
}

// newKeys is the body of POST /v1/users/{name}/keys.
type newKeys struct {
	Lines []string `json:"lines"` // of an authorized_keys file
}

func (h *handler) listKeys(w http.ResponseWriter, r *http.Request) error {
	keys, err := h.admin.Keys(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, KeyList{keys})
}

func (h *handler) addKeys(w http.ResponseWriter, r *http.Request) error {
	var n newKeys
	if err := read(r, &n); err != nil {
		return err
	}
	keys, err := h.admin.AddKeys(r.Context(), r.PathValue("name"), n.Lines)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, KeyList{keys})
}

func (h *handler) removeKey(w http.ResponseWriter, r *http.Request) error {
	which := r.URL.Query().Get("key")
	if which == "" {
		return fault.Text(fault.Invalid, "say which key to remove: /v1/users/NAME/keys?key=SHA256:...")
	}
	k, err := h.admin.RemoveKey(r.Context(), r.PathValue("name"), which)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, KeyList{[]admin.Key{k}})
}

// Keys is admin.Service.Keys on the server.
func (c *Client) Keys(ctx context.Context, name string) ([]admin.Key, error) {
	var l KeyList
	err := c.call(ctx, "GET", userPath(name)+"/keys", nil, nil, &l)
	return l.Keys, err
}

// AddKeys is admin.Service.AddKeys on the server.
func (c *Client) AddKeys(ctx context.Context, name string, lines []string) ([]admin.Key, error) {
	var l KeyList
	err := c.call(ctx, "POST", userPath(name)+"/keys", nil, newKeys{lines}, &l)
	return l.Keys, err
}

// RemoveKey is admin.Service.RemoveKey on the server.
func (c *Client) RemoveKey(ctx context.Context, name, which string) (admin.Key, error) {
	var l KeyList
	err := c.call(ctx, "DELETE", userPath(name)+"/keys", url.Values{"key": {which}}, nil, &l)
	if err != nil || len(l.Keys) == 0 {
		return admin.Key{}, err
	}
	return l.Keys[0], nil
}
