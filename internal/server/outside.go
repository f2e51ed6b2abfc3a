package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/nat"
	"github.com/portreeve/portreeve/internal/ports"
)

// outside finds the public address as far as [nat] permits, and tells the book.
type outside struct {
	book  *addressBook
	cfg   *config.NAT
	log   *slog.Logger
	cloud func(context.Context) (netip.Addr, string, error)
	stun  func(context.Context, string) (netip.Addr, error)
	find  func(context.Context, netip.Addr) (nat.Mapper, nat.Uplink, error)
	local func(netip.Addr) netip.Addr // of this machine, towards an address

	mu   sync.Mutex
	said string // last verdict about the uplink
	wan  nat.Uplink
}

func newOutside(b *addressBook, cfg *config.NAT, log *slog.Logger) *outside {
	return &outside{book: b, cfg: cfg, log: log, cloud: (&nat.Cloud{}).Address, stun: nat.STUN, local: towards,
		find: func(ctx context.Context, gw netip.Addr) (nat.Mapper, nat.Uplink, error) {
			return nat.FindMapper(ctx, gw, nil)
		}}
}

// run asks again and again until ctx ends.
func (o *outside) run(ctx context.Context) {
	if !o.cfg.Router && !o.cfg.Cloud && o.cfg.STUN == "" {
		return
	}
	for {
		o.look(ctx)
		t := time.NewTimer(o.cfg.Every.Std())
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// look asks everybody once. An answer that does not come leaves the last one in
// force: a public address does not go away because a question was lost.
func (o *outside) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var up nat.Uplink
	var seen netip.Addr
	if o.cfg.Cloud {
		wg.Go(func() {
			if a, _, err := o.cloud(ctx); err == nil {
				o.book.foundAddress(nat.Candidate{Addr: a, Source: nat.FromCloud, Time: time.Now()})
			} else {
				o.log.Debug("no public address from the cloud", "err", err)
			}
		})
	}
	if o.cfg.STUN != "" {
		wg.Go(func() {
			a, err := o.stun(ctx, o.cfg.STUN)
			if err != nil {
				o.log.Warn("the STUN server does not tell the public address", "server", o.cfg.STUN, "err", err)
				return
			}
			seen = a
			o.book.foundAddress(nat.Candidate{Addr: a, Source: nat.FromSTUN, Time: time.Now()})
		})
	}
	if o.cfg.Router {
		wg.Go(func() { up = o.askRouter(ctx) })
	}
	wg.Wait()
	if up.Seen = seen; o.cfg.Router {
		o.judge(up)
	}
}

// askRouter asks the first router that answers.
func (o *outside) askRouter(ctx context.Context) nat.Uplink {
	gws, err := o.book.routers()
	if err != nil {
		o.log.Warn("the router cannot be asked", "err", err)
		return nat.Uplink{}
	}
	for _, gw := range gws {
		m, up, err := o.find(ctx, gw)
		if err != nil {
			o.log.Debug("the router does not tell its outer address", "router", gw, "err", err)
			continue
		}
		up.Local = o.local(gw)
		if up.WAN.IsValid() {
			o.book.foundAddress(nat.Candidate{Addr: up.WAN, Source: m.Source(), Time: time.Now()})
		}
		return up
	}
	return nat.Uplink{}
}

// judge says once what is wrong with the way to the Internet.
func (o *outside) judge(up nat.Uplink) {
	v := up.Judge()
	o.mu.Lock()
	again := o.said == v.Text
	o.said, o.wan = v.Text, up
	o.mu.Unlock()
	if v.Code != "" && !again {
		o.log.Warn("clients from the Internet cannot reach this machine through the router: "+v.Text, "code", v.Code, "cure", v.Cure)
	}
}

// keepMapped has the router forward the server's ports until ctx ends, and
// removes the mappings then, unless a new process has taken the server over.
func (s *Server) keepMapped(ctx context.Context, o *outside) {
	secret, err := MappingSecret(s.dataDir)
	if err != nil {
		s.log.Warn("router mappings cannot be renewed after a crash", "err", err)
	}
	plan := ports.Compile(s.Config(), ports.Host().Facts())
	want, err := PlannedPorts(&plan)
	if err != nil {
		s.mappingFailed(err)
		return
	}
	said := ""
	for ctx.Err() == nil {
		m, _, err := findAny(ctx, o.book.routers, secret)
		if err == nil {
			k := &nat.Keeper{Mapper: m, Ports: want, Notify: s.noteMapping, Leave: s.handed.Load}
			err = k.Run(ctx)
		}
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			s.mappingFailed(err)
		}
		t := time.NewTimer(time.Minute)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

func (s *Server) mappingFailed(err error) {
	s.log.Error("the router does not forward the ports; passive clients from outside need a rule in it", "err", err)
	s.publish(events.Event{Kind: events.PortMapped, Fault: fault.Unavailable, Detail: err.Error()})
}

// noteMapping tells the book, the log and the trail.
func (s *Server) noteMapping(e nat.Event) {
	m := e.Mapping
	switch e.Kind {
	case nat.Failed:
		s.log.Warn("the router does not forward a port", "port", m.Internal, "err", e.Err)
		s.publish(events.Event{Kind: events.PortMapped, Fault: fault.Unavailable, Detail: fmt.Sprintf("port %d: %v", m.Internal, e.Err)})
		return
	case nat.Removed:
		s.book.setMapping(m, true)
	default:
		s.book.setMapping(m, false)
		if m.Addr.IsValid() {
			s.book.foundAddress(nat.Candidate{Addr: m.Addr, Source: m.Source, Time: time.Now()})
		}
	}
	s.publish(events.Event{Kind: events.PortMapped, Detail: e.Text()})
}

// findAny finds the first router that maps ports.
func findAny(ctx context.Context, routers func() ([]netip.Addr, error), secret []byte) (nat.Mapper, nat.Uplink, error) {
	gws, err := routers()
	if err != nil {
		return nil, nat.Uplink{}, err
	}
	errs := []error{}
	for _, gw := range gws {
		m, up, err := nat.FindMapper(ctx, gw, secret)
		if err == nil {
			up.Local = towards(gw)
			return m, up, nil
		}
		errs = append(errs, err)
	}
	if len(gws) == 0 {
		errs = append(errs, errors.New("this machine has no default route, so there is no router to ask"))
	}
	return nil, nat.Uplink{}, errors.Join(errs...)
}

// FindRouter finds the router of the default route and what it maps ports with.
func FindRouter(ctx context.Context, secret []byte) (nat.Mapper, nat.Uplink, error) {
	return findAny(ctx, nat.Gateways, secret)
}

// PlannedPorts returns the TCP ports of a plan that a router must forward.
func PlannedPorts(p *ports.Plan) ([]uint16, error) {
	var out []uint16
	for _, o := range p.Inbound() {
		if o.Family == "ipv6" {
			continue
		}
		for _, r := range o.Ports {
			for n := int(r.First); n <= int(r.Last); n++ {
				if !slices.Contains(out, uint16(n)) {
					out = append(out, uint16(n))
				}
			}
		}
		if len(out) > nat.MaxMappings {
			break
		}
	}
	switch {
	case len(out) == 0:
		return nil, errors.New("the plan has no port that a router could forward: no listener can be reached over IPv4 from outside this machine")
	case len(out) > nat.MaxMappings:
		return nil, fmt.Errorf("the plan has more than %d ports, too many for the table of a home router; make ftp.passive.ports smaller (one port for each transfer at the same time), set ftp.passive.shared for one FTPS data port, or forward the range by hand", nat.MaxMappings)
	}
	slices.Sort(out)
	return out, nil
}

// MappingSecret returns the secret that proves mappings to be this server's,
// made at the first use and kept in the data directory.
func MappingSecret(dataDir string) ([]byte, error) {
	name := filepath.Join(dataDir, "nat.key")
	b, err := os.ReadFile(name)
	if err == nil && len(b) == 32 {
		return b, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	b = make([]byte, 32)
	rand.Read(b)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		return nil, fmt.Errorf("cannot keep the key of router mappings: %w", err)
	}
	return b, nil
}
