package replica_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

// The keys of an epoch are at the far side before any pack that is sealed with them: if its device is lost before it has put the rest, nobody
// could else open that pack, and all would take it for damaged.
func TestPush_PutsNoPackBeforeTheKeysToIt(t *testing.T) {
	s := drive(t)
	from := s.at(t, -1)
	inner := mem.New()
	to := evil.New(inner, 1)
	to.Set(evil.Fail, func(n blob.Name) bool {
		return catalog.Packs < n && strings.HasPrefix(string(n), string(catalog.Packs))
	})
	if _, err := replica.Push(t.Context(), from, to, replica.PushOptions{}); !errors.Is(err, evil.ErrFault) {
		t.Fatalf("got error %v, want that packs are not taken", err)
	}
	got := contents(t, inner)
	for name := range contents(t, from) {
		dir, _, _ := strings.Cut(string(name), "/")
		_, ok := got[name]
		if small := slices.Contains([]string{"keys", "drive", "members"}, dir); ok != small {
			t.Errorf("%s is there: %v", name, ok)
		}
	}
}
