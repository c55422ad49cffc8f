package mounttest_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/mount/mounttest"
)

func TestMain(m *testing.M) {
	mounttest.Child()
	os.Exit(m.Run())
}

// TestRun_PassesOnTheMachinesOwnFileSystem is the control: what ext4 does cannot be
// asked of sheaf to be done otherwise.
func TestRun_PassesOnTheMachinesOwnFileSystem(t *testing.T) {
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != unix.EXT4_SUPER_MAGIC && st.Type != unix.XFS_SUPER_MAGIC {
		t.Skipf("%s lies on a file system of type %#x, which may lack something: set TMPDIR", dir, st.Type)
	}
	mounttest.Run(t, dir)
}
