package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/door/s3"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/webdav"
	"github.com/sheaf-drive/sheaf/webdav/door"
	"github.com/sheaf-drive/sheaf/webdav/guard"
)

// gate returns the way in which drives are served on TCP.
func (a *app) gate(log *slog.Logger) service.NewGate {
	return func(ctx context.Context, d service.Drive) (service.Gate, error) {
		p, err := guard.OpenPasswords(ctx, note{d, "app-passwords"})
		if err != nil {
			return nil, err
		}
		g := &tcpDoors{fsys: d.FS(), notes: d, passwords: p, keeper: guard.NewKeeper(p), certs: a.home.Data, name: d.Info().Device, log: log}
		if uid := os.Getuid(); uid >= 0 {
			g.uid, g.gid = uint32(uid), uint32(os.Getgid())
		}
		return g, nil
	}
}

// note is one note of a drive as a store of bytes.
type note struct {
	notes service.Notes
	name  string
}

// Load implements webdav.LockStore, guard.Store and sftp.Store.
func (n note) Load(ctx context.Context) ([]byte, error) { return n.notes.Note(ctx, n.name) }

// Save implements the same.
func (n note) Save(ctx context.Context, b []byte) error { return n.notes.SetNote(ctx, n.name, b) }

// tcpDoors is the service.Gate of a drive.
type tcpDoors struct {
	fsys      vfs.FS
	notes     service.Notes
	passwords *guard.Passwords
	keeper    *guard.Keeper
	certs     string // the folder of the certificate
	name      string // the ID of this device
	log       *slog.Logger
	uid, gid  uint32

	tree    *webdav.Tree // nil: not opened yet
	objects bool         // a door of S3 was opened
}

// Serve implements service.Gate.
func (g *tcpDoors) Serve(ctx context.Context, what *sheafv1.Serving) (service.Served, error) {
	at, err := door.ParseAddr(what.GetAddr())
	if err != nil {
		return nil, usagef("--addr 127.0.0.1:7433", "%w", err)
	}
	root, err := wirepath.Decode(what.GetPath())
	if err != nil {
		return nil, err
	}
	switch what.GetKind() {
	case sheafv1.DoorKind_DOOR_KIND_SFTP:
		return g.serveSFTP(ctx, what, at, root)
	case sheafv1.DoorKind_DOOR_KIND_S3:
		return g.serveS3(ctx, what, at, root)
	}
	if g.tree == nil {
		t, err := webdav.Open(ctx, g.fsys, webdav.Options{
			Name: uploads(g.name), Locks: note{g.notes, "dav-locks"}, UID: g.uid, GID: g.gid, Log: g.log,
		})
		if err != nil {
			return nil, err
		}
		g.tree = t
	}
	view := webdav.View{
		Root: root, ReadOnly: what.GetReadOnly(), Pages: what.GetKind() == sheafv1.DoorKind_DOOR_KIND_HTTP, KeepLitter: what.GetKeepLitter(),
	}
	return g.listen(ctx, what, at, func(at netip.AddrPort) http.Handler {
		return guard.New(g.tree.Handler(view), guard.Options{
			Hosts: guard.Hosts{Addr: at, Names: lower(what.GetHosts()), TLS: what.GetTls()}, Keeper: g.keeper, Log: g.log,
		})
	})
}

// listen opens a door that speaks HTTP.
func (g *tcpDoors) listen(ctx context.Context, what *sheafv1.Serving, at netip.AddrPort, handler func(netip.AddrPort) http.Handler) (service.Served, error) {
	var cert *tls.Certificate
	what.Fingerprint, what.Certificate = "", ""
	if what.GetTls() {
		var err error
		if cert, err = door.Certificate(g.certs, what.GetHosts(), []netip.Addr{at.Addr()}); err != nil {
			return nil, err
		}
		what.Fingerprint, what.Certificate = door.Fingerprint(cert), filepath.Join(g.certs, door.CertFile)
	}
	d, err := door.Listen(ctx, door.Options{Addr: at.String(), TLS: cert, Log: g.log, Handler: handler})
	switch {
	case errors.Is(err, door.ErrPlain):
		return nil, &service.Error{Code: sheafv1.Code_CODE_USAGE, Hint: "--tls, or an address of this machine only: 127.0.0.1", Err: err}
	case err != nil:
		return nil, listenError(err)
	}
	what.Addr, what.Url = d.Addr().String(), d.URL()
	return d, nil
}

// uploads returns a name for the folder in which uploads of this device grow.
func uploads(device string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, device)
	return name[:min(len(name), 40)]
}

func lower(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, strings.ToLower(n))
	}
	return out
}

// CreatePassword implements service.Gate.
func (g *tcpDoors) CreatePassword(ctx context.Context, what *sheafv1.AppPassword, chosen string) (*sheafv1.AppPassword, string, error) {
	folder, err := wirepath.Decode(what.GetPath())
	if err != nil {
		return nil, "", err
	}
	one := guard.Password{Name: what.GetName(), User: what.GetUser(), Folder: folder, ReadOnly: what.GetReadOnly()}
	var p guard.Password
	var secret string
	if what.GetSigns() {
		p, secret, err = g.passwords.CreateKey(ctx, one)
	} else {
		p, secret, err = g.passwords.Create(ctx, one, chosen)
	}
	switch {
	case errors.Is(err, guard.ErrWeak):
		return nil, "", usagef("a longer one, or none: chance makes a good one", "%w", err)
	case errors.Is(err, guard.ErrTooMany):
		return nil, "", coded(sheafv1.Code_CODE_LIMIT, "sheaf apppassword revoke ID", "%w", err)
	case err != nil:
		return nil, "", err
	}
	return appPassword(p), secret, nil
}

// Passwords implements service.Gate.
func (g *tcpDoors) Passwords(context.Context) ([]*sheafv1.AppPassword, error) {
	var all []*sheafv1.AppPassword
	for _, p := range g.passwords.List() {
		all = append(all, appPassword(p))
	}
	return all, nil
}

// appPassword returns a password as the contract has it.
func appPassword(p guard.Password) *sheafv1.AppPassword {
	stamp := func(t time.Time) *timestamppb.Timestamp {
		if t.IsZero() {
			return nil
		}
		return timestamppb.New(t)
	}
	return &sheafv1.AppPassword{
		Id: p.ID, Name: p.Name, User: p.User, Path: wirepath.Encode(p.Folder), ReadOnly: p.ReadOnly,
		Created: stamp(p.Created), Used: stamp(p.Used), Chosen: p.Chosen, Signs: p.Key != "",
	}
}

// RevokePassword implements service.Gate.
func (g *tcpDoors) RevokePassword(ctx context.Context, id string) error {
	return g.passwords.Revoke(ctx, id)
}

// Close implements service.Gate.
func (g *tcpDoors) Close(ctx context.Context) error {
	var errs error
	if g.tree != nil {
		errs = g.tree.Close(ctx)
	}
	if g.objects {
		errs = errors.Join(errs, s3.Clear(ctx, g.fsys, uploads(g.name)))
	}
	return errs
}
