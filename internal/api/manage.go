package api

import (
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/fault"
)

func (h *handler) access(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	q := account.Question{Path: v.Get("path"), Protocol: v.Get("protocol")}
	var err error
	if s := v.Get("from"); s != "" {
		if q.From, err = netip.ParseAddr(s); err != nil {
			return fault.Text(fault.Invalid, strconv.Quote(s)+" is not an IP address")
		}
	}
	if s := v.Get("at"); s != "" {
		if q.At, err = time.Parse(time.RFC3339, s); err != nil {
			return fault.Text(fault.Invalid, strconv.Quote(s)+" is not a time like 2030-12-31T18:00:00Z")
		}
	}
	x, err := h.admin.Access(r.Context(), r.PathValue("name"), q)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, x)
}

func (h *handler) createAll(w http.ResponseWriter, r *http.Request) error {
	var b admin.Batch
	if err := read(r, &b); err != nil {
		return err
	}
	m, err := h.admin.CreateAll(r.Context(), b)
	if err != nil {
		return err
	}
	return write(w, http.StatusCreated, m)
}

func (h *handler) listGroups(w http.ResponseWriter, r *http.Request) error {
	o, err := options(r)
	if err != nil {
		return err
	}
	gs, next, err := h.admin.Groups(r.Context(), o)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, GroupList{Groups: gs, Next: next})
}

func (h *handler) createGroup(w http.ResponseWriter, r *http.Request) error {
	var n admin.NewGroup
	if err := read(r, &n); err != nil {
		return err
	}
	g, err := h.admin.CreateGroup(r.Context(), n)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/groups/"+url.PathEscape(g.Name))
	return versioned(w, r, http.StatusCreated, g)
}

func (h *handler) showGroup(w http.ResponseWriter, r *http.Request) error {
	g, err := h.admin.Group(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return versioned(w, r, http.StatusOK, g)
}

func (h *handler) updateGroup(w http.ResponseWriter, r *http.Request) error {
	var s admin.GroupSettings
	if err := read(r, &s); err != nil {
		return err
	}
	var err error
	if s.IfMatch, err = ifMatch(r); err != nil {
		return err
	}
	g, err := h.admin.UpdateGroup(r.Context(), r.PathValue("name"), s)
	if err != nil {
		return err
	}
	return versioned(w, r, http.StatusOK, g)
}

func (h *handler) deleteGroup(w http.ResponseWriter, r *http.Request) error {
	return gone(w, h.admin.DeleteGroup(r.Context(), r.PathValue("name")))
}

// gone answers a removal.
func gone(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

func (h *handler) members(w http.ResponseWriter, r *http.Request) error {
	o, err := options(r)
	if err != nil {
		return err
	}
	names, next, err := h.admin.Members(r.Context(), r.PathValue("name"), o)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, MemberList{Members: names, Next: next})
}

func (h *handler) listAdministrators(w http.ResponseWriter, r *http.Request) error {
	o, err := options(r)
	if err != nil {
		return err
	}
	as, next, err := h.admin.Administrators(r.Context(), o)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, AdministratorList{Administrators: as, Next: next})
}

func (h *handler) createAdministrator(w http.ResponseWriter, r *http.Request) error {
	var n admin.NewAdministrator
	if err := read(r, &n); err != nil {
		return err
	}
	a, err := h.admin.CreateAdministrator(r.Context(), n)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/administrators/"+url.PathEscape(a.Name))
	return versioned(w, r, http.StatusCreated, a)
}

func (h *handler) showAdministrator(w http.ResponseWriter, r *http.Request) error {
	a, err := h.admin.Administrator(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return versioned(w, r, http.StatusOK, a)
}

func (h *handler) updateAdministrator(w http.ResponseWriter, r *http.Request) error {
	var s admin.AdministratorSettings
	if err := read(r, &s); err != nil {
		return err
	}
	var err error
	if s.IfMatch, err = ifMatch(r); err != nil {
		return err
	}
	a, err := h.admin.UpdateAdministrator(r.Context(), r.PathValue("name"), s)
	if err != nil {
		return err
	}
	return versioned(w, r, http.StatusOK, a)
}

func (h *handler) deleteAdministrator(w http.ResponseWriter, r *http.Request) error {
	return gone(w, h.admin.DeleteAdministrator(r.Context(), r.PathValue("name")))
}

func (h *handler) listTokens(w http.ResponseWriter, r *http.Request) error {
	ts, err := h.admin.Tokens(r.Context(), r.URL.Query().Get("administrator"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, TokenList{Tokens: ts})
}

func (h *handler) createToken(w http.ResponseWriter, r *http.Request) error {
	var n admin.NewToken
	if err := read(r, &n); err != nil {
		return err
	}
	t, err := h.admin.CreateToken(r.Context(), n)
	if err != nil {
		return err
	}
	return write(w, http.StatusCreated, t)
}

func (h *handler) deleteToken(w http.ResponseWriter, r *http.Request) error {
	return gone(w, h.admin.DeleteToken(r.Context(), r.PathValue("id")))
}

func (h *handler) contract(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml")
	w.Write([]byte(Contract())) // the client has gone when this fails
	return nil
}

func (h *handler) signIn(w http.ResponseWriter, _ *http.Request) error {
	return write(w, http.StatusOK, SignIn{OIDC: h.admin.SignIn()})
}

func (h *handler) me(w http.ResponseWriter, r *http.Request) error {
	p := admin.Self(r.Context())
	m := Me{Name: p.Name, Scopes: []string{}, Groups: p.Groups, Unverified: p.Unverified}
	for _, sc := range p.Scopes {
		m.Scopes = append(m.Scopes, string(sc))
	}
	return write(w, http.StatusOK, m)
}
