package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/nat"
	"github.com/portreeve/portreeve/internal/server"
)

type mapFlags struct {
	asJSON, anyway, check bool
	gateway, stun         string
	lease                 time.Duration
}

func (a *app) portsMap() *cobra.Command {
	var f mapFlags
	c := &cobra.Command{Use: "map", Short: "Have the home router forward the ports of the plan, until interrupted", Args: args(),
		Long: `Ask the router of the default route, by PCP, NAT-PMP or UPnP, to forward the ports
of the plan to this machine, renew that before it lapses, and remove it when the
command is interrupted (Ctrl-C, SIGTERM). A router has room for few ports: make
the passive range small or set ftp.passive.shared.

A provider's own NAT (CGNAT) is recognised by the router's outer address; with
--stun, or nat.stun in the configuration, also by what a server outside sees.
Nothing is mapped then, without --anyway. With "router = true" in [nat] the server
does all this itself.

Exit codes: 3 the way to the Internet has a fault that mappings cannot cure.`,
		Example: `  portreeve ports map
  portreeve ports map --check          # only say what the router is and could do`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			if f.lease < 2*time.Minute {
				return usagef(cmd, "--lease %s is too short; routers count from 2m", f.lease)
			}
			var gw netip.Addr
			if f.gateway != "" {
				if gw, err = netip.ParseAddr(f.gateway); err != nil {
					return usagef(cmd, "--gateway needs the router's IP address, such as 192.168.1.1")
				}
			}
			if cfg.NAT.Router && !f.check && server.HolderOf(cfg.DataDir) != 0 {
				return errors.New("the running server keeps the mappings itself (nat.router); \"portreeve status\" tells about them")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return a.mapPorts(ctx, cfg, &f, gw)
		}}
	fl := c.Flags()
	fl.BoolVar(&f.asJSON, "json", false, "print JSON, one line for each thing that happens")
	fl.BoolVar(&f.check, "check", false, "only say what the router is; map nothing")
	fl.BoolVar(&f.anyway, "anyway", false, "map although it cannot help")
	fl.StringVar(&f.gateway, "gateway", "", "`ADDRESS` of the router (default: that of the default route)")
	fl.StringVar(&f.stun, "stun", "", "`HOST:PORT` of a STUN server to compare with (default: nat.stun)")
	fl.DurationVar(&f.lease, "lease", time.Hour, "how long a mapping lives without renewal")
	return c
}

// mapLine is one line of ports map --json.
type mapLine struct {
	Event    string       `json:"event"` // uplink, mapped, moved, removed, failed
	Uplink   *nat.Verdict `json:"uplink,omitempty"`
	Source   nat.Source   `json:"source,omitempty"`
	Internal uint16       `json:"internal,omitempty"`
	External uint16       `json:"external,omitempty"`
	Address  netip.Addr   `json:"address,omitzero"`
	Lifetime int          `json:"lifetime_seconds,omitempty"`
	Error    string       `json:"error,omitempty"`
}

func (a *app) mapPorts(ctx context.Context, cfg *config.Config, f *mapFlags, gw netip.Addr) error {
	p := plan(cfg)
	want, err := server.PlannedPorts(&p)
	if err != nil && !f.check {
		return err
	}
	secret, _ := server.MappingSecret(cfg.DataDir) // without it mappings of a killed process lapse by themselves
	var m nat.Mapper
	var up nat.Uplink
	if gw.IsValid() {
		m, up, err = nat.FindMapper(ctx, gw, secret)
	} else {
		m, up, err = server.FindRouter(ctx, secret)
	}
	if err != nil {
		return err
	}
	v := a.judgeUplink(ctx, cfg, f, up)
	if f.asJSON {
		writeJSONLine(a.out, mapLine{Event: "uplink", Uplink: &v, Source: m.Source(), Address: up.WAN})
	} else {
		fmt.Fprintf(a.out, "router by %s: %s\n", m.Source(), v.Text)
		if v.Code != "" {
			fmt.Fprintf(a.out, "%s\n    cure: %s\n", v.Code, v.Cure)
		}
	}
	// A second router can be told by hand to pass everything on; nobody can tell the provider's.
	if hopeless := v.Kind == nat.UplinkCGNAT; f.check || hopeless && !f.anyway {
		if v.Code != "" {
			return errFindings
		}
		return nil
	}
	k := &nat.Keeper{Mapper: m, Ports: want, Lifetime: f.lease, Notify: func(e nat.Event) { a.sayMapping(f, cfg, e) }}
	if err := k.Run(ctx); err != nil {
		return err
	}
	if v.Code != "" {
		return errFindings
	}
	return nil
}

// judgeUplink compares what the router says with what is seen outside.
func (a *app) judgeUplink(ctx context.Context, cfg *config.Config, f *mapFlags, up nat.Uplink) nat.Verdict {
	ask := f.stun
	if ask == "" {
		ask = cfg.NAT.STUN
	}
	if ask != "" {
		sctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		seen, err := nat.STUN(sctx, ask)
		cancel()
		if err != nil {
			fmt.Fprintln(a.err, "note:", sentence(err))
		}
		up.Seen = seen
	}
	return up.Judge()
}

func (a *app) sayMapping(f *mapFlags, cfg *config.Config, e nat.Event) {
	m := e.Mapping
	if f.asJSON {
		line := mapLine{Event: string(e.Kind), Source: m.Source, Internal: m.Internal, External: m.External, Address: m.Addr, Lifetime: int(m.Lifetime / time.Second)}
		if e.Err != nil {
			line.Error = e.Err.Error()
		}
		writeJSONLine(a.out, line)
		return
	}
	fmt.Fprintln(a.out, plain(e.Text()))
	if e.Kind != nat.Mapped && e.Kind != nat.Moved || m.Internal == m.External {
		return
	}
	fmt.Fprintf(a.out, "    The number outside differs. ")
	if r := cfg.FTP.Passive.Ports; r.Contains(m.Internal) {
		fmt.Fprintln(a.out, "The server must announce it: set \"router = true\" in [nat], so that it does.")
		return
	}
	fmt.Fprintf(a.out, "Clients outside must use port %d.\n", m.External)
}
