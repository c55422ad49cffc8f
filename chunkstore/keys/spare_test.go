package keys

import (
	"slices"
	"testing"
)

// Simulator seed 99006915: a power cut came between the two copies of an entry. The one that is there is sealed under an epoch that begins with an entry which is
// listed later, so that it does not open at first; that the other is missing was taken for the end, and the drive did not open.
func TestMembers_TheSpareOfALaterEpoch(t *testing.T) {
	d := newDrive(t)
	var devices []*Device
	for n := range uint64(6) {
		devices = append(devices, someDevice(t, 900+n))
		d.add(t, devices[n], Writer)
	}
	for _, dev := range devices { // each begins an epoch, and is sealed under the one before
		d.revoke(t, dev.ID(), nil, Mark{})
	}
	want := d.mustLoad(t)
	for _, n := range want.order {
		if n.e.Op == OpRevoke {
			remove(t, d.Bucket, entryName(n.hash))
		}
	}
	got, err := d.load(t)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Tips(), want.Tips()) {
		t.Error("it is another log")
	}
	// What opens under no epoch is missing, as it was.
	broken := d.copied()
	h := want.order[len(want.order)-1].hash
	b := get(t, broken.Bucket, spare(entryName(h)))
	b[len(b)-1] ^= 1
	put(t, broken.Bucket, spare(entryName(h)), b)
	_, err = broken.load(t)
	wantError(t, "a damaged spare, and no first", err, ErrIncomplete)
}
