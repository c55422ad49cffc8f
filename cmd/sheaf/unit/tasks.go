package unit

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"unicode/utf16"
)

// Tasks is the Task Scheduler of Windows.
type Tasks struct {
	User string // whose sessions begin the task: DOMAIN\name
}

// text returns the task, as `schtasks /Create /XML` reads it.
func (m Tasks) text(s Spec) string {
	var args []string
	for _, a := range s.Args {
		args = append(args, windowsQuote(a))
	}
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>sheaf drive</Description></RegistrationInfo>
  <Triggers><LogonTrigger><Enabled>true</Enabled><UserId>%[1]s</UserId></LogonTrigger></Triggers>
  <Principals><Principal id="Author"><UserId>%[1]s</UserId><LogonType>InteractiveToken</LogonType><RunLevel>LeastPrivilege</RunLevel></Principal></Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure><Interval>PT1M</Interval><Count>255</Count></RestartOnFailure>
    <Hidden>true</Hidden>
  </Settings>
  <Actions Context="Author"><Exec><Command>%[2]s</Command><Arguments>%[3]s</Arguments></Exec></Actions>
</Task>
`, xmlText(m.User), xmlText(s.Exe), xmlText(strings.Join(args, " ")))
}

// windowsQuote quotes a word so that CommandLineToArgvW reads it as it is.
func windowsQuote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	slashes := 0
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\':
			slashes++
			b.WriteByte(c)
			continue
		case '"': // and those before it are doubled
			b.WriteString(strings.Repeat(`\`, slashes+1))
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
		slashes = 0
	}
	b.WriteString(strings.Repeat(`\`, slashes))
	b.WriteByte('"')
	return b.String()
}

// Install implements [Manager]. The environment of a task is that of the session: Spec.Env and Spec.Log are not used.
func (m Tasks) Install(ctx context.Context, s Spec) (string, error) {
	f, err := os.CreateTemp("", "sheaf-*.xml")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	text := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(m.text(s))) {
		text = binary.LittleEndian.AppendUint16(text, u)
	}
	_, err = f.Write(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		_, err = run(ctx, "schtasks", "/Create", "/F", "/TN", s.Name, "/XML", f.Name())
	}
	return "", err
}

func (Tasks) there(ctx context.Context, name string) (string, bool) {
	out, err := run(ctx, "schtasks", "/Query", "/TN", name, "/FO", "LIST")
	return out, err == nil
}

// Uninstall implements [Manager].
func (m Tasks) Uninstall(ctx context.Context, name string) error {
	if err := m.Stop(ctx, name); err != nil {
		return err
	}
	_, err := run(ctx, "schtasks", "/Delete", "/F", "/TN", name)
	return err
}

// Start implements [Manager].
func (m Tasks) Start(ctx context.Context, name string) error {
	if _, ok := m.there(ctx, name); !ok {
		return ErrNone
	}
	_, err := run(ctx, "schtasks", "/Run", "/TN", name)
	return err
}

// Stop implements [Manager]. What the drive has in its journal is safe when it is killed; who can, stops the daemon first.
func (m Tasks) Stop(ctx context.Context, name string) error {
	if _, ok := m.there(ctx, name); !ok {
		return ErrNone
	}
	_, err := run(ctx, "schtasks", "/End", "/TN", name)
	return err
}

// State implements [Manager].
func (m Tasks) State(ctx context.Context, name string) (State, error) {
	out, ok := m.there(ctx, name)
	if !ok {
		return State{}, nil
	}
	s := State{Installed: true}
	for line := range strings.Lines(out) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "Status" {
			s.Detail = strings.TrimSpace(v)
			s.Running = s.Detail == "Running"
		}
	}
	return s, nil
}
