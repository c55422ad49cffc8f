package tier_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
)

// A lying bucket lists what another one has.
type lying struct {
	blob.Bucket
	other blob.Bucket
}

func (l lying) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return l.other.List(ctx, prefix)
}

// Two remotes list a pack with two sizes, and have less of it than they say: neither is right, and who reads is told so.
func TestGet_EndsWhereAllSizesAreWrong(t *testing.T) {
	names, bodies := some(t, 100_000)
	x := open(t, tier.Options{Local: mem.New()})
	var remotes []tier.Remote
	for i, r := range []string{"a", "b"} {
		listed := mem.New()
		put(t, listed, names[0], bytes.Repeat([]byte{1}, 90_000+i))
		learn(t, x, r, listed)
		has := mem.New()
		put(t, has, names[0], bodies[names[0]][:50])
		remotes = append(remotes, tier.Remote{Name: r, Bucket: lying{has, listed}})
	}
	x.SetRemotes(remotes...)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := read(ctx, x, names[0], 0, -1); !errors.Is(err, blob.ErrTemporary) {
		t.Errorf("got error %v, want ErrTemporary", err)
	}
}

// Of two sizes one is right: after the other has turned out to be wrong, it counts, in listings too.
func TestGet_TakesTheSizeThatIsRight(t *testing.T) {
	names, bodies := some(t, 100_000)
	x := open(t, tier.Options{Local: mem.New()})
	good := bucketOf(t, bodies)
	wrong := mem.New()
	put(t, wrong, names[0], bytes.Repeat([]byte{1}, 100_001))
	learn(t, x, "a", wrong)
	learn(t, x, "b", good)
	x.SetRemotes(tier.Remote{Name: "a", Bucket: good}, tier.Remote{Name: "b", Bucket: good})
	want(t, x, names[0], 0, -1, bodies[names[0]])
	for info, err := range x.List(t.Context(), names[0]) {
		if err != nil || info.Size != 100_000 {
			t.Errorf("listed with %d bytes, %v", info.Size, err)
		}
	}
}

// The one remote that has a pack had listed it with a wrong size. It is asked again, and believed.
func TestGet_AsksForTheSizeAgain(t *testing.T) {
	names, bodies := some(t, 100_000)
	for _, other := range []string{"", "knows nothing", "was wrong, too"} {
		x := open(t, tier.Options{Local: mem.New()})
		good := bucketOf(t, bodies)
		wrong := mem.New()
		put(t, wrong, names[0], bytes.Repeat([]byte{1}, 100_002))
		learn(t, x, "a", wrong)
		remotes := []tier.Remote{{Name: "a", Bucket: good}}
		switch other {
		case "knows nothing":
			remotes = append(remotes, tier.Remote{Name: "b", Bucket: mem.New()})
		case "was wrong, too":
			put(t, wrong, names[0], bytes.Repeat([]byte{1}, 100_001))
			learn(t, x, "b", wrong)
			remotes = append(remotes, tier.Remote{Name: "b", Bucket: good})
		}
		x.SetRemotes(remotes...)
		want(t, x, names[0], 0, -1, bodies[names[0]])
		want(t, x, names[0], 99_990, 10, bodies[names[0]])
	}
}
