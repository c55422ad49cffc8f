package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/blobtest"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

func open(t *testing.T, dir string) *Bucket {
	t.Helper()
	b, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

func put(t *testing.T, b *Bucket, name blob.Name, body string) {
	t.Helper()
	if err := b.Put(t.Context(), name, strings.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, b *Bucket) []blob.Name {
	t.Helper()
	var all []blob.Name
	for info, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info.Name)
	}
	return all
}

func TestBucket(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Bucket {
		dir := filepath.Join(t.TempDir(), "made", "by", "open")
		b := open(t, dir)
		t.Cleanup(func() {
			left, err := os.ReadDir(filepath.Join(dir, tmpDir))
			if err != nil || len(left) > 0 {
				t.Errorf("temporary files left: %v, error %v", left, err)
			}
		})
		return b
	})
}

func TestOpen_KeepsWhatWasPut(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, "packs/aa/1", "one")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "packs/aa/1", 0, -1); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("get from a closed bucket: got error %v, want fs.ErrClosed", err)
	}
	b = open(t, dir)
	if p, err := blob.ReadAll(t.Context(), b, "packs/aa/1", 10); err != nil || string(p) != "one" {
		t.Errorf("got %q and error %v", p, err)
	}
}

func TestPut_IsForTheOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	put(t, b, "packs/aa/1", "one")
	for path, want := range map[string]fs.FileMode{
		".tmp": fs.ModeDir | 0o700, "packs": fs.ModeDir | 0o700, "packs/aa": fs.ModeDir | 0o700, "packs/aa/1": 0o600,
	} {
		fi, err := os.Stat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != want {
			t.Errorf("%s: got mode %v, want %v", path, fi.Mode(), want)
		}
	}
}

func TestPut_MakesItsFoldersAgain(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	put(t, b, "packs/aa/1", "one")
	if err := os.RemoveAll(filepath.Join(dir, "packs")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, tmpDir)); err != nil {
		t.Fatal(err)
	}
	put(t, b, "packs/aa/2", "two")
	if diff := cmp.Diff([]blob.Name{"packs/aa/2"}, names(t, b)); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func TestBucket_NoticesChangesFromOutside(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	path := filepath.Join(dir, "x")
	put(t, b, "x", "old")
	read := func() string {
		p, err := blob.ReadAll(t.Context(), b, "x", 10)
		if err != nil {
			return fmt.Sprint("not there: ", errors.Is(err, fs.ErrNotExist))
		}
		return string(p)
	}
	got := []string{read()}
	if err := os.WriteFile(path, []byte("OLD"), 0o600); err != nil {
		t.Fatal(err)
	}
	got = append(got, read())
	if err := os.WriteFile(path+".new", []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	got = append(got, read())
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	got = append(got, read())
	if diff := cmp.Diff([]string{"old", "OLD", "new", "not there: true"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReader_OfAFileCutOffIsNoSilentEnd(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	put(t, b, "x", strings.Repeat("x", 1000))
	r, err := b.Get(t.Context(), "x", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "x"), 100); err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(r)
	if len(p) != 100 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %d bytes and error %v, want 100 and io.ErrUnexpectedEOF", len(p), err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(p); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after close: got error %v, want fs.ErrClosed", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// Links of any kind are not there, and nothing outside is read or written (T-A24, T-A25
// as far as no race is needed).
func TestBucket_FollowsNoLinkOut(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := open(t, dir)
	put(t, b, "real", "real")
	for link, target := range map[string]string{
		"file": secret, "folder": outside, "up": "..", "inside": "real", "loop": "loop", "dangling": filepath.Join(outside, "new"),
		"slash": outside + "/", "up-slash": "../", // CVE-2026-39822: a link with a slash behind its target
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
	}
	if diff := cmp.Diff([]blob.Name{"real"}, names(t, b)); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	up := blob.Name("up/" + filepath.Base(outside) + "/secret")
	for _, name := range []blob.Name{"file", "folder/secret", "inside", "loop", "dangling", "slash/secret", up} {
		if r, err := b.Get(t.Context(), name, 0, -1); err == nil {
			_ = r.Close()
			t.Errorf("get %s followed a link", name)
		}
		_ = b.Remove(t.Context(), name) // an error or nothing, but nothing is removed
	}
	for _, name := range []blob.Name{"folder/new", "slash/new", "up/new", "up-slash/new"} {
		if err := b.Put(t.Context(), name, strings.NewReader("x"), 1); err == nil {
			t.Errorf("put %s followed a link", name)
		}
	}
	// A Put onto a link replaces the link itself.
	put(t, b, "dangling", "mine")
	got, err := os.ReadDir(outside)
	if err != nil || len(got) != 1 {
		t.Errorf("the folder outside now holds %v, error %v", got, err)
	}
	if p, err := os.ReadFile(secret); err != nil || string(p) != "secret" {
		t.Errorf("the file outside is now %q, error %v", p, err)
	}
}

func TestBucket_PassesOverWhatIsNoBlob(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	put(t, b, "a/b", "x")
	for _, name := range []string{".DS_Store", "Thumbs.db", "a/README", "a/.hidden", "a/b ", "a/nul.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Skipf("file system takes no %q: %v", name, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "Folder", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]blob.Name{"a/b"}, names(t, b)); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if err := b.Remove(t.Context(), "a"); err != nil {
		t.Errorf("remove of a folder: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(t.Context(), "empty"); err != nil {
		t.Errorf("remove of an empty folder: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "empty")); err != nil {
		t.Errorf("an empty folder, which is no blob, was removed: %v", err)
	}
}

func TestOpen_SweepsWhatNobodyWrites(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	started, goOn := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() { done <- b.Put(t.Context(), "slow", &slowBody{started: started, goOn: goOn}, 2) }()
	<-started
	left := filepath.Join(dir, tmpDir, "put-0123")
	alien := filepath.Join(dir, tmpDir, "notes")
	for _, p := range []string{left, alien} {
		if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir) // while the first bucket is in the middle of a Put
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) && maxOpen > 0 {
		t.Errorf("a file that nobody writes is still there, error %v", err)
	}
	if _, err := os.Stat(alien); err != nil {
		t.Errorf("a file that is none of ours is gone: %v", err)
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Errorf("the put that was under way: %v", err)
	}
	if p, err := blob.ReadAll(t.Context(), b, "slow", 10); err != nil || string(p) != "ab" {
		t.Errorf("got %q and error %v", p, err)
	}
}

// slowBody yields "a", waits, and yields "b".
type slowBody struct {
	started, goOn chan struct{}
	n             int
}

func (s *slowBody) Read(p []byte) (int, error) {
	s.n++
	switch s.n {
	case 1:
		return copy(p, "a"), nil
	case 2:
		close(s.started)
		<-s.goOn
		return copy(p, "b"), nil
	}
	return 0, io.EOF
}

func TestList_OfAFolderLargerThanABatch(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	var want []blob.Name
	for i := range 300 {
		name := blob.Name(fmt.Sprintf("p/%03d", i*7%300))
		if i%3 == 0 {
			name += "/x"
		}
		put(t, b, name, "")
		want = append(want, name)
	}
	slices.Sort(want)
	for _, batch := range []int{1, 2, 7, 100, 149, 150, 151, 299, 300, 301} {
		var got []blob.Name
		l := lister{ctx: t.Context(), batch: batch, yield: func(i blob.Info, err error) bool {
			got = append(got, i.Name)
			return err == nil
		}}
		if err := l.folder(b.root, ""); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("batch %d (-want +got):\n%s", batch, diff)
		}
	}
}

func TestFiles_KeepsAFewOpen(t *testing.T) {
	if maxOpen == 0 {
		t.Skip("no file is kept open on this system")
	}
	b := open(t, t.TempDir())
	var readers []io.ReadCloser
	for i := range 3 * maxOpen {
		name := blob.Name(fmt.Sprintf("x%d", i))
		put(t, b, name, string(name))
		r, err := b.Get(t.Context(), name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
		if n := b.files.recent.Len(); n > maxOpen || n != len(b.files.byName) {
			t.Fatalf("%d files in order and %d by name are kept", n, len(b.files.byName))
		}
	}
	for i, r := range readers { // those that are kept no longer are still good
		want := fmt.Sprintf("x%d", i)
		if p, err := io.ReadAll(r); err != nil || string(p) != want {
			t.Errorf("got %q and error %v, want %q", p, err, want)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := len(b.files.byName); n != maxOpen {
		t.Errorf("got %d files kept, want %d", n, maxOpen)
	}
	for i := range 3 * maxOpen {
		if err := b.Remove(t.Context(), blob.Name(fmt.Sprintf("x%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.files.byName); n != 0 {
		t.Errorf("got %d files kept after all were removed, want 0", n)
	}
}

func TestGet_SmallRangesAllocateLittle(t *testing.T) {
	b := open(t, t.TempDir())
	put(t, b, "x", strings.Repeat("x", 1<<20))
	p := make([]byte, 4096)
	n := testing.AllocsPerRun(100, func() {
		r, err := b.Get(context.Background(), "x", 8192, 4096)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, p); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	})
	if maxOpen > 0 && n > 4 {
		t.Errorf("got %v allocations for a read, want at most 4", n)
	}
}

func TestOpen_OfAFileFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := Open(path, Options{}); err == nil {
		_ = b.Close()
		t.Error("opened a file as a bucket")
	}
	if b, err := Open(filepath.Join(path, "below"), Options{}); err == nil {
		_ = b.Close()
		t.Error("opened a folder below a file as a bucket")
	}
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20, 32 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			d, err := Open(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = d.Close() }()
			body := testkit.Random(testkit.Rand(1), size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := d.Put(b.Context(), blob.Name(fmt.Sprintf("x%d", i%8)), bytes.NewReader(body), int64(size)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGet4KiB(b *testing.B) {
	d, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Put(b.Context(), "packs/aa/x", bytes.NewReader(make([]byte, 1<<20)), 1<<20); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 4096)
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		r, err := d.Get(b.Context(), "packs/aa/x", 8192, 4096)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(r, p); err != nil {
			b.Fatal(err)
		}
		_ = r.Close()
	}
}
