package ports

import "math/rand/v2"

// ring is a queue of entries; the head has rested longest.
type ring struct {
	buf  []entry
	head int
	n    int
}

func (r *ring) len() int { return r.n }

func (r *ring) push(e entry) {
	if r.n == len(r.buf) {
		buf := make([]entry, max(16, 2*len(r.buf)))
		for i := range r.n {
			buf[i] = r.buf[(r.head+i)%len(r.buf)]
		}
		r.buf, r.head = buf, 0
	}
	r.buf[(r.head+r.n)%len(r.buf)] = e
	r.n++
}

// take removes entry i, which the head replaces.
func (r *ring) take(i int) entry {
	h, j := r.head, (r.head+i)%len(r.buf)
	r.buf[h], r.buf[j] = r.buf[j], r.buf[h]
	e := r.buf[h]
	r.buf[h] = entry{}
	r.head = (h + 1) % len(r.buf)
	r.n--
	return e
}

// takeRested removes a random entry of the half that has rested longest: it
// cannot be guessed, and it was not in use a moment ago.
func (r *ring) takeRested(rng *rand.Rand) entry { return r.take(rng.IntN((r.n + 1) / 2)) }
