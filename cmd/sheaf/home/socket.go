package home

import (
	"log/slog"
	"net"
	"os"
)

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
