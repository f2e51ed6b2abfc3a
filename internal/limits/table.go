package limits

// table is a map with a bound: the entry that was not touched for longest
// gives way. The caller locks.
type table[K comparable, V any] struct {
	max   int
	m     map[K]*entry[K, V]
	front *entry[K, V] // most recently touched
	back  *entry[K, V]
}

type entry[K comparable, V any] struct {
	key        K
	val        V
	prev, next *entry[K, V]
}

func newTable[K comparable, V any](max int) table[K, V] {
	return table[K, V]{max: max, m: map[K]*entry[K, V]{}}
}

// peek returns the value without touching the entry, or nil.
func (t *table[K, V]) peek(k K) *V {
	if e := t.m[k]; e != nil {
		return &e.val
	}
	return nil
}

// get returns the value, zero when new, and makes it the most recent.
func (t *table[K, V]) get(k K) *V {
	e := t.m[k]
	if e == nil {
		if len(t.m) >= t.max {
			t.drop(t.back)
		}
		e = &entry[K, V]{key: k}
		t.m[k] = e
	} else {
		t.unlink(e)
	}
	e.next = t.front
	if t.front != nil {
		t.front.prev = e
	}
	t.front = e
	if t.back == nil {
		t.back = e
	}
	return &e.val
}

func (t *table[K, V]) del(k K) {
	if e := t.m[k]; e != nil {
		t.drop(e)
	}
}

func (t *table[K, V]) drop(e *entry[K, V]) {
	t.unlink(e)
	delete(t.m, e.key)
}

func (t *table[K, V]) unlink(e *entry[K, V]) {
	if e.prev != nil {
		e.prev.next = e.next
	} else if t.front == e {
		t.front = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else if t.back == e {
		t.back = e.prev
	}
	e.prev, e.next = nil, nil
}
