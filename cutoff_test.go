package sheaf

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A Create that ends at any of its writes leaves no drive, or a whole one. Where there is none, another Create makes one.
func TestCreate_CanBeDoneAgainAfterItWasCutOff(t *testing.T) {
	errDead := errors.New("the bucket is gone")
	again, whole := 0, 0
	for n := int64(1); ; n++ {
		bucket := testkit.NewFaults(mem.New())
		o := Options{Dir: filepath.Join(t.TempDir(), "home"), Bucket: bucket, DeviceName: "test", Argon: cheap}
		bucket.FailAfter(n-1, errDead)
		d, _, err := Create(t.Context(), o)
		if err == nil {
			closeDrive(t, d)
			break
		}
		bucket.Heal()
		if d, err = Open(t.Context(), o); errors.Is(err, ErrNoDrive) {
			again++
			d, _, err = Create(t.Context(), o)
		} else {
			whole++
		}
		if err != nil {
			t.Fatalf("cut off at write %d: %v", n, err)
		}
		clean(t, d)
		closeDrive(t, d)
	}
	if again < 3 || whole < 1 {
		t.Errorf("%d times there was no drive, %d times a whole one: the test shows nothing", again, whole)
	}
}

// A drive that was open once and has lost its record is no beginning that may be cleared away.
func TestCreate_TakesNoLossForABeginning(t *testing.T) {
	bucket := mem.New()
	o := Options{Dir: filepath.Join(t.TempDir(), "home"), Bucket: bucket, DeviceName: "test", Argon: cheap}
	d, _, err := Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	closeDrive(t, d)
	if err := bucket.Remove(t.Context(), "drive/00000001", "drive/00000001.2"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), o); err == nil || errors.Is(err, ErrNoDrive) {
		t.Errorf("open: got error %v, want one that is not ErrNoDrive", err)
	}
	if _, _, err := Create(t.Context(), o); !errors.Is(err, ErrExists) {
		t.Errorf("create: got error %v, want ErrExists", err)
	}
}
