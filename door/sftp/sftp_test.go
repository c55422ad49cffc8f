package sftp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	xsftp "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/sheaf-drive/sheaf/door/sftp"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

const (
	user   = "ann"
	secret = "a password that is long"
)

// site is a tree and a door to it.
type site struct {
	t    testing.TB
	fsys vfs.FS
	door *sftp.Door
	key  ssh.Signer
	guest
}

type guest struct {
	sftp.Guest
	revoked atomic.Bool
}

// serve opens a door to an empty tree, which ends with the test. change may change how.
func serve(t testing.TB, change func(o *sftp.Options, g *sftp.Guest)) *site {
	t.Helper()
	key, err := sftp.HostKey(t.Context(), &shelf{})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, fsys: memfs.New(memfs.Options{}), key: key}
	s.Valid = func() bool { return !s.revoked.Load() }
	o := sftp.Options{Addr: "127.0.0.1:0", Key: key, UID: 7, GID: 8, LetIn: func(_ context.Context, _ net.Addr, u, p string) (sftp.Guest, error) {
		if u != user || p != secret {
			return sftp.Guest{}, errors.New("password")
		}
		return s.Guest, nil
	}}
	if change != nil {
		change(&o, &s.Guest)
	}
	if s.door, err = sftp.Listen(t.Context(), s.fsys, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.door.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// dial logs in.
func (s *site) dial(password string) (*ssh.Client, error) {
	return ssh.Dial("tcp", s.door.Addr().String(), &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.FixedHostKey(s.key.PublicKey()), Timeout: 10 * time.Second,
	})
}

// client returns a client that is logged in.
func (s *site) client() *xsftp.Client {
	s.t.Helper()
	conn, err := s.dial(secret)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := xsftp.NewClient(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = c.Close()
		_ = conn.Close()
	})
	return c
}

// write puts a file through a client.
func write(t testing.TB, c *xsftp.Client, path, text string) {
	t.Helper()
	f, err := c.Create(path)
	if err == nil {
		_, err = f.Write([]byte(text))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatalf("write %s: %v", path, err)
	}
}

func read(t testing.TB, c *xsftp.Client, path string) string {
	t.Helper()
	f, err := c.Open(path)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	return string(b)
}

func TestDoor_IsATree(t *testing.T) {
	s := serve(t, nil)
	c := s.client()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Mkdir("/docs"))
	write(t, c, "/docs/a", "one")
	must(c.Chmod("/docs/a", 0o640))
	at := time.Unix(1_000_000_000, 0)
	must(c.Chtimes("/docs/a", at, at))
	must(c.Truncate("/docs/a", 2))
	must(c.Chtimes("/docs/a", at, at))
	fi, err := c.Stat("/docs/a")
	must(err)
	st, _ := fi.Sys().(*xsftp.FileStat)
	if fi.Mode() != 0o640 || !fi.ModTime().Equal(at) || fi.Size() != 2 || st.UID != 7 || st.GID != 8 {
		t.Errorf("got %v %v %d %d:%d", fi.Mode(), fi.ModTime(), fi.Size(), st.UID, st.GID)
	}

	f, err := c.OpenFile("/docs/a", os.O_RDWR|os.O_APPEND)
	must(err)
	_, err = f.Write([]byte("!"))
	must(err)
	must(f.Close())
	if got := read(t, c, "/docs/a"); got != "on!" {
		t.Errorf("got %q after it was appended to", got)
	}
	if _, err := c.OpenFile("/docs/a", os.O_WRONLY|os.O_CREATE|os.O_EXCL); err == nil {
		t.Error("a file that is there was made")
	}

	write(t, c, "/docs/b", "two")
	if err := c.Rename("/docs/a", "/docs/b"); err == nil || read(t, c, "/docs/b") != "two" {
		t.Errorf("a rename replaced what was there: %v", err)
	}
	must(c.PosixRename("/docs/a", "/docs/b"))
	if got := read(t, c, "/docs/b"); got != "on!" {
		t.Errorf("got %q after a rename that replaces", got)
	}
	must(c.Link("/docs/b", "/docs/c"))
	must(c.Symlink("b", "/docs/l"))
	if got, err := c.ReadLink("/docs/l"); got != "b" || err != nil {
		t.Errorf("the link says %q %v", got, err)
	}
	if got := read(t, c, "/docs/l"); got != "on!" {
		t.Errorf("got %q by the link", got)
	}
	if fi, err := c.Lstat("/docs/l"); err != nil || fi.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link is %v %v", fi, err)
	}
	if err := c.RemoveDirectory("/docs"); err == nil {
		t.Error("a folder that is not empty was removed")
	}
	if err := c.Remove("/docs/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove what is not there: %v", err)
	}
	must(c.Remove("/docs/c"))
	must(c.Mkdir("/empty"))
	must(c.RemoveDirectory("/empty"))
	if v, err := c.StatVFS("/"); err != nil || v.TotalSpace() == 0 {
		t.Errorf("room: %v %v", v, err)
	}
	names := []string{}
	l, err := c.ReadDir("/docs")
	must(err)
	for _, fi := range l {
		names = append(names, fi.Name())
	}
	if !slices.Equal(names, []string{"b", "l"}) {
		t.Errorf("got %v", names)
	}
}

func TestDoor_ListsMuch(t *testing.T) {
	s := serve(t, nil)
	root, err := s.fsys.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		if _, err := root.Make(t.Context(), fmt.Sprintf("d%04d", i), vfs.New{Kind: vfs.KindDir, Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := s.client().ReadDir("/"); err != nil || len(l) != 3000 {
		t.Errorf("got %d names: %v", len(l), err)
	}
}

// Many requests are under way at once, at places that are anywhere in the file.
func TestDoor_MovesMuch(t *testing.T) {
	c := serve(t, nil).client()
	want := make([]byte, 3<<20)
	for i := range want {
		want[i] = byte(i * i >> 7)
	}
	f, err := c.Create("/big")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadFromWithConcurrency(bytes.NewReader(want), 32); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if read(t, c, "/big") != string(want) {
		t.Error("other bytes came back")
	}
}

// What is above the folder that is shown is not there, by no path and no link.
func TestDoor_EndsAtItsRoot(t *testing.T) {
	s := serve(t, func(o *sftp.Options, g *sftp.Guest) { o.Root, g.Folder = "/in", "/in/deep" })
	for path, text := range map[string]string{"/secret": "canary", "/in/secret": "canary", "/in/deep/a": "shown"} {
		if _, err := vfs.MkdirAll(t.Context(), s.fsys, filepath.Dir(path), vfs.New{Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
		d, name, err := vfs.WalkParent(t.Context(), s.fsys, path)
		if err != nil {
			t.Fatal(err)
		}
		_, h, err := d.Create(t.Context(), name, vfs.New{Kind: vfs.KindFile, Mode: 0o644}, vfs.OpenWrite)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.WriteAt(t.Context(), []byte(text), 0); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c := s.client()
	for i, target := range []string{"../secret", "/secret", "../../secret", "../../../../secret", "/in/secret"} {
		if err := c.Symlink(target, fmt.Sprint("/l", i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/secret", "/../secret", "/../../secret", "../secret", "/in/secret", "/l0", "/l1", "/l2", "/l3", "/l4"} {
		if f, err := c.Open(path); err == nil {
			b, _ := io.ReadAll(f)
			t.Errorf("%s leads to %q", path, b)
		}
	}
	if err := c.Symlink("/a", "/good"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c, "/good"); got != "shown" {
		t.Errorf("an absolute link leads to %q", got)
	}
	if err := c.Symlink("round", "/round"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Stat("/round/x"); err == nil {
		t.Error("a link to itself leads somewhere")
	}
	if err := c.Rename("/a", "/../b"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c, "/b"); got != "shown" {
		t.Errorf("what was moved above the root is %q", got)
	}
	if err := c.RemoveDirectory("/"); err == nil {
		t.Error("the root was removed")
	}
}

func TestDoor_KeepsOut(t *testing.T) {
	s := serve(t, nil)
	if _, err := s.dial("wrong"); err == nil {
		t.Fatal("a wrong password lets in")
	}
	conn, err := s.dial(secret)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ses, err := conn.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := ses.Run("id"); err == nil {
		t.Error("a command was run")
	}
	ses, err = conn.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := ses.Shell(); err == nil {
		t.Error("there is a shell")
	}
	if _, err := conn.Dial("tcp", s.door.Addr().String()); err == nil {
		t.Error("it forwards")
	}
	if _, err := conn.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("it listens for others")
	}
}

func TestDoor_ReadOnly(t *testing.T) {
	for name, change := range map[string]func(o *sftp.Options, g *sftp.Guest){
		"the door":     func(o *sftp.Options, _ *sftp.Guest) { o.ReadOnly = true },
		"the password": func(_ *sftp.Options, g *sftp.Guest) { g.ReadOnly = true },
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, change).client()
			_, made := c.Create("/a")
			for what, err := range map[string]error{
				"create": made, "mkdir": c.Mkdir("/d"), "symlink": c.Symlink("a", "/l"), "chmod": c.Chmod("/", 0o700), "rename": c.Rename("/a", "/b"),
			} {
				if !errors.Is(err, fs.ErrPermission) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// Who is not let in any more is out, also where he is in the midst of a file.
func TestDoor_ARevokedGuestIsOut(t *testing.T) {
	s := serve(t, nil)
	c := s.client()
	f, err := c.Create("/a")
	if err != nil {
		t.Fatal(err)
	}
	s.revoked.Store(true)
	if _, err := f.Write([]byte("x")); err == nil {
		t.Error("he writes")
	}
	if _, err := c.Stat("/"); err == nil {
		t.Error("he looks")
	}
	if _, err := s.client().Stat("/"); err == nil {
		t.Error("and does so in a new session")
	}
}

func TestHostKey_Stays(t *testing.T) {
	var kept shelf
	a, err := sftp.HostKey(t.Context(), &kept)
	if err != nil {
		t.Fatal(err)
	}
	b, err := sftp.HostKey(t.Context(), &kept)
	if err != nil || sftp.Fingerprint(a) != sftp.Fingerprint(b) {
		t.Errorf("another key: %v", err)
	}
	kept.b = []byte("damaged")
	if _, err := sftp.HostKey(t.Context(), &kept); err == nil || string(kept.b) != "damaged" {
		t.Error("another key takes the place of a damaged one")
	}
	kept = shelf{err: errors.New("out of order")}
	if _, err := sftp.HostKey(t.Context(), &kept); !errors.Is(err, kept.err) {
		t.Errorf("with a store out of order: %v", err)
	}
}

// shelf is an sftp.Store.
type shelf struct {
	b   []byte
	err error
}

func (s *shelf) Load(context.Context) ([]byte, error) { return s.b, s.err }

func (s *shelf) Save(_ context.Context, b []byte) error {
	if s.err == nil {
		s.b = b
	}
	return s.err
}
