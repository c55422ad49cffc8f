package unit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/durable"
)

// Systemd is the user's own systemd.
type Systemd struct {
	Dir string // where units are looked for: ~/.config/systemd/user
}

// text returns the unit.
//
// Of what systemd can forbid a service only little is forbidden: most of it takes from all its children what a setuid program gives, and fusermount3
// is one; or it gives the service a view of the mounts of its own, and nobody else would see the drive.
func (Systemd) text(s Spec) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Written by: sheaf service install")
	line("[Unit]")
	line("Description=sheaf drive")
	line("StartLimitIntervalSec=60")
	line("StartLimitBurst=20")
	line("")
	line("[Service]")
	line("Type=notify")
	command := []string{systemdQuote(s.Exe)}
	for _, a := range s.Args {
		command = append(command, systemdQuote(a))
	}
	line("ExecStart=%s", strings.Join(command, " "))
	for _, k := range slices.Sorted(maps.Keys(s.Env)) {
		line("Environment=%s", systemdQuote(k+"="+s.Env[k]))
	}
	line("StandardOutput=append:%s", systemdPath(s.Log))
	line("StandardError=append:%s", systemdPath(s.Log))
	line("Restart=on-failure")
	line("RestartSec=500ms")
	line("# To open a large drive, and to put into packs what is in the journal, may take a while.")
	line("TimeoutStartSec=10min")
	line("TimeoutStopSec=10min")
	line("KillMode=mixed")
	line("UMask=0077")
	line("LimitCORE=0")
	line("LimitNOFILE=65536")
	line("KeyringMode=private")
	line("OOMPolicy=continue")
	line("")
	line("[Install]")
	line("WantedBy=default.target")
	return b.String()
}

// systemdQuote quotes a word of a command line: systemd.service(5). A '$' and a '%' would begin something.
func systemdQuote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '%' || c == '$':
			b.WriteByte(c)
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// systemdPath is a path where no quotes are read.
func systemdPath(s string) string { return strings.ReplaceAll(s, "%", "%%") }

func (m Systemd) path(name string) string { return filepath.Join(m.Dir, name+".service") }

func (Systemd) ctl(ctx context.Context, args ...string) (string, error) {
	out, err := run(ctx, "systemctl", append([]string{"--user", "--no-pager"}, args...)...)
	if err != nil && (strings.Contains(out, "Failed to connect to bus") || strings.Contains(out, "not been booted with systemd")) {
		return out, fmt.Errorf("%w: %w", ErrNoManager, err)
	}
	return out, err
}

// Install implements [Manager].
func (m Systemd) Install(ctx context.Context, s Spec) (string, error) {
	if strings.ContainsAny(s.Log, "\n\r") {
		return "", fmt.Errorf("no unit can have the log %q: its path has two lines", s.Log)
	}
	if err := os.MkdirAll(m.Dir, 0o755); err != nil { //nolint:gosec // as systemd makes it
		return "", err
	}
	if err := durable.WriteFile(m.path(s.Name), []byte(m.text(s))); err != nil {
		return "", err
	}
	if _, err := m.ctl(ctx, "daemon-reload"); err != nil {
		return m.path(s.Name), err
	}
	_, err := m.ctl(ctx, "enable", s.Name)
	return m.path(s.Name), err
}

func (m Systemd) there(name string) error {
	_, err := os.Stat(m.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return ErrNone
	}
	return err
}

// Uninstall implements [Manager].
func (m Systemd) Uninstall(ctx context.Context, name string) error {
	if err := m.there(name); err != nil {
		return err
	}
	if _, err := m.ctl(ctx, "disable", "--now", name); err != nil {
		return err
	}
	if err := os.Remove(m.path(name)); err != nil {
		return err
	}
	_, err := m.ctl(ctx, "daemon-reload")
	return err
}

// Start implements [Manager].
func (m Systemd) Start(ctx context.Context, name string) error {
	if err := m.there(name); err != nil {
		return err
	}
	_, _ = m.ctl(ctx, "reset-failed", name) // who asks for a start wants one more try
	_, err := m.ctl(ctx, "start", name)
	return err
}

// Stop implements [Manager].
func (m Systemd) Stop(ctx context.Context, name string) error {
	if err := m.there(name); err != nil {
		return err
	}
	_, err := m.ctl(ctx, "stop", name)
	return err
}

// State implements [Manager].
func (m Systemd) State(ctx context.Context, name string) (State, error) {
	if err := m.there(name); err != nil {
		if errors.Is(err, ErrNone) {
			err = nil
		}
		return State{}, err
	}
	out, err := m.ctl(ctx, "show", "--property=ActiveState,SubState,MainPID,NRestarts", name)
	if err != nil {
		return State{Installed: true, Path: m.path(name)}, err
	}
	is := strings.Contains(out, "ActiveState=active") || strings.Contains(out, "ActiveState=activating") || strings.Contains(out, "ActiveState=reloading")
	return State{Installed: true, Running: is, Path: m.path(name), Detail: strings.ReplaceAll(out, "\n", " ")}, nil
}
