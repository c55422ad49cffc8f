package main

import (
	"context"
	"path"
	"path/filepath"
	"strings"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
)

// drivePrefix begins a path of the drive.
const drivePrefix = "sheaf:"

// A place is what a person means by a path.
type place struct {
	inDrive bool
	path    string // of the drive: from the root, without a leading "/"; else absolute
	at      string // a snapshot, if the path is below a folder where one is mounted
	slash   bool   // it was written with a final "/": a directory is meant
}

// wire is the path as the contract has it.
func (p place) wire() string { return wirepath.Encode(p.path) }

// resolver tells places of the drive from those of this machine.
type resolver struct{ mounts []*sheafv1.Mount }

// resolver asks what is mounted.
func (a *app) resolver(ctx context.Context, s *session) (resolver, error) {
	if !s.daemon {
		return resolver{}, nil
	}
	l, err := s.Mounts.List(ctx, &sheafv1.MountsListRequest{})
	if err != nil {
		return resolver{}, err
	}
	return resolver{l.GetMounts()}, nil
}

// place reads an argument: sheaf:/path is of the drive, and so is what is below a mount; all else is of this
// machine.
func (r resolver) place(arg string) (place, error) {
	p := place{slash: strings.HasSuffix(arg, "/")}
	if rest, ok := strings.CutPrefix(arg, drivePrefix); ok {
		p.inDrive, p.path = true, strings.Trim(path.Clean("/"+rest), "/")
		return p, nil
	}
	if name, _, ok := strings.Cut(arg, ":"); ok && len(name) > 1 && !strings.ContainsAny(name, `/\.`) {
		return p, usagef("write ./"+arg+" if it is a file of that name", "%q: this version of sheaf knows no place %q but the drive, sheaf:", arg, name)
	}
	full, err := filepath.Abs(arg)
	if err != nil {
		return p, err
	}
	for _, m := range r.mounts {
		if m.GetSource() != "" {
			continue // a place, and not the drive
		}
		if rel, ok := below(m.GetDir(), full); ok {
			return place{inDrive: true, path: rel, at: m.GetSnapshot(), slash: p.slash}, nil
		}
	}
	p.path = full
	return p, nil
}

// drive reads an argument that can only be of the drive: what is not below a mount is meant from the
// drive's root.
func (r resolver) drive(arg string) (place, error) {
	if !strings.HasPrefix(arg, drivePrefix) {
		if p, err := r.place(arg); err == nil && p.inDrive {
			return p, nil
		}
		arg = drivePrefix + arg
	}
	return r.place(arg)
}

// below returns the path of full from dir, with "/", if it is dir or lies below it. Symbolic links on the way to
// full are followed, not one that full itself is.
func below(dir, full string) (string, bool) {
	if parent, err := filepath.EvalSymlinks(filepath.Dir(full)); err == nil {
		full = filepath.Join(parent, filepath.Base(full))
	}
	rel, err := filepath.Rel(dir, full)
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return "", false
	}
	if rel == "." {
		return "", true
	}
	return filepath.ToSlash(rel), true
}

// withDrive runs f in a session with the drive open and the arguments read as paths of it.
func (a *app) withDrive(ctx context.Context, args []string, f func(s *session, ps []place) error) error {
	return a.with(ctx, func(s *session) error {
		r, err := a.resolver(ctx, s)
		if err != nil {
			return err
		}
		ps := make([]place, len(args))
		for i, arg := range args {
			if ps[i], err = r.drive(arg); err != nil {
				return err
			}
		}
		return f(s, ps)
	})
}

// pick returns the time to look at: what was asked for, or else what the place shows.
func pick(at string, p place) string {
	if at != "" {
		return at
	}
	return p.at
}
