package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// The bounds of what doctor takes for well.
const (
	lowSpace    = 1 << 30 // bytes free below which it warns
	noSpace     = 64 << 20
	answerWait  = 5 * time.Second
	oldestClock = 2026 // a clock before this year is wrong
)

func (a *app) doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check what sheaf needs, and say what mends it: exit 1 if something fails",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			cs := a.diagnose(ctx)
			failed := 0
			rows := [][]string{}
			for _, c := range cs {
				if c.GetState() == sheafv1.Check_STATE_FAIL {
					failed++
				}
				if a.json {
					if err := a.object("check", c); err != nil {
						return err
					}
					continue
				}
				row := []string{strings.ToUpper(word(c.GetState())), c.GetName(), printable(c.GetFound())}
				if c.GetFix() != "" {
					row = append(row, "-> "+c.GetFix())
				}
				rows = append(rows, row)
			}
			if !a.json && !a.quiet {
				if err := a.table(rows); err != nil {
					return err
				}
			}
			if failed > 0 {
				return coded(sheafv1.Code_CODE_UNSPECIFIED, "", "%d checks failed", failed)
			}
			return nil
		},
	}
}

// diagnose does all checks: by the daemon if it answers in time, else here.
func (a *app) diagnose(ctx context.Context) []*sheafv1.Check {
	short, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	if s := a.dial(short); s != nil {
		defer func() { _ = s.Close(ctx) }()
		r, err := s.Drives.Doctor(short, &sheafv1.DoctorRequest{})
		if err == nil {
			return append(r.GetChecks(), ok("socket", "the daemon answers"))
		}
		return append(a.checks(ctx), bad("socket", "the daemon does not answer: "+explain(err).Error(), "sheaf stop --force, or end its process; see "+a.home.Log()))
	}
	lock, err := a.home.TryLock()
	if err != nil {
		if explain(err).Code == sheafv1.Code_CODE_LOCKED {
			return append(a.checks(ctx), warn("lock", explain(err).Error(), "wait until it has ended"))
		}
		return append(a.checks(ctx), bad("lock", err.Error(), "chmod -R u+rwX "+a.home.Data))
	}
	s := a.inProcess(lock)
	defer func() { _ = s.Close(context.WithoutCancel(ctx)) }()
	// As far as it opens without asking anybody; the check of the drive says how it stands.
	_, _ = s.Drives.Unlock(ctx, &sheafv1.UnlockRequest{})
	r, err := s.Drives.Doctor(ctx, &sheafv1.DoctorRequest{})
	if err != nil {
		return append(a.checks(ctx), bad("drive", explain(err).Error(), ""))
	}
	return append(r.GetChecks(), ok("socket", "no daemon runs"))
}

func ok(name, found string) *sheafv1.Check {
	return &sheafv1.Check{Name: name, State: sheafv1.Check_STATE_OK, Found: found}
}

func warn(name, found, fix string) *sheafv1.Check {
	return &sheafv1.Check{Name: name, State: sheafv1.Check_STATE_WARN, Found: found, Fix: fix}
}

func bad(name, found, fix string) *sheafv1.Check {
	return &sheafv1.Check{Name: name, State: sheafv1.Check_STATE_FAIL, Found: found, Fix: fix}
}

// checks looks at this machine.
func (a *app) checks(ctx context.Context) []*sheafv1.Check {
	cs := systemChecks()
	cs = append(cs, a.checkConfig(), a.checkStore(), a.checkPrivate())
	cs = append(cs, a.checkSpace(ctx, "room for packs", a.storeDir()), a.checkSpace(ctx, "room for state", a.home.Data))
	return append(cs, checkClock(time.Now()), a.checkMounts())
}

func (a *app) checkConfig() *sheafv1.Check {
	if _, err := a.home.ReadConfig(); err != nil {
		return bad("configuration", err.Error(), "edit "+a.home.Config)
	}
	return ok("configuration", a.home.Config)
}

// checkStore looks whether the folder of the packs can be read and written.
func (a *app) checkStore() *sheafv1.Check {
	dir := a.storeDir()
	_, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if (&device{home: a.home}).Exists() {
			return bad("store", dir+" is not there", "mount the disk that it is on, or name its place in "+a.home.Config)
		}
		return ok("store", "not made yet")
	}
	if err != nil {
		return bad("store", err.Error(), "chmod u+rwx "+quoted(dir))
	}
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return bad("store", "cannot be written: "+err.Error(), "chmod u+rwx "+quoted(dir))
	}
	err = errors.Join(f.Close(), os.Remove(f.Name()))
	if err != nil {
		return bad("store", err.Error(), "")
	}
	return ok("store", dir)
}

// checkPrivate looks whether others can reach the device's key.
func (a *app) checkPrivate() *sheafv1.Check {
	info, err := os.Stat(a.home.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ok("permissions", "nothing there yet")
	case err != nil:
		return bad("permissions", err.Error(), "")
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return bad("permissions", fmt.Sprintf("%s is open to other users (%s)", a.home.Data, info.Mode().Perm()), "chmod 700 "+quoted(a.home.Data))
	}
	return ok("permissions", a.home.Data+" is private")
}

func (a *app) checkSpace(ctx context.Context, name, dir string) *sheafv1.Check {
	if _, err := os.Stat(dir); err != nil {
		return ok(name, "not made yet")
	}
	u, err := usage(dir)(ctx)
	if err != nil {
		return warn(name, err.Error(), "")
	}
	found := fmt.Sprintf("%s free for %s", a.size(int64(min(u.BytesFree, 1<<62))), dir)
	switch {
	case u.BytesFree < noSpace:
		return bad(name, found, "make room on that disk")
	case u.BytesFree < lowSpace:
		return warn(name, found, "make room on that disk")
	}
	return ok(name, found)
}

// checkClock finds a clock that was never set. No decision rests on it, but history is shown by it.
func checkClock(now time.Time) *sheafv1.Check {
	if now.Year() < oldestClock || now.Year() > oldestClock+100 {
		return warn("clock", "it is "+now.Format("2006-01-02 15:04")+", says this machine", "timedatectl set-ntp true")
	}
	return ok("clock", now.Format("2006-01-02 15:04 MST"))
}

// checkMounts finds mounts that a killed daemon left.
func (a *app) checkMounts() *sheafv1.Check {
	dirs, err := a.home.Mounts()
	if err != nil {
		return warn("mounts", err.Error(), "")
	}
	for _, dir := range dirs {
		if dead(dir) {
			return bad("mounts", dir+" is a mount whose daemon was killed", "sheaf umount "+quoted(dir))
		}
	}
	return ok("mounts", "none is dead")
}
