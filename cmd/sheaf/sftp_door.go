package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/door/sftp"
)

// serveSFTP opens a door for programs that speak SFTP.
func (g *tcpDoors) serveSFTP(ctx context.Context, what *sheafv1.Serving, at netip.AddrPort, root string) (service.Served, error) {
	key, err := sftp.HostKey(ctx, note{g.notes, "sftp-host-key"})
	if err != nil {
		return nil, err
	}
	d, err := sftp.Listen(ctx, g.fsys, sftp.Options{
		Addr: at.String(), Key: key, LetIn: g.sftpGuest, Root: root, ReadOnly: what.GetReadOnly(), UID: g.uid, GID: g.gid, Log: g.log,
	})
	if err != nil {
		return nil, listenError(err)
	}
	what.Addr = d.Addr().String()
	what.Url, what.Fingerprint, what.Certificate = "sftp://"+what.Addr+"/", sftp.Fingerprint(key), ""
	return d, nil
}

// sftpGuest says who a user with a password is.
func (g *tcpDoors) sftpGuest(ctx context.Context, from net.Addr, user, password string) (sftp.Guest, error) {
	p, wait, ok := g.keeper.Ask(ctx, from.String(), user, password)
	switch {
	case wait > 0:
		return sftp.Guest{}, errors.New("guessing")
	case !ok:
		return sftp.Guest{}, errors.New("password")
	}
	return sftp.Guest{Folder: p.Folder, ReadOnly: p.ReadOnly, Valid: func() bool { return g.passwords.Valid(p.ID) }}, nil
}

// listenError returns an error of listening with its kind in the contract.
func listenError(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return &service.Error{Code: sheafv1.Code_CODE_EXISTS, Hint: "choose another port: --addr 127.0.0.1:0 takes any", Err: err}
	}
	return err
}
