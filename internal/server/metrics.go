package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/nat"
	"github.com/portreeve/portreeve/internal/telemetry"
)

// seconds are the bounds of every latency here.
var seconds = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800}

// metrics are the counters of a server. Labels come from the program alone,
// never from a client.
type metrics struct {
	reg   telemetry.Registry
	stale atomic.Bool // the last reload failed
}

func label(name, value string) telemetry.Label { return telemetry.Label{Name: name, Value: value} }

// observe counts an event; the bus calls it.
func (m *metrics) observe(e events.Event) {
	proto := e.Protocol
	if proto == "" {
		proto = "none"
	}
	m.reg.Counter("portreeve_events_total", "Events of the audit trail.", label("kind", string(e.Kind)), label("result", e.Result)).Inc()
	if e.Fault != fault.None {
		m.reg.Counter("portreeve_failures_total", "Operations that failed, by why.", label("code", e.Result), label("operation", string(e.Kind)), label("protocol", proto)).Inc()
	}
	switch e.Kind {
	case events.Login, events.LoginFailed:
		result := "ok"
		if e.Kind == events.LoginFailed {
			result = e.Result
		}
		m.reg.Counter("portreeve_logins_total", "Log-ins, good and bad.", label("protocol", proto), label("result", result)).Inc()
	case events.Upload, events.Download:
		dir := "up"
		if e.Kind == events.Download {
			dir = "down"
		}
		m.reg.Counter("portreeve_transfers_total", "Files moved.", label("direction", dir), label("protocol", proto), label("result", e.Result)).Inc()
		m.reg.Histogram("portreeve_transfer_seconds", "How long transfers take.", seconds, label("direction", dir)).Observe(e.Took.Seconds())
	case events.ConfigLoad:
		m.stale.Store(e.Fault != fault.None)
	}
}

// data counts a data connection: the matrix of mode, protection, kind of client
// network and outcome. The network is no more than a class: addresses would let
// clients make as many series as they like; portreeve ports matrix has them.
func (m *metrics) data(a ftp.DataAttempt) {
	private := "off"
	if a.TLS {
		private = "on"
	}
	m.reg.Counter("portreeve_data_connections_total", "Data connections, by how they were made and what came of it.",
		label("mode", a.Mode), label("network", networkClass(a.Control.Addr())), label("outcome", a.Code), label("tls", private)).Inc()
	m.reg.Histogram("portreeve_data_wait_seconds", "From the transfer command to the data connection.", seconds, label("mode", a.Mode)).Observe(a.Waited.Seconds())
	if a.Stranger.IsValid() {
		m.strangers().Inc()
	}
}

func (m *metrics) strangers() *telemetry.Counter {
	return m.reg.Counter("portreeve_data_strangers_total", "Connections to data ports that were not the client's.")
}

// droppedDeliveries counts what a hook had too many of. The names of hooks are
// those of the configuration.
func (m *metrics) droppedDeliveries(hook, which string, n int64) {
	m.reg.Counter("portreeve_hook_dropped_total", "Deliveries dropped because a hook had more waiting, or given up, than may be kept.", label("hook", hook), label("which", which)).Add(uint64(n))
}

// networkClass is one of a dozen: the class of the address and its family.
func networkClass(a netip.Addr) string {
	family := "ipv4"
	if a = a.Unmap(); a.Is6() {
		family = "ipv6"
	}
	return string(nat.ClassOf(a)) + "-" + family
}

// hooks makes the series of these hooks, so that an alarm sees the first drop.
func (m *metrics) hooks(hs []config.Hook) {
	for _, h := range hs {
		m.droppedDeliveries(h.Name, "waiting", 0)
		m.droppedDeliveries(h.Name, "dead", 0)
	}
}

// register adds what is read when it is asked for.
func (m *metrics) register(s *Server) {
	r := &m.reg
	m.strangers()
	r.Gauge("portreeve_build_info", "Version of the program.", label("version", first(s.opt.Version, "unknown")), label("go", runtime.Version())).Set(1)
	r.Gauge("portreeve_start_time_seconds", "When the server started, Unix time.").Set(s.started.Unix())
	r.GaugeFunc("portreeve_sessions", "Connections now.", func() float64 { return float64(s.limits.Counts().HalfOpen) }, label("state", "half-open"))
	r.GaugeFunc("portreeve_sessions", "Connections now.", func() float64 { c := s.limits.Counts(); return float64(c.Total - c.HalfOpen) }, label("state", "logged-in"))
	r.GaugeFunc("portreeve_transfers_running", "Files and listings that move now.", func() float64 { _, n := s.manager.Counts(); return float64(n) })
	r.CounterFunc("portreeve_bytes_total", "Octets of files moved.", func() float64 { sent, _ := s.manager.Totals(); return float64(sent) }, label("direction", "down"))
	r.CounterFunc("portreeve_bytes_total", "Octets of files moved.", func() float64 { _, got := s.manager.Totals(); return float64(got) }, label("direction", "up"))
	r.GaugeFunc("portreeve_bans", "Bans in force.", func() float64 { return float64(len(s.limits.Bans())) })
	r.CounterFunc("portreeve_connections_dropped_total", "Connections reset at accept, or turned away.", func() float64 { n, _, _ := s.drops(); return float64(n) }, label("why", "banned or denied"))
	r.CounterFunc("portreeve_connections_dropped_total", "Connections reset at accept, or turned away.", func() float64 { _, n, _ := s.drops(); return float64(n) }, label("why", "country"))
	r.CounterFunc("portreeve_connections_dropped_total", "Connections reset at accept, or turned away.", func() float64 { _, _, n := s.drops(); return float64(n) }, label("why", "out of descriptors"))
	r.GaugeFunc("portreeve_storages_stuck", "Directories that sessions use and that do not answer, as when the server of a network file system is gone.", func() float64 { return float64(s.storages.stuck()) })
	r.GaugeFunc("portreeve_passive_ports_leased", "Passive ports in use.", func() float64 { return float64(s.Status().PassiveInUse) })
	r.GaugeFunc("portreeve_audit_queue", "Events that wait for the database.", func() float64 { return float64(s.bus.Stats().Queued) })
	r.CounterFunc("portreeve_audit_dropped_total", "Events lost because the database could not take them.", func() float64 { return float64(s.bus.Stats().Dropped) })
	r.CounterFunc("portreeve_audit_failures_total", "Failed attempts to store events.", func() float64 { return float64(s.bus.Stats().Failures) })
	if s.logs != nil {
		r.CounterFunc("portreeve_log_lost_total", "Lines of the log that were not written, because its reader or disk did not take them.", func() float64 { return float64(s.logs.Lost()) })
	}
	r.GaugeFunc("portreeve_config_stale", "1 when the last reload failed and the configuration before it is still in force.", func() float64 {
		if m.stale.Load() {
			return 1
		}
		return 0
	})
	r.GaugeFunc("portreeve_certificate_expiry_seconds", "When the first certificate ends, Unix time.", func() float64 {
		var soonest time.Time
		for _, d := range s.certs.Describe() {
			if soonest.IsZero() || d.NotAfter.Before(soonest) {
				soonest = d.NotAfter
			}
		}
		return float64(soonest.Unix())
	})
	r.GaugeFunc("go_goroutines", "Goroutines.", func() float64 { return float64(runtime.NumGoroutine()) })
	r.GaugeFunc("go_memstats_heap_inuse_bytes", "Heap in use.", func() float64 {
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		return float64(ms.HeapInuse)
	})
	r.GaugeFunc("process_open_fds", "Open file descriptors.", func() float64 {
		es, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return -1
		}
		return float64(len(es))
	})
	r.GaugeFunc("process_max_fds", "The most descriptors.", func() float64 { return float64(maxFiles()) })
}

// drops sums what the acceptors turned away; a closed listener's count goes with it.
func (s *Server) drops() (shut, abroad, spared uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, so := range s.sockets {
		n := so.acc.abroad.Load()
		abroad += n
		shut += so.acc.dropped.Load() - n
		spared += so.acc.spared.Load()
	}
	return shut, abroad, spared
}

// serveMetrics answers /metrics until ctx ends.
func (s *Server) serveMetrics(ctx context.Context) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		var b bytes.Buffer
		if err := s.metrics.reg.WritePrometheus(&b); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.Write(b.Bytes())
	})
	h := &http.Server{Handler: localHost(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	done := make(chan error, 1)
	go func() { done <- h.Serve(s.metricsLn) }()
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			s.log.Error("the metrics page ended; the server goes on without it", "err", err)
			return
		}
		// Handed over in an upgrade: the next question is for the new process.
		h.SetKeepAlivesEnabled(false)
		<-ctx.Done()
		h.Close()
	case <-ctx.Done():
		h.Close()
		<-done
	}
}

// localHost refuses requests that name another host, so that a web page cannot
// read the counters through a browser on this machine (DNS rebinding).
func localHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil && host != "localhost" {
			http.Error(w, "Ask by IP address or as localhost.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bindHTTP binds an address that is not one of [[listen]]; nil for none.
func bindHTTP(key, address string, in *inheritance) (*net.TCPListener, error) {
	if address == "" {
		return nil, nil
	}
	want, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if ln := in.takeAddress(want); ln != nil {
		return ln, nil
	}
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		var oe *net.OpError
		if errors.As(err, &oe) {
			err = oe.Err
		}
		return nil, fmt.Errorf("%s: cannot listen on %s: %w; stop what uses the port, or choose another", key, address, err)
	}
	return ln.(*net.TCPListener), nil
}

// MetricsAddress is where the metrics page is served, nil when it is not.
func (s *Server) MetricsAddress() net.Addr {
	if s.metricsLn == nil {
		return nil
	}
	return s.metricsLn.Addr()
}
