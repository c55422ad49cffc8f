package remotes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// cost is what one step needed.
type cost struct {
	wall               time.Duration
	requests, up, down int64
}

// costOf returns what a step needs.
func costOf(t *testing.T, c *remotetest.Traffic, step func() error) cost {
	t.Helper()
	r, u, d, at := c.Requests.Load(), c.Up.Load(), c.Down.Load(), time.Now()
	if err := step(); err != nil {
		t.Fatal(err)
	}
	return cost{time.Since(at), c.Requests.Load() - r, c.Up.Load() - u, c.Down.Load() - d}
}

func (c cost) String() string {
	return fmt.Sprintf("%7.2f s, %6d requests, %8.1f MiB up, %8.1f MiB down", c.wall.Seconds(), c.requests, float64(c.up)/(1<<20), float64(c.down)/(1<<20))
}

// sheaf is the command, built once.
var sheaf = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "remotes-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "sheaf")
	cmd := exec.Command("go", "build", "-o", bin, "github.com/sheaf-drive/sheaf/cmd/sheaf")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sheaf: %w: %s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, err := sheaf(); err == nil {
		_ = os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

func run(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "AWS_CA_BUNDLE=") }) // an old rclone cannot use it
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out, errs.String())
	}
	return string(out), err
}

// A system brings a folder to a place and back. step has a name, and what it does is measured.
type system interface {
	push(ctx context.Context, dir string) error
	pull(ctx context.Context, to string) error // by a second machine, which knows nothing but secrets
}

// ours is sheaf.
type ours struct {
	t     *testing.T
	place remotetest.Place
	homes [2]string
	words string
}

func newOurs(t *testing.T, p remotetest.Place) *ours {
	o := &ours{t: t, place: p, homes: [2]string{filepath.Join(t.TempDir(), "home"), filepath.Join(t.TempDir(), "home")}, words: filepath.Join(t.TempDir(), "words")}
	out, err := o.run(t.Context(), 0, "init", "--json")
	if err == nil {
		var made struct{ Recovery string }
		err = errors.Join(json.Unmarshal([]byte(out), &made), os.WriteFile(o.words, []byte(made.Recovery), 0o600))
	}
	for i := range o.homes {
		if err == nil {
			err = o.add(t.Context(), i)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *ours) run(ctx context.Context, i int, args ...string) (string, error) {
	bin, err := sheaf()
	if err != nil {
		return "", err
	}
	env := []string{"SHEAF_HOME=" + o.homes[i]}
	for k, v := range o.place.Secrets {
		env = append(env, "SHEAF_REMOTE_PLACE_"+strings.ToUpper(k)+"="+v)
	}
	return run(ctx, env, bin, args...)
}

func (o *ours) add(ctx context.Context, i int) error {
	args := []string{"remote", "add", "place", o.place.Kind}
	if dir := filepath.Dir(o.place.Path); dir != "." {
		args = append(args, "--path", dir)
	}
	for k, v := range o.place.Options {
		args = append(args, k+"="+v)
	}
	_, err := o.run(ctx, i, args...)
	return err
}

func (o *ours) push(ctx context.Context, dir string) error {
	for _, args := range [][]string{{"cp", dir + "/.", "sheaf:/tree"}, {"replica", "add", "place:" + o.place.Path}, {"wait", "--copies", "2", "--timeout", "1h"}} {
		if _, err := o.run(ctx, 0, args...); err != nil {
			return err
		}
	}
	return nil
}

func (o *ours) pull(ctx context.Context, to string) error {
	for _, args := range [][]string{{"init", "--from", "place:" + o.place.Path, "--recovery-file", o.words}, {"cp", "sheaf:/tree/.", to}} {
		if _, err := o.run(ctx, 1, args...); err != nil {
			return err
		}
	}
	return nil
}

// crypt is rclone through its crypt.
type crypt struct {
	place remotetest.Place
	env   []string
}

func newCrypt(t *testing.T, p remotetest.Place) *crypt {
	t.Helper()
	obscure := func(s string) string {
		out, err := run(t.Context(), nil, "rclone", "obscure", s)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	c := &crypt{place: p, env: []string{
		"RCLONE_CONFIG=/dev/null", "RCLONE_CONFIG_BASE_TYPE=" + p.Kind,
		"RCLONE_CONFIG_SECRET_TYPE=crypt", "RCLONE_CONFIG_SECRET_REMOTE=base:" + p.Path + "-rclone", "RCLONE_CONFIG_SECRET_PASSWORD=" + obscure("secret"),
	}}
	for k, v := range p.Options {
		c.env = append(c.env, "RCLONE_CONFIG_BASE_"+strings.ToUpper(k)+"="+v)
	}
	for k, v := range p.Secrets {
		if k == "pass" {
			v = obscure(v)
		}
		c.env = append(c.env, "RCLONE_CONFIG_BASE_"+strings.ToUpper(k)+"="+v)
	}
	return c
}

func (c *crypt) push(ctx context.Context, dir string) error {
	_, err := run(ctx, c.env, "rclone", "copy", dir, "secret:")
	return err
}

func (c *crypt) pull(ctx context.Context, to string) error {
	_, err := run(ctx, c.env, "rclone", "copy", "secret:", to)
	return err
}

// rest is restic, which has S3 only of what is here.
type rest struct{ env []string }

func newRest(t *testing.T, p remotetest.Place) *rest {
	t.Helper()
	bucket, _, _ := strings.Cut(p.Path, "/")
	r := &rest{env: []string{
		"RESTIC_REPOSITORY=s3:" + p.Options["endpoint"] + "/" + bucket + "/restic", "RESTIC_PASSWORD=secret", "RESTIC_CACHE_DIR=" + t.TempDir(),
		"AWS_ACCESS_KEY_ID=" + p.Secrets["access_key_id"], "AWS_SECRET_ACCESS_KEY=" + p.Secrets["secret_access_key"], "AWS_DEFAULT_REGION=us-east-1",
	}}
	if _, err := run(t.Context(), r.env, "restic", "init"); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rest) push(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "restic", "backup", "-q", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), r.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("restic backup: %w: %s", err, out)
	}
	return nil
}

func (r *rest) pull(ctx context.Context, to string) error {
	dir, err := os.MkdirTemp("", "restic-cache-") // another machine has no cache
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	_, err = run(ctx, append(r.env, "RESTIC_CACHE_DIR="+dir), "restic", "restore", "latest", "-q", "--target", to)
	return err
}

// same fails if two folders differ.
func same(t *testing.T, a, b string) {
	t.Helper()
	if out, err := exec.Command("diff", "-r", a, b).CombinedOutput(); err != nil {
		t.Errorf("%s differs from %s: %v\n%.1000s", b, a, err, out)
	}
}

// Ten thousand small files go to a server and come back on another machine with less than a fiftieth of rclone's requests; and a big file. With
// SHEAF_REMOTE_BENCH=1 in that size, and beside restic on S3, and once more with 40 ms to the server; else some hundred files on WebDAV.
func TestRemotes_SmallFilesNeedFewRequests(t *testing.T) {
	full := os.Getenv("SHEAF_REMOTE_BENCH") != ""
	files, big, start := 400, 4<<20, remotetest.RcloneWebDAV
	delays := []time.Duration{0}
	if full {
		files, big, start = 10_000, 1<<30, remotetest.S3
		delays = append(delays, 40*time.Millisecond)
	}
	rng := testkit.Rand(testkit.Seed(t))
	small, one := t.TempDir(), t.TempDir()
	for i := range files {
		dir := filepath.Join(small, fmt.Sprint(i/100))
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), testkit.Random(rng, 100+rng.IntN(8<<10)), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(one, "big"), testkit.Random(rng, big), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, delay := range delays {
		for what, dir := range map[string]string{"small files": small, "a big file": one} {
			needs := map[string][2]cost{}
			for _, name := range []string{"sheaf", "rclone", "restic"} {
				if name == "restic" && !full {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", delay, what, name), func(t *testing.T) {
					srv, direct := start(t)
					proxy, place := remotetest.Front(t, srv, direct)
					c := &remotetest.Traffic{Delay: delay}
					c.Watch(proxy)
					var s system
					switch name {
					case "sheaf":
						s = newOurs(t, place)
					case "rclone":
						s = newCrypt(t, place)
					default:
						s = newRest(t, place)
					}
					to := filepath.Join(t.TempDir(), "back")
					push := costOf(t, c, func() error { return s.push(t.Context(), dir) })
					pull := costOf(t, c, func() error { return s.pull(t.Context(), to) })
					same(t, dir, to)
					needs[name] = [2]cost{push, pull}
					t.Logf("push %s", push)
					t.Logf("pull %s", pull)
				})
			}
			mine, theirs := needs["sheaf"], needs["rclone"]
			if mine[0].requests == 0 || theirs[0].requests == 0 {
				continue // it was not asked for, or failed
			}
			if what == "small files" && (mine[0].requests*50 > theirs[0].requests || mine[1].requests*50 > theirs[1].requests) && full {
				t.Errorf("%d and %d requests are not less than a fiftieth of %d and %d", mine[0].requests, mine[1].requests, theirs[0].requests, theirs[1].requests)
			}
			if what == "small files" && !full && mine[0].requests*4 > theirs[0].requests {
				t.Errorf("%d requests to push %d files, rclone needs %d", mine[0].requests, files, theirs[0].requests)
			}
		}
	}
}
