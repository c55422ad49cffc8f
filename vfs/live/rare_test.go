package live

import (
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// A node is for each file that the system knows: 100,000 of them are most of the memory of a daemon at rest.
func TestNode_IsSmall(t *testing.T) {
	if is := reflect.TypeFor[node]().Size(); is > 320 {
		t.Errorf("a node takes %d bytes; the next of Go's sizes is 352", is)
	}
}

func TestMoments_KeepEachTime(t *testing.T) {
	for _, want := range []time.Time{
		{}, time.Unix(0, 0), time.Unix(0, -1), time.Unix(1<<40, 999_999_999), time.Unix(-1<<40, 7), time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.Local),
	} {
		m := allAt(time.Unix(5, 5))
		m.set(mtime, want)
		if got := m.at(mtime); !got.Equal(want) || got.IsZero() != want.IsZero() {
			t.Errorf("%v became %v", want, got)
		}
		if got := m.at(ctime); !got.Equal(time.Unix(5, 5)) {
			t.Errorf("its neighbour became %v", got)
		}
	}
}

// A commit replaces what is rare of a link while others read it. The race detector tells.
func TestFS_LinksAreReadWhileTheyAreCommitted(t *testing.T) {
	f := mustOpen(t, newDisk())
	root, err := f.View().Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made, err := root.Make(t.Context(), "link", vfs.New{Kind: vfs.KindLink, Target: "where it leads"})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if to, err := made.(vfs.Link).Target(t.Context()); err != nil || to != "where it leads" {
				t.Errorf("it leads to %q: %v", to, err)
				return
			}
		}
	})
	for i := range 20 {
		if err := made.SetXattr(t.Context(), "user.n", []byte{byte(i)}, 0); err != nil {
			t.Error(err)
		}
		if err := f.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	reader.Wait()
	if got, err := made.Xattr(t.Context(), "user.n"); err != nil || len(got) != 1 || got[0] != 19 {
		t.Errorf("the attribute is %v: %v", got, err)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
