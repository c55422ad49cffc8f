package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/mount/mounttest/exerciser"
	"github.com/sheaf-drive/sheaf/webdav"
)

// dav is a drive that is served.
type dav struct {
	*machine
	url, user, secret string
}

// program returns where a program of other people is.
func program(t *testing.T, name string) string {
	t.Helper()
	return testkit.Program(t, name, "webdav")
}

// newDAV makes a drive and serves it.
func newDAV(t *testing.T, env ...string) *dav {
	t.Helper()
	d := &dav{machine: newMachine(t, env...), user: "sheaf"}
	d.sheaf(t, "init")
	d.serve(t)
	return d
}

// serve serves it at a free port, or at that where it was served before.
func (d *dav) serve(t *testing.T) {
	t.Helper()
	var resp struct {
		Serving struct {
			URL string `json:"url"`
		} `json:"serving"`
		Secret string `json:"secret"`
	}
	out := d.sheaf(t, "serve", "webdav", "--addr", "127.0.0.1:0", "--json")
	if err := json.Unmarshal([]byte(out), &resp); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.url = resp.Serving.URL
	if resp.Secret != "" {
		d.secret = resp.Secret
	}
}

// other runs a program of other people, which has to succeed, and returns what it printed.
func other(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", filepath.Base(name), args, err, out)
	}
	return string(out)
}

var litmusSummary = regexp.MustCompile("<- summary for `(\\w+)': of (\\d+) tests run: (\\d+) passed, 0 failed")

// M8, on a drive that a daemon serves, behind its guard.
func TestServe_LitmusPassesOnADrive(t *testing.T) {
	litmus := program(t, "litmus")
	d := newDAV(t)
	cmd := exec.CommandContext(t.Context(), litmus, "-k", d.url, d.user, d.secret)
	cmd.Dir = t.TempDir()
	// The group http sends a request without a password, which a guard does not answer: see TestServe_LitmusPassesWithoutAGuard.
	cmd.Env = append(os.Environ(), "TESTS=basic copymove props locks")
	out, err := cmd.CombinedOutput()
	groups := litmusSummary.FindAllSubmatch(out, -1)
	for _, g := range groups {
		t.Logf("%s: %s of %s", g[1], g[3], g[2])
	}
	if err != nil || len(groups) != 4 || bytes.Contains(out, []byte("WARNING")) {
		t.Errorf("litmus: %v, %d groups\n%s", err, len(groups), out)
	}
}

// M8: all groups, on the same sort of drive.
func TestServe_LitmusPassesWithoutAGuard(t *testing.T) {
	litmus := program(t, "litmus")
	b, err := disk.Open(filepath.Join(t.TempDir(), "store"), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	drive, _, err := sheaf.Create(t.Context(), sheaf.Options{Dir: filepath.Join(t.TempDir(), "data"), Bucket: b})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drive.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	tree, err := webdav.Open(t.Context(), drive.FS(), webdav.Options{Locks: note{drive, "dav-locks"}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(tree.Handler(webdav.View{}))
	t.Cleanup(srv.Close)
	cmd := exec.CommandContext(t.Context(), litmus, "-k", srv.URL+"/")
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	groups := litmusSummary.FindAllSubmatch(out, -1)
	if err != nil || len(groups) != 5 || bytes.Contains(out, []byte("WARNING")) {
		t.Errorf("litmus: %v, %d groups\n%s", err, len(groups), out)
	}
}

// tree makes n small files and two big ones in a folder.
func tree(t *testing.T, dir string, n int) {
	t.Helper()
	r := testkit.Rand(testkit.Seed(t))
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprintf("folder %d", i%10))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("é %d & co.txt", i)), testkit.Random(r, 1+i*37%5000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"big", "empty"} {
		size := map[string]int{"big": 5_000_001}[name]
		if err := os.WriteFile(filepath.Join(dir, name), testkit.Random(r, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServe_RcloneCopiesThereAndBack(t *testing.T) {
	rclone := program(t, "rclone")
	d := newDAV(t)
	n := 60
	if os.Getenv("SHEAF_LONG") != "" {
		n = 10_000
	}
	src, back := t.TempDir(), t.TempDir()
	tree(t, src, n)
	obscured := strings.TrimSpace(other(t, nil, rclone, "obscure", d.secret))
	env := []string{"RCLONE_CONFIG=/dev/null", "RCLONE_WEBDAV_URL=" + d.url, "RCLONE_WEBDAV_USER=" + d.user, "RCLONE_WEBDAV_PASS=" + obscured}
	other(t, env, rclone, "copy", src, ":webdav:a")
	other(t, env, rclone, "check", "--download", src, ":webdav:a")
	other(t, env, rclone, "move", ":webdav:a", ":webdav:b")
	other(t, env, rclone, "copy", ":webdav:b", back)
	other(t, env, rclone, "check", "--download", back, ":webdav:b")
	if a, b := content(t, src), content(t, back); fmt.Sprint(a) != fmt.Sprint(b) {
		t.Error("what came back is not what went there")
	}
	// The same by the command, which asks the drive itself.
	out := filepath.Join(t.TempDir(), "b")
	d.sheaf(t, "cp", "sheaf:/b", out)
	if a, b := content(t, src), content(t, out); fmt.Sprint(a) != fmt.Sprint(b) {
		t.Error("the drive has something else")
	}
}

func TestServe_CadaverDoesWhatItIsTold(t *testing.T) {
	cadaver := program(t, "cadaver")
	d := newDAV(t)
	home := t.TempDir()
	host := strings.TrimSuffix(strings.TrimPrefix(d.url, "http://"), "/")
	netrc := fmt.Sprintf("machine %s\nlogin %s\npassword %s\n", strings.Split(host, ":")[0], d.user, d.secret)
	for name, text := range map[string]string{".netrc": netrc, "up.txt": "from cadaver\n"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), cadaver, d.url)
	cmd.Dir, cmd.Env = home, append(os.Environ(), "HOME="+home)
	cmd.Stdin = strings.NewReader(`mkcol a
cd a
put up.txt
lock up.txt
put up.txt
propset up.txt colour blue
propget up.txt colour
discover up.txt
unlock up.txt
copy up.txt copied.txt
move copied.txt moved.txt
get moved.txt down.txt
delete up.txt
ls
quit
`)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("failed")) || !bytes.Contains(out, []byte("blue")) {
		t.Errorf("cadaver said\n%s", out)
	}
	if b, err := os.ReadFile(filepath.Join(home, "down.txt")); err != nil || string(b) != "from cadaver\n" {
		t.Errorf("it got %q, %v", b, err)
	}
	if got := d.sheaf(t, "ls", "/a"); strings.TrimSpace(got) != "moved.txt" {
		t.Errorf("the drive has %q", got)
	}
}

// mounted mounts the drive with davfs2 and returns the folder, and how to take it away.
func (d *dav) mounted(t *testing.T) (dir string, umount func()) {
	t.Helper()
	mountDavfs := program(t, "mount.davfs")
	if os.Geteuid() != 0 || !checkMountable() {
		testkit.Lacks(t, "davfs2 is mounted by root, and needs /dev/fuse")
	}
	tmp := t.TempDir()
	dir = filepath.Join(tmp, "mnt")
	cache := filepath.Join(tmp, "cache")
	// davfs2 gives its root rights away, and must still reach its cache.
	for _, sub := range []string{dir, cache} {
		if err := os.Mkdir(sub, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(sub, 0o777); err != nil { // whatever the umask
			t.Fatal(err)
		}
	}
	for _, p := range []string{tmp, filepath.Dir(tmp)} { // both are this test's
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(tmp, "davfs2.conf")
	// Kernels of today ask for more of a folder at a time than davfs2 1.6 expects, so that whatever the server no folder can be
	// listed with its default buf_size.
	secrets := filepath.Join(tmp, "secrets")
	for name, text := range map[string]string{
		conf:    "secrets " + secrets + "\nask_auth 0\nuse_locks 1\ncache_dir " + cache + "\ndelay_upload 0\nn_cookies 0\ndir_refresh 1\nfile_refresh 0\nbuf_size 256\n",
		secrets: d.url + " " + d.user + " " + d.secret + "\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other(t, nil, mountDavfs, "-o", "conf="+conf+",rw,uid=0,gid=0", d.url, dir)
	gone := false
	umount = func() {
		if gone {
			return
		}
		gone = true
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil { // it waits until all is uploaded
			t.Errorf("umount: %v: %s", err, out)
			_ = exec.Command("umount", "-l", dir).Run()
		}
	}
	t.Cleanup(umount)
	return dir, umount
}

// M8: a file system of other people's over it, under the exerciser that a mount of ours passes; and git in it.
func TestServe_Davfs2IsAFileSystem(t *testing.T) {
	d := newDAV(t)
	dir, umount := d.mounted(t)
	ops, files := 500, 40
	if os.Getenv("SHEAF_LONG") != "" {
		ops, files = 20_000, 10_000
	}
	seed := uint64(testkit.Seed(t))
	err := exerciser.Run(t.Context(), exerciser.Config{Path: filepath.Join(dir, "exercised"), Ops: ops, Seed: seed, Without: []exerciser.Kind{
		// What davfs2 does not know: it maps nothing, and has no holes.
		exerciser.MapRead, exerciser.MapWrite, exerciser.Reserve, exerciser.Keep, exerciser.Punch, exerciser.Zero, exerciser.ZeroKeep, exerciser.Copy, exerciser.SeekHoles,
	}})
	if err != nil {
		t.Error(err)
	}
	src := t.TempDir()
	tree(t, src, files)
	repo := filepath.Join(t.TempDir(), "repo")
	id := []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org"}
	git := program(t, "git")
	other(t, nil, "cp", "-r", src, repo)
	other(t, id, git, "-C", repo, "init", "-q")
	other(t, id, git, "-C", repo, "config", "gc.auto", "0") // after a commit of thousands it would collect garbage beside the clone, and that miss the files that go
	other(t, id, git, "-C", repo, "add", ".")
	other(t, id, git, "-C", repo, "commit", "-q", "-m", "all")
	cloned := filepath.Join(dir, "clone")
	other(t, id, git, "clone", "-q", "--no-hardlinks", repo, cloned)
	other(t, append(id, "GIT_TEST_ASSUME_DIFFERENT_OWNER=0"), git, "-C", cloned, "fsck", "--full")
	umount()
	out := filepath.Join(t.TempDir(), "clone")
	d.sheaf(t, "cp", "sheaf:/clone", out)
	if err := os.RemoveAll(filepath.Join(out, ".git")); err != nil {
		t.Fatal(err)
	}
	if a, b := content(t, src), content(t, out); fmt.Sprint(a) != fmt.Sprint(b) {
		t.Error("the drive has something else than was cloned")
	}
	if got := d.sheaf(t, "ls", "/"); strings.Contains(got, "exercised") {
		t.Errorf("what was removed is still there: %s", got)
	}
}

func TestServe_GioMountsIt(t *testing.T) {
	gio, session := program(t, "gio"), program(t, "dbus-run-session")
	d := newDAV(t)
	if err := os.WriteFile(filepath.Join(t.TempDir(), "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	up := filepath.Join(t.TempDir(), "up.txt")
	if err := os.WriteFile(up, []byte("from gio\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := strings.Replace(d.url, "http://", "dav://"+d.user+"@", 1)
	script := fmt.Sprintf(`set -e
printf '%%s\n' %s | %s mount %s >/dev/null
%s mkdir %sa
%s copy %s %sa/one.txt
%s move %sa/one.txt '%sa/two & more.txt'
%s cat '%sa/two & more.txt'
%s list %sa
`, d.secret, gio, url, gio, url, gio, up, url, gio, url, url, gio, url, gio, url)
	home := t.TempDir()
	out := other(t, []string{"HOME=" + home, "XDG_RUNTIME_DIR=" + home, "XDG_CONFIG_HOME=" + home, "XDG_DATA_HOME=" + home}, session, "--", "sh", "-c", script)
	if !strings.Contains(out, "from gio") || !strings.Contains(out, "two & more.txt") {
		t.Errorf("gio said\n%s", out)
	}
	if got := d.sheaf(t, "cat", "/a/two & more.txt"); got != "from gio\n" {
		t.Errorf("the drive has %q", got)
	}
}

// What a killed daemon had answered is there when it runs again.
func TestServe_WhatWasAnsweredSurvivesAKill(t *testing.T) {
	d := newDAV(t)
	put := func(path, body string, head ...string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, d.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(d.user, d.secret)
		for i := 0; i < len(head); i += 2 {
			r.Header.Set(head[i], head[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	rounds := 3
	if os.Getenv("SHEAF_LONG") != "" {
		rounds = 50
	}
	for round := range rounds {
		stop := make(chan struct{})
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			<-stop
			killNow(t, d.home)
		}()
		kept := map[string]string{}
		for i := 0; ; i++ {
			name, body := fmt.Sprintf("%d-%d", round, i%7), strings.Repeat(fmt.Sprintf("%d %d\n", round, i), 1+i*997%50_000)
			code := put(name, body)
			if code/100 == 2 {
				kept[name] = body
			} else if code == 0 {
				// Cut off: the old file, or the new one, but whole.
				delete(kept, name)
				break
			} else {
				t.Fatalf("PUT: %d", code)
			}
			if i == 20 {
				close(stop)
			}
		}
		<-killed
		d.serve(t)
		for name, body := range kept {
			if got := d.sheaf(t, "cat", "/"+name); got != body {
				t.Fatalf("round %d: %s has %d bytes, and %d were acknowledged", round, name, len(got), len(body))
			}
		}
		if got := d.sheaf(t, "ls", "/"); strings.Contains(got, ".sheaf-dav") {
			t.Errorf("half a PUT was left: %s", got)
		}
		d.sheaf(t, "serve", "stop", strings.TrimSuffix(strings.TrimPrefix(d.url, "http://"), "/"))
		d.serve(t)
	}
}

// killNow kills the daemon of a home and returns when it is gone.
func killNow(t *testing.T, home string) {
	b, err := os.ReadFile(filepath.Join(home, "data", "process.lock"))
	if err != nil {
		t.Error(err)
		return
	}
	pid := strings.TrimSpace(string(b))
	if out, err := exec.Command("kill", "-9", pid).CombinedOutput(); err != nil {
		t.Errorf("kill: %v: %s", err, out)
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if exec.Command("kill", "-0", pid).Run() != nil {
			return
		}
		if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Error("the daemon does not end")
}
