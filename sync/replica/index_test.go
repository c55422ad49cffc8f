package replica_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

// The name of an index blob does not tell what is in it: what a place gives wrong goes no further where somebody can tell, and comes when the place gives it right.
func TestCopy_NoIndexBlobGoesOnThatIsRefused(t *testing.T) {
	s := drive(t)
	near, to := s.at(t, -1), mem.New()
	good := contents(t, near)
	index := func(n blob.Name) bool { return strings.HasPrefix(string(n), "index/") }
	o := replica.Options{Index: func(name blob.Name, body []byte) error {
		if !bytes.Equal(body, good[name]) {
			return errors.New("it does not open")
		}
		return nil
	}}
	for _, lie := range []evil.Lie{evil.FlipBit, evil.Swap, evil.Truncate, evil.Extend} {
		from := evil.New(near, 1)
		from.Set(lie, index)
		if _, err := replica.Copy(t.Context(), from, to, o); err != nil {
			t.Errorf("%s: %v", lie, err)
		}
		if len(from.Deeds()) == 0 {
			t.Fatalf("%s: nothing was read", lie)
		}
		for name, body := range contents(t, to) {
			if !bytes.Equal(body, good[name]) {
				t.Errorf("%s: %s is wrong at the far side", lie, name)
			}
		}
	}
	r, err := replica.Copy(t.Context(), near, to, o)
	if err != nil || r.Index == 0 {
		t.Errorf("index blobs that are good: %d were put, %v", r.Index, err)
	}
}
