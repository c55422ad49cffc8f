package remotes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	drive "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
	"github.com/sheaf-drive/sheaf/vfs"
)

// fill makes n files in a home, a thousand in a folder, of 500 to 900 random bytes, and commits after each 20,000. Before, it makes a folder with so
// many large files that there are a dozen packs.
func (o *ours) fill(t *testing.T, n int) {
	t.Helper()
	ctx := t.Context()
	b, err := disk.Open(filepath.Join(o.homes[0], "store"), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := drive.Open(ctx, drive.Options{Dir: filepath.Join(o.homes[0], "data"), Bucket: b})
	if err != nil {
		t.Fatal(errors.Join(err, b.Close()))
	}
	defer func() {
		if err := errors.Join(d.Close(context.WithoutCancel(ctx)), b.Close()); err != nil {
			t.Error(err)
		}
	}()
	rng, fsys := testkit.Rand(testkit.Seed(t)), d.FS()
	if _, err := vfs.MkdirAll(ctx, fsys, "large", vfs.New{Kind: vfs.KindDir, Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		if err := vfs.WriteFile(ctx, fsys, fmt.Sprintf("large/%d", i), testkit.Random(rng, 14<<20), vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		dir := fmt.Sprintf("%02d/%03d", i/100_000, i/1000)
		if i%1000 == 0 {
			if _, err := vfs.MkdirAll(ctx, fsys, dir, vfs.New{Kind: vfs.KindDir, Mode: 0o755}); err != nil {
				t.Fatal(err)
			}
		}
		if err := vfs.WriteFile(ctx, fsys, fmt.Sprintf("%s/file-%07d", dir, i), testkit.Random(rng, 500+rng.IntN(400)), vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if i%20_000 == 19_999 {
			if err := d.Commit(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// mount mounts the drive of the second home, and returns when it says that it is.
func (o *ours) mount(t *testing.T, dir string) {
	t.Helper()
	bin, err := sheaf()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "mount", "--foreground", dir)
	cmd.Env = append(os.Environ(), "SHEAF_HOME="+o.homes[1])
	for k, v := range o.place.Secrets {
		cmd.Env = append(cmd.Env, "SHEAF_REMOTE_PLACE_"+strings.ToUpper(k)+"="+v)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("mount: %v\n%s", err, said.String())
		}
		_ = exec.Command("fusermount3", "-uz", dir).Run() // it is gone, unless the process was
	})
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		if strings.Contains(sc.Text(), "mounted") {
			go func() {
				for sc.Scan() { // so that it can go on to write
				}
			}()
			return
		}
	}
	t.Fatal("mount ended before it was ready")
}

// M2: a device that knows nothing but the words and a server shows the root of a drive at once, and asks for little until then, however many
// files there are. SHEAF_REMOTE_BENCH=1 takes a million of them, on S3.
func TestRemotes_AFreshDeviceShowsTheRootAtOnce(t *testing.T) {
	files, start, most := 2000, remotetest.RcloneWebDAV, 20*time.Second
	if os.Getenv("SHEAF_REMOTE_BENCH") != "" {
		files, start, most = 1_000_000, remotetest.S3, 2*time.Second
	}
	if n, err := strconv.Atoi(os.Getenv("SHEAF_REMOTE_FILES")); err == nil {
		files = n
	}
	srv, direct := start(t)
	proxy, place := remotetest.Front(t, srv, direct)
	c := &remotetest.Traffic{}
	c.Watch(proxy)
	o := newOurs(t, place)
	o.fill(t, files)
	push := costOf(t, c, func() error {
		for _, args := range [][]string{{"replica", "add", "place:" + o.place.Path}, {"wait", "--copies", "2", "--timeout", "1h"}} {
			if _, err := o.run(t.Context(), 0, args...); err != nil {
				return err
			}
		}
		return nil
	})
	t.Logf("push    %s", push)
	c.Take()
	begin := time.Now()
	opened := costOf(t, c, func() error {
		_, err := o.run(t.Context(), 1, "init", "--from", "place:"+o.place.Path, "--recovery-file", o.words)
		return err
	})
	dir := t.TempDir()
	mounted := costOf(t, c, func() error { o.mount(t, dir); return nil })
	listed := costOf(t, c, func() error {
		names, err := os.ReadDir(dir)
		if want := (files+99_999)/100_000 + 1; err == nil && len(names) != want {
			err = fmt.Errorf("the root has %d entries, not %d", len(names), want)
		}
		return err
	})
	took := time.Since(begin)
	t.Logf("init    %s", opened)
	t.Logf("mount   %s", mounted)
	t.Logf("ls /    %s", listed)
	t.Logf("asked for: %v", c.Take())
	if down := opened.down + mounted.down + listed.down; down >= 5<<20 {
		t.Errorf("%.1f MiB were read before the root was shown", float64(down)/(1<<20))
	}
	if took > most {
		t.Errorf("it took %s until the root was shown, not %s", took, most)
	}
	deeper := costOf(t, c, func() error {
		b, err := os.ReadFile(filepath.Join(dir, "00", "001", "file-0001210"))
		if err == nil && len(b) < 500 {
			err = fmt.Errorf("a file has %d bytes", len(b))
		}
		return err
	})
	t.Logf("a file  %s", deeper)
}
