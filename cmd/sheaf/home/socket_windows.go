package home

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// pipeBuffer is how much a pipe holds in each direction, in bytes.
const pipeBuffer = 64 << 10

// errForeign says that what listens is another user's.
var errForeign = errors.New("another user listens in the place of the daemon")

// Socket returns the name of the daemon's pipe, which follows from Run.
func (h Home) Socket() string {
	sum := sha256.Sum256([]byte(strings.ToLower(h.Run)))
	return `\\.\pipe\sheaf-` + hex.EncodeToString(sum[:16])
}

// socketDir returns the folder that the daemon keeps for itself: a pipe lies in none.
func (h Home) socketDir() string { return h.Run }

// Listen opens the pipe. The caller holds the lock. Whoever is neither this user nor an administrator is turned away, and it is
// an error if there is a pipe of this name already, whoever made it.
func (h Home) Listen(_ context.Context, log *slog.Logger) (net.Listener, error) {
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l, err := winio.ListenPipe(h.Socket(), &winio.PipeConfig{
		SecurityDescriptor: "D:P(A;;GA;;;" + me.User.Sid.String() + ")(A;;GA;;;SY)(A;;GA;;;BA)",
		InputBufferSize:    pipeBuffer, OutputBufferSize: pipeBuffer,
	})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return guarded{l, log}, nil
}

// Dial connects to the daemon, if one listens and is this user's: anybody can make a pipe of any name. The other side learns nothing of who
// calls.
func (h Home) Dial(ctx context.Context) (net.Conn, error) {
	c, err := winio.DialPipeContext(ctx, h.Socket())
	if err != nil {
		return nil, err
	}
	if err := ours(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// ours returns an error unless the process that listens at the other end is this user's or the system's.
func ours(c net.Conn) error {
	f, ok := c.(interface{ Fd() uintptr })
	if !ok {
		return fmt.Errorf("dial: a pipe without a handle: %w", errors.ErrUnsupported)
	}
	var pid uint32
	if err := windows.GetNamedPipeServerProcessId(windows.Handle(f.Fd()), &pid); err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	p, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil { // one of another user does not let itself be looked at
		return fmt.Errorf("dial: %w: %w", errForeign, err)
	}
	defer func() { _ = windows.CloseHandle(p) }()
	var t windows.Token
	if err := windows.OpenProcessToken(p, windows.TOKEN_QUERY, &t); err != nil {
		return fmt.Errorf("dial: %w: %w", errForeign, err)
	}
	defer func() { _ = t.Close() }()
	who, err := t.GetTokenUser()
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	if !who.User.Sid.Equals(me.User.Sid) && !who.User.Sid.IsWellKnown(windows.WinLocalSystemSid) {
		return errForeign
	}
	return nil
}
