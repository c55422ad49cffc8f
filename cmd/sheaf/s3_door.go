package main

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/door/s3"
)

// serveS3 opens a door for programs that speak S3.
func (g *tcpDoors) serveS3(ctx context.Context, what *sheafv1.Serving, at netip.AddrPort, root string) (service.Served, error) {
	if !g.objects {
		if err := s3.Clear(ctx, g.fsys, uploads(g.name)); err != nil {
			return nil, err
		}
		g.objects = true
	}
	h := s3.New(g.fsys, s3.Options{
		Name: uploads(g.name), Grant: g.s3Grant, Root: root, ReadOnly: what.GetReadOnly(), UID: g.uid, GID: g.gid, Log: g.log,
	})
	return g.listen(ctx, what, at, func(netip.AddrPort) http.Handler { return h })
}

// s3Grant says what an access key is for. It is the ID of a password that signs.
func (g *tcpDoors) s3Grant(key string) (s3.Grant, bool) {
	p, ok := g.passwords.Key(key)
	return s3.Grant{Secret: p.Key, Folder: p.Folder, ReadOnly: p.ReadOnly}, ok
}
