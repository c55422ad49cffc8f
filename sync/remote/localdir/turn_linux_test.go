package localdir

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// Those who change one file at the same moment, through two Trees of one folder, do not take each other for a program that knows nothing of
// them: who was refused has changed nothing, who was not has, and nothing is kept beside it.
func TestTree_OfManyWhoChangeOneFileEachIsToldWhatCameOfIt(t *testing.T) {
	dir := t.TempDir()
	trees := []*Tree{openTree(t, dir, Options{}), openTree(t, dir, Options{})}
	path := filepath.Join(dir, "file")
	write(t, path, "0")
	var wg sync.WaitGroup
	var done atomic.Int64
	for i := range 16 {
		tree := trees[i%2]
		wg.Go(func() {
			for range 30 {
				st, err := tree.Stat(t.Context(), "file")
				if err != nil {
					t.Errorf("stat: %v", err)
					return
				}
				text, err := os.ReadFile(path)
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				n, err := strconv.Atoi(string(text))
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				// If another one came between the two looks, the version says so.
				err = put(t, tree, "file", strconv.Itoa(n+1), st.Version)
				if err == nil {
					done.Add(1)
				} else if !errors.Is(err, remote.ErrChanged) {
					t.Errorf("put: got error %v, want none or ErrChanged", err)
				}
			}
		})
	}
	wg.Wait()
	if got, err := os.ReadFile(path); err != nil || string(got) != strconv.FormatInt(done.Load(), 10) || done.Load() == 0 {
		t.Errorf("got %q, error %v, want the number of those who were told that they had changed it, %d", got, err, done.Load())
	}
	if got := names(t, dir); !slices.Equal(got, []string{"file"}) {
		t.Errorf("got %q in the folder, want the file alone", got)
	}
}
