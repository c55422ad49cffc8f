package main

import (
	"bufio"
	"context"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// isRemote reports whether an argument names a place below a remote: name:path or :kind,option=value:path.
func isRemote(arg string) bool {
	p, err := service.ParsePlace(arg)
	return err == nil && !p.Local && p.Name != remote.Self
}

// anyRemote reports whether one of the arguments is of a remote.
func anyRemote(args []string) bool { return slices.ContainsFunc(args, isRemote) }

// wirePlace returns an argument as the contract has it: what is of this machine is absolute, and what is below a mount is as it is.
func wirePlace(arg string) (string, error) {
	p, err := service.ParsePlace(arg)
	if err != nil || !p.Local {
		return arg, err
	}
	return filepath.Abs(arg)
}

// withPlaces is withDrive where some arguments name remotes, and f gets all as the contract has them. What names no remote is of the
// drive, as without them: a path of the drive is never taken for one of this machine.
func (a *app) withPlaces(ctx context.Context, args []string, f func(s *session, ats []string) error) error {
	return a.with(ctx, func(s *session) error {
		r, err := a.resolver(ctx, s)
		if err != nil {
			return err
		}
		ats := slices.Clone(args)
		for i, arg := range args {
			if isRemote(arg) {
				continue
			}
			p, err := r.drive(arg)
			if err != nil {
				return err
			}
			if p.at != "" {
				return usagef("", "%s is of the past: it cannot be named beside a remote", arg)
			}
			ats[i] = drivePrefix + "/" + p.path
		}
		return f(s, ats)
	})
}

// inPlace returns the place of name in the folder at a place.
func inPlace(at, name string) string {
	if strings.HasSuffix(at, ":") || strings.HasSuffix(at, "/") {
		return at + name
	}
	return at + "/" + name
}

// errPast refuses to look back where nothing is kept.
var errPast = usagef("", "a place of plain files has no past to show")

// listPlaces is sheaf ls of remotes.
func (a *app) listPlaces(ctx context.Context, args []string, long, recursive bool) error {
	return a.withPlaces(ctx, args, func(s *session, ats []string) error {
		w := bufio.NewWriterSize(a.out, 64<<10)
		for i, at := range ats {
			if len(args) > 1 && !a.json {
				if i > 0 {
					_, _ = fmt.Fprintln(w)
				}
				_, _ = fmt.Fprintf(w, "%s:\n", args[i])
			}
			if err := a.eachItem(ctx, s, at, recursive, func(it *sheafv1.PlaceItem) error { return a.placeLine(w, it, long) }); err != nil {
				_ = w.Flush()
				return err
			}
		}
		return w.Flush()
	})
}

// eachItem calls fn with what is at a place.
func (a *app) eachItem(ctx context.Context, s *session, at string, recursive bool, fn func(*sheafv1.PlaceItem) error) error {
	st, err := s.Places.List(ctx, &sheafv1.PlacesListRequest{At: at, Recursive: recursive})
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	for st.Receive() {
		for _, it := range st.Msg().GetItems() {
			if err := fn(it); err != nil {
				return err
			}
		}
	}
	return st.Err()
}

// placeLine prints one thing.
func (a *app) placeLine(w *bufio.Writer, it *sheafv1.PlaceItem, long bool) error {
	if a.json {
		var b app
		b.out = w
		return b.object("item", it)
	}
	name := a.name(it.GetPath())
	if it.GetKind() == sheafv1.PlaceKind_PLACE_KIND_DIR {
		name += "/"
	}
	if !long {
		_, err := fmt.Fprintln(w, name)
		return err
	}
	size, when := "-", strings.Repeat(" ", 16)
	if it.GetKind() == sheafv1.PlaceKind_PLACE_KIND_FILE {
		size = a.size(it.GetSize())
	}
	if it.GetModified() != nil {
		when = it.GetModified().AsTime().Local().Format("2006-01-02 15:04")
	}
	if it.GetTarget() != "" {
		name += " -> " + a.name(it.GetTarget())
	}
	if it.GetKind() == sheafv1.PlaceKind_PLACE_KIND_OTHER {
		name += "  (cannot be copied)"
	}
	_, err := fmt.Fprintf(w, "%10s  %s  %s\n", size, when, name)
	return err
}

// catPlaces is sheaf cat of remotes.
func (a *app) catPlaces(ctx context.Context, args []string, off, n int64) error {
	return a.withPlaces(ctx, args, func(s *session, ats []string) error {
		for _, at := range ats {
			st, err := s.Places.Read(ctx, &sheafv1.PlacesReadRequest{At: at, Offset: off, Length: n})
			if err == nil {
				err = pour(a.out, st)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// placeKind returns what is at a place: a directory, something else, or nothing.
func (a *app) placeKind(ctx context.Context, s *session, at string) (isDir, isThere bool, err error) {
	p, err := service.ParsePlace(at)
	if err != nil {
		return false, false, err
	}
	if strings.Trim(p.Path, "/") == "" {
		return true, true, nil
	}
	base := path.Base(strings.TrimRight(filepath.ToSlash(p.Path), "/"))
	n, one := 0, false
	err = a.eachItem(ctx, s, at, false, func(it *sheafv1.PlaceItem) error {
		n++
		one = it.GetKind() != sheafv1.PlaceKind_PLACE_KIND_DIR && it.GetPath() == base
		return nil
	})
	if explainCode(err) == sheafv1.Code_CODE_NOT_FOUND {
		return false, false, nil
	}
	if err != nil || n != 1 || !one {
		return true, true, err
	}
	// A folder may hold one file of its own name.
	err = a.eachItem(ctx, s, inPlace(at, base), false, func(*sheafv1.PlaceItem) error { return nil })
	return err == nil, true, nil
}

// copyPlaces is sheaf cp where a remote takes part.
func (a *app) copyPlaces(ctx context.Context, args []string, dry bool) (changed bool, err error) {
	if args[0] == "-" {
		return false, usagef("sheaf cp - sheaf:/path", `what comes in can be copied to the drive only`)
	}
	err = a.with(ctx, func(s *session) error {
		to, err := wirePlace(args[len(args)-1])
		if err != nil {
			return err
		}
		slash := strings.HasSuffix(args[len(args)-1], "/") || strings.HasSuffix(args[len(args)-1], ":")
		into := false
		for _, arg := range args[:len(args)-1] {
			from, err := wirePlace(arg)
			if err != nil {
				return err
			}
			isDir, there, err := a.placeKind(ctx, s, from)
			if err != nil {
				return err
			}
			if !there {
				return coded(sheafv1.Code_CODE_NOT_FOUND, "", "%s is not there", arg)
			}
			if !isDir && !slash {
				if into, _, err = a.placeKind(ctx, s, to); err != nil {
					return err
				}
			}
			target := to
			if len(args) > 2 || !isDir && (into || slash) {
				p, err := service.ParsePlace(from)
				if err != nil {
					return err
				}
				target = inPlace(to, path.Base(strings.TrimRight(filepath.ToSlash(p.Path), "/")))
			}
			did, err := a.copyOne(ctx, s, &sheafv1.PlacesCopyRequest{From: from, To: target, DryRun: dry})
			changed = changed || did
			if err != nil {
				return err
			}
		}
		return nil
	})
	return changed, err
}

// copyOne copies one source.
func (a *app) copyOne(ctx context.Context, s *session, r *sheafv1.PlacesCopyRequest) (changed bool, err error) {
	st, err := s.Places.Copy(ctx, r)
	if err != nil {
		return false, err
	}
	defer func() { _ = st.Close() }()
	var last *sheafv1.PlacesCopyResponse
	for st.Receive() {
		m := st.Msg()
		if m.GetPath() == "" {
			last = m
			continue
		}
		switch {
		case a.json:
			if err := a.object("copied", m); err != nil {
				return false, err
			}
		case m.GetError() != "":
			_, _ = fmt.Fprintf(a.err, "%s: %s\n", a.name(m.GetPath()), m.GetError())
		case r.GetDryRun():
			a.say("would copy %s  %s", a.name(m.GetPath()), a.size(m.GetBytes()))
		}
	}
	if err := st.Err(); err != nil {
		return false, err
	}
	if a.json {
		if err := a.object("summary", last); err != nil {
			return false, err
		}
	}
	verb := "copied"
	if r.GetDryRun() {
		verb = "would copy"
	}
	a.say("%s %d, %s; %d there already", verb, last.GetCopied(), a.size(last.GetBytes()), last.GetSkipped())
	if n := last.GetFailed(); n > 0 {
		return last.GetCopied() > 0, coded(sheafv1.Code_CODE_PARTIAL, "the same command again copies what is missing", "%d could not be copied", n)
	}
	return last.GetCopied() > 0, nil
}

// movePlaces is sheaf mv within a remote.
func (a *app) movePlaces(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return usagef("", "at a remote one thing is moved at a time")
	}
	return a.withPlaces(ctx, args, func(s *session, ats []string) error {
		from, to := ats[0], ats[1]
		isDir, _, err := a.placeKind(ctx, s, to)
		if err != nil {
			return err
		}
		if isDir || strings.HasSuffix(to, "/") {
			p, err := service.ParsePlace(from)
			if err != nil {
				return err
			}
			to = inPlace(to, path.Base(strings.TrimRight(p.Path, "/")))
		}
		if _, err := s.Places.Move(ctx, &sheafv1.PlacesMoveRequest{From: from, To: to}); err != nil {
			return err
		}
		a.say("%s -> %s", args[0], to)
		return nil
	})
}

// removePlaces is sheaf rm at remotes.
func (a *app) removePlaces(ctx context.Context, args []string, recursive, force bool) error {
	return a.withPlaces(ctx, args, func(s *session, ats []string) error {
		for i, at := range ats {
			resp, err := s.Places.Remove(ctx, &sheafv1.PlacesRemoveRequest{At: at, Recursive: recursive})
			if force && explainCode(err) == sheafv1.Code_CODE_NOT_FOUND {
				continue
			}
			if err != nil {
				return err
			}
			if a.json {
				if err := a.object("", resp); err != nil {
					return err
				}
				continue
			}
			history := ""
			if isRemote(args[i]) {
				history = "; there is no history of them"
			}
			a.say("removed %d files and %d folders%s", resp.GetFiles(), resp.GetDirs(), history)
		}
		return nil
	})
}

// usePlaces is sheaf du of remotes.
func (a *app) usePlaces(ctx context.Context, args []string) error {
	return a.withPlaces(ctx, args, func(s *session, ats []string) error {
		rows := [][]string{{"logical", "files", "dirs", "path"}}
		for i, at := range ats {
			u := &sheafv1.DiskUsageResponse{}
			if err := a.eachItem(ctx, s, at, true, func(it *sheafv1.PlaceItem) error {
				if it.GetKind() == sheafv1.PlaceKind_PLACE_KIND_DIR {
					u.Dirs++
					return nil
				}
				u.Files++
				u.LogicalBytes += it.GetSize()
				return nil
			}); err != nil {
				return err
			}
			if a.json {
				if err := a.object("usage", u); err != nil {
					return err
				}
				continue
			}
			rows = append(rows, []string{a.size(u.GetLogicalBytes()), count(u.GetFiles()), count(u.GetDirs()), args[i]})
		}
		if a.json {
			return nil
		}
		return a.table(rows)
	})
}

func (a *app) checkCmd() *cobra.Command {
	var read bool
	c := &cobra.Command{
		Use:   "check A B",
		Short: "Compare two places, and say how they differ",
		Long: `Compares what two places hold: by a hash that both know without reading, else by size. With --read
what has no hash in common is read on both sides. Exit code 3 says that they differ.

A place is name:path, :kind,option=value:path, a folder of this machine, or sheaf:/path for the drive.`,
		Example: `  sheaf check s3:photos dav:photos
  sheaf check --read ~/photos sheaf:/photos`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.check(cmd.Context(), args, read) },
	}
	c.Flags().BoolVar(&read, "read", false, "read what cannot be compared by hash")
	return c
}

func (a *app) check(ctx context.Context, args []string, read bool) error {
	return a.with(ctx, func(s *session) error {
		r := &sheafv1.PlacesCheckRequest{Read: read}
		var err error
		if r.A, err = wirePlace(args[0]); err != nil {
			return err
		}
		if r.B, err = wirePlace(args[1]); err != nil {
			return err
		}
		st, err := s.Places.Check(ctx, r)
		if err != nil {
			return err
		}
		defer func() { _ = st.Close() }()
		what := map[sheafv1.PlaceDifference]string{
			sheafv1.PlaceDifference_PLACE_DIFFERENCE_ONLY_A: "only in " + args[0], sheafv1.PlaceDifference_PLACE_DIFFERENCE_ONLY_B: "only in " + args[1],
			sheafv1.PlaceDifference_PLACE_DIFFERENCE_DIFFERS: "differs",
		}
		var last *sheafv1.PlacesCheckResponse
		for st.Receive() {
			m := st.Msg()
			switch {
			case m.GetPath() == "":
				last = m
			case a.json:
				if err := a.object("difference", m); err != nil {
					return err
				}
			default:
				a.say("%s: %s", what[m.GetDifference()], a.name(m.GetPath()))
			}
		}
		if err := st.Err(); err != nil {
			return err
		}
		if a.json {
			if err := a.object("summary", last); err != nil {
				return err
			}
		}
		a.say("%d the same (%d by size only), %d differ", last.GetSame(), last.GetBySize(), last.GetDiffer())
		if last.GetDiffer() > 0 {
			return coded(sheafv1.Code_CODE_PARTIAL, "sheaf cp "+args[0]+" "+args[1], "the places differ in %d", last.GetDiffer())
		}
		return nil
	})
}
