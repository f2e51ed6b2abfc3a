package telemetry

import (
	"strings"
	"sync"
	"testing"
)

func TestHistogram(t *testing.T) {
	var r Registry
	h := r.Histogram("x_seconds", "How long.", []float64{0.1, 1, 10}, Label{"proto", "ftp"})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				h.Observe(0.05)
				h.Observe(0.1) // a bound belongs to its bucket
				h.Observe(5)
				h.Observe(100)
			}
		})
	}
	wg.Wait()
	if h != r.Histogram("x_seconds", "How long.", []float64{0.1, 1, 10}, Label{"proto", "ftp"}) || h.Count() != 1600 {
		t.Errorf("%d observations", h.Count())
	}
	r.CounterFunc("y_total", "Read.", func() float64 { return 7 })
	var b strings.Builder
	if err := r.WritePrometheus(&b); err != nil {
		t.Fatal(err)
	}
	want := `# HELP x_seconds How long.
# TYPE x_seconds histogram
x_seconds_bucket{proto="ftp",le="0.1"} 800
x_seconds_bucket{proto="ftp",le="1"} 800
x_seconds_bucket{proto="ftp",le="10"} 1200
x_seconds_bucket{proto="ftp",le="+Inf"} 1600
x_seconds_sum{proto="ftp"} `
	if !strings.HasPrefix(b.String(), want) || !strings.Contains(b.String(), "x_seconds_count{proto=\"ftp\"} 1600\n") || !strings.HasSuffix(b.String(), "# TYPE y_total counter\ny_total 7\n") {
		t.Errorf("got\n%s", &b)
	}
	defer func() {
		if recover() == nil {
			t.Error("bounds that do not grow are taken")
		}
	}()
	r.Histogram("z", "", []float64{2, 1})
}
