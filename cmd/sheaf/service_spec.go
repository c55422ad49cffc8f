package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/unit"
)

// manager returns what starts services on this system.
func (a *app) manager() (unit.Manager, error) {
	user, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	switch runtime.GOOS {
	case "linux":
		config := a.getenv("XDG_CONFIG_HOME")
		if !filepath.IsAbs(config) {
			config = filepath.Join(user, ".config")
		}
		return unit.Systemd{Dir: filepath.Join(config, "systemd", "user")}, nil
	case "darwin":
		return unit.Launchd{Dir: filepath.Join(user, "Library", "LaunchAgents"), UID: os.Getuid()}, nil
	case "windows":
		return unit.Tasks{User: a.getenv("USERDOMAIN") + `\` + a.getenv("USERNAME")}, nil
	}
	return nil, coded(sheafv1.Code_CODE_UNSUPPORTED, "sheaf up", "sheaf knows no services on %s", runtime.GOOS)
}

// serviceError says what to do about what a Manager says.
func serviceError(err error) error {
	switch {
	case errors.Is(err, unit.ErrNone):
		return coded(sheafv1.Code_CODE_NOT_FOUND, "sheaf service install", "%w", err)
	case errors.Is(err, unit.ErrNoManager):
		return coded(sheafv1.Code_CODE_UNSUPPORTED, "sheaf up, in a terminal or by what starts programs here", "%w", err)
	}
	return err
}

// serviceSpec is what the service does: it mounts at dir.
func (a *app) serviceSpec(dir string) (s unit.Spec, err error) {
	s = unit.Spec{Name: unit.NameFor(a.home.Dir), Log: a.home.Log(), Env: map[string]string{}}
	if dir, err = filepath.Abs(dir); err != nil {
		return s, err
	}
	if s.Exe, err = os.Executable(); err != nil {
		return s, err
	}
	s.Args = []string{"up", "--stay"}
	if a.home.Dir != "" {
		s.Args = append(s.Args, "--home", a.home.Dir)
	}
	if a.cache != "" {
		s.Args = append(s.Args, "--cache-size", a.cache)
	}
	s.Args = append(s.Args, "--", dir)
	// Where the drive lies must be the same in a session that has another environment.
	for _, name := range []string{"XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "SHEAF_POLL"} {
		if v := a.getenv(name); v != "" {
			s.Env[name] = v
		}
	}
	if a.getenv("SHEAF_CONFIG") != "" {
		s.Env["SHEAF_CONFIG"] = a.home.Config
	}
	return s, a.home.Make()
}
