package memkv

import (
	"hash/maphash"
	"strings"
)

// node is a node of a persistent treap: a binary tree in the order of the keys
// that is a heap in the order of the priorities (Seidel and Aragon, 1996). The
// priority is a hash of the key, so the shape depends on the set of keys alone and
// is balanced in expectation. Nodes are never changed: a change copies the path
// to the root, and who holds an old root has a snapshot. nil is the empty tree.
type node struct {
	key         string
	value       []byte // never written again
	prio        uint64
	left, right *node
}

func (n *node) get(key string) ([]byte, bool) {
	for n != nil {
		switch strings.Compare(key, n.key) {
		case -1:
			n = n.left
		case 1:
			n = n.right
		default:
			return n.value, true
		}
	}
	return nil, false
}

// put returns the tree with key set to value.
func (n *node) put(seed maphash.Seed, key string, value []byte) *node {
	return n.insert(&node{key: key, value: value, prio: maphash.String(seed, key)})
}

// insert returns the tree with the new node e, which is the caller's to change until
// it returns.
func (n *node) insert(e *node) *node {
	if n == nil {
		return e
	}
	c := strings.Compare(e.key, n.key)
	if c == 0 {
		e.left, e.right = n.left, n.right
		return e
	}
	if e.prio > n.prio {
		e.left, e.right = n.split(e.key)
		return e
	}
	m := *n
	if c < 0 {
		m.left = n.left.insert(e)
	} else {
		m.right = n.right.insert(e)
	}
	return &m
}

// split returns the parts of the tree before and after key. An equal key is in neither:
// it was found to be elsewhere, or is to be replaced.
func (n *node) split(key string) (before, after *node) {
	if n == nil {
		return nil, nil
	}
	m := *n
	switch strings.Compare(n.key, key) {
	case -1:
		m.right, after = n.right.split(key)
		return &m, after
	case 1:
		before, m.left = n.left.split(key)
		return before, &m
	}
	return n.left, n.right
}

// remove returns the tree without key.
func (n *node) remove(key string) *node {
	if n == nil {
		return nil
	}
	m := *n
	switch strings.Compare(key, n.key) {
	case -1:
		if m.left = n.left.remove(key); m.left == n.left {
			return n
		}
	case 1:
		if m.right = n.right.remove(key); m.right == n.right {
			return n
		}
	default:
		return merge(n.left, n.right)
	}
	return &m
}

// merge joins two trees of which all keys of a are before those of b.
func merge(a, b *node) *node {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.prio > b.prio:
		m := *a
		m.right = merge(a.right, b)
		return &m
	}
	m := *b
	m.left = merge(a, b.left)
	return &m
}

// scan yields the pairs with from <= key, and key < to unless to is empty. It reports
// whether to go on.
func (n *node) scan(from, to string, yield func(*node) bool) bool {
	if n == nil {
		return true
	}
	if n.key >= from {
		if !n.left.scan(from, to, yield) {
			return false
		}
		if to != "" && n.key >= to {
			return true
		}
		if !yield(n) {
			return false
		}
	}
	return n.right.scan(from, to, yield)
}
