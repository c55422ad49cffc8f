package book

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// device is a folder and whether a passphrase guards its drive.
type device struct {
	dir     string
	guarded bool
}

// open returns the book as a new process finds it.
func (d *device) open() *Book {
	return Open(Options{Dir: d.dir, Guarded: func() (bool, error) { return d.guarded, nil }})
}

var driveKey = [32]byte{1, 2, 3}

func nas(c testkit.Canary) Remote {
	return Remote{
		Name: "nas-" + c.Text(), Kind: "sftp", Options: map[string]string{"host": "host-" + c.Text(), "port": "22"},
		Secrets: Secrets{"pass": "pass-" + c.Text(), "odd": "\x00\xff"},
	}
}

func names(t *testing.T, b *Book) []string {
	t.Helper()
	all, err := b.List()
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, r := range all {
		out = append(out, r.Name)
	}
	return out
}

func canary(t *testing.T) testkit.Canary {
	return testkit.NewCanary(testkit.Rand(testkit.Seed(t)))
}

// wantSealed fails if the canary is in any file of the folder, or one can be read by others.
func wantSealed(t *testing.T, dir string, c testkit.Canary) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if how := c.Find(b); how != "" {
			t.Errorf("%s holds the canary as %s", path, how)
		}
		fi, err := d.Info()
		if err == nil && fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, fi.Mode())
		}
		return err
	})
	if err != nil || n == 0 {
		t.Errorf("%d files, %v", n, err)
	}
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func TestBook_KeepsWhatItIsGiven(t *testing.T) {
	d := &device{dir: filepath.Join(t.TempDir(), "data")}
	c := canary(t)
	b := d.open()
	if got := names(t, b); len(got) != 0 {
		t.Errorf("a new book has %v", got)
	}
	want := nas(c)
	if err := b.Add(want); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*Book{b, d.open()} {
		got, err := b.Get(want.Name)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	wantSealed(t, d.dir, c)
	if text := fmt.Sprintf("%v %+v %#v %s", want, want, want, want.Secrets); bytes.Contains([]byte(text), []byte("pass-")) {
		t.Errorf("a secret is printed: %s", text)
	}
	if err := b.Add(Remote{Name: "other", Kind: "s3"}); err != nil {
		t.Fatal(err)
	}
	if err := b.Edit("other", func(r Remote) (Remote, error) {
		r.Options["endpoint"] = "e"
		return r, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(want.Name); err != nil {
		t.Fatal(err)
	}
	got, err := d.open().List()
	if diff := cmp.Diff([]Remote{{Name: "other", Kind: "s3", Options: map[string]string{"endpoint": "e"}, Secrets: Secrets{}}}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestBook_Refuses(t *testing.T) {
	d := &device{dir: t.TempDir()}
	b := d.open()
	if err := b.Add(Remote{Name: "my-nas", Kind: "sftp"}); err != nil {
		t.Fatal(err)
	}
	nothing := func(r Remote) (Remote, error) { return r, nil }
	failing := errors.New("failing")
	for what, c := range map[string]struct{ got, want error }{
		"a name twice":             {b.Add(Remote{Name: "my-nas"}), fs.ErrExist},
		"a name of the same sound": {b.Add(Remote{Name: "My_NAS"}), fs.ErrExist},
		"an illegal name":          {b.Add(Remote{Name: "a:b"}), remote.ErrName},
		"the drive's own name":     {b.Add(Remote{Name: "sheaf"}), remote.ErrName},
		"a name that is not there": {b.Remove("x"), fs.ErrNotExist},
		"an edit of it":            {b.Edit("x", nothing), fs.ErrNotExist},
		"an edit that fails":       {b.Edit("my-nas", func(Remote) (Remote, error) { return Remote{}, failing }), failing},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: got error %v, want %v", what, c.got, c.want)
		}
	}
	if diff := cmp.Diff([]string{"my-nas"}, names(t, d.open())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestBook_FollowsTheDrive goes through the life of a device: no drive, one with a passphrase, one without.
func TestBook_FollowsTheDrive(t *testing.T) {
	d := &device{dir: t.TempDir()}
	c := canary(t)
	key := filepath.Join(d.dir, keyName)
	if err := d.open().Add(nas(c)); err != nil {
		t.Fatal(err)
	}
	if !exists(t, key) {
		t.Error("the open form has no key file")
	}
	first, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}

	// A drive with a passphrase is made.
	d.guarded = true
	b := d.open()
	if err := b.Unlock(driveKey); err != nil {
		t.Fatal(err)
	}
	if exists(t, key) {
		t.Error("the key file is there still, though a passphrase guards the drive")
	}
	if err := b.Add(Remote{Name: "second"}); err != nil {
		t.Fatal(err)
	}
	wantSealed(t, d.dir, c)
	b.Lock()
	for what, err := range map[string]error{
		"list": func() error { _, err := b.List(); return err }(), "add": b.Add(Remote{Name: "third"}), "remove": b.Remove("second"),
		"add by another process": d.open().Add(Remote{Name: "third"}),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s while the drive is closed: got error %v, want ErrClosed", what, err)
		}
	}
	b = d.open()
	if err := b.Unlock(driveKey); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{nas(c).Name, "second"}, names(t, b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// Its passphrase goes.
	d.guarded = false
	if err := b.Unlock(driveKey); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{nas(c).Name, "second"}, names(t, d.open())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if now, err := os.ReadFile(key); err != nil || bytes.Equal(now, first) {
		t.Errorf("the key file is %v; is it the old one: %v", err, bytes.Equal(now, first))
	}
}

// TestBook_OfAGuardedDriveIsNeverOpen: the first remote of a device whose drive is guarded waits for the drive.
func TestBook_OfAGuardedDriveIsNeverOpen(t *testing.T) {
	d := &device{dir: t.TempDir(), guarded: true}
	if err := d.open().Add(nas(canary(t))); !errors.Is(err, ErrClosed) {
		t.Errorf("got error %v, want ErrClosed", err)
	}
	if exists(t, filepath.Join(d.dir, keyName)) || exists(t, filepath.Join(d.dir, fileName)) {
		t.Error("something was written")
	}
}

func TestBook_CutOffBetweenItsFiles(t *testing.T) {
	c := canary(t)
	t.Run("the key file of the open form was left", func(t *testing.T) {
		d := &device{dir: t.TempDir()}
		if err := d.open().Add(nas(c)); err != nil {
			t.Fatal(err)
		}
		key, err := os.ReadFile(filepath.Join(d.dir, keyName))
		if err != nil {
			t.Fatal(err)
		}
		d.guarded = true
		if err := d.open().Unlock(driveKey); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.dir, keyName), key, 0o600); err != nil {
			t.Fatal(err)
		}
		b := d.open()
		if err := b.Unlock(driveKey); err != nil {
			t.Fatal(err)
		}
		if exists(t, filepath.Join(d.dir, keyName)) {
			t.Error("it stays")
		}
		if got := names(t, b); len(got) != 1 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("a new key file was written and the book was not", func(t *testing.T) {
		d := &device{dir: t.TempDir(), guarded: true}
		b := d.open()
		if err := b.Unlock(driveKey); err != nil {
			t.Fatal(err)
		}
		if err := b.Add(nas(c)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.dir, keyName), make([]byte, 32), 0o600); err != nil {
			t.Fatal(err)
		}
		d.guarded = false
		b = d.open()
		if err := b.Unlock(driveKey); err != nil {
			t.Fatal(err)
		}
		if got := names(t, d.open()); len(got) != 1 {
			t.Errorf("got %v", got)
		}
	})
}

func TestBook_TellsDamageFromANewerProgram(t *testing.T) {
	d := &device{dir: t.TempDir()}
	if err := d.open().Add(nas(canary(t))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.dir, fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 4
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		want := ErrDamaged
		if i >= 8 && i < headLen {
			want = ErrFormat
		}
		if _, err := d.open().List(); !errors.Is(err, want) {
			t.Fatalf("byte %d flipped: got error %v, want %v", i, err, want)
		}
		if err := d.open().Add(Remote{Name: "x"}); !errors.Is(err, want) {
			t.Fatalf("byte %d flipped: add: got error %v, want %v", i, err, want)
		}
	}
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := d.open().List(); err == nil {
			t.Fatalf("cut off after %d bytes: no error", n)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(d.dir, keyName)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.open().List(); !errors.Is(err, ErrDamaged) {
		t.Errorf("without its key: got error %v, want ErrDamaged", err)
	}
}

// TestBook_OfAnotherDrive is kept as it is: the drive here opens all the same.
func TestBook_OfAnotherDrive(t *testing.T) {
	d := &device{dir: t.TempDir(), guarded: true}
	b := d.open()
	if err := b.Unlock(driveKey); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(nas(canary(t))); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(d.dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	b = d.open()
	if err := b.Unlock([32]byte{9}); err != nil {
		t.Errorf("unlock with the key of another drive: %v", err)
	}
	if _, err := b.List(); !errors.Is(err, ErrDamaged) {
		t.Errorf("list: got error %v, want ErrDamaged", err)
	}
	after, err := os.ReadFile(filepath.Join(d.dir, fileName))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file changed, %v", err)
	}
}

func TestBook_Secrets(t *testing.T) {
	d := &device{dir: t.TempDir()}
	b := d.open()
	if err := b.Add(Remote{Name: "box", Kind: "box", Options: map[string]string{"client_id": "id"}, Secrets: Secrets{"token": "old"}}); err != nil {
		t.Fatal(err)
	}
	kind, c, err := b.Config("box", "a/b")
	if err != nil || kind != "box" || c.Path != "a/b" || c.Options["client_id"] != "id" {
		t.Errorf("got %s %+v, %v", kind, c, err)
	}
	if err := c.Secrets.Set(t.Context(), "token", "new"); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*Book{b, d.open()} {
		_, c, err := b.Config("box", "")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Secrets.Get(t.Context(), "token"); got != "new" || err != nil {
			t.Errorf("got %q, %v, want the new token", got, err)
		}
	}
	if err := b.Remove("box"); err != nil {
		t.Fatal(err)
	}
	if err := c.Secrets.Set(t.Context(), "token", "late"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a token for a remote that is gone: got error %v, want fs.ErrNotExist", err)
	}
}

// FuzzDecode: no bytes make it panic, and what it takes is what encode writes.
func FuzzDecode(f *testing.F) {
	f.Add(encode(map[string]Remote{"a": {Name: "a", Kind: "s3", Options: map[string]string{"x": "y"}, Secrets: Secrets{"z": "\x00"}}, "b": {Name: "b"}}))
	f.Add(encode(nil))
	f.Add([]byte{0xa1, 1, 0x9a, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, p []byte) {
		all, err := decode(p)
		if err != nil {
			return
		}
		if got := encode(all); !bytes.Equal(got, p) {
			t.Fatalf("%x is written as %x", p, got)
		}
	})
}
