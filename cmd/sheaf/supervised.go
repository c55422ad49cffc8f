package main

import (
	"context"
	"errors"
	"net"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// restore mounts what the process before this one had mounted.
func (a *app) restore(ctx context.Context, d *daemon) {
	wanted, err := a.home.Wanted()
	if err != nil {
		a.logger(a.err).Warn("what was mounted is not known", "error", err)
		return
	}
	var all []*sheafv1.MountRequest
	for _, w := range wanted {
		all = append(all, &sheafv1.MountRequest{Dir: string(w.Dir), ReadOnly: w.ReadOnly, At: w.At})
	}
	for _, err := range d.svc.Restore(ctx, all) {
		a.logger(a.err).Warn("a mount is not back", "error", err)
	}
}

// notify tells the supervisor that started this process how it is, if that asked for it: sd_notify(3).
func (a *app) notify(state string) {
	socket := a.getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	if socket[0] == '@' { // of the abstract name space
		socket = "\x00" + socket[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err == nil {
		_, err = c.Write([]byte(state))
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		a.logger(a.err).Warn("the supervisor was not told", "state", state, "error", err)
	}
}
