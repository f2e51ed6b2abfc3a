package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/session"
)

// Session is one live connection of a client, as shown to an administrator.
type Session struct {
	ID       string    `json:"id"`
	User     string    `json:"user,omitempty"` // empty before log-in
	Protocol string    `json:"protocol"`
	Listener string    `json:"listener,omitempty"`
	Remote   string    `json:"remote"`
	TLS      string    `json:"tls,omitempty"` // "TLS 1.3 ...", empty in the clear
	Since    time.Time `json:"since"`
	Command  string    `json:"command,omitempty"`  // what it does now, empty when idle
	Transfer string    `json:"transfer,omitempty"` // "upload" or "download" while a file moves
	Path     string    `json:"path,omitempty"`     // client-visible
	Bytes    int64     `json:"bytes"`              // moved in the present transfer
	Size     int64     `json:"size,omitempty"`     // of the present transfer; 0 when unknown
	Rate     int64     `json:"rate"`               // octets per second now
	Down     int64     `json:"down"`               // octets sent to the client since log-in
	Up       int64     `json:"up"`                 // octets received
}

// Percent is how much of the present transfer is done, -1 when unknown.
func (s Session) Percent() int {
	if s.Size <= 0 {
		return -1
	}
	return int(min(100, float64(s.Bytes)*100/float64(s.Size)))
}

// Live is the running server's sessions; *session.Manager satisfies it.
type Live interface {
	Sessions() []session.Status
	Kick(id, reason string) bool
	KickUser(name, reason string) int
	// Refresh makes the user's sessions follow the stored account.
	Refresh(ctx context.Context, name string) error
}

// defaultReason is what a client is told when the administrator gave no reason.
const defaultReason = "an administrator ended this session"

// Sessions returns the live sessions, oldest first. Without a running server
// there are none.
func (s *Service) Sessions(ctx context.Context) ([]Session, error) {
	out := []Session{}
	if err := s.may(ctx, ScopeRead); err != nil {
		return nil, err
	}
	if s.live == nil {
		return out, nil
	}
	for _, v := range s.live.Sessions() {
		if !s.sees(ctx, v.User) {
			continue
		}
		out = append(out, Session{ID: v.ID, User: v.User, Protocol: v.Protocol, Listener: v.Listener, Remote: v.Remote.String(), TLS: v.TLS,
			Since: v.Since, Command: v.Command, Transfer: v.Op, Path: v.Path, Bytes: v.Bytes, Size: v.Size, Rate: v.Rate, Down: v.Sent, Up: v.Received})
	}
	return out, nil
}

// Kick ends the session of that id; reason, which may be empty, goes to the
// client and the log. fault.NotExist when there is none.
func (s *Service) Kick(ctx context.Context, id, reason string) error {
	if err := s.may(ctx, ScopeSessions); err != nil {
		return err
	}
	if !s.ownSession(ctx, id) || s.live == nil || !s.live.Kick(id, orDefault(reason)) {
		return fault.Text(fault.NotExist, fmt.Sprintf("there is no session %q; it may have ended already", id))
	}
	return nil
}

// KickUser ends all sessions of a user and returns how many there were.
func (s *Service) KickUser(ctx context.Context, name, reason string) (int, error) {
	if err := errors.Join(s.may(ctx, ScopeSessions), account.ValidName(name)); err != nil {
		return 0, err
	}
	if s.live == nil || !s.sees(ctx, name) {
		return 0, nil
	}
	return s.live.KickUser(name, orDefault(reason)), nil
}

// sees reports whether the caller's groups reach the user of a session.
func (s *Service) sees(ctx context.Context, user string) bool {
	p := principal(ctx)
	if p == nil || len(p.Groups) == 0 {
		return true
	}
	u, err := s.store.UserByName(ctx, user)
	return err == nil && inGroups(ctx, u)
}

func (s *Service) ownSession(ctx context.Context, id string) bool {
	p := principal(ctx)
	if p == nil || len(p.Groups) == 0 {
		return true
	}
	if s.live != nil {
		for _, v := range s.live.Sessions() {
			if v.ID == id {
				return v.User != "" && s.sees(ctx, v.User)
			}
		}
	}
	return false
}

func orDefault(reason string) string {
	if reason == "" {
		return defaultReason
	}
	return reason
}
