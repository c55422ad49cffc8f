package main

import (
	"errors"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/peering"
	"github.com/sheaf-drive/sheaf/sync/trust"
)

// trustState is the OpenPGP keys of this device, or why they are not there.
type trustState struct {
	ring *trust.Ring
	err  error
}

// openTrust opens the OpenPGP keys. That they cannot be read keeps nobody from the drive.
func (d *device) openTrust(dr *sheaf.Drive) {
	r, err := trust.Open(d.home.Data, dr.TrustKey())
	d.trust.Store(&trustState{r, err})
	if err != nil {
		d.log.Warn("the OpenPGP keys of this device cannot be read", "error", err)
		return
	}
	// A device that lost its state has other keys than the record of it says.
	own, self := r.Own(), dr.Public()
	if own == nil || len(r.Device(self.Sign).Certified.Record) > 0 {
		return
	}
	now := time.Now()
	if err := r.Claim(trust.Record{Drive: dr.DriveID(), Sign: self.Sign, KEM: self.KEM, Name: dr.Info().DeviceName, Created: now}, now); err != nil {
		d.log.Warn("this device is not certified as the user's own", "error", err)
	}
}

// Ring implements service.Trust.
func (d *device) Ring() (*trust.Ring, error) {
	t := d.trust.Load()
	if t == nil {
		return nil, errors.New("no drive is open")
	}
	return t.ring, t.err
}

// trustOf is Ring for a Peering.
func (d *device) trustOf() peering.Trust {
	if t := d.trust.Load(); t != nil && t.ring != nil {
		return t.ring
	}
	return nil
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
