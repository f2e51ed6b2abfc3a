package telemetry

import (
	"bufio"
	"math"
	"strconv"
	"sync/atomic"
)

// Histogram counts observations by size. Its methods are safe for concurrent
// use and allocate nothing.
type Histogram struct {
	bounds  []float64
	buckets []atomic.Uint64 // the last one is for what exceeds every bound
	sum     atomic.Uint64   // bits of a float64
}

// Observe counts v.
func (h *Histogram) Observe(v float64) {
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// Count returns the number of observations.
func (h *Histogram) Count() (n uint64) {
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

// write writes the series in the text exposition format: buckets are sums from
// the smallest on.
func (h *Histogram) write(b *bufio.Writer, name, labels string) {
	with := func(le string) string {
		if labels == "" {
			return `{le="` + le + `"}`
		}
		return labels[:len(labels)-1] + `,le="` + le + `"}`
	}
	var n uint64
	for i, bound := range h.bounds {
		n += h.buckets[i].Load()
		b.WriteString(name + "_bucket" + with(strconv.FormatFloat(bound, 'g', -1, 64)) + " " + strconv.FormatUint(n, 10) + "\n")
	}
	n += h.buckets[len(h.bounds)].Load()
	b.WriteString(name + "_bucket" + with("+Inf") + " " + strconv.FormatUint(n, 10) + "\n")
	b.WriteString(name + "_sum" + labels + " " + strconv.FormatFloat(math.Float64frombits(h.sum.Load()), 'g', -1, 64) + "\n")
	b.WriteString(name + "_count" + labels + " " + strconv.FormatUint(n, 10) + "\n")
}
