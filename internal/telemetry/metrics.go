package telemetry

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Label is one fixed label of a series. Values must come from a small known
// set (a protocol, a reason), never from a client: each makes a series that
// stays for the life of the registry.
type Label struct{ Name, Value string }

// Counter only grows. Its methods are safe for concurrent use and allocate nothing.
type Counter struct{ n atomic.Uint64 }

// Add counts n more.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

// Inc counts one more.
func (c *Counter) Inc() { c.n.Add(1) }

// Value returns the count.
func (c *Counter) Value() uint64 { return c.n.Load() }

// Gauge goes up and down. Its methods are safe for concurrent use and allocate nothing.
type Gauge struct{ n atomic.Int64 }

// Add adds n, which may be negative.
func (g *Gauge) Add(n int64) { g.n.Add(n) }

// Set replaces the value.
func (g *Gauge) Set(n int64) { g.n.Store(n) }

// Value returns the value.
func (g *Gauge) Value() int64 { return g.n.Load() }

// Registry holds named series. The zero value is ready. Safe for concurrent use.
type Registry struct {
	mu       sync.Mutex
	families map[string]*family
}

type family struct {
	help   string
	kind   string // "counter", "gauge" or "histogram"
	series map[string]*series
}

type series struct {
	counter *Counter
	gauge   *Gauge
	read    func() float64
	hist    *Histogram
}

// Counter returns the counter of that name and labels, made on first use.
// Names end in _total. It panics when name or labels break Prometheus's rules
// or the name is already something else, which are mistakes in the program.
func (r *Registry) Counter(name, help string, labels ...Label) *Counter {
	if !strings.HasSuffix(name, "_total") {
		panic("telemetry: counter " + name + " does not end in _total")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.at(name, help, "counter", labels)
	if s.counter == nil {
		s.counter = &Counter{}
	}
	return s.counter
}

// Gauge returns the gauge of that name and labels, made on first use. It panics like Counter.
func (r *Registry) Gauge(name, help string, labels ...Label) *Gauge {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.at(name, help, "gauge", labels)
	if s.gauge == nil {
		s.gauge = &Gauge{}
	}
	return s.gauge
}

// GaugeFunc makes a gauge whose value read gives when it is asked for. A later
// call with the same name and labels replaces read. It panics like Counter.
func (r *Registry) GaugeFunc(name, help string, read func() float64, labels ...Label) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at(name, help, "gauge", labels).read = read
}

// CounterFunc makes a counter whose value read gives when it is asked for; it
// must never shrink. It replaces and panics like GaugeFunc.
func (r *Registry) CounterFunc(name, help string, read func() float64, labels ...Label) {
	if !strings.HasSuffix(name, "_total") {
		panic("telemetry: counter " + name + " does not end in _total")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at(name, help, "counter", labels).read = read
}

// Histogram returns the histogram of that name and labels, made on first use
// with the upper bounds given then, which must grow. It panics like Counter.
func (r *Registry) Histogram(name, help string, bounds []float64, labels ...Label) *Histogram {
	if !slices.IsSorted(bounds) || len(bounds) == 0 {
		panic("telemetry: the bounds of " + name + " do not grow")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.at(name, help, "histogram", labels)
	if s.hist == nil {
		s.hist = &Histogram{bounds: bounds, buckets: make([]atomic.Uint64, len(bounds)+1)}
	}
	return s.hist
}

func (r *Registry) at(name, help, kind string, labels []Label) *series {
	if !validName(name, true) {
		panic("telemetry: bad metric name " + strconv.Quote(name))
	}
	f := r.families[name]
	if f == nil {
		f = &family{help: help, kind: kind, series: map[string]*series{}}
		if r.families == nil {
			r.families = map[string]*family{}
		}
		r.families[name] = f
	}
	if f.kind != kind {
		panic("telemetry: " + name + " is already a " + f.kind)
	}
	var room [256]byte
	key := appendLabels(room[:0], labels)
	s := f.series[string(key)] // no copy is made for the look-up
	if s == nil {
		s = &series{}
		f.series[string(key)] = s
	}
	return s
}

func validName(s string, colon bool) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', colon && c == ':':
		case c >= '0' && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}

var labelEscape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// appendLabels appends {a="x",b="y"} in the order of names, nothing for none.
// Every transfer passes here several times, so what is in order is not sorted
// and what needs no escapes is not copied.
func appendLabels(b []byte, labels []Label) []byte {
	if len(labels) == 0 {
		return b
	}
	byName := func(a, b Label) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(labels, byName) {
		labels = slices.Clone(labels)
		slices.SortFunc(labels, byName)
	}
	for i, l := range labels {
		if !validName(l.Name, false) || strings.HasPrefix(l.Name, "__") || i > 0 && labels[i-1].Name == l.Name {
			panic("telemetry: bad label name " + strconv.Quote(l.Name))
		}
		b = append(b, "{,"[min(i, 1)])
		b = append(b, l.Name...)
		b = append(b, '=', '"')
		b = append(b, labelEscape.Replace(l.Value)...)
		b = append(b, '"')
	}
	return append(b, '}')
}

// WritePrometheus writes all series in the text exposition format 0.0.4, in
// alphabetical order.
func (r *Registry) WritePrometheus(w io.Writer) error {
	type line struct {
		head   string // HELP and TYPE, on the first series of a family
		name   string
		labels string
		s      series
	}
	r.mu.Lock()
	var lines []line
	for _, name := range slices.Sorted(maps.Keys(r.families)) {
		f := r.families[name]
		help := strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(f.help)
		head := fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", name, help, name, f.kind)
		for _, labels := range slices.Sorted(maps.Keys(f.series)) {
			lines = append(lines, line{head, name, labels, *f.series[labels]})
			head = ""
		}
	}
	r.mu.Unlock() // the functions of GaugeFunc may take locks of their own

	b := bufio.NewWriter(w)
	for _, l := range lines {
		b.WriteString(l.head)
		if l.s.hist != nil {
			l.s.hist.write(b, l.name, l.labels)
			continue
		}
		b.WriteString(l.name + l.labels)
		b.WriteByte(' ')
		switch {
		case l.s.read != nil:
			b.WriteString(strconv.FormatFloat(l.s.read(), 'g', -1, 64))
		case l.s.counter != nil:
			b.WriteString(strconv.FormatUint(l.s.counter.Value(), 10))
		case l.s.gauge != nil:
			b.WriteString(strconv.FormatInt(l.s.gauge.Value(), 10))
		}
		b.WriteByte('\n')
	}
	return b.Flush()
}
