package unit

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/durable"
)

// Launchd is launchd(8) of macOS, in the session of one user.
type Launchd struct {
	Dir string // where agents are looked for: ~/Library/LaunchAgents
	UID int
}

// text returns the agent: launchd.plist(5).
func (Launchd) text(s Spec) string {
	var b bytes.Buffer
	key := func(k string) { fmt.Fprintf(&b, "\t<key>%s</key>\n", xmlText(k)) }
	str := func(v string) { fmt.Fprintf(&b, "\t<string>%s</string>\n", xmlText(v)) }
	b.WriteString(xml.Header)
	b.WriteString(`<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">` + "\n<plist version=\"1.0\">\n<dict>\n")
	key("Label")
	str(s.Name)
	key("ProgramArguments")
	b.WriteString("\t<array>\n")
	for _, a := range append([]string{s.Exe}, s.Args...) {
		str(a)
	}
	b.WriteString("\t</array>\n")
	if len(s.Env) > 0 {
		key("EnvironmentVariables")
		b.WriteString("\t<dict>\n")
		for _, k := range slices.Sorted(maps.Keys(s.Env)) {
			key(k)
			str(s.Env[k])
		}
		b.WriteString("\t</dict>\n")
	}
	key("RunAtLoad")
	b.WriteString("\t<true/>\n")
	key("KeepAlive") // it is started again unless it ended by itself, without an error
	b.WriteString("\t<dict>\n")
	key("SuccessfulExit")
	b.WriteString("\t<false/>\n\t</dict>\n")
	key("ThrottleInterval")
	b.WriteString("\t<integer>1</integer>\n")
	key("ExitTimeOut")
	b.WriteString("\t<integer>600</integer>\n")
	key("Umask")
	b.WriteString("\t<integer>63</integer>\n")
	key("StandardOutPath")
	str(s.Log)
	key("StandardErrorPath")
	str(s.Log)
	b.WriteString("</dict>\n</plist>\n")
	return b.String()
}

func xmlText(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // to a buffer
	return b.String()
}

func (m Launchd) path(name string) string { return filepath.Join(m.Dir, name+".plist") }
func (m Launchd) domain() string          { return fmt.Sprintf("gui/%d", m.UID) }
func (m Launchd) target(name string) string {
	return m.domain() + "/" + name
}

// Install implements [Manager]. What is there in that folder begins with the next session.
func (m Launchd) Install(_ context.Context, s Spec) (string, error) {
	if err := os.MkdirAll(m.Dir, 0o755); err != nil { //nolint:gosec // as the system makes it
		return "", err
	}
	return m.path(s.Name), durable.WriteFile(m.path(s.Name), []byte(m.text(s)))
}

// Uninstall implements [Manager].
func (m Launchd) Uninstall(ctx context.Context, name string) error {
	if err := m.Stop(ctx, name); err != nil {
		return err
	}
	return os.Remove(m.path(name))
}

func (m Launchd) loaded(ctx context.Context, name string) (string, bool) {
	out, err := run(ctx, "launchctl", "print", m.target(name))
	return out, err == nil
}

// Start implements [Manager].
func (m Launchd) Start(ctx context.Context, name string) error {
	if _, err := os.Stat(m.path(name)); errors.Is(err, os.ErrNotExist) {
		return ErrNone
	}
	if _, ok := m.loaded(ctx, name); !ok {
		if _, err := run(ctx, "launchctl", "bootstrap", m.domain(), m.path(name)); err != nil {
			return err
		}
	}
	_, err := run(ctx, "launchctl", "kickstart", m.target(name))
	return err
}

// Stop implements [Manager]. launchd starts again what it has loaded, so it is unloaded until the next session, or Start.
func (m Launchd) Stop(ctx context.Context, name string) error {
	if _, err := os.Stat(m.path(name)); errors.Is(err, os.ErrNotExist) {
		return ErrNone
	}
	if _, ok := m.loaded(ctx, name); !ok {
		return nil
	}
	_, err := run(ctx, "launchctl", "bootout", m.target(name))
	return err
}

// State implements [Manager].
func (m Launchd) State(ctx context.Context, name string) (State, error) {
	if _, err := os.Stat(m.path(name)); errors.Is(err, os.ErrNotExist) {
		return State{}, nil
	}
	s := State{Installed: true, Path: m.path(name)}
	out, ok := m.loaded(ctx, name)
	if !ok {
		return s, nil
	}
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "state = ") {
			s.Detail, s.Running = line, line == "state = running"
		}
	}
	return s, nil
}
