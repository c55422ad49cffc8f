package main

import (
	"bufio"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/peering"
	"github.com/sheaf-drive/sheaf/api/service"
)

// Peering implements service.Peers.
func (d *device) Peering() *peering.Peering { return d.peers.Load() }

// begin makes the Peering of this device. It neither listens nor follows.
func (d *device) begin(signer crypto.Signer, drive [16]byte, name string, r *sheaf.Replication) (*peering.Peering, error) {
	return peering.New(peering.Options{
		Signer: signer, Drive: drive, Name: name, Own: r.Tier.Own(), Mirror: r.Mirror, Shelf: d.shelf, Dir: d.home.Data, Log: d.log, NoLAN: d.noLAN, NoCopies: d.noCopies, Trust: d.trustOf, Rate: &d.pace.far, Near: &d.pace.near,
	})
}

// meet lets a drive that was opened reach its other devices, if this process stays. That it cannot listen keeps nobody from the drive.
func (d *device) meet(ctx context.Context, dr *sheaf.Drive, r *sheaf.Replication) error {
	if d.poll < 0 {
		return nil
	}
	p, err := d.begin(dr.Signer(), dr.DriveID(), dr.Info().DeviceName, r)
	if err != nil {
		return err
	}
	if at := peering.Wanted(d.home.Data); at != "" {
		if _, err := p.Listen(ctx, at); err != nil {
			d.log.Warn("other devices cannot reach this one", "err", err)
		}
	}
	p.Attach(dr)
	d.peers.Store(p)
	return nil
}

// part ends that.
func (d *device) part() error {
	if p := d.peers.Swap(nil); p != nil {
		return p.Close()
	}
	return nil
}

// Arrive implements service.Peers. The configuration is written before the device file, for without it the drive would not be found.
func (d *device) Arrive(ctx context.Context, j *peering.Joining, listen string) (_ service.Drive, err error) {
	if listen == "" {
		listen = ":0"
	}
	if err := d.home.Make(); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	o, err := d.options(d.store, nil, true)
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.part(), d.closeReplication(o.Replication), d.undo())
			d.remotes.Book.Lock()
		}
	}()
	if err := d.home.SetDrive(d.store); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	a, err := j.Accept(d.home.Data)
	if err != nil {
		return nil, err
	}
	p, err := d.begin(a.Device.Signer(), a.Drive, a.Name, o.Replication)
	if err != nil {
		return nil, err
	}
	d.peers.Store(p)
	if _, err := p.Listen(ctx, listen); err != nil {
		return nil, err
	}
	p.Trust(a.Inviter.Key)
	if err := p.Know(a.Inviter.Key, a.Addrs...); err != nil {
		return nil, err
	}
	if err := p.Await(ctx, a); err != nil {
		return nil, err
	}
	o.DeviceName = a.Name
	o.Replication.Places = append(o.Replication.Places, p.Place(a.Inviter))
	dr, err := sheaf.Arrive(ctx, o, a.Tips)
	if err != nil {
		return nil, err
	}
	d.openTrust(dr)
	d.welcomed(a.Inviter.Key)
	p.Attach(dr)
	return open{dr, o.Replication, d.remotes.Book, d}, nil
}

// undo takes back what a joining that came to nothing has left: nothing of the drive is on this device then.
func (d *device) undo() error {
	var errs []error
	for _, path := range []string{filepath.Join(d.home.Data, "device"), filepath.Join(d.home.Data, "device.key")} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, d.home.SetDrive(""))...)
}

// confirm asks a person, who may say yes.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return false, usagef("--yes, if the check words are the same", "there is no terminal to ask at")
	}
	_, _ = fmt.Fprint(a.err, question+" [y/N] ")
	line, err := bufio.NewReader(in).ReadString('\n')
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
