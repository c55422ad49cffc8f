package home

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
)

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

// guarded lets only those in who may.
type guarded struct {
	net.Listener
	log *slog.Logger
}

func (g guarded) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, known := peer(c)
		if !known || uid == os.Geteuid() || uid == 0 {
			return c, nil
		}
		g.log.Warn("turned a foreign user away", "uid", uid)
		_ = c.Close()
	}
}
