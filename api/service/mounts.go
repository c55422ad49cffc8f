package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/vfs"
)

// busyWait is how long Unmount with wait rests between two tries.
const busyWait = 200 * time.Millisecond

// mounted is one mount.
type mounted struct {
	info    *sheafv1.Mount
	m       Mounted
	release func()        // gives the drive back
	gone    chan struct{} // closed once it has ended and is out of the list
}

// mountList returns the mounts in the order of their folders. s.mu is held.
func (s *Service) mountList() []*sheafv1.Mount {
	var l []*sheafv1.Mount
	for _, dir := range slices.Sorted(maps.Keys(s.mounts)) {
		l = append(l, proto.CloneOf(s.mounts[dir].info))
	}
	return l
}

// noteMounts tells the owner of the process what is mounted. s.mu is held.
func (s *Service) noteMounts() {
	if s.o.Mounts != nil {
		s.o.Mounts(slices.Sorted(maps.Keys(s.mounts)))
	}
}

// folder returns the one path of a folder: absolute, clean, with links resolved as far as it is there.
func folder(dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		return "", errorf(sheafv1.Code_CODE_USAGE, "", "folder %q is not an absolute path", dir)
	}
	dir = filepath.Clean(dir)
	// The last element may be a dead mount, which cannot be looked at.
	if parent, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		dir = filepath.Join(parent, filepath.Base(dir))
		if full, err := filepath.EvalSymlinks(dir); err == nil {
			dir = full
		}
	}
	return dir, nil
}

// Mount shows the drive in a folder.
func (s *Service) Mount(ctx context.Context, r *sheafv1.MountRequest) (*sheafv1.MountResponse, error) {
	if s.o.Door == nil {
		return nil, errorf(sheafv1.Code_CODE_UNSUPPORTED, "", "nothing can be mounted here")
	}
	dir, err := folder(r.GetDir())
	if err != nil {
		return nil, err
	}
	s.mounting.Lock()
	defer s.mounting.Unlock()
	// The drive stays in use, and open, as long as the mount lives.
	_, d, release, err := s.use(context.Background())
	if err != nil {
		return nil, err
	}
	keep := false
	defer func() {
		if !keep {
			release()
		}
	}()
	info := &sheafv1.Mount{Dir: dir, ReadOnly: r.GetReadOnly() || r.GetAt() != "", Since: stamp(time.Now())}
	fsys := d.FS()
	if r.GetSource() != "" {
		if r.GetAt() != "" {
			return nil, errorf(sheafv1.Code_CODE_USAGE, "", "a place of plain files has no past to show")
		}
		info.Source = s.shown(r.GetSource())
	}
	if r.GetAt() != "" {
		k, err := kept(ctx, d, r.GetAt())
		if err != nil {
			return nil, err
		}
		info.Snapshot = k.Dot.String()
		if fsys, err = d.At(ctx, k); err != nil {
			return nil, err
		}
	}
	if have := s.mountAt(dir); have != nil {
		if have.GetReadOnly() != info.GetReadOnly() || have.GetSnapshot() != info.GetSnapshot() || have.GetSource() != info.GetSource() {
			return nil, errorf(sheafv1.Code_CODE_EXISTS, "sheaf umount "+dir, "%s shows something else already", dir)
		}
		if r.GetSource() == "" || have.GetSource() == r.GetSource() {
			s.want(wish(have))
		}
		return &sheafv1.MountResponse{Mount: have, Already: true}, nil
	}
	if r.GetSource() != "" {
		source, closeSource, err := s.sourceFS(ctx, r.GetSource(), r.GetReadOnly())
		if err != nil {
			return nil, err
		}
		fsys = source
		inner := release
		release = func() { closeSource(); inner() }
	}
	m, err := s.enter(ctx, fsys, dir, info.GetReadOnly())
	if err != nil {
		return nil, err
	}
	keep = true
	s.keepMount(&mounted{info: info, m: m, release: release, gone: make(chan struct{})})
	if r.GetSource() == "" || info.GetSource() == r.GetSource() { // one with secrets in its name is written nowhere
		s.want(wish(info))
	}
	return &sheafv1.MountResponse{Mount: proto.CloneOf(info)}, nil
}

// mountAt returns what is mounted at dir, or nil.
func (s *Service) mountAt(dir string) *sheafv1.Mount {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.mounts[dir]; m != nil {
		return proto.CloneOf(m.info)
	}
	return nil
}

// enter makes the folder if it is not there and mounts. A folder made for nothing is
// taken away again.
func (s *Service) enter(ctx context.Context, fsys vfs.FS, dir string, readOnly bool) (Mounted, error) {
	made := false
	// A drive of Windows is made by its mount.
	drive := filepath.VolumeName(dir) != "" && filepath.Dir(dir) == dir
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) && !drive {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		made = true
	}
	m, err := s.o.Door(ctx, fsys, dir, readOnly)
	if err != nil && made {
		err = errors.Join(err, os.Remove(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("mount at %s: %w", dir, err)
	}
	return m, nil
}

// keepMount lists a mount until it ends, whoever ends it. s.mounting is held.
func (s *Service) keepMount(m *mounted) {
	s.mu.Lock()
	s.mounts[m.info.GetDir()] = m
	s.events.add(&sheafv1.Event{Kind: sheafv1.EventKind_EVENT_KIND_MOUNTED, Path: wirepath.Encode(m.info.GetDir())})
	s.noteMounts()
	s.mu.Unlock()
	// Not one of s.work: Close unmounts before it waits for the drive's users, of which this is one.
	go func() {
		defer m.release()
		if err := m.m.Wait(); err != nil {
			s.o.Log.Error("mount ended", "dir", m.info.GetDir(), "error", err)
		}
		s.mu.Lock()
		delete(s.mounts, m.info.GetDir())
		s.events.add(&sheafv1.Event{Kind: sheafv1.EventKind_EVENT_KIND_UNMOUNTED, Path: wirepath.Encode(m.info.GetDir())})
		s.noteMounts()
		if !s.ending {
			s.unwantLocked(m.info.GetDir())
		}
		s.mu.Unlock()
		close(m.gone)
	}()
}

// Mounts says what is mounted.
func (s *Service) Mounts(context.Context, *sheafv1.MountsListRequest) (*sheafv1.MountsListResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &sheafv1.MountsListResponse{Mounts: s.mountList()}, nil
}

// Gone returns a channel that is closed when the mount at dir has ended; closed already if there is none.
func (s *Service) Gone(dir string) <-chan struct{} {
	if full, err := folder(dir); err == nil {
		dir = full
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.mounts[dir]; m != nil {
		return m.gone
	}
	c := make(chan struct{})
	close(c)
	return c
}

// Unmount takes a mount away.
func (s *Service) Unmount(ctx context.Context, r *sheafv1.UnmountRequest) (*sheafv1.UnmountResponse, error) {
	dir, err := folder(r.GetDir())
	if err != nil {
		return nil, err
	}
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	for {
		s.mounting.Lock()
		s.mu.Lock()
		m := s.mounts[dir]
		s.mu.Unlock()
		if m == nil {
			s.mounting.Unlock()
			return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf status", "nothing of this drive is mounted at %s", dir)
		}
		err := s.unmount(ctx, m, r.GetForce())
		s.mounting.Unlock()
		if err == nil {
			break
		}
		if !r.GetWait() || Explain(err).Code != sheafv1.Code_CODE_TEMPORARY {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(busyWait):
		}
	}
	if r.GetWait() {
		if err := d.Commit(ctx); err != nil {
			return nil, err
		}
		if e := d.Replicas(); e != nil {
			if err := e.Wait(ctx, e.Takers()); err != nil {
				return nil, err
			}
		}
	}
	return &sheafv1.UnmountResponse{PendingBytes: d.Pending(), Replicas: replicasOf(d)}, nil
}

// unmount ends one mount and waits until it is out of the list. s.mounting is held.
func (s *Service) unmount(ctx context.Context, m *mounted, force bool) error {
	err := m.m.Unmount(ctx)
	if err != nil && force {
		err = m.m.Abort(ctx)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", m.info.GetDir(), err)
	}
	<-m.gone
	return nil
}

// unmountAll ends all mounts and returns how many. Without force it stops at the first that
// is in use. s.mounting is held.
func (s *Service) unmountAll(ctx context.Context, force bool) (int, error) {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.mounts))
	s.mu.Unlock()
	n := 0
	var errs error
	for _, m := range all {
		if err := s.unmount(ctx, m, force); err != nil {
			if !force {
				return n, err
			}
			errs = errors.Join(errs, err)
			continue
		}
		n++
	}
	return n, errs
}
