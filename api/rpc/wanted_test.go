package rpc

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/vfs"
)

// What is mounted is to be mounted by the next process until somebody unmounts it, also by a stop that fails half-way; not when
// this process ends.
func TestMounts_AreWantedUntilSomebodyUnmounts(t *testing.T) {
	var mu sync.Mutex
	var wanted []string
	mounts := map[string]*fakeMount{}
	f := start(t, service.Options{
		Door: func(_ context.Context, _ vfs.FS, dir string, _ bool) (service.Mounted, error) {
			mu.Lock()
			defer mu.Unlock()
			mounts[dir] = &fakeMount{gone: make(chan struct{})}
			return mounts[dir], nil
		},
		Wanted: func(all []*sheafv1.MountRequest) {
			mu.Lock()
			defer mu.Unlock()
			wanted = nil
			for _, r := range all {
				wanted = append(wanted, r.GetDir())
			}
		},
	})
	ctx := t.Context()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	want := func(when string) {
		t.Helper()
		l, err := f.Mounts.List(ctx, &sheafv1.MountsListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var mounted []string
		for _, m := range l.GetMounts() {
			mounted = append(mounted, m.GetDir())
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(wanted, mounted) {
			t.Errorf("%s: %v are wanted, %v are mounted", when, wanted, mounted)
		}
	}
	var dirs []string
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		dir := filepath.Join(top, name)
		if _, err := f.Mounts.Mount(ctx, &sheafv1.MountRequest{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	want("mounted")
	if _, err := f.Mounts.Unmount(ctx, &sheafv1.UnmountRequest{Dir: dirs[0]}); err != nil {
		t.Fatal(err)
	}
	want("one unmounted")
	if err := mounts[dirs[1]].Abort(ctx); err != nil { // by somebody else
		t.Fatal(err)
	}
	<-f.svc.Gone(dirs[1])
	want("one unmounted by another program")
	mounts[dirs[2]].busy = 1
	if _, err := f.Drives.Stop(ctx, &sheafv1.StopRequest{}); err == nil {
		t.Fatal("it stops though a mount is in use: this shows nothing")
	}
	want("a stop that failed")
	mu.Lock()
	before := slices.Clone(wanted)
	mu.Unlock()
	if len(before) == 0 {
		t.Fatal("nothing is left that is in use")
	}
	if err := f.svc.Close(ctx); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(wanted, before) {
		t.Errorf("after the end of the process %v are wanted, before it were %v", wanted, before)
	}
}
