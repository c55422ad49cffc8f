// Package table has the map for what comes and goes: one of Go keeps the room of the most that it ever held.
package table

import "iter"

// A Map is a map. When most of what it held is gone it gives back the room of that. Its zero value is empty. It is not safe for concurrent use.
type Map[K comparable, V any] struct {
	m    map[K]V
	most int // that it has held since it was made anew
}

// few is how many are not worth it.
const few = 1024

// Get returns the value of key, or the zero V.
func (t *Map[K, V]) Get(key K) V { return t.m[key] }

// Set sets the value of key.
func (t *Map[K, V]) Set(key K, value V) {
	if t.m == nil {
		t.m = map[K]V{}
	}
	t.m[key] = value
	t.most = max(t.most, len(t.m))
}

// Delete removes key. When less than an eighth is left, all that is left moves, which costs less than what it took to remove the rest.
func (t *Map[K, V]) Delete(key K) {
	delete(t.m, key)
	if t.most < few || len(t.m) >= t.most/8 {
		return
	}
	m := make(map[K]V, len(t.m))
	for k, v := range t.m {
		m[k] = v
	}
	t.m, t.most = m, len(m)
}

// Len returns how many there are.
func (t *Map[K, V]) Len() int { return len(t.m) }

// All yields all, in no order. The Map must not change meanwhile.
func (t *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, v := range t.m {
			if !yield(k, v) {
				return
			}
		}
	}
}
