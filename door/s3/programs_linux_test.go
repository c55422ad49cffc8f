package s3_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// need ends a test if a program is not there.
func need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		testkit.Lacks(t, program+" is not here: run scripts/deps webdav")
	}
}

// run runs a program in dir and returns what it says.
func run(t testing.TB, dir string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // what goes on longer tries again and again
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// tree makes some files, one of them large, and returns their folder.
func files(t testing.TB) string {
	t.Helper()
	dir, rng := t.TempDir(), rand.New(rand.NewPCG(uint64(testkit.Seed(t)), 1))
	for i, name := range []string{"a", "b c", "ü/ñ", "deep/er/and/deeper", "empty", "plus+and&and%", "big"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, i*1000)
		switch name {
		case "empty":
			b = nil
		case "big":
			b = make([]byte, 13<<20)
		}
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// M11: rclone copies a tree there, the large file in parts, finds it equal, times included, moves in it, and copies it back.
func TestDoor_Rclone(t *testing.T) {
	need(t, "rclone")
	need(t, "curl")
	s := serve(t, nil)
	src, home, back := files(t), t.TempDir(), t.TempDir()
	env := []string{
		"RCLONE_CONFIG=" + filepath.Join(home, "none"), "RCLONE_CONFIG_S_TYPE=s3", "RCLONE_CONFIG_S_PROVIDER=Other", "RCLONE_CONFIG_S_ENDPOINT=" + s.URL,
		"RCLONE_CONFIG_S_ACCESS_KEY_ID=" + access, "RCLONE_CONFIG_S_SECRET_ACCESS_KEY=" + secret, "RCLONE_S3_UPLOAD_CUTOFF=5M", "RCLONE_S3_CHUNK_SIZE=5M",
		"RCLONE_RETRIES=1", "RCLONE_LOW_LEVEL_RETRIES=1", "AWS_CA_BUNDLE=",
	}
	run(t, src, env, "rclone", "copy", ".", "s:photos/in")
	run(t, src, env, "rclone", "check", ".", "s:photos/in")
	run(t, src, env, "rclone", "check", "--download", ".", "s:photos/in")
	if out := run(t, src, append(env, "RCLONE_USE_JSON_LOG=true"), "rclone", "sync", "-v", ".", "s:photos/in"); strings.Contains(out, "Copied") {
		t.Errorf("a second time there is something to copy:\n%s", out)
	}
	run(t, src, env, "rclone", "sync", "s:photos/in", back)
	run(t, src, nil, "diff", "-r", src, back)
	for _, name := range []string{"a", "big"} {
		want, err := os.Stat(filepath.Join(src, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.Stat(filepath.Join(back, name)); err != nil || !got.ModTime().Equal(want.ModTime()) {
			t.Errorf("%s is of %v, want %v: %v", name, got.ModTime(), want.ModTime(), err)
		}
	}
	// A URL that is signed for somebody without a key.
	url := strings.TrimSpace(run(t, src, env, "rclone", "-q", "link", "--expire", "10m", "s:photos/in/b c"))
	run(t, home, nil, "curl", "-sSf", "-o", "got", url)
	run(t, home, nil, "cmp", "got", filepath.Join(src, "b c"))
	run(t, src, env, "rclone", "moveto", "s:photos/in/big", "s:photos/moved/big")
	run(t, src, env, "rclone", "purge", "s:photos/in/deep")
	run(t, src, env, "rclone", "check", "--one-way", "--download", filepath.Join(src), "s:photos/moved", "--include", "/big")
	if out := run(t, src, env, "rclone", "lsf", "-R", "--files-only", "s:photos"); strings.Contains(out, "deep") || !strings.Contains(out, "moved/big") {
		t.Errorf("after a move and a purge there is:\n%s", out)
	}
}

// M11: s3cmd.
func TestDoor_S3cmd(t *testing.T) {
	need(t, "s3cmd")
	s := serve(t, nil)
	src, home, back := files(t), t.TempDir(), t.TempDir()
	host := strings.TrimPrefix(s.URL, "http://")
	conf := filepath.Join(home, "conf")
	text := fmt.Sprintf("[default]\naccess_key = %s\nsecret_key = %s\nhost_base = %s\nhost_bucket = %s\nuse_https = False\nsignature_v2 = False\nmultipart_chunk_size_mb = 5\n", access, secret, host, host)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := func(args ...string) string {
		return run(t, src, nil, "s3cmd", append([]string{"-c", conf}, args...)...)
	}
	cmd("mb", "s3://photos")
	cmd("sync", "./", "s3://photos/in/")
	cmd("sync", "s3://photos/in/", back+"/")
	run(t, src, nil, "diff", "-r", src, back)
	cmd("cp", "s3://photos/in/a", "s3://photos/copy")
	if out := cmd("ls", "s3://photos"); !strings.Contains(out, "s3://photos/copy") || !strings.Contains(out, "DIR  s3://photos/in/") {
		t.Errorf("it lists:\n%s", out)
	}
	cmd("del", "--recursive", "--force", "s3://photos")
	cmd("rb", "s3://photos")
}
