package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	rclone "github.com/rclone/rclone/fs"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// Move implements [remote.Tree].
func (t *tree) Move(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	ctx, cancel := t.with(ctx)
	defer cancel()
	it, err := t.moveItem(ctx, from, to, known)
	if err != nil {
		return remote.Item{}, fmt.Errorf("move %q to %q: %w", from, to, t.failed(ctx, t.name(err)))
	}
	return it, nil
}

func (t *tree) moveItem(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	if err := errors.Join(t.check(from), t.check(to)); err != nil {
		return remote.Item{}, err
	}
	if strings.HasPrefix(to, from+"/") {
		return remote.Item{}, fmt.Errorf("below itself: %w", fs.ErrInvalid)
	}
	obj, it, err := t.object(ctx, from)
	isDir := errors.Is(err, fs.ErrInvalid) && it.Kind == remote.Dir
	if err != nil && !isDir {
		return remote.Item{}, err
	}
	if !isDir && it.Version != known || isDir && known != "" {
		return remote.Item{}, remote.ErrChanged
	}
	if isDir && !t.can.DirMove {
		return remote.Item{}, fmt.Errorf("a directory: %w", errors.ErrUnsupported)
	}
	caseOnly := t.can.Fold && strings.EqualFold(from, to) && from != to
	if !caseOnly {
		if _, err := t.expect(ctx, to, ""); err != nil {
			return remote.Item{}, err
		}
	}
	if err := t.parent(ctx, to); err != nil {
		return remote.Item{}, err
	}
	at := from
	step := func(ctx context.Context, to string) error {
		if !isDir {
			moved, err := t.moveObject(ctx, obj, to)
			if err == nil {
				obj, at = moved, to
			}
			return err
		}
		t.dirs.forget(at)
		err := t.f.Features().DirMove(ctx, t.f, standard(at), standard(to))
		if errors.Is(err, rclone.ErrorDirExists) {
			return fmt.Errorf("something is there: %w", remote.ErrChanged)
		}
		if err == nil {
			at = to
		}
		return err
	}
	if caseOnly { // there and back: many take the two names for one
		if err := step(ctx, between(from)); err != nil {
			return remote.Item{}, err
		}
	}
	if err := step(ctx, to); err != nil {
		if at != from {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
			defer cancel()
			_ = step(ctx, from) // if not, it is there under the name in between
		}
		return remote.Item{}, err
	}
	return t.stat(ctx, to)
}

// between returns a name that a thing has for a moment. It is seen, and no hidden one: those are removed when they are old.
func between(p string) string {
	dir, _ := split(p)
	return path.Join(dir, "renamed by sheaf "+strings.TrimPrefix(hiddenName(), hiddenPrefix))
}

// moveObject moves a file, or copies and removes it, where the place does only that.
func (t *tree) moveObject(ctx context.Context, obj rclone.Object, to string) (rclone.Object, error) {
	if do := t.f.Features().Move; do != nil {
		return do(ctx, obj, standard(to))
	}
	do := t.f.Features().Copy
	if do == nil {
		return nil, fmt.Errorf("move on %s: %w", t.b.name, errors.ErrUnsupported)
	}
	size := obj.Size()
	out, err := do(ctx, obj, standard(to))
	if err != nil {
		return nil, err
	}
	if out.Size() != size {
		return nil, fmt.Errorf("%w: its copy has %d bytes, and it had %d", blob.ErrMangled, out.Size(), size)
	}
	return out, obj.Remove(ctx)
}

// Copy implements [remote.Copier].
func (t *tree) Copy(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	ctx, cancel := t.with(ctx)
	defer cancel()
	it, err := t.copyItem(ctx, from, to, known)
	if err != nil {
		return remote.Item{}, fmt.Errorf("copy %q to %q: %w", from, to, t.failed(ctx, t.name(err)))
	}
	return it, nil
}

func (t *tree) copyItem(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	do := t.f.Features().Copy
	if do == nil {
		return remote.Item{}, errors.ErrUnsupported
	}
	if err := t.check(to); err != nil {
		return remote.Item{}, err
	}
	obj, it, err := t.object(ctx, from)
	if err != nil {
		return remote.Item{}, err
	}
	if it.Version != known {
		return remote.Item{}, remote.ErrChanged
	}
	if _, err := t.expect(ctx, to, ""); err != nil {
		return remote.Item{}, err
	}
	if err := t.parent(ctx, to); err != nil {
		return remote.Item{}, err
	}
	if _, err := do(ctx, obj, standard(to)); err != nil {
		return remote.Item{}, err
	}
	return t.stat(ctx, to)
}

// Touch implements [remote.Toucher].
func (t *tree) Touch(ctx context.Context, it remote.Item, known remote.Version) (remote.Item, error) {
	ctx, cancel := t.with(ctx)
	defer cancel()
	done, err := t.touch(ctx, it, known)
	if err != nil {
		return remote.Item{}, fmt.Errorf("touch %q: %w", it.Path, t.failed(ctx, err))
	}
	return done, nil
}

func (t *tree) touch(ctx context.Context, it remote.Item, known remote.Version) (remote.Item, error) {
	if !t.can.Touch {
		return remote.Item{}, errors.ErrUnsupported
	}
	obj, old, err := t.object(ctx, it.Path)
	switch {
	case errors.Is(err, fs.ErrInvalid) && old.Kind == remote.Dir && known == "":
		return old, nil // directories have no times here
	case err != nil:
		return remote.Item{}, err
	case old.Version != known:
		return remote.Item{}, remote.ErrChanged
	}
	if !it.MTime.IsZero() {
		if err := obj.SetModTime(ctx, it.MTime); err != nil {
			return remote.Item{}, err
		}
	}
	return t.stat(ctx, it.Path)
}
