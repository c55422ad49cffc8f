package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/peering"
	"github.com/sheaf-drive/sheaf/sync/trust"
)

// trustState opens the OpenPGP keys of this device when they are wanted for the first time: most commands want none, and there may be thousands.
type trustState struct {
	ring func() (*trust.Ring, error)
}

// openTrust makes the OpenPGP keys those of a drive that was opened. That they cannot be read keeps nobody from the drive.
func (d *device) openTrust(dr *sheaf.Drive) {
	key, self := dr.TrustKey(), dr.Public()
	record := trust.Record{Drive: dr.DriveID(), Sign: self.Sign, KEM: self.KEM, Name: dr.Info().DeviceName}
	d.trust.Store(&trustState{sync.OnceValues(func() (*trust.Ring, error) {
		r, err := trust.Open(d.home.Data, key)
		if err != nil {
			d.log.Warn("the OpenPGP keys of this device cannot be read: no peer is accepted", "error", err)
			return nil, err
		}
		// A device that lost its state has other keys than the record of it says.
		if r.Own() == nil || len(r.Device(record.Sign).Certified.Record) > 0 {
			return r, nil
		}
		record.Created = time.Now()
		if err := r.Claim(record, record.Created); err != nil {
			d.log.Warn("this device is not certified as the user's own", "error", err)
		}
		return r, nil
	})})
}

// Ring implements service.Trust.
func (d *device) Ring() (*trust.Ring, error) {
	t := d.trust.Load()
	if t == nil {
		return nil, errors.New("no drive is open")
	}
	return t.ring()
}

// trustOf is Ring for a Peering. Where what was said of devices cannot be read, none is accepted: somebody may have said no.
func (d *device) trustOf() peering.Trust {
	if d.trust.Load() == nil {
		return nil
	}
	r, err := d.Ring()
	if err != nil {
		return nobody{err}
	}
	return r
}

// nobody accepts no device, because of an error.
type nobody struct{ err error }

func (n nobody) Accept([32]byte, [16]byte, bool, time.Time) (trust.Verdict, trust.Limit) {
	return trust.Verdict{}, trust.LimitNone
}

func (n nobody) Card([32]byte) []byte                              { return nil }
func (n nobody) Cards() []byte                                     { return nil }
func (n nobody) Shown([32]byte, [16]byte, []byte, time.Time) error { return n.err }
func (n nobody) Changed() <-chan struct{}                          { return nil }

func (n nobody) Told([]byte, [16]byte, time.Time, func([32]byte) bool) (bool, error) {
	return false, n.err
}

func (n nobody) SetDevice([32]byte, func(*trust.Device)) error {
	return fmt.Errorf("nothing is kept of devices: %w", n.err)
}

// welcomed notes that a person has joined the drive of a device, with its check words before their eyes: it is accepted, whoever vouches for it.
func (d *device) welcomed(by [32]byte) {
	r, err := d.Ring()
	if err == nil {
		err = r.SetDevice(by, func(x *trust.Device) { x.Answer = trust.AnswerYes })
	}
	if err != nil {
		d.log.Warn("that this device was let in by another one is not noted", "error", err)
	}
}
