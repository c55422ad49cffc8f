package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
)

func (a *app) cpCmd() *cobra.Command {
	var f jobFlags
	var noChange, recursive bool
	c := &cobra.Command{
		Use:   "cp SOURCE... TARGET",
		Short: "Copy between this machine, the drive and places, or inside them",
		Long: `A path of the drive is sheaf:/path; all else is of this machine. "-" as the only source is
what comes in.

One directory as the source: what is in it comes to be in TARGET, which is made if it is not
there. One file: it comes to be TARGET, or to lie in TARGET if that is a directory or ends
with "/". Several sources: each comes to lie in TARGET under its own name.

Modes, times, links, hard links and extended attributes are kept. What is there already with
equal size and time is skipped, so that the same command again goes on where a cut-off one
ended, also in the midst of a file. Nothing is deleted.

A source or the target may be a place of plain files: name:path, or :kind,option=value:path. Of
attributes a place keeps what it can, and a file that is cut off is copied from its beginning.`,
		Example: `  sheaf cp -P ~/photos sheaf:/photos
  sheaf cp sheaf:/photos/rome /mnt/usb/rome
  sheaf cp -n ./a ./b sheaf:/
  pg_dump shop | sheaf cp - sheaf:/backup/shop.sql`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if anyRemote(args) {
				changed, err := a.copyPlaces(ctx, args, f.dryRun)
				if err == nil && !changed && noChange {
					return errNoChange
				}
				return err
			}
			return a.with(ctx, func(s *session) error {
				changed, err := a.copyAll(ctx, s, args, &f)
				if err == nil && !changed && noChange {
					return errNoChange
				}
				return err
			})
		},
	}
	f.add(c.Flags())
	c.Flags().BoolVar(&noChange, "error-on-no-change", false, "exit 9 if there was nothing to copy")
	c.Flags().BoolVarP(&recursive, "recursive", "r", true, "as other tools have it: directories are always copied with all that is in them")
	_ = c.Flags().MarkHidden("recursive")
	return c
}

// copyAll copies each source, and goes on after one of which some items failed.
func (a *app) copyAll(ctx context.Context, s *session, args []string, f *jobFlags) (changed bool, err error) {
	r, err := a.resolver(ctx, s)
	if err != nil {
		return false, err
	}
	to, err := r.place(args[len(args)-1])
	if err != nil {
		return false, err
	}
	if args[0] == "-" {
		if len(args) > 2 || !to.inDrive {
			return false, usagef("sheaf cp - sheaf:/path", `"-" is the only source, and the target is of the drive`)
		}
		return true, a.upload(ctx, s, to, f)
	}
	into, err := a.isDir(ctx, s, to)
	if err != nil {
		return false, err
	}
	if n := len(args) - 1; n > 1 && !into && !to.slash {
		return false, usagef("end the target with / to have it made", "%s is not a directory, and there are %d sources", args[n], n)
	}
	var partial error
	for _, arg := range args[:len(args)-1] {
		from, err := r.place(arg)
		if err != nil {
			return changed, err
		}
		if !from.inDrive && !to.inDrive {
			return changed, usagef("write sheaf:/path for the drive", "neither %s nor %s is of the drive", arg, args[len(args)-1])
		}
		dir, err := a.isDir(ctx, s, from)
		if err != nil {
			return changed, err
		}
		target := to
		if len(args) > 2 || !dir && (into || to.slash) {
			target.path = target.join(filepath.Base(from.path))
		}
		j, err := a.runJob(ctx, s, copyJob(from, target, f), f)
		changed = changed || j.GetItems() > j.GetSkipped() && len(j.GetActions()) > 0
		if err != nil && explainCode(err) != sheafv1.Code_CODE_PARTIAL {
			return changed, err
		}
		if err != nil {
			partial = err
		}
	}
	return changed, partial
}

// join returns the path of name in p.
func (p place) join(name string) string {
	if p.inDrive {
		return path.Join(p.path, name)
	}
	return filepath.Join(p.path, name)
}

// isDir reports whether there is a directory. A link on this machine that leads to one counts if it was
// written with a final "/".
func (a *app) isDir(ctx context.Context, s *session, p place) (bool, error) {
	if !p.inDrive {
		stat := os.Lstat
		if p.slash {
			stat = os.Stat
		}
		info, err := stat(p.path)
		return err == nil && info.IsDir(), nil
	}
	n, err := s.Files.Stat(ctx, &sheafv1.StatRequest{Path: p.wire(), At: p.at})
	if explainCode(err) == sheafv1.Code_CODE_NOT_FOUND {
		return false, nil
	}
	return n.GetType() == sheafv1.Kind_KIND_DIR, err
}

// copyJob returns the work that copies from one place to another.
func copyJob(from, to place, f *jobFlags) *sheafv1.StartRequest {
	switch {
	case !from.inDrive:
		if full, err := filepath.EvalSymlinks(from.path); err == nil && from.slash {
			from.path = full
		}
		return &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Import{Import: &sheafv1.ImportJob{
			From: from.wire(), To: to.wire(), Options: f.options(),
		}}}
	case !to.inDrive:
		return &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Export{Export: &sheafv1.ExportJob{
			From: from.wire(), To: to.wire(), At: from.at, Options: f.options(),
		}}}
	}
	return &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Copy{Copy: &sheafv1.CopyJob{
		From: from.wire(), To: to.wire(), At: from.at, Options: f.options(),
	}}}
}

// upload writes what comes in to a file of the drive.
func (a *app) upload(ctx context.Context, s *session, to place, f *jobFlags) error {
	if to.slash || to.path == "" {
		return usagef("", "what comes in needs a name in the drive")
	}
	if f.dryRun {
		a.say("would write /%s", a.name(to.wire()))
		return nil
	}
	if dir := path.Dir(to.path); dir != "." {
		if _, err := s.Files.Mkdir(ctx, &sheafv1.MkdirRequest{Path: wirepath.Encode(dir), Parents: true}); err != nil {
			return err
		}
	}
	st, err := s.Files.Write(ctx)
	if err != nil {
		return err
	}
	send := func(m *sheafv1.WriteRequest) error { return st.Send(m) }
	err = send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_Start{Start: &sheafv1.WriteStart{Path: to.wire()}}})
	buf := make([]byte, 512<<10)
	in := a.interruptible(ctx)
	for err == nil {
		n, e := io.ReadFull(in, buf)
		if n > 0 {
			err = send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_Data{Data: buf[:n]}})
		}
		if errors.Is(e, io.EOF) || errors.Is(e, io.ErrUnexpectedEOF) {
			break
		}
		if e != nil { // without an end nothing appears
			_, _ = st.CloseAndReceive()
			return e
		}
	}
	if err == nil {
		err = send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_End{End: &sheafv1.WriteEnd{}}})
	}
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: the answer says why
		return err
	}
	resp, err := st.CloseAndReceive()
	if err != nil {
		return err
	}
	if a.json {
		return a.object("node", resp.GetNode())
	}
	a.say("wrote /%s, %s", a.name(resp.GetNode().GetPath()), a.size(resp.GetNode().GetSize()))
	return nil
}

// interruptible returns what comes in, which ends with an error when ctx is done. A read of a terminal
// or a pipe cannot be broken off, so the one that is under way then is left to the end of the process.
func (a *app) interruptible(ctx context.Context) io.Reader {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, a.in)
		_ = w.CloseWithError(err) // never fails
	}()
	context.AfterFunc(ctx, func() { _ = r.CloseWithError(ctx.Err()) })
	return r
}

// quoted returns s as a shell takes it.
func quoted(s string) string {
	s = printable(s)
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
