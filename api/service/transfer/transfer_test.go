package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// describe lists a place in full: one line for each node, with a hash-like view of its bytes.
func describe(t *testing.T, s Source) map[string]string {
	t.Helper()
	out := map[string]string{}
	seen := map[Identity]string{}
	var walk func(p string, it Item)
	walk = func(p string, it Item) {
		line := fmt.Sprintf("%d %o %s %q", it.Kind, it.Mode, it.MTime.UTC().Format(time.RFC3339Nano), it.Target)
		x, err := s.Xattrs(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		line += fmt.Sprintf(" %q", x)
		switch it.Kind {
		case vfs.KindFile:
			r, err := s.Open(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, it.Size)
			if err := fill(t.Context(), r, b, 0); it.Size > 0 && err != nil {
				t.Fatal(err)
			}
			_ = r.Close()
			var sum uint64
			for _, c := range b {
				sum = sum*1099511628211 + uint64(c)
			}
			line += fmt.Sprintf(" %d:%x", len(b), sum)
			if it.Same != (Identity{}) {
				if seen[it.Same] == "" {
					seen[it.Same] = p
				} else {
					line += " = another name"
				}
			}
		case vfs.KindDir:
			var cs []Child
			for c, err := range s.List(t.Context(), p) {
				if err != nil {
					t.Fatal(err)
				}
				cs = append(cs, c)
			}
			slices.SortFunc(cs, func(a, b Child) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
			for _, c := range cs {
				walk(path.Join(p, c.Name), c.Item)
			}
		}
		if p != "" {
			out[p] = line
		}
	}
	it, err := s.Stat(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	walk("", it)
	return out
}

func open(t *testing.T, dir string, c *Claims) *Local {
	t.Helper()
	l, err := OpenLocal(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n)})
	p := make([]byte, n)
	_, _ = r.Read(p)
	return p
}

// tree makes a folder with one of each kind.
func tree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "src")
	must(t, os.MkdirAll(filepath.Join(dir, "a/b/empty"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "a/small"), []byte("hello"), 0o640))
	must(t, os.WriteFile(filepath.Join(dir, "a/b/big"), noise(3*blockSize+17), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "a/b/long"), noise(17*blockSize+5), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "a/none"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "bytes-\xff\xfe"), []byte("x"), 0o444))
	f, err := os.Create(filepath.Join(dir, "holes"))
	must(t, err)
	_, err = f.WriteAt(noise(9000), 5<<20)
	must(t, err)
	must(t, f.Truncate(9<<20))
	must(t, f.Close())
	must(t, os.Symlink("../somewhere", filepath.Join(dir, "a/link")))
	must(t, os.Link(filepath.Join(dir, "a/small"), filepath.Join(dir, "z-hard")))
	must(t, os.Chmod(filepath.Join(dir, "a/b"), 0o750|os.ModeSticky))
	special(t, dir)
	old := time.Date(2001, 2, 3, 4, 5, 6, 789012345, time.UTC)
	must(t, os.Chtimes(filepath.Join(dir, "a/small"), old, old))
	must(t, os.Chtimes(filepath.Join(dir, "a/b/empty"), old, old))
	must(t, os.Chtimes(filepath.Join(dir, "a"), old, old))
	return dir
}

func TestCopy_InAndOutAgainKeepsAll(t *testing.T) {
	src := tree(t)
	fsys, claims := memfs.New(memfs.Options{}), &Claims{}
	var p Progress
	from := open(t, src, nil)
	must(t, Copy(t.Context(), from, NewDrive(fsys, "in", claims), Options{}, &p))
	if f := p.Failures(); f != nil {
		t.Fatalf("failures in: %v", f)
	}
	want := describe(t, from)
	if diff := cmp.Diff(want, describe(t, NewDrive(fsys, "in", nil))); diff != "" {
		t.Errorf("in the drive (-want +got):\n%s", diff)
	}
	n := p.Count()
	if !n.Counted || n.Items != n.ItemsTotal || n.Bytes != n.BytesTotal || n.Items != int64(len(want)+1) {
		t.Errorf("got %+v, want all %d items and bytes done", n, len(want)+1)
	}

	out := filepath.Join(t.TempDir(), "out")
	p = Progress{}
	to := open(t, out, claims)
	must(t, Copy(t.Context(), NewDrive(fsys, "in", nil), to, Options{}, &p))
	if f := p.Failures(); f != nil {
		t.Fatalf("failures out: %v", f)
	}
	if diff := cmp.Diff(want, describe(t, to)); diff != "" {
		t.Errorf("out again (-want +got):\n%s", diff)
	}
	if runtime.GOOS == "linux" {
		if got := blocks(t, filepath.Join(out, "holes")); got > 1<<20 {
			t.Errorf("the hole takes %d bytes", got)
		}
	}

	p = Progress{}
	must(t, Copy(t.Context(), from, NewDrive(fsys, "in", claims), Options{}, &p))
	if n := p.Count(); n.Skipped != n.Items || n.Bytes != n.BytesTotal {
		t.Errorf("a second copy: got %+v, want all skipped", n)
	}
	for _, a := range p.Actions() {
		t.Errorf("a second copy did: %s", a)
	}
}

func TestCopy_InsideTheDriveSharesAndKeepsAll(t *testing.T) {
	fsys, claims := memfs.New(memfs.Options{}), &Claims{}
	var p Progress
	must(t, Copy(t.Context(), open(t, tree(t), nil), NewDrive(fsys, "in", claims), Options{}, &p))
	must(t, Copy(t.Context(), NewDrive(fsys, "in", nil), NewDrive(fsys, "again", claims), Options{}, &p))
	if diff := cmp.Diff(describe(t, NewDrive(fsys, "in", nil)), describe(t, NewDrive(fsys, "again", nil))); diff != "" {
		t.Error(diff)
	}
}

// interrupted cancels after some bytes of a file were written.
type interrupted struct {
	*Drive
	after  int
	cancel context.CancelFunc
}

type interruptedWriter struct {
	Writer
	t *interrupted
}

func (i *interrupted) Begin(ctx context.Context, p string, it Item) (Writer, error) {
	w, err := i.Drive.Begin(ctx, p, it)
	return interruptedWriter{w, i}, err
}

func (w interruptedWriter) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if w.t.after--; w.t.after < 0 {
		w.t.cancel()
		return 0, ctx.Err()
	}
	return w.Writer.WriteAt(ctx, p, off)
}

func TestCopy_GoesOnInTheMidstOfAFile(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "f")
	body := noise(5 * blockSize)
	must(t, os.WriteFile(src, body, 0o644))
	fsys, claims := memfs.New(memfs.Options{}), &Claims{}
	ctx, cancel := context.WithCancel(t.Context())
	to := NewDrive(fsys, "f", claims)
	var p Progress
	err := Copy(ctx, open(t, src, nil), &interrupted{to, 3, cancel}, Options{Workers: 1}, &p)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want cancelled", err)
	}
	if _, err := to.Stat(t.Context(), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("half a file bears its name: %v", err)
	}

	// What was left is damaged at one place; the second copy must mend it, and write nothing
	// else that was there.
	part := partialName("f")
	h, err := vfs.OpenPath(t.Context(), fsys, part, vfs.OpenWrite)
	must(t, err)
	_, err = h.WriteAt(t.Context(), []byte{body[blockSize+5] ^ 1}, blockSize+5)
	must(t, err)
	must(t, h.Close(t.Context()))
	second := &interrupted{to, 3, func() {}} // 1 to mend and 2 that are missing
	p = Progress{}
	must(t, Copy(t.Context(), open(t, src, nil), second, Options{}, &p))
	if second.after != 0 {
		t.Errorf("%d of 3 expected writes were not made", second.after)
	}
	got, err := vfs.ReadFile(t.Context(), fsys, "f", 1<<30)
	must(t, err)
	if !bytes.Equal(got, body) {
		t.Error("the file is not what was copied")
	}
	if _, err := vfs.Walk(t.Context(), fsys, part); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the partial name is still there: %v", err)
	}
}

func TestCopy_ReplacesAndKeepsWhatItReplaced(t *testing.T) {
	fsys, claims := memfs.New(memfs.Options{}), &Claims{}
	must(t, vfs.WriteFile(t.Context(), fsys, "f", []byte("new"), vfs.New{Mode: 0o644}))
	src := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(src, []byte("old!"), 0o644))
	var p Progress
	keep := func(name string, n int) string { return fmt.Sprintf("%s.kept%d", name, n) }
	must(t, vfs.WriteFile(t.Context(), fsys, "f.kept0", []byte("in the way"), vfs.New{Mode: 0o644}))
	// The top itself is the file.
	must(t, Copy(t.Context(), open(t, src, nil), NewDrive(fsys, "f", claims), Options{KeepReplaced: keep}, &p))
	for name, want := range map[string]string{"f": "old!", "f.kept0": "in the way", "f.kept1": "new"} {
		got, err := vfs.ReadFile(t.Context(), fsys, name, 100)
		if err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	if p.Count().Renamed != 1 {
		t.Errorf("got %d renamed, want 1", p.Count().Renamed)
	}
}

func TestCopy_ExactSeesAChangeThatTimeAndSizeHide(t *testing.T) {
	a, b := memfs.New(memfs.Options{}), memfs.New(memfs.Options{})
	when := time.Unix(1e9, 1)
	// Its times say of b that it was copied long after the last change of a.
	for f, v := range map[*memfs.FS]struct {
		body  string
		ctime time.Time
	}{a: {"one", when}, b: {"two", when.Add(time.Hour)}} {
		must(t, vfs.WriteFile(t.Context(), f, "f", []byte(v.body), vfs.New{Mode: 0o644}))
		n, err := vfs.Walk(t.Context(), f, "f")
		must(t, err)
		_, err = n.SetAttr(t.Context(), vfs.AttrChange{Set: vfs.SetMTime | vfs.SetCTime, MTime: when, CTime: v.ctime})
		must(t, err)
	}
	read := func() string {
		got, err := vfs.ReadFile(t.Context(), b, "f", 100)
		must(t, err)
		return string(got)
	}
	c := &Claims{}
	must(t, Copy(t.Context(), NewDrive(a, "", nil), NewDrive(b, "", c), Options{}, &Progress{}))
	if read() != "two" {
		t.Error("equal size and times were not taken for equal")
	}
	must(t, Copy(t.Context(), NewDrive(a, "", nil), NewDrive(b, "", c), Options{Exact: time.Now().Add(time.Hour)}, &Progress{}))
	if read() != "one" {
		t.Error("the change was not seen")
	}
}

// The clock that stamps changes moves in steps: what was written just before a state was taken
// and what was written just after may bear one time.
func TestCopy_ExactReadsWhatChangedAboutWhenTheStateWasTaken(t *testing.T) {
	when := time.Unix(1e9, 0)
	for _, tc := range []struct {
		taken time.Duration
		want  string
	}{{time.Millisecond, "one"}, {time.Hour, "two"}} {
		a, b := memfs.New(memfs.Options{}), memfs.New(memfs.Options{})
		must(t, vfs.WriteFile(t.Context(), a, "f", []byte("one"), vfs.New{Mode: 0o644}))
		must(t, vfs.WriteFile(t.Context(), b, "f", []byte("two"), vfs.New{Mode: 0o644}))
		c := &Claims{}
		from, to := sameTimes{NewDrive(a, "", nil), when}, NewDrive(b, "", c)
		must(t, Copy(t.Context(), from, sameTarget{Target: to, when: when}, Options{Exact: when.Add(tc.taken)}, &Progress{}))
		got, err := vfs.ReadFile(t.Context(), b, "f", 100)
		must(t, err)
		if string(got) != tc.want {
			t.Errorf("state taken %v after the change: got %q, want %q", tc.taken, got, tc.want)
		}
	}
}

// sameTimes is a Source whose files were all changed at once.
type sameTimes struct {
	Source
	when time.Time
}

func (s sameTimes) Stat(ctx context.Context, path string) (Item, error) {
	it, err := s.Source.Stat(ctx, path)
	it.MTime, it.CTime = s.when, s.when
	return it, err
}

func (s sameTimes) List(ctx context.Context, path string) iter.Seq2[Child, error] {
	return func(yield func(Child, error) bool) {
		for c, err := range s.Source.List(ctx, path) {
			c.Item.MTime, c.Item.CTime = s.when, s.when
			if !yield(c, err) {
				return
			}
		}
	}
}

// sameTarget is a Target whose files were all changed at once.
type sameTarget struct {
	Target
	when time.Time
}

func (s sameTarget) Stat(ctx context.Context, path string) (Item, error) {
	it, err := s.Target.Stat(ctx, path)
	it.MTime, it.CTime = s.when, s.when
	return it, err
}

func TestCopy_NotesWhatFailsAndDoesTheRest(t *testing.T) {
	src := t.TempDir()
	must(t, os.Mkdir(filepath.Join(src, "d"), 0o755))
	for _, name := range []string{"d/in", "x", "y"} {
		must(t, os.WriteFile(filepath.Join(src, name), []byte(name), 0o644))
	}
	fsys := memfs.New(memfs.Options{})
	must(t, vfs.WriteFile(t.Context(), fsys, "d", []byte("no directory"), vfs.New{Mode: 0o644}))
	_, err := vfs.MkdirAll(t.Context(), fsys, "x", vfs.New{Mode: 0o755})
	must(t, err)
	var p Progress
	must(t, Copy(t.Context(), open(t, src, nil), NewDrive(fsys, "", &Claims{}), Options{}, &p))
	var failed []string
	for _, f := range p.Failures() {
		failed = append(failed, f.Path)
	}
	slices.Sort(failed)
	if diff := cmp.Diff([]string{"d", "x"}, failed); diff != "" {
		t.Error(diff)
	}
	if got, err := vfs.ReadFile(t.Context(), fsys, "y", 100); err != nil || string(got) != "y" {
		t.Errorf("y: got %q, %v", got, err)
	}
	if got, err := vfs.ReadFile(t.Context(), fsys, "d", 100); err != nil || string(got) != "no directory" {
		t.Errorf("d: got %q, %v", got, err)
	}
}

func TestCopy_StopsWhenTheTargetIsFull(t *testing.T) {
	src := t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "f"), noise(1<<20), 0o644))
	err := Copy(t.Context(), open(t, src, nil), NewDrive(memfs.New(memfs.Options{Limit: 64 << 10}), "", &Claims{}), Options{}, &Progress{})
	if !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("got %v, want no space", err)
	}
}

func TestCopy_DryRunTouchesNothing(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	var p Progress
	must(t, Copy(t.Context(), open(t, tree(t), nil), NewDrive(fsys, "x/y", &Claims{}), Options{DryRun: true}, &p))
	if len(p.Actions()) == 0 || p.Count().Failed != 0 {
		t.Errorf("got actions %q, failures %v", p.Actions(), p.Failures())
	}
	if got := describe(t, NewDrive(fsys, "", nil)); len(got) != 0 {
		t.Errorf("the drive has %v", got)
	}
}

func TestClaims_SecondWriterOfAFileIsRefused(t *testing.T) {
	fsys, c := memfs.New(memfs.Options{}), &Claims{}
	w, err := NewDrive(fsys, "", c).Begin(t.Context(), "f", Item{Kind: vfs.KindFile})
	must(t, err)
	if _, err := NewDrive(fsys, "f", c).Begin(t.Context(), "", Item{Kind: vfs.KindFile}); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want busy", err)
	}
	must(t, w.Close())
	w, err = NewDrive(fsys, "", c).Begin(t.Context(), "f", Item{Kind: vfs.KindFile})
	must(t, err)
	must(t, w.Close())
}

// T-A23, T-A24: what lies in the target leads nowhere else, whatever kind of link it is.
func TestLocal_PlantedLinksLeadNowhere(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need rights there")
	}
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.Mkdir(outside, 0o755))
	victim := filepath.Join(outside, "victim")
	must(t, os.WriteFile(victim, []byte("precious"), 0o644))
	fsys := memfs.New(memfs.Options{})
	_, err := vfs.MkdirAll(t.Context(), fsys, "d", vfs.New{Mode: 0o755})
	must(t, err)
	for _, name := range []string{"f", "g", "d/h"} {
		must(t, vfs.WriteFile(t.Context(), fsys, name, []byte("from the drive"), vfs.New{Mode: 0o644}))
	}
	dst := filepath.Join(t.TempDir(), "dst")
	must(t, os.Mkdir(dst, 0o755))
	must(t, os.Symlink(victim, filepath.Join(dst, partialName("f"))))
	must(t, os.Link(victim, filepath.Join(dst, partialName("g"))))
	must(t, os.Symlink(outside, filepath.Join(dst, "d")))
	must(t, os.Symlink(victim, filepath.Join(dst, "f")))
	var p Progress
	must(t, Copy(t.Context(), NewDrive(fsys, "", nil), open(t, dst, &Claims{}), Options{}, &p))
	if got, _ := os.ReadFile(victim); string(got) != "precious" {
		t.Errorf("the victim is %q", got)
	}
	if names, _ := os.ReadDir(outside); len(names) != 1 {
		t.Errorf("outside has %v", names)
	}
	for _, name := range []string{"f", "g"} {
		info, err := os.Lstat(filepath.Join(dst, name))
		if err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: got %v, %v, want a file", name, info, err)
		}
	}
	if f := p.Failures(); len(f) != 1 || f[0].Path != "d" {
		t.Errorf("got failures %v, want d", f)
	}
}

func TestOpenLocal_RefusesRelativePaths(t *testing.T) {
	if _, err := OpenLocal("a/b", nil); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// What is written through, and given up by the system's memory, is what was copied.
func TestCopy_OfALongFileOutIsWhole(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	f, err := os.Create(src)
	must(t, err)
	block := noise(blockSize + 13)
	for at := int64(0); at < throughFrom+2*throughLag; at += int64(len(block)) {
		_, err = f.WriteAt(block, at)
		must(t, err)
	}
	must(t, f.Close())
	var p Progress
	must(t, Copy(t.Context(), open(t, src, nil), open(t, dst, &Claims{}), Options{}, &p))
	want, err := os.ReadFile(src)
	must(t, err)
	got, err := os.ReadFile(dst)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Error("the file is not what was copied")
	}
}
