package kdf

import "testing"

// T-CTX: no two purposes share a context, and every context has our prefix.
func TestContexts_AreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range All() {
		if seen[c.String()] {
			t.Errorf("context %q stands twice", c)
		}
		seen[c.String()] = true
	}
}
