package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
)

// Ban is a network that is kept out.
type Ban struct {
	Network string    `json:"network"` // an address or a network
	Until   time.Time `json:"until"`   // zero: for ever
	Reason  string    `json:"reason,omitempty"`
	Created time.Time `json:"created"`
}

// NewBan asks for a ban.
type NewBan struct {
	Network string        `json:"network"`
	For     time.Duration `json:"for_ns,omitempty"` // 0: for ever
	Reason  string        `json:"reason,omitempty"`
}

// ParseNetwork reads an address or a network. A single IPv6 address stays one:
// what the server itself bans is the /64.
func ParseNetwork(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fault.Text(fault.Invalid, fmt.Sprintf("%q is neither an address nor a network such as 192.0.2.0/24", s))
	}
	return p.Masked(), nil
}

func networkText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// Bans returns the bans in force, oldest first.
func (s *Service) Bans(ctx context.Context) ([]Ban, error) {
	if err := errors.Join(s.may(ctx, ScopeRead), unlimited(ctx, "see bans")); err != nil {
		return nil, err
	}
	list, err := s.store.ListBans(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	out := []Ban{}
	for _, b := range list {
		out = append(out, Ban{Network: networkText(b.Network), Until: b.Until, Reason: b.Reason, Created: b.Created})
	}
	return out, nil
}

// AddBan keeps a network out from now on and ends its connections. A running
// server drops it at accept. fault.Invalid for one that would lock out whoever
// asks: everybody, or loopback.
func (s *Service) AddBan(ctx context.Context, n NewBan) (Ban, error) {
	if err := errors.Join(s.may(ctx, ScopeServer), unlimited(ctx, "ban networks")); err != nil {
		return Ban{}, err
	}
	p, err := ParseNetwork(n.Network)
	switch {
	case err != nil:
		return Ban{}, err
	case p.Bits() == 0:
		return Ban{}, fault.Text(fault.Invalid, fmt.Sprintf("%s is everybody; to keep everybody out, stop the server", p))
	case n.For < 0:
		return Ban{}, fault.Text(fault.Invalid, "a ban cannot end before it begins")
	}
	b := Ban{Network: networkText(p), Reason: n.Reason, Created: time.Now()}
	if b.Reason == "" {
		b.Reason = "by an administrator"
	}
	if n.For > 0 {
		b.Until = b.Created.Add(n.For)
	}
	if s.limits != nil {
		// What the server banned by itself may end later than this one should.
		if _, err := s.limits.Unban(ctx, p); err != nil && fault.KindOf(err) != fault.NotExist {
			return b, err
		}
		err = s.limits.Ban(ctx, limits.Ban{Network: p, Until: b.Until, Reason: b.Reason})
	} else {
		err = s.store.SaveBan(ctx, p, b.Until, b.Reason)
	}
	if err != nil {
		return b, err
	}
	kicked := 0
	if k, ok := s.live.(interface {
		KickAddr(p netip.Prefix, reason string) int
	}); ok {
		kicked = k.KickAddr(p, "your address is banned")
	}
	detail := b.Reason
	if kicked > 0 {
		detail += fmt.Sprintf(" (%d connections ended)", kicked)
	}
	s.note(ctx, events.Event{Kind: events.Ban, Target: p.String(), Detail: detail})
	return b, nil
}

// RemoveBan lets a network in again; fault.NotExist when exactly that one is
// not banned. Its score begins at nothing.
func (s *Service) RemoveBan(ctx context.Context, network string) error {
	if err := errors.Join(s.may(ctx, ScopeServer), unlimited(ctx, "lift bans")); err != nil {
		return err
	}
	p, err := ParseNetwork(network)
	if err != nil {
		return err
	}
	err = s.unban(ctx, p)
	// The server bans IPv6 by /64; an administrator may give the address.
	if fault.KindOf(err) == fault.NotExist && p.IsSingleIP() && p.Addr().Is6() {
		if wide := limits.Key(p.Addr()); s.unban(ctx, wide) == nil {
			p, err = wide, nil
		}
	}
	if fault.KindOf(err) == fault.NotExist {
		return fault.Text(fault.NotExist, fmt.Sprintf("%s is not banned; \"portreeve ban list\" shows what is", networkText(p)))
	}
	if err != nil {
		return err
	}
	s.note(ctx, events.Event{Kind: events.Unban, Target: p.String()})
	return nil
}

func (s *Service) unban(ctx context.Context, p netip.Prefix) error {
	if s.limits == nil {
		return s.store.DeleteBan(ctx, p)
	}
	was, err := s.limits.Unban(ctx, p)
	if was && fault.KindOf(err) == fault.NotExist {
		return nil // it was in force and could not be stored
	}
	return err
}

// note publishes what an administrator did, with the name.
func (s *Service) note(ctx context.Context, e events.Event) {
	if s.bus == nil {
		return
	}
	if who := actor(ctx); who != "" {
		e.Detail = strings.TrimSpace(e.Detail + " by " + who)
	}
	if err := s.bus.Publish(context.WithoutCancel(ctx), e); err != nil {
		s.log.Error("a change was not recorded", "change", string(e.Kind), "err", err)
	}
}
