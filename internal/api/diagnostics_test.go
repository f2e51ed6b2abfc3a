package api

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/ports"
)

type diagnosing struct{ *fakeServer }

func (diagnosing) Ports(context.Context) (Ports, error) {
	return Ports{Sockets: []ports.LiveSocket{{Addr: netip.MustParseAddrPort("10.0.0.1:50001"), State: "idle"}}, Pools: []ports.Stats{{First: 50000, Last: 50999, Leased: 3}}}, nil
}
func (diagnosing) Matrix(context.Context) (ports.Matrix, error) {
	r := ports.NewRecorder()
	r.Add(one)
	return r.Matrix(), nil
}
func (diagnosing) Data(_ context.Context, id string) ([]ports.Attempt, error) {
	if id == "" || id == one.Session {
		return []ports.Attempt{one}, nil
	}
	return nil, nil
}

var one = ports.Attempt{Time: time.Unix(1700000000, 0).UTC(), Session: "s/1", Mode: "PASV", Control: netip.MustParseAddrPort("198.51.100.7:4000"),
	Reached: netip.MustParseAddrPort("10.0.0.1:21"), Local: netip.MustParseAddrPort("10.0.0.1:50001"), Code: "PR-D10", Reaction: 1500 * time.Millisecond}

func TestDiagnostics(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if _, err := r.client.Ports(ctx); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("a server without a record: %v", err)
	}
	r.http.(*handler).server = diagnosing{r.server}
	if p, err := r.client.Ports(ctx); err != nil || p.Sockets[0].State != "idle" || p.Pools[0].Leased != 3 {
		t.Errorf("ports %+v, %v", p, err)
	}
	if m, err := r.client.Matrix(ctx); err != nil || m.Total != 1 || m.Cells[0].Outcomes["PR-D10"] != 1 || m.Cells[0].Network.String() != "198.51.100.0/24" || m.Ports[0].Port != 50001 {
		t.Errorf("matrix %+v, %v", m, err)
	}
	for _, id := range []string{"", "s/1"} {
		if a, err := r.client.Data(ctx, id); err != nil || len(a) != 1 || a[0] != one {
			t.Errorf("data of %q: %+v, %v", id, a, err)
		}
	}
	if a, err := r.client.Data(ctx, "other"); err != nil || len(a) != 0 {
		t.Errorf("data of another: %v, %v", a, err)
	}
}
