package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/unit"
)

// The bounds of what doctor takes for well.
const (
	lowSpace    = 1 << 30 // bytes free below which it warns
	noSpace     = 64 << 20
	answerWait  = 5 * time.Second
	oldestClock = 2026 // a clock before this year is wrong
)

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
	return append(cs, checkClock(time.Now()), a.checkMounts(), a.checkDatabase(), a.checkCache(), a.checkService(ctx))
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
	if err := tryWrite(dir); err != nil {
		return bad("store", "cannot be written: "+err.Error(), "chmod u+rwx "+quoted(dir))
	}
	return ok("store", dir)
}

// tryWrite makes a file in a folder, and takes it away.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
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
		answer := make(chan bool, 1)
		go func() { answer <- dead(dir) }() // where a daemon hangs, who asks its mount does, too
		select {
		case is := <-answer:
			if is {
				return bad("mounts", dir+" is a mount whose daemon was killed", "sheaf umount "+quoted(dir))
			}
		case <-time.After(answerWait):
			return bad("mounts", dir+" does not answer", "sheaf stop --force, or end its process; see "+a.home.Log())
		}
	}
	return ok("mounts", "none is dead")
}

// checkDatabase tells of a local database that was damaged: disks do not do that once only.
func (a *app) checkDatabase() *sheafv1.Check {
	aside := filepath.Join(a.home.Data, "kv.damaged")
	if _, err := os.Stat(aside); err == nil {
		return warn("database", "it was damaged, and was built anew from the packs; the old one is in "+aside, "look after the disk (smartctl -a), then rm -r "+quoted(aside))
	}
	return ok("database", "it was never damaged")
}

// checkCache looks whether what is fetched can be kept.
func (a *app) checkCache() *sheafv1.Check {
	dir := a.home.Cache
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return ok("cache", "not made yet")
	}
	if err := tryWrite(dir); err != nil {
		return warn("cache", "what is read from replicas is not kept: "+err.Error(), "chmod -R u+rwX "+quoted(dir))
	}
	return ok("cache", dir)
}

// checkService looks whether the service runs, where it is installed.
func (a *app) checkService(ctx context.Context) *sheafv1.Check {
	m, err := a.manager()
	if err != nil {
		return ok("service", "there are none on this system")
	}
	st, err := m.State(ctx, unit.NameFor(a.home.Dir))
	switch {
	case st.Installed && err != nil:
		return warn("service", "it is installed, and what starts it does not answer: "+err.Error(), "log in anew, or sheaf up")
	case !st.Installed:
		return ok("service", "not installed")
	case !st.Running:
		return warn("service", "it is installed and does not run", "sheaf service start")
	}
	return ok("service", "it runs")
}

// checkVersion looks whether the daemon is this program.
func (a *app) checkVersion(ctx context.Context, s *session) *sheafv1.Check {
	v, err := s.Drives.Version(ctx, &sheafv1.VersionRequest{})
	if err != nil {
		return warn("version", explain(err).Error(), "")
	}
	if mine := version(); v.GetVersion() != mine.GetVersion() {
		return warn("version", fmt.Sprintf("the daemon is %s, this command is %s", v.GetVersion(), mine.GetVersion()), "sheaf stop, and sheaf mount or sheaf service start")
	}
	return ok("version", v.GetVersion())
}
