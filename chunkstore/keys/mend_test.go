package keys

import (
	"bytes"
	"testing"
)

// A crash came between the two copies of a record: the next Unlock has one, and Mend puts the other.
func TestMend_PutsTheSecondCopy(t *testing.T) {
	d := newDrive(t)
	all := append(names(t, d.Bucket, recordPrefix), names(t, d.Bucket, memberPrefix)...)
	if len(all) != 4 {
		t.Fatalf("got %v, want two copies of a record and of an entry", all)
	}
	for _, name := range all {
		was := get(t, d.Bucket, name)
		remove(t, d.Bucket, name)
		if err := d.mustUnlock(t).Mend(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(get(t, d.Bucket, name), was) {
			t.Errorf("%s is not what it was", name)
		}
	}
	if found := findings(t, d.account); len(found) > 0 {
		t.Error(found)
	}
}

// What does not open is not copied: Verify tells of it.
func TestMend_CopiesNoDamage(t *testing.T) {
	d := newDrive(t)
	a := d.mustUnlock(t)
	first := recordName(1)
	put(t, d.Bucket, spare(first), make([]byte, 1024))
	remove(t, d.Bucket, first)
	put(t, d.Bucket, "drive/x", []byte("x"))
	if err := a.Mend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := names(t, d.Bucket, recordPrefix); len(got) != 2 {
		t.Errorf("got %v, want the damaged copy and the stranger alone", got)
	}
}
