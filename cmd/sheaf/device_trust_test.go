package main

import (
	"errors"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/sync/trust"
)

// Where it cannot be read whom a person refused, nobody is accepted; before a drive is open nothing is said of anybody.
func TestDevice_WhoCannotReadWhatWasSaidAcceptsNobody(t *testing.T) {
	d := &device{}
	if d.trustOf() != nil {
		t.Error("something is said of devices before a drive is open")
	}
	broken, opened := errors.New("broken"), 0
	d.trust.Store(&trustState{func() (*trust.Ring, error) { opened++; return nil, broken }})
	if opened != 0 {
		t.Error("the keys are opened though nobody wants them")
	}
	n := d.trustOf()
	if v, _ := n.Accept([32]byte{1}, [16]byte{2}, true, time.Now()); v.Accepted {
		t.Error("a member is accepted")
	}
	if err := n.SetDevice([32]byte{1}, func(*trust.Device) {}); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}
