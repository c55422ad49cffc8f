//go:build linux

package powerloss

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/vfs"
)

// ram returns an empty folder, in memory if there is a place for that.
func ram(t testing.TB) string {
	t.Helper()
	if fi, err := os.Stat("/dev/shm"); err != nil || !fi.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "sheaf-powerloss-") //nolint:usetesting // t.TempDir lies on the disk, which is slow to sync
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// between returns the steps of which a state after the cut may be: at least all that were saved, at most
// all that were begun. A dead process loses nothing that was done.
func (w *world) between(c Cut) (low, high int) {
	for i, s := range w.steps {
		if s.begin <= c.At {
			high = i
		}
		if s.end <= c.At && (c.Model == Killed || c.Model == Torn && s.end < c.At) {
			low = i
		}
	}
	for _, s := range w.saves {
		// A torn write may be one that a later sync was to save.
		if s.at < c.At || s.at == c.At && c.Model != Torn {
			low = max(low, s.step)
		}
	}
	return low, max(low, high)
}

// promised says what was, before a cut.
func (w *world) promised(c Cut) (p promise) {
	p.Low, p.High = w.between(c)
	p.Created, p.NewSecret = c.At > w.steps[0].end, len(w.secrets)-1
	for i, at := range w.secretAt {
		if at < c.At || at == c.At && c.Model != Torn {
			p.Secret = i
		}
	}
	return p
}

// A promise is what was said to be done before a process died or the power went.
type promise struct {
	Low, High int  // the state is that after one of these steps
	Created   bool // the drive is there
	// One of the secrets from the one to the other opens it.
	Secret, NewSecret int
}

// check opens what a cut left, and holds it against what was promised. Deep: the bucket alone must have it
// too, once it is committed.
func (w *world) check(c Cut, deep bool) error {
	home := filepath.Join(ram(w.t), "home")
	defer func() { _ = os.RemoveAll(filepath.Dir(home)) }()
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	w.disk.Write(c, home)
	err := w.checkHome(home, w.promised(c), deep)
	if err != nil {
		from := max(0, c.At-12)
		return fmt.Errorf("%s: %w\nbefore the cut:\n  %s", c, err, strings.Join(w.disk.Log(from, c.At), "\n  "))
	}
	return nil
}

func (w *world) checkHome(home string, p promise, deep bool) (err error) {
	ctx := w.t.Context()
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelInfo}))
	defer func() {
		if err != nil && text.Len() > 0 {
			err = fmt.Errorf("%w\nlog:\n%s", err, &text)
		}
	}()
	var d *drive
	for _, s := range slices.Backward(w.secrets[p.Secret : p.NewSecret+1]) {
		if d, err = openDrive(ctx, home, s, log); !errors.Is(err, sheaf.ErrPassphrase) && !errors.Is(err, sheaf.ErrNeedSecret) {
			break
		}
	}
	if err != nil && !p.Created {
		// There was a drive or there was none; if there was none, there can be one now.
		if !errors.Is(err, sheaf.ErrNoDrive) {
			return fmt.Errorf("open what was being created: %w", err)
		}
		if d, err = createDrive(ctx, home, w.secrets[0], log); err != nil {
			return fmt.Errorf("create again: %w", err)
		}
		p.Low, p.High = 0, 0
	}
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() {
		// Only when it is closed does nothing work in the background any more, which has temporary files for a while.
		err = errors.Join(err, d.close(context.WithoutCancel(ctx)))
		left, gerr := filepath.Glob(filepath.Join(home, "store", ".tmp", "*"))
		if gerr != nil || len(left) > 0 {
			err = errors.Join(err, gerr, fmt.Errorf("temporary files stay: %v", left))
		}
	}()
	got, err := stateOf(ctx, d)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := w.among(got, p.Low, p.High); err != nil {
		return err
	}
	return w.checkLife(ctx, d, home, got, deep)
}

// among reports whether a state is one of those after the steps low to high.
func (w *world) among(got []string, low, high int) error {
	for i := low; i <= high; i++ {
		if slices.Equal(got, w.steps[i].state) {
			return nil
		}
	}
	for i, s := range w.steps {
		if slices.Equal(got, s.state) {
			return fmt.Errorf("the state is that after step %d (%s), want one of %d (%s) to %d", i, s.what, low, w.steps[low].what, high)
		}
	}
	return fmt.Errorf("no state that ever was; from that after step %d (%s, of up to %d) to this one:\n%s", low, w.steps[low].what, high,
		cmp.Diff(w.steps[low].state, got))
}

// checkLife holds that the drive is whole and goes on.
func (w *world) checkLife(ctx context.Context, d *drive, home string, state []string, deep bool) error {
	r, err := d.Verify(ctx, nil)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	for _, f := range r.Findings {
		return fmt.Errorf("verify finds %s %s: %s", f.Blob, f.Path, f.Reason)
	}
	const name = "written after the cut"
	if err := vfs.WriteFile(ctx, d.FS(), name, []byte(name), vfs.New{Kind: vfs.KindFile, Mode: 0o600}); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := d.FS().Sync(ctx); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := d.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if !deep {
		return nil
	}
	// The bucket alone.
	lone := filepath.Join(filepath.Dir(home), "lone")
	words, err := d.NewRecovery(ctx)
	if err != nil {
		return fmt.Errorf("new recovery words: %w", err)
	}
	o, err := options(home, sheaf.Secret{Recovery: words}, nil)
	if err != nil {
		return err
	}
	o.Dir = lone
	j, err := sheaf.Join(ctx, o, true)
	if err != nil {
		return fmt.Errorf("join from the bucket alone: %w", err)
	}
	j2 := &drive{j, o.Bucket.(interface{ Close() error })}
	got, err := stateOf(ctx, j2)
	err = errors.Join(err, j2.close(ctx))
	got = slices.DeleteFunc(got, func(l string) bool { return strings.HasPrefix(l, name) })
	if err == nil && !slices.Equal(got, state) {
		err = fmt.Errorf("the bucket alone has another state:\n%s", cmp.Diff(state, got))
	}
	return err
}
