package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// maxSecret is the longest passphrase that is read, in bytes.
const maxSecret = 4096

// secretVariables are those of the environment that answer for a secret or say where it is. No other
// process is started with them.
var secretVariables = []string{
	"SHEAF_PASSWORD", "SHEAF_PASSWORD_FILE", "SHEAF_PASSWORD_COMMAND", "SHEAF_PASSWORD_FD",
	"SHEAF_NEW_PASSWORD", "SHEAF_NEW_PASSWORD_FILE", "SHEAF_RECOVERY_FILE",
}

// remotePrefix begins the variables that answer for options of remotes. The daemon needs them.
const remotePrefix = "SHEAF_REMOTE_"

// secrets remembers what can be read only once.
type secrets struct {
	fd   []byte
	read bool
}

// passphraseFromEnv returns the passphrase that the environment answers with: SHEAF_PASSWORD, or what
// _FILE, _COMMAND or _FD name. It is nil if none does.
func (a *app) passphraseFromEnv(ctx context.Context) ([]byte, error) {
	if p := a.getenv("SHEAF_PASSWORD"); p != "" {
		return []byte(p), nil
	}
	if name := a.getenv("SHEAF_PASSWORD_FILE"); name != "" {
		return secretFile(name)
	}
	if cmd := a.getenv("SHEAF_PASSWORD_COMMAND"); cmd != "" {
		return a.secretCommand(ctx, cmd)
	}
	if s := a.getenv("SHEAF_PASSWORD_FD"); s != "" {
		if a.secrets.read {
			return a.secrets.fd, nil
		}
		fd, err := strconv.ParseUint(s, 10, 31)
		if err != nil || fd < 3 {
			return nil, usagef("", "SHEAF_PASSWORD_FD: %q is not the number of an open file above 2", s)
		}
		f := os.NewFile(uintptr(fd), "SHEAF_PASSWORD_FD")
		if f == nil {
			return nil, usagef("", "SHEAF_PASSWORD_FD: file %d is not open", fd)
		}
		defer func() { _ = f.Close() }()
		p, err := readSecret(f, "SHEAF_PASSWORD_FD")
		a.secrets.fd, a.secrets.read = p, err == nil
		return p, err
	}
	return nil, nil
}

// secretFile reads a secret from a file.
func secretFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef("", "read secret: %w", err)
	}
	defer func() { _ = f.Close() }()
	return readSecret(f, name)
}

// readSecret reads one line without its end.
func readSecret(r io.Reader, from string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	switch {
	case len(b) == 0:
		return nil, usagef("", "%s has no passphrase in it", from)
	case len(b) > maxSecret:
		return nil, usagef("", "%s has more than %d bytes", from, maxSecret)
	}
	return b, nil
}

// secretCommand runs a command and returns what it prints.
func (a *app) secretCommand(ctx context.Context, line string) ([]byte, error) {
	shell, flag := "/bin/sh", "-c"
	if runtime.GOOS == "windows" {
		shell, flag = "cmd", "/c"
	}
	cmd := exec.CommandContext(ctx, shell, flag, line)
	cmd.Env = slices.DeleteFunc(cleanEnv(os.Environ()), func(v string) bool { return strings.HasPrefix(v, remotePrefix) })
	cmd.Stderr = a.err
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run SHEAF_PASSWORD_COMMAND: %w", err)
	}
	return readSecret(bytes.NewReader(out), "what SHEAF_PASSWORD_COMMAND printed")
}

// cleanEnv returns an environment without secrets.
func cleanEnv(env []string) []string {
	var out []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		secret := false
		for _, s := range secretVariables {
			secret = secret || strings.EqualFold(name, s)
		}
		if !secret {
			out = append(out, v)
		}
	}
	return out
}

// ask asks for a passphrase at the terminal, without echo; twice if it is new. Without a
// terminal it returns errNoTerminal. When ctx is done it gives up and the terminal its echo back.
func (a *app) ask(ctx context.Context, prompt string, isNew bool) ([]byte, error) {
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, errNoTerminal
	}
	once := func(prompt string) ([]byte, error) {
		_, _ = fmt.Fprint(a.err, prompt+": ")
		p, err := readHidden(ctx, int(in.Fd()))
		_, _ = fmt.Fprintln(a.err)
		if err != nil {
			return nil, fmt.Errorf("read passphrase: %w", err)
		}
		return p, nil
	}
	for {
		p, err := once(prompt)
		if err != nil || !isNew || len(p) == 0 {
			return p, err
		}
		q, err := once("again")
		if err != nil {
			return nil, err
		}
		if bytes.Equal(p, q) {
			return p, nil
		}
		_, _ = fmt.Fprintln(a.err, "these two differ; once more")
	}
}

// readHidden reads a line without echo. The read of a terminal cannot be broken off, so when ctx is done
// it is left to the end of the process.
func readHidden(ctx context.Context, fd int) ([]byte, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	type line struct {
		p   []byte
		err error
	}
	read := make(chan line, 1)
	go func() {
		p, err := term.ReadPassword(fd)
		read <- line{p, err}
	}()
	select {
	case l := <-read:
		return l.p, l.err
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), term.Restore(fd, before))
	}
}

// errNoTerminal says that nobody can be asked.
var errNoTerminal = errors.New("no terminal to ask at")

// newPassphrase returns the passphrase of a new drive: from the environment, or asked for; nil for none.
func (a *app) newPassphrase(ctx context.Context) ([]byte, error) {
	p, err := a.passphraseFromEnv(ctx)
	if p != nil || err != nil {
		return p, err
	}
	p, err = a.ask(ctx, "passphrase for the new drive (empty: none, a key on this device opens it)", true)
	if errors.Is(err, errNoTerminal) {
		return nil, nil
	}
	return p, err
}

// knownPassphrase returns the passphrase of a drive that exists: from the environment, or asked for; nil
// if there is none and nobody to ask.
func (a *app) knownPassphrase(ctx context.Context) ([]byte, error) {
	p, err := a.passphraseFromEnv(ctx)
	if p != nil || err != nil {
		return p, err
	}
	p, err = a.ask(ctx, "passphrase of the drive", false)
	if errors.Is(err, errNoTerminal) {
		return nil, nil
	}
	return p, err
}

// recoveryWords reads the words from a file: name, or else what SHEAF_RECOVERY_FILE names; "" if
// there is neither.
func (a *app) recoveryWords(name string) (string, error) {
	if name == "" {
		name = a.getenv("SHEAF_RECOVERY_FILE")
	}
	if name == "" {
		return "", nil
	}
	f, err := os.Open(name)
	if err != nil {
		return "", usagef("", "read recovery words: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read recovery words: %w", err)
	}
	words := strings.Fields(strings.ToLower(string(b)))
	if len(words) != 24 {
		return "", usagef("", "%s has %d words and not the 24 of a recovery code", name, len(words))
	}
	return strings.Join(words, " "), nil
}
