package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// kept finds the snapshot that at means, which is not "": an ID, a label, "latest", or a time.
func kept(ctx context.Context, d Drive, at string) (manifest.Kept, error) {
	k, err := d.Resolve(ctx, sheaf.SnapshotID(at))
	if !errors.Is(err, sheaf.ErrNoSnapshot) {
		return k, err
	}
	t, parseErr := time.Parse(time.RFC3339Nano, at)
	if parseErr != nil {
		return k, fmt.Errorf("%q: %w", at, err)
	}
	if k, err = d.ResolveTime(ctx, t); err != nil {
		return k, fmt.Errorf("at %s: %w", at, err)
	}
	return k, nil
}

// tree returns the drive's tree at a time, and when it was taken; "" is now, and then the time
// is zero.
func tree(ctx context.Context, d Drive, at string) (vfs.FS, time.Time, error) {
	if at == "" {
		return d.FS(), time.Time{}, nil
	}
	k, err := kept(ctx, d, at)
	if err != nil {
		return nil, time.Time{}, err
	}
	fsys, err := d.At(ctx, k)
	return fsys, k.Time, err
}

// snapshotOf returns k as the contract has it.
func snapshotOf(k manifest.Kept) *sheafv1.Snapshot {
	return &sheafv1.Snapshot{
		Id: k.Dot.String(), Time: stamp(k.Time), Device: k.Device.String(), Label: k.Label, Pinned: k.Pinned,
		Files: int64(k.Files), Bytes: int64(k.Bytes),
	}
}

// Create keeps the state as it is.
func (s *Service) Create(ctx context.Context, r *sheafv1.CreateRequest) (*sheafv1.Snapshot, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	k, err := d.Snapshot(ctx, r.GetLabel())
	if err != nil {
		return nil, err
	}
	return snapshotOf(k), nil
}

// Snapshots has the kept snapshots, newest first.
func (s *Service) Snapshots(ctx context.Context, _ *sheafv1.SnapshotsListRequest) (*sheafv1.SnapshotsListResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	ks, err := d.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	r := &sheafv1.SnapshotsListResponse{Snapshots: make([]*sheafv1.Snapshot, len(ks))}
	for i, k := range ks {
		r.Snapshots[i] = snapshotOf(k)
	}
	return r, nil
}

// Diff sends the paths in which two snapshots differ.
func (s *Service) Diff(ctx context.Context, r *sheafv1.DiffRequest, send func(*sheafv1.DiffResponse) error) error {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer release()
	if r.GetFrom() == "" {
		return errorf(sheafv1.Code_CODE_USAGE, "sheaf snapshot list", "the older snapshot is missing")
	}
	to := r.GetTo()
	if to == "" {
		to = "latest"
	}
	a, err := kept(ctx, d, r.GetFrom())
	if err != nil {
		return err
	}
	b, err := kept(ctx, d, to)
	if err != nil {
		return err
	}
	for diff, err := range d.Diff(ctx, a, b) {
		if err != nil {
			return err
		}
		m := &sheafv1.DiffResponse{Path: wirepath.Encode(diff.Path), Change: change(diff)}
		if diff.Old != nil {
			m.OldSize = diff.Old.Size
		}
		if diff.New != nil {
			m.NewSize = diff.New.Size
		}
		if err := send(m); err != nil {
			return err
		}
	}
	return nil
}

// change says what happened to a path.
func change(d sheaf.Difference) sheafv1.DiffResponse_Change {
	switch o, n := d.Old, d.New; {
	case o == nil:
		return sheafv1.DiffResponse_CHANGE_ADDED
	case n == nil:
		return sheafv1.DiffResponse_CHANGE_REMOVED
	case o.Kind != n.Kind, o.Kind != vfs.KindDir && (o.Node != n.Node || o.Size != n.Size || o.Target != n.Target):
		return sheafv1.DiffResponse_CHANGE_MODIFIED
	}
	return sheafv1.DiffResponse_CHANGE_ATTRIBUTES
}

// Drop forgets snapshots.
func (s *Service) Drop(ctx context.Context, r *sheafv1.DropRequest) (*sheafv1.DropResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if len(r.GetIds()) == 0 {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "sheaf snapshot list", "no snapshot is named")
	}
	ids := make([]sheaf.SnapshotID, 0, len(r.GetIds()))
	for _, id := range r.GetIds() { // all must be there before any goes; a time names none to drop
		k, err := d.Resolve(ctx, sheaf.SnapshotID(id))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", id, err)
		}
		ids = append(ids, sheaf.SnapshotID(k.Dot.String()))
	}
	if err := d.DropSnapshot(ctx, ids...); err != nil {
		return nil, err
	}
	return &sheafv1.DropResponse{Dropped: int32(len(ids))}, nil
}

// History sends the versions of a path, newest first.
func (s *Service) History(ctx context.Context, r *sheafv1.HistoryRequest, send func(*sheafv1.HistoryResponse) error) error {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer release()
	path, err := clean(r.GetPath())
	if err != nil {
		return err
	}
	if d.Pending() > 0 { // so that what was written last is a version too
		if err := d.Commit(ctx); err != nil {
			return err
		}
	}
	for v, err := range d.History(ctx, path) {
		if err != nil {
			return err
		}
		m := &sheafv1.HistoryResponse{Snapshot: snapshotOf(v.Snapshot)}
		if e := v.Entry; e != nil {
			m.Node = &sheafv1.Node{
				Path: wirepath.Encode(path), Type: sheafv1.Kind(e.Kind), Mode: uint32(e.Mode), Size: e.Size,
				Modified: stamp(e.MTime), Changed: stamp(e.CTime), Target: wirepath.Encode(e.Target), Uid: e.UID, Gid: e.GID,
			}
		}
		if err := send(m); err != nil {
			return err
		}
	}
	return nil
}
