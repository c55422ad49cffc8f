package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

// The names of the systems. The first is the one that the others are compared with.
const (
	sheafName  = "sheaf"
	resticName = "restic"
	kopiaName  = "kopia"
	borgName   = "borg"
)

var systemNames = []string{sheafName, resticName, kopiaName, borgName}

// A system is a program with a store of its own.
type system struct {
	name  string
	base  string // all that it makes lies here
	store string // what counts as stored
	env   []string
	make  [][]string
	// in copies a folder or file into the store, under a name of one word.
	in func(src, name string) []string
	// out brings the newest state of what went in under that name back into dir, which is empty, and
	// says where below dir the copy of src is then.
	out func(src, name, dir string) (args []string, at string)
	// newest is what borg calls the newest state of each name.
	newest map[string]string
}

// newSystem returns a system whose files lie below base.
func newSystem(name, base string, c config) *system {
	s := &system{name: name, base: base, store: filepath.Join(base, "store")}
	p := c.programs[name]
	switch name {
	case sheafName:
		s.env = []string{"HOME=" + base, "SHEAF_STORE=" + s.store}
		home := []string{p, "--home", filepath.Join(base, "home")}
		with := func(args ...string) []string { return append(home[:3:3], args...) }
		s.make = [][]string{with("init", "--quiet", "--device-name", "bench")}
		s.in = func(src, name string) []string { return with("cp", "--quiet", src, "sheaf:/"+name) }
		s.out = func(_, name, dir string) ([]string, string) {
			return with("cp", "--quiet", "sheaf:/"+name, filepath.Join(dir, name)), name
		}
	case resticName:
		s.env = []string{"HOME=" + base, "RESTIC_PASSWORD=bench", "RESTIC_CACHE_DIR=" + filepath.Join(base, "cache")}
		with := func(args ...string) []string { return append([]string{p, "-q", "-r", s.store}, args...) }
		s.make = [][]string{with("init")}
		s.in = func(src, name string) []string { return with("backup", "--tag", name, src) }
		s.out = func(src, name, dir string) ([]string, string) {
			return with("restore", "latest", "--tag", name, "--target", dir), src
		}
	case kopiaName:
		s.env = []string{
			"HOME=" + base, "KOPIA_PASSWORD=bench", "KOPIA_CHECK_FOR_UPDATES=false", "KOPIA_LOG_DIR=" + filepath.Join(base, "log"),
			"KOPIA_CACHE_DIRECTORY=" + filepath.Join(base, "cache"), "KOPIA_CONFIG_PATH=" + filepath.Join(base, "config"),
		}
		with := func(args ...string) []string { return append([]string{p, "--no-progress"}, args...) }
		s.make = [][]string{
			with("repository", "create", "filesystem", "--path", s.store),
			with("policy", "set", "--global", "--compression", "zstd"),
		}
		s.in = func(src, name string) []string { return with("snapshot", "create", src) }
		s.out = func(src, name, dir string) ([]string, string) {
			return with("snapshot", "restore", "--snapshot-time", "latest", src, filepath.Join(dir, name)), name
		}
	case borgName:
		s.env = []string{
			"HOME=" + base, "BORG_PASSPHRASE=bench", "BORG_BASE_DIR=" + base, "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes",
			"BORG_RELOCATED_REPO_ACCESS_IS_OK=yes",
		}
		s.make = [][]string{{p, "init", "-e", "repokey-blake2", s.store}}
		n := 0
		s.newest = map[string]string{}
		s.in = func(src, name string) []string {
			n++
			s.newest[name] = s.store + "::" + name + "-" + string(rune('a'+n))
			// The class of the others; borg's own default is lz4.
			return []string{p, "create", "-C", "zstd,3", s.newest[name], src}
		}
		s.out = func(src, name, dir string) ([]string, string) {
			return []string{p, "extract", s.newest[name]}, src
		}
	}
	return s
}

// start makes the store.
func (s *system) start(ctx context.Context) error {
	if err := os.MkdirAll(s.base, 0o700); err != nil {
		return err
	}
	for _, args := range s.make {
		if _, err := measure.Output(ctx, s.base, s.env, nil, args...); err != nil {
			return err
		}
	}
	return nil
}
