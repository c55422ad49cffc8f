//go:build !windows

package home

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
)

// maxSocket is the longest path of a unix socket that every system takes, in bytes.
const maxSocket = 100

// Socket returns the path of the daemon's socket. Where that in Run is too long for the system, it
// is in a private folder for temporary files, named by a hash of Run. That folder is not asked from the environment, in which two
// sessions of one user may differ.
func (h Home) Socket() string {
	path := filepath.Join(h.Run, "sheaf.sock")
	if len(path) <= maxSocket {
		return path
	}
	sum := sha256.Sum256([]byte(h.Run))
	return filepath.Join("/tmp", fmt.Sprintf("sheaf-%d-%s", os.Getuid(), hex.EncodeToString(sum[:8])), "sheaf.sock")
}

// socketDir returns the folder that the socket is in.
func (h Home) socketDir() string { return filepath.Dir(h.Socket()) }

// Listen opens the socket, in place of one that a killed process left. The caller holds
// the lock. Whoever is neither this user nor root is turned away.
func (h Home) Listen(ctx context.Context, log *slog.Logger) (net.Listener, error) {
	path := h.Socket()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), l.Close())
	}
	return guarded{l, log}, nil
}

// Dial connects to the daemon, if one listens.
func (h Home) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", h.Socket())
}
