// Package unit makes the drive's daemon a service of the user's session: a user unit of systemd, an agent of launchd on macOS, a task that
// begins with the session on Windows. A service of the whole system would have another user, and on Windows another session, in which nobody sees
// its drive letters.
package unit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
)

// Errors of a Manager.
var (
	// ErrNone says that there is no such service: it has to be installed first.
	ErrNone = errors.New("the service is not installed")
	// ErrNoManager says that what starts services does not run here, or not for this user.
	ErrNoManager = errors.New("nothing that starts services runs here")
)

// A Spec is what the service is.
type Spec struct {
	Name string            // see NameFor
	Exe  string            // the program, absolute
	Args []string          // its arguments
	Env  map[string]string // what it needs of the environment besides that of the session; no secret, it is written down
	Log  string            // the file that takes what it says, absolute
}

// State is how a service is.
type State struct {
	Installed bool
	Running   bool
	Path      string // of the file that describes it
	Detail    string // what the system says of it, one line
}

// A Manager is what starts services on one system. Its methods run the system's own commands.
type Manager interface {
	// Install writes the service down, replacing what was there, and has it started with each session of the user. It does not start it. It returns
	// the file's path, "" if there is none.
	Install(ctx context.Context, s Spec) (path string, err error)
	// Uninstall stops it, and undoes Install. One that is not there is ErrNone.
	Uninstall(ctx context.Context, name string) error
	// Start starts it, if it does not run.
	Start(ctx context.Context, name string) error
	// Stop ends it, and returns when the system says that it has.
	Stop(ctx context.Context, name string) error
	// State tells how it is.
	State(ctx context.Context, name string) (State, error)
}

// NameFor returns the name of the service of a home: "sheaf" for the one where the system wants it, dir being "", and
// one of its own for each other.
func NameFor(dir string) string {
	if dir == "" {
		return "sheaf"
	}
	sum := sha256.Sum256([]byte(dir))
	return "sheaf-" + hex.EncodeToString(sum[:4])
}

// run runs a command of the system, and returns what it says.
func run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	switch {
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: %w", ErrNoManager, err)
	case err != nil:
		return text, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, text)
	}
	return text, nil
}
