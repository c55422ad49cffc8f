package service

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// wish is the request that makes a mount again.
func wish(m *sheafv1.Mount) *sheafv1.MountRequest {
	return &sheafv1.MountRequest{Dir: m.GetDir(), ReadOnly: m.GetReadOnly(), At: m.GetSnapshot(), Source: m.GetSource()}
}

// want adds what is to be mounted by the next process, too; nil: nothing is any more.
func (s *Service) want(r *sheafv1.MountRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r == nil {
		clear(s.wanted)
	} else {
		s.wanted[r.GetDir()] = r
	}
	s.tellWanted()
}

// unwantLocked takes out what is at dir. s.mu is held.
func (s *Service) unwantLocked(dir string) {
	if s.wanted[dir] != nil {
		delete(s.wanted, dir)
		s.tellWanted()
	}
}

// tellWanted tells the owner of the process what is wanted. s.mu is held.
func (s *Service) tellWanted() {
	if s.o.Wanted == nil {
		return
	}
	var all []*sheafv1.MountRequest
	for _, dir := range slices.Sorted(maps.Keys(s.wanted)) {
		all = append(all, proto.CloneOf(s.wanted[dir]))
	}
	s.o.Wanted(all)
}

// Restore mounts what Options.Wanted was told last by a process before this one. What cannot be mounted now is in the errors, one for each, and
// stays wanted: a folder may be on a disk that comes later. The drive is open.
func (s *Service) Restore(ctx context.Context, all []*sheafv1.MountRequest) (errs []error) {
	s.mu.Lock()
	for _, r := range all { // before anything is told
		s.wanted[r.GetDir()] = proto.CloneOf(r)
	}
	s.mu.Unlock()
	for _, r := range all {
		if _, err := s.Mount(ctx, r); err != nil {
			errs = append(errs, fmt.Errorf("mount at %s again: %w", r.GetDir(), err))
		}
	}
	return errs
}
