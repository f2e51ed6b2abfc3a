package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/time/rate"

	"github.com/portreeve/portreeve/internal/admin"
)

// The rate of codes of one administrator: a code has a million values and
// three are good at a time.
var codeRate = rate.Every(time.Minute)

const codeBurst = 5

// Code is the body of POST /v1/verification.
type Code struct {
	Code string `json:"code"` // by time, or a recovery code
}

// RecoveryCodes is the answer of the calls that replace them.
type RecoveryCodes struct {
	Codes []string `json:"recovery_codes"`
}

func (h *handler) totpRoutes() []route {
	const made, none = http.StatusCreated, http.StatusNoContent
	return []route{
		{"enableTOTP", "POST", "/v1/users/{name}/totp", "Give an account a second factor; its secret is in this answer and nowhere else", admin.ScopeUsers, nil, nil, admin.Enrolled{}, made, false, h.enrolled((*admin.Service).EnableTOTP)},
		{"disableTOTP", "DELETE", "/v1/users/{name}/totp", "End the second factor of an account", admin.ScopeUsers, nil, nil, nil, none, false, h.disabled((*admin.Service).DisableTOTP)},
		{"newRecovery", "POST", "/v1/users/{name}/totp/recovery", "Replace the recovery codes of an account", admin.ScopeUsers, nil, nil, RecoveryCodes{}, made, false, h.recovery((*admin.Service).NewRecovery)},
		{"enableAdministratorTOTP", "POST", "/v1/administrators/{name}/totp", "Give an administrator a second factor; its secret is in this answer and nowhere else", admin.ScopeAdmins, nil, nil, admin.Enrolled{}, made, false, h.enrolled((*admin.Service).EnableAdministratorTOTP)},
		{"disableAdministratorTOTP", "DELETE", "/v1/administrators/{name}/totp", "End the second factor of an administrator", admin.ScopeAdmins, nil, nil, nil, none, false, h.disabled((*admin.Service).DisableAdministratorTOTP)},
		{"newAdministratorRecovery", "POST", "/v1/administrators/{name}/totp/recovery", "Replace the recovery codes of an administrator", admin.ScopeAdmins, nil, nil, RecoveryCodes{}, made, false, h.recovery((*admin.Service).NewAdministratorRecovery)},
		{"verifyToken", "POST", "/v1/verification", "Give a code of the administrator who calls and get a token for 12 hours: the only call that a token can make whose administrator has a second factor", "", nil, Code{}, admin.MadeToken{}, made, false, h.verifyToken},
	}
}

func (h *handler) enrolled(enable func(*admin.Service, context.Context, string) (admin.Enrolled, error)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		e, err := enable(h.admin, r.Context(), r.PathValue("name"))
		if err != nil {
			return err
		}
		return write(w, http.StatusCreated, e)
	}
}

func (h *handler) disabled(disable func(*admin.Service, context.Context, string) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		return gone(w, disable(h.admin, r.Context(), r.PathValue("name")))
	}
}

func (h *handler) recovery(renew func(*admin.Service, context.Context, string) ([]string, error)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		codes, err := renew(h.admin, r.Context(), r.PathValue("name"))
		if err != nil {
			return err
		}
		return write(w, http.StatusCreated, RecoveryCodes{codes})
	}
}

func (h *handler) verifyToken(w http.ResponseWriter, r *http.Request) error {
	var c Code
	if err := read(r, &c); err != nil {
		return err
	}
	if who := admin.Caller(r.Context()); who != "" && !h.codes.take(who) {
		slowDown(w, time.Minute)
		return nil
	}
	t, err := h.admin.VerifyToken(r.Context(), c.Code)
	if err != nil {
		return err
	}
	return write(w, http.StatusCreated, t)
}

// EnableTOTP is admin.Service.EnableTOTP on the server.
func (c *Client) EnableTOTP(ctx context.Context, name string) (e admin.Enrolled, err error) {
	return e, c.call(ctx, "POST", userPath(name)+"/totp", nil, nil, &e)
}

// DisableTOTP is admin.Service.DisableTOTP on the server.
func (c *Client) DisableTOTP(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", userPath(name)+"/totp", nil, nil, nil)
}

// NewRecovery is admin.Service.NewRecovery on the server.
func (c *Client) NewRecovery(ctx context.Context, name string) ([]string, error) {
	var r RecoveryCodes
	err := c.call(ctx, "POST", userPath(name)+"/totp/recovery", nil, nil, &r)
	return r.Codes, err
}

func administratorPath(name string) string { return "/v1/administrators/" + url.PathEscape(name) }

// EnableAdministratorTOTP is admin.Service.EnableAdministratorTOTP on the server.
func (c *Client) EnableAdministratorTOTP(ctx context.Context, name string) (e admin.Enrolled, err error) {
	return e, c.call(ctx, "POST", administratorPath(name)+"/totp", nil, nil, &e)
}

// DisableAdministratorTOTP is admin.Service.DisableAdministratorTOTP on the server.
func (c *Client) DisableAdministratorTOTP(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", administratorPath(name)+"/totp", nil, nil, nil)
}

// NewAdministratorRecovery is admin.Service.NewAdministratorRecovery on the server.
func (c *Client) NewAdministratorRecovery(ctx context.Context, name string) ([]string, error) {
	var r RecoveryCodes
	err := c.call(ctx, "POST", administratorPath(name)+"/totp/recovery", nil, nil, &r)
	return r.Codes, err
}

// VerifyToken gives a code for the administrator of this client's token, and
// gets a token that needs none.
func (c *Client) VerifyToken(ctx context.Context, code string) (t admin.MadeToken, err error) {
	return t, c.call(ctx, "POST", "/v1/verification", nil, Code{code}, &t)
}
