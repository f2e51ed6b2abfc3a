package telemetry

import (
	"bytes"
	"strings"
	"sync"
	"testing"
)

func TestWritePrometheus(t *testing.T) {
	var r Registry
	r.Counter("portreeve_logins_total", "Log-ins.\nBy \\ result.", Label{"result", "ok"}, Label{"protocol", "ftp"}).Add(3)
	r.Counter("portreeve_logins_total", "ignored", Label{"protocol", "ftp"}, Label{"result", "say \"no\"\n\\"}).Inc()
	r.Gauge("portreeve_sessions", "Sessions now.").Set(-2)
	r.GaugeFunc("portreeve_expiry_seconds", "Until expiry.", func() float64 { return 1.5 })
	var out bytes.Buffer
	if err := r.WritePrometheus(&out); err != nil {
		t.Fatal(err)
	}
	want := `# HELP portreeve_expiry_seconds Until expiry.
# TYPE portreeve_expiry_seconds gauge
portreeve_expiry_seconds 1.5
# HELP portreeve_logins_total Log-ins.\nBy \\ result.
# TYPE portreeve_logins_total counter
portreeve_logins_total{protocol="ftp",result="ok"} 3
portreeve_logins_total{protocol="ftp",result="say \"no\"\n\\"} 1
# HELP portreeve_sessions Sessions now.
# TYPE portreeve_sessions gauge
portreeve_sessions -2
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	if err := r.WritePrometheus(broken{}); err == nil || err.Error() != "disk full" {
		t.Errorf("error of the writer is lost: %v", err)
	}
}

func TestRegistryConcurrent(t *testing.T) {
	var r Registry
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				r.Counter("a_total", "a", Label{"x", "1"}).Inc()
				r.Gauge("g", "g").Add(1)
			}
			var b bytes.Buffer
			_ = r.WritePrometheus(&b)
		})
	}
	wg.Wait()
	if n, g := r.Counter("a_total", "a", Label{"x", "1"}).Value(), r.Gauge("g", "g").Value(); n != 8000 || g != 8000 {
		t.Errorf("counted %d and %d, want 8000", n, g)
	}
}

func TestGaugeFuncMayUseTheRegistry(t *testing.T) {
	var r Registry
	c := r.Counter("a_total", "a")
	c.Add(7)
	r.GaugeFunc("b", "b", func() float64 { return float64(r.Counter("a_total", "a").Value()) })
	var out bytes.Buffer
	if err := r.WritePrometheus(&out); err != nil || !strings.Contains(out.String(), "\nb 7\n") {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestRegistryRefusesMistakes(t *testing.T) {
	tests := map[string]func(r *Registry){
		"no _total":       func(r *Registry) { r.Counter("logins", "") },
		"bad name":        func(r *Registry) { r.Gauge("1st", "") },
		"empty name":      func(r *Registry) { r.Gauge("", "") },
		"bad label":       func(r *Registry) { r.Gauge("g", "", Label{"a-b", ""}) },
		"reserved label":  func(r *Registry) { r.Gauge("g", "", Label{"__name__", ""}) },
		"duplicate label": func(r *Registry) { r.Gauge("g", "", Label{"a", ""}, Label{"a", ""}) },
		"other kind":      func(r *Registry) { r.Counter("g_total", ""); r.Gauge("g_total", "") },
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("accepted")
				}
			}()
			f(&Registry{})
		})
	}
}

func TestCountersDoNotAllocate(t *testing.T) {
	var r Registry
	c, g := r.Counter("a_total", ""), r.Gauge("b", "")
	if n := testing.AllocsPerRun(100, func() { c.Inc(); c.Add(2); g.Add(1); g.Set(3) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
