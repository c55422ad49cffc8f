package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

// The limits of a mount's life.
const (
	mountWait = time.Minute // until it answers
	awayWait  = time.Minute // until its server has ended
)

// The rows of a mount: from the start of its server, which is a new process, until all names below src were found; then all files read.
const (
	findRow = "mounted, find"
	catRow  = "mounted, cat all"
)

// A view is the newest state of what went in under a name, as a mount shows it.
type view struct {
	serve []string // in the foreground
	at    string   // where src is then
}

// viewOf returns how a system shows the tree at src at dir.
func (s *system) viewOf(ctx context.Context, program, src, name, dir string) (view, error) {
	switch s.name {
	case sheafName:
		return view{[]string{program, "--home", filepath.Join(s.base, "home"), "mount", "--foreground", "--at", "latest", dir}, filepath.Join(dir, name)}, nil
	case resticName:
		return view{[]string{program, "-q", "-r", s.store, "mount", "--tag", name, dir}, filepath.Join(dir, "snapshots", "latest", src)}, nil
	case borgName:
		return view{[]string{program, "mount", "--foreground", s.newest[name], dir}, filepath.Join(dir, src)}, nil
	case kopiaName:
		out, err := measure.Output(ctx, s.base, s.env, nil, program, "--no-progress", "snapshot", "list", "--json", "--max-results", "1", src)
		if err != nil {
			return view{}, err
		}
		var list []struct {
			RootEntry struct {
				Obj string `json:"obj"`
			} `json:"rootEntry"`
		}
		if err := json.Unmarshal(out, &list); err != nil || len(list) == 0 {
			return view{}, fmt.Errorf("kopia lists no snapshot of %s: %w: %s", src, err, out)
		}
		return view{[]string{program, "mount", list[len(list)-1].RootEntry.Obj, dir}, dir}, nil
	}
	return view{}, fmt.Errorf("no mount of %s is known", s.name)
}

// mounted measures the rows of a mount of the tree.
func (r *runner) mounted(ctx context.Context, st step, s *system) (err error) {
	dir := filepath.Join(s.base, "mount")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	v, err := s.viewOf(ctx, r.programs[s.name], st.src, st.what, dir)
	if err != nil {
		return err
	}
	src := filepath.Join(v.at, "src")
	var says bytes.Buffer
	// Not of ctx: a server that is killed leaves its mount behind.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), v.serve[0], v.serve[1:]...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stdout, cmd.Stderr = &says, &says
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended, end := make(chan struct{}), error(nil)
	go func() { // ends with the server, for which away waits
		end = cmd.Wait()
		close(ended)
	}()
	defer func() { err = errors.Join(err, away(cmd, ended, dir), os.Remove(dir)) }()
	for limit := begin.Add(mountWait); ; {
		if _, err := os.Lstat(src); err == nil {
			break
		}
		select {
		case <-ended:
			return fmt.Errorf("it ended: %w: %s", end, says.Bytes())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%s is not there within %v", src, mountWait)
		}
	}
	if _, err := measure.Run(ctx, s.base, nil, "find", src); err != nil {
		return err
	}
	found := time.Since(begin)
	read, err := measure.Run(ctx, s.base, nil, "find", src, "-type", "f", "-exec", "cat", "{}", "+")
	if err != nil {
		return err
	}
	r.book.Add(findRow, s.name, found.Seconds())
	r.book.Add(catRow, s.name, read.Wall.Seconds())
	fmt.Fprintf(r.progress, "%-28s %-7s %8s s, then cat %8s s\n", findRow, s.name, measure.Short(found.Seconds()), measure.Short(read.Wall.Seconds()))
	return nil
}

// away ends a server, which unmounts, and takes away what it leaves. It takes no context: it is what is done after an interruption.
func away(cmd *exec.Cmd, ended <-chan struct{}, dir string) error {
	limit := time.After(awayWait)
	for {
		_ = cmd.Process.Signal(os.Interrupt) // borg takes no other; if it has ended, so it is
		select {
		case <-ended: // how it calls an end by a signal differs
			return measure.Detach(dir)
		case <-limit:
			err := errors.Join(errors.New("its server does not end"), measure.Detach(dir), cmd.Process.Kill())
			<-ended
			return err
		case <-time.After(5 * time.Second):
		}
	}
}
