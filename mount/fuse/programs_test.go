//go:build linux

package fuse

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// lockedBuffer takes log lines from many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func textLog(b *lockedBuffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// sh runs a script in a folder and returns what it printed.
func sh(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// needPrograms skips a test on a machine without them.
func needPrograms(t *testing.T, names ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, which has run it already, or will")
	}
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			testkit.Lacks(t, err)
		}
	}
}

// M14: all metadata comes back.
func TestRsync_FindsNothingToDoOnTheWayBack(t *testing.T) {
	needPrograms(t, "rsync", "setfacl", "setfattr")
	for _, through := range []string{"", "1"} {
		dir, _ := startServer(t, envThrough+"="+through)
		src := t.TempDir()
		sh(t, src, `
			mkdir -p d/e empty; echo one > d/f; echo two > d/e/g; ln d/f hard; ln -s d/f soft; ln -s nowhere dangling
			mkfifo fifo; mknod null c 1 3; mknod disk b 7 200; printf 'x\0y' > $'name\377 with\nodd bytes'
			truncate -s 10M sparse; echo end >> sparse; head -c 3000000 /dev/urandom > big
			chmod 4711 d/f; chmod 2755 d; chmod 1777 empty; chmod 000 d/e/g; chown 12:34 big; chown -h 56:78 soft
			# rsync takes times within one second for equal where it makes no copy: so none is of today.
			find . -exec touch -h -d '2010-11-12 13:14:15.161718192' {} +
			touch -d '2001-02-03 04:05:06.123456789' big; touch -h -d '1999-12-31 23:59:59.999999999' soft; touch -d 1969-07-20 d/e/g
			setfattr -n user.note -v hello big; setfattr -n user.empty d; setfattr -n trusted.t -v 1 big
			setfacl -m u:1:rw,g:2:r,m:rwx big; setfacl -m d:u:3:rwx,d:g::r-x d; setfacl -m u:4:--- d`)
		sh(t, src, "rsync -aAXH --numeric-ids ./ "+dir+"/")
		if out := sh(t, src, "rsync -aAXHcn --delete --itemize-changes --numeric-ids ./ "+dir+"/"); out != "" {
			t.Errorf("rsync would still do:\n%s", out)
		}
		if out := sh(t, src, "rsync -aAXHcn --delete --itemize-changes --numeric-ids "+dir+"/ ./"); out != "" {
			t.Errorf("rsync back would do:\n%s", out)
		}
		for _, list := range []string{"getfacl -np big d d/e d/f d/e/g hard empty fifo", "getfattr -d -h -m - d/f big d", "stat -c '%n %s %f %u %g %h %t %T %y' $(find . -printf '%P\n' | grep -v '[^a-z/]' | sort | sed '/^$/d')"} {
			if a, b := sh(t, src, list), sh(t, dir, list); a != b {
				// The size of a directory is its file system's own affair.
				if strings.HasPrefix(list, "stat") {
					a, b = withoutDirs(a), withoutDirs(b)
				}
				if a != b {
					t.Errorf("%s differs:\n%s\n---\n%s", list, a, b)
				}
			}
		}
	}
}

// withoutDirs drops the lines of directories from the output of stat: their size
// and links are their file system's own.
func withoutDirs(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if f := strings.Fields(line); len(f) > 2 && strings.HasPrefix(f[2], "4") {
			continue
		}
		b.WriteString(line)
	}
	return b.String()
}

func TestACL_ListsAndModesAgree(t *testing.T) {
	needPrograms(t, "setfacl", "getfacl", "runuser")
	dir, _ := startServer(t)
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	acl := func(path string) string {
		return strings.Join(strings.Fields(sh(t, dir, "getfacl -cnp --no-effective "+path)), " ")
	}
	sh(t, dir, "echo secret > f; chmod 640 f; setfacl -m u:65534:rw f")
	if got, want := acl("f"), "user::rw- user:65534:rw- group::r-- mask::rw- other::---"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := sh(t, dir, "stat -c %a f"); got != "660\n" {
		t.Errorf("mode %s, want the mask: 660", got)
	}
	for _, x := range []struct{ chmod, want string }{
		{"600", "user::rw- user:65534:rw- group::r-- mask::--- other::---"},
		{"750", "user::rwx user:65534:rw- group::r-- mask::r-x other::---"},
	} {
		sh(t, dir, "chmod "+x.chmod+" f")
		if got := acl("f"); got != x.want {
			t.Errorf("after chmod %s: %s, want %s", x.chmod, got, x.want)
		}
	}
	sh(t, dir, "setfacl -b f")
	if got, want := acl("f"), "user::rwx group::r-- other::---"; got != want {
		t.Errorf("after setfacl -b: %s, want %s", got, want)
	}
	if got := sh(t, dir, "getfattr -m - f"); got != "" {
		t.Errorf("a list that says no more than the mode is stored: %s", got)
	}

	// A default list stands in place of the umask.
	sh(t, dir, "mkdir d; setfacl -d -m u:65534:rwx,g::r-x,o::- d; umask 077; touch d/f; mkdir d/e; echo x > d/e/g")
	if got, want := acl("d/f"), "user::rw- user:65534:rwx group::r-x mask::rw- other::---"; got != want {
		t.Errorf("inherited by a file: %s, want %s", got, want)
	}
	const dflt = " default:user::rwx default:user:65534:rwx default:group::r-x default:mask::rwx default:other::---"
	if got, want := acl("d/e"), "user::rwx user:65534:rwx group::r-x mask::rwx other::---"+dflt; got != want {
		t.Errorf("inherited by a directory: %s, want %s", got, want)
	}
	if got, want := acl("d/e/g"), "user::rw- user:65534:rwx group::r-x mask::rw- other::---"; got != want {
		t.Errorf("inherited two floors down: %s, want %s", got, want)
	}
	sh(t, dir, "setfacl -k d; umask 027; touch d/plain; mkdir d/plain.d")
	if got := sh(t, dir, "stat -c %a d/plain d/plain.d"); got != "640\n750\n" {
		t.Errorf("without a default list the umask applies: modes %s", got)
	}
	// The kernel judges by the lists.
	sh(t, dir, "chmod 755 .; setfacl -m u:65534:x d; echo y > d/h; chmod 600 d/h; setfacl -m u:65534:r d/h")
	if got := sh(t, dir, "runuser -u nobody -- cat d/h"); got != "y\n" {
		t.Errorf("a named user reads %q", got)
	}
	sh(t, dir, "if runuser -u nobody -- sh -c 'echo z > d/h' 2>/dev/null; then exit 1; fi")
	// Wrong lists are refused.
	wantErr(t, unix.Setxattr(filepath.Join(dir, "f"), aclAccess, []byte{2, 0, 0, 0, 1, 0, 7, 0, 0, 0, 0, 0}, 0), syscall.EINVAL)
}

func TestPrivileges_AreDroppedByWritesAndNewOwners(t *testing.T) {
	needPrograms(t, "runuser", "setcap", "getcap")
	for _, through := range []string{"", "1"} {
		dir, _ := startServer(t, envThrough+"="+through)
		must(t, os.Chmod(filepath.Dir(dir), 0o755))
		sh(t, dir, "chmod 777 .")
		for _, x := range []struct{ name, do string }{
			{"write", "echo x >> f"},
			{"write at the start", "echo x 1<> f"},
			{"truncate", "truncate -s 1 f"},
			{"truncate by opening", ": > f"},
			{"fallocate", "fallocate -l 100000 f"},
		} {
			sh(t, dir, "rm -f f; echo 12345 > f; chmod 6777 f; setcap cap_net_raw+ep f; runuser -u nobody -- sh -c '"+x.do+"'; sync f")
			if got := strings.TrimSpace(sh(t, dir, "stat -c %a f; getcap f")); got != "777" {
				t.Errorf("%s by somebody: mode and capabilities %q, want 777 and none", x.name, got)
			}
		}
		sh(t, dir, "rm -f f; echo 12345 > f; chmod 6777 f; setcap cap_net_raw+ep f; chown 1:1 f")
		if got := strings.TrimSpace(sh(t, dir, "stat -c %a f; getcap f")); got != "777" {
			t.Errorf("chown: mode and capabilities %q, want 777 and none", got)
		}
		sh(t, dir, "mkdir d; chmod 2775 d; chgrp 5 d; touch d/f; mkdir d/e; chown 7 d")
		if got := sh(t, dir, "stat -c '%a %g' d d/f d/e"); got != "2775 5\n644 5\n2755 5\n" {
			t.Errorf("setgid directory: %q", got)
		}
	}
}

func FuzzParseACL(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{2, 0, 0, 0})
	f.Add(formatACL([]aclEntry{{aclUserObj, 7, 0}, {aclUser, 6, 1}, {aclGroupObj, 5, 0}, {aclMask, 4, 0}, {aclOther, 1, 0}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseACL(b)
		if err != nil {
			return
		}
		if !bytes.Equal(formatACL(list), b) {
			t.Errorf("%x comes back as %x", b, formatACL(list))
		}
		if m := modeOf(list); m&^0o777 != 0 || groupObj(list) > 7 {
			t.Errorf("%x stands for mode %o", b, m)
		}
	})
}

func TestACL_ModeChangesNeedNoListChange(t *testing.T) {
	fsys := newMem(t)
	s, err := newServer(t.Context(), fsys, textLog(&lockedBuffer{}))
	must(t, err)
	s.acl = true
	root := s.nodes.get(rootID)
	list := []aclEntry{{aclUserObj, 7, 0}, {aclUser, 6, 1}, {aclGroupObj, 5, 0}, {aclMask, 7, 0}, {aclOther, 1, 0}}
	must(t, s.setACL(t.Context(), root, formatACL(list), false))
	a, err := root.node.Attr(t.Context())
	must(t, err)
	if a.Mode != 0o771 {
		t.Errorf("mode %o, want 771", a.Mode)
	}
	_, err = root.node.SetAttr(t.Context(), vfs.AttrChange{Set: vfs.SetMode, Mode: 0o1640})
	must(t, err)
	v, err := root.node.Xattr(t.Context(), aclAccess)
	must(t, err)
	shown, err := s.shownACL(t.Context(), root, v)
	must(t, err)
	want := formatACL([]aclEntry{{aclUserObj, 6, 0}, {aclUser, 6, 1}, {aclGroupObj, 5, 0}, {aclMask, 4, 0}, {aclOther, 0, 0}})
	if !bytes.Equal(shown, want) {
		t.Errorf("shown %x, want %x", shown, want)
	}
}
