//go:build linux

package fuse

import (
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
)

// tellings lists a directory with attributes, as the kernel does, and returns the node numbers
// that the listing gives to its names; 0 for a name alone.
func tellings(t *testing.T, s *server, dir uint64) map[string]uint64 {
	t.Helper()
	var open gofuse.OpenOut
	in := gofuse.OpenIn{}
	in.NodeId = dir
	if st := s.OpenDir(nil, &in, &open); st != gofuse.OK {
		t.Fatal(st)
	}
	defer s.ReleaseDir(&gofuse.ReleaseIn{Fh: open.Fh})
	told := map[string]uint64{}
	read := gofuse.ReadIn{Fh: open.Fh}
	for {
		list := gofuse.NewDirEntryList(make([]byte, 4096), read.Offset)
		if st := s.ReadDirPlus(nil, &read, list); st != gofuse.OK {
			t.Fatal(st)
		}
		b := list.Bytes()
		if len(b) == 0 {
			return told
		}
		const head = int(unsafe.Sizeof(gofuse.EntryOut{}))
		for len(b) > 0 {
			id := binary.NativeEndian.Uint64(b)
			read.Offset = binary.NativeEndian.Uint64(b[head+8:])
			n := int(binary.NativeEndian.Uint32(b[head+16:]))
			told[string(b[head+24:][:n])] = id
			b = b[head+24+(n+7)&^7:]
		}
	}
}

func TestReadDirPlus_TellsOnlyWhatTheKernelDoesNotKeep(t *testing.T) {
	fsys := newTold(t)
	log := &lockedBuffer{}
	s, err := newServer(t.Context(), fsys, textLog(log))
	must(t, err)
	s.kernel = mountHere(t, newMem(t), mount.Options{}).kernel // to take the notices
	file := fsys.put(t, "f", "content")
	fsys.put(t, "g", "content")
	mkdirs(t, fsys, "d/below")

	ids := tellings(t, s, rootID)
	if len(ids) != 5 || ids["f"] == 0 || ids["g"] == 0 || ids["d"] == 0 || ids["."] != 0 {
		t.Fatalf("a first listing tells %v", ids)
	}
	if again := tellings(t, s, rootID); len(again) != 5 || again["f"] != 0 || again["g"] != 0 || again["d"] != 0 {
		t.Fatalf("a second listing tells %v", again)
	}

	root, f := s.nodes.get(rootID), s.nodes.get(ids["f"])
	header := func(id uint64) gofuse.InHeader { return gofuse.InHeader{NodeId: id} }
	open := func(flags uint32) uint64 {
		var out gofuse.OpenOut
		if st := s.Open(nil, &gofuse.OpenIn{InHeader: header(f.id), Flags: flags}, &out); st != gofuse.OK {
			t.Fatal(st)
		}
		return out.Fh
	}
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"read", func() {
			fh := open(syscall.O_RDONLY)
			r, st := s.Read(nil, &gofuse.ReadIn{Fh: fh}, make([]byte, 10))
			if st != gofuse.OK {
				t.Fatal(st)
			}
			r.Done()
			s.Release(nil, &gofuse.ReleaseIn{Fh: fh})
		}},
		{"written", func() { s.Release(nil, &gofuse.ReleaseIn{Fh: open(syscall.O_WRONLY)}) }},
		{"given an attribute", func() {
			if st := s.SetXAttr(nil, &gofuse.SetXAttrIn{InHeader: header(f.id)}, "user.a", []byte("b")); st != gofuse.OK {
				t.Fatal(st)
			}
		}},
		{"robbed of an attribute", func() {
			h := header(f.id)
			s.RemoveXAttr(nil, &h, "user.a")
		}},
		{"given a second name", func() {
			var out gofuse.EntryOut
			if st := s.Link(nil, &gofuse.LinkIn{InHeader: header(ids["d"]), Oldnodeid: f.id}, "hard", &out); st != gofuse.OK {
				t.Fatal(st)
			}
		}},
		{"robbed of a second name", func() {
			h := header(ids["d"])
			s.Unlink(nil, &h, "hard")
		}},
		{"moved away and back", func() {
			for _, names := range [][2]string{{"f", "h"}, {"h", "f"}} {
				in := gofuse.RenameIn{InHeader: header(rootID), Newdir: rootID}
				if st := s.Rename(nil, &in, names[0], names[1]); st != gofuse.OK {
					t.Fatal(st)
				}
			}
		}},
		{"changed behind the mount", func() { s.changed.Store(s.clock()) }},
		{"out of its attributes", func() { s.dropAttr(f) }},
		{"told of long ago", func() {
			f.listed.at.Store(s.clock() - int64(validity))
		}},
	} {
		tellings(t, s, rootID)
		if s.keeps(file, root, "g", s.clock()) {
			t.Fatalf("%s: it is kept under a name that it does not have", step.name)
		}
		if !s.keeps(file, root, "f", s.clock()) {
			t.Fatalf("%s: it is not kept before", step.name)
		}
		step.do()
		if got := tellings(t, s, rootID)["f"]; got == 0 {
			t.Errorf("what was %s is not told of again", step.name)
		}
	}

	tellings(t, s, rootID)
	fh := open(syscall.O_RDWR)
	if got := tellings(t, s, rootID)["f"]; got == 0 {
		t.Error("what is open for writing is not told of")
	}
	s.Release(nil, &gofuse.ReleaseIn{Fh: fh})

	// The names in a directory change its times.
	tellings(t, s, rootID)
	h := header(ids["d"])
	var below gofuse.EntryOut
	if st := s.Lookup(nil, &h, "below", &below); st != gofuse.OK { // the kernel removes nothing that it has not looked up
		t.Fatal(st)
	}
	if st := s.Rmdir(nil, &h, "below"); st != gofuse.OK {
		t.Fatal(st)
	}
	if got := tellings(t, s, rootID); got["d"] == 0 || got["f"] != 0 {
		t.Errorf("after a name in d is gone, the listing tells %v", got)
	}
}

func TestListing_ShowsWhatChangedSinceTheLast(t *testing.T) {
	eachCache(t, func(t *testing.T, o mount.Options) {
		fsys := newTold(t)
		node := fsys.put(t, "f", "content")
		m := mountHere(t, fsys, o)
		size := func() int64 {
			entries, err := os.ReadDir(m.Dir())
			must(t, err)
			info, err := entries[0].Info()
			must(t, err)
			return info.Size()
		}
		for range 2 {
			if n := size(); n != 7 {
				t.Fatalf("got %d bytes, want 7", n)
			}
		}
		fsys.put(t, "f", "more content")
		fsys.tell(vfs.Change{Node: node})
		if n := size(); n != 12 {
			t.Fatalf("after a change behind the mount: got %d bytes, want 12", n)
		}
		must(t, os.WriteFile(filepath.Join(m.Dir(), "f"), []byte("1"), 0o600))
		if n := size(); n != 1 {
			t.Fatalf("after a write: got %d bytes, want 1", n)
		}
	})
}

// What is said of labels is what lets ls(1) stop asking, and what is stored comes back.
func TestGetXAttr_LabelsThatAreNotThereAreNotSupported(t *testing.T) {
	m := mountHere(t, newMem(t), mount.Options{})
	name := filepath.Join(m.Dir(), "f")
	must(t, os.WriteFile(name, nil, 0o600))
	buf := make([]byte, 100)
	if _, err := unix.Lgetxattr(name, labelXattr, buf); err != unix.EOPNOTSUPP {
		t.Errorf("label that is not there: %v", err)
	}
	if _, err := unix.Lgetxattr(name, "user.none", buf); err != unix.ENODATA {
		t.Errorf("attribute that is not there: %v", err)
	}
	if os.Getuid() != 0 {
		return
	}
	must(t, unix.Lsetxattr(name, labelXattr, []byte("a label"), 0))
	if n, err := unix.Lgetxattr(name, labelXattr, buf); err != nil || string(buf[:n]) != "a label" {
		t.Errorf("label that is there: %q, %v", buf[:max(n, 0)], err)
	}
}

// A handle of a file would be good only as long as the kernel keeps its node, so none is given out.
func TestNameToHandle_IsNotSupported(t *testing.T) {
	m := mountHere(t, newMem(t), mount.Options{})
	if m.kernel.KernelSettings().Flags64()&gofuse.CAP_NO_EXPORT_SUPPORT == 0 {
		t.Skip("this kernel gives them out in any case")
	}
	name := filepath.Join(m.Dir(), "f")
	must(t, os.WriteFile(name, nil, 0o600))
	if _, _, err := unix.NameToHandleAt(unix.AT_FDCWD, name, 0); err != unix.EOPNOTSUPP {
		t.Errorf("got %v, want EOPNOTSUPP", err)
	}
}

// A page that the kernel keeps is not trusted at an open, as long as a notice about the file may be on its way.
func TestOpen_ReadsAnewSoonAfterAChangeBehindTheMount(t *testing.T) {
	fsys := &unhearing{FS: newMem(t)}
	s, err := newServer(t.Context(), fsys, slog.New(slog.DiscardHandler))
	must(t, err)
	keeps := func() bool {
		var out gofuse.OpenOut
		s.opened(&out, s.nodes.get(rootID), nil, vfs.OpenRead)
		return out.OpenFlags&gofuse.FOPEN_KEEP_CACHE != 0
	}
	if !keeps() {
		t.Error("reads anew where nothing ever changed behind the mount")
	}
	fsys.unheard.Store(true)
	if keeps() {
		t.Error("trusts old pages while the notice of a change is on its way")
	}
	fsys.unheard.Store(false)
	if !keeps() {
		t.Error("reads anew long after a change")
	}
}

// unhearing says of all nodes that their changes were not heard of, or of none.
type unhearing struct {
	vfs.FS
	unheard atomic.Bool
}

func (u *unhearing) Unheard(vfs.Node) bool { return u.unheard.Load() }

// The kernel takes a name for the node that had it when it looked. What another device put there meanwhile is not what a program moves,
// looks at and removes, before the notice has come.
func TestStaleName_ProgramMovesAndRemovesWhatIsThere(t *testing.T) {
	eachCache(t, func(t *testing.T, o mount.Options) {
		fsys := newTold(t)
		fsys.put(t, "f", "old")
		m := mountHere(t, fsys, o)
		path, aside := filepath.Join(m.Dir(), "f"), filepath.Join(m.Dir(), "aside")
		_, err := os.ReadFile(path) // the kernel knows the name
		must(t, err)
		root, err := fsys.Root(t.Context())
		must(t, err)
		must(t, root.Rename(t.Context(), "f", root, "elsewhere", vfs.RenameReplace))
		fsys.put(t, "f", "new") // and nobody tells
		must(t, os.Rename(path, aside))
		got, err := os.ReadFile(aside)
		if err != nil || string(got) != "new" {
			t.Errorf("under the name that it was given: %q, %v", got, err)
		}
		must(t, os.Remove(aside))
		for name, want := range map[string]string{"elsewhere": "old", "f": "", "aside": ""} {
			if got, err := vfs.ReadFile(t.Context(), fsys, name, 1<<20); string(got) != want || want != "" && err != nil {
				t.Errorf("%s: %q, %v, want %q", name, got, err, want)
			}
		}
	})
}
