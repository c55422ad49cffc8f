package proof

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tyler-smith/go-bip39"
	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/mount/fuse"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
)

const passphrase = "a passphrase for the other reader"

// python returns a Python that has what docs/extract.py needs.
func python(t *testing.T) string {
	t.Helper()
	var out []byte
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		var err error
		if out, err = exec.Command(name, "-c", "import argon2, cryptography, zstandard").CombinedOutput(); err == nil {
			return name
		}
	}
	t.Fatalf("run scripts/deps, or: apt-get install python3 python3-cryptography python3-argon2 python3-zstandard\n%s", out)
	return ""
}

// varied makes a tree of files of all sorts.
func varied(t *testing.T, top string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(5, 6))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	noise := make([]byte, 6<<20)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	var text strings.Builder
	for text.Len() < 200<<10 {
		fmt.Fprintf(&text, "line %d of a text that can be made smaller\n", rng.IntN(1000))
	}
	at := func(name string) string { return filepath.Join(top, name) }
	must(os.MkdirAll(at("a/b/c/many"), 0o755))
	for i := range 2000 {
		f := at(fmt.Sprintf("a/b/c/many/%d-%d", rng.Uint32(), i))
		must(os.WriteFile(f, noise[:i%3], 0o600))
		when := time.Unix(rng.Int64N(2_000_000_000), rng.Int64N(1e9))
		must(os.Chtimes(f, when, when))
	}
	must(os.WriteFile(at("empty"), nil, 0o444))
	must(os.WriteFile(at("one byte"), []byte{'1'}, 0o4711|os.ModeSetuid))
	must(os.WriteFile(at("text"), []byte(text.String()), 0o640))
	must(os.WriteFile(at("noise"), noise, 0o600))
	must(os.WriteFile(at("name \xff\xfe \n ü"), noise[:1000], 0o644))
	must(os.WriteFile(at("a/"+strings.Repeat("n", 255)), noise[1000:2000], 0))
	must(os.Mkdir(at("dir \xc3\x28"), 0o700))
	must(os.Link(at("text"), at("dir \xc3\x28/text too")))
	must(os.Link(at("text"), at("a/text again")))
	must(os.Link(at("empty"), at("a/empty")))
	must(os.Symlink("../nowhere/\xff", at("a/b/dangling")))
	must(os.Symlink("text", at("symbolic")))
	for name, size := range map[string]int64{"hole": 40 << 20, "sparse": 100 << 20} {
		f, err := os.Create(at(name))
		must(err)
		must(f.Truncate(size))
		if name == "sparse" {
			_, err = f.WriteAt(noise[:300_000], 50<<20)
			must(err)
		}
		must(f.Close())
	}
	must(unix.Mkfifo(at("fifo"), 0o640))
	if os.Geteuid() == 0 {
		must(os.Lchown(at("a/b/dangling"), 1001, 2001))
		must(unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	}
	must(unix.Setxattr(at("text"), "user.note", []byte("a \x00 note"), 0))
	must(os.Mkdir(at("sticky"), 0o755))
	must(os.Chmod(at("sticky"), 0o777|os.ModeSticky|os.ModeSetgid))
	old := time.Unix(-1_234_567_890, 123_456_789)
	must(os.Chtimes(at("a/b"), old, old))
	must(os.Chtimes(at("dir \xc3\x28"), old, old))
	// rsync does not set a time that differs by less than a second: nothing may be of just now.
	past := unix.Timespec{Sec: 1_111_111_111, Nsec: 222_222_222}
	must(filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := e.Info(); err != nil || time.Since(info.ModTime()) > time.Hour {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{past, past}, unix.AT_SYMLINK_NOFOLLOW)
	}))
}

// same fails if two trees differ.
func same(t *testing.T, want, got string) {
	t.Helper()
	first := map[[2]uint64]string{} // one path for each inode, of want; and the same of got
	list := func(top string) (paths []string) {
		err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
			paths = append(paths, strings.TrimPrefix(path, top))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return paths
	}
	a, b := list(want), list(got)
	if strings.Join(a, "\x00") != strings.Join(b, "\x00") {
		t.Fatalf("the trees have other names: %d and %d", len(a), len(b))
	}
	for _, path := range a {
		if path == "" {
			continue // of the tops: who made them may have other rights
		}
		var x, y [5]any
		for i, top := range []string{want, got} {
			info, err := os.Lstat(top + path)
			if err != nil {
				t.Fatal(err)
			}
			st := info.Sys().(*syscall.Stat_t)
			d := [5]any{info.Mode(), info.ModTime(), st.Rdev, fmt.Sprint(st.Uid, ":", st.Gid), path}
			ino := [2]uint64{st.Dev, st.Ino}
			if other, ok := first[ino]; ok && !info.IsDir() {
				d[4] = other
			} else {
				first[ino] = path
			}
			if i == 0 {
				x = d
			} else {
				y = d
			}
			if !info.IsDir() && st.Size > 8<<20 && st.Blocks > 8<<11 {
				t.Errorf("%q of %s has no holes", path, top)
			}
		}
		if x != y {
			t.Errorf("%q: %v, want %v", path, y, x)
		}
		switch x[0].(fs.FileMode).Type() {
		case 0:
			p, err1 := os.ReadFile(want + path)
			q, err2 := os.ReadFile(got + path)
			if err1 != nil || err2 != nil || !bytes.Equal(p, q) {
				t.Errorf("%q has other bytes: %v %v", path, err1, err2)
			}
		case fs.ModeSymlink:
			p, err1 := os.Readlink(want + path)
			q, err2 := os.Readlink(got + path)
			if err1 != nil || err2 != nil || p != q {
				t.Errorf("%q leads to %q, want %q: %v %v", path, q, p, err1, err2)
			}
		}
	}
}

// K17: a reader made from docs/FORMAT.md alone extracts a drive, and says what is damaged.
func TestExtract_FromTheTextAlone(t *testing.T) {
	py := python(t)
	home, src, dir := t.TempDir(), t.TempDir(), t.TempDir()
	store := filepath.Join(home, "store")
	varied(t, src)
	words := fill(t, home, dir, src)

	script, err := filepath.Abs("../../docs/extract.py")
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(home, "secret")
	extract := func(input string, args ...string) (string, error) {
		t.Helper()
		if err := os.WriteFile(secret, []byte(input+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		out, err := exec.CommandContext(t.Context(), py, append([]string{script, "--secret-file", secret}, args...)...).CombinedOutput()
		t.Logf("extract.py %s: %.1f s", strings.Join(args, " "), time.Since(start).Seconds())
		return string(out), err
	}
	to := filepath.Join(home, "extracted")
	if out, err := extract(passphrase, "--verify", store, to); err != nil || out != "" {
		t.Fatalf("extract.py: %v\n%s", err, out)
	}
	same(t, src, to)
	note := make([]byte, 100)
	if n, err := unix.Getxattr(filepath.Join(to, "text"), "user.note", note); err != nil || string(note[:n]) != "a \x00 note" {
		t.Errorf("extended attribute: %q, %v", note, err)
	}

	// The words open it, too.
	list := filepath.Join(home, "words")
	if err := os.WriteFile(list, []byte(strings.Join(bip39.GetWordList(), "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := extract(words, "--words", list, "--list", store); err != nil || strings.Count(out, "\n") < 2000 {
		t.Errorf("with the words: %v\n%.500s", err, out)
	}
	if out, err := extract("wrong", "--list", store); err == nil || !strings.Contains(out, "wrong passphrase") {
		t.Errorf("with another passphrase: %v\n%.500s", err, out)
	}
	packs, err := filepath.Glob(filepath.Join(store, "packs/*/*"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("packs: %v %v", packs, err)
	}
	for _, p := range packs {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for i := 50_000; i < len(b); i += 50_000 {
			b[i] ^= 1
		}
		if err := os.Chmod(p, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := extract(passphrase, store, filepath.Join(home, "damaged")); err == nil || !strings.Contains(out, "damaged: ") {
		t.Errorf("of a damaged store: %v\n%.500s", err, out)
	}
}

// fill makes a drive in home with all that is in src, by way of a mount at dir, and returns the recovery words.
func fill(t *testing.T, home, dir, src string) string {
	t.Helper()
	ctx := context.Background()
	b, err := disk.Open(filepath.Join(home, "store"), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, words, err := sheaf.Create(ctx, sheaf.Options{
		Dir: filepath.Join(home, "data"), Bucket: b, DeviceName: "proof", Tree: live.Options{Idle: -1},
		Secret: sheaf.Secret{Passphrase: []byte(passphrase)}, Argon: keys.Argon{Memory: 64 << 10, Time: 3, Threads: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	d, words = secondEpoch(t, home, b, d, words)
	m, err := fuse.Mount(ctx, d.FS(), dir, mount.Options{})
	if err != nil {
		t.Fatal(err)
	}
	run(t, home, "rsync", "-aAXHS", "--devices", "--specials", src+"/", dir+"/")
	if err := m.Unmount(ctx); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return words
}

// secondEpoch commits something, enrols two devices that do not know of each other and revokes one of them, replaces the recovery words, and
// opens the drive again: packs, heads and members are of two epochs then.
func secondEpoch(t *testing.T, home string, b *disk.Bucket, d *sheaf.Drive, words string) (*sheaf.Drive, string) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(vfs.WriteFile(ctx, d.FS(), "of the first epoch", []byte("text"), vfs.New{Kind: vfs.KindFile, Mode: 0o644}))
	must(d.Commit(ctx))
	must(vfs.RemoveAll(ctx, d.FS(), "of the first epoch"))
	must(d.Close(ctx))
	var devices []*keys.Device
	account, err := keys.Unlock(ctx, b, keys.Secret{Recovery: words}, keys.UnlockOptions{})
	must(err)
	for range 2 {
		device, err := account.Enroll(ctx, keys.EnrollOptions{Name: "other", Roles: keys.Writer | keys.Admin})
		must(err)
		devices = append(devices, device)
	}
	must(account.Revoke(ctx, devices[0].ID(), keys.RevokeOptions{}))
	words, err = account.NewRecovery(ctx)
	must(err)
	must(account.RetireRecovery(ctx, words))
	d, err = sheaf.Open(ctx, sheaf.Options{
		Dir: filepath.Join(home, "data"), Bucket: b, DeviceName: "proof", Tree: live.Options{Idle: -1}, Secret: sheaf.Secret{Passphrase: []byte(passphrase)},
	})
	must(err)
	return d, words
}
