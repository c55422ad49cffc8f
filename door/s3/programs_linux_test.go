package s3_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// files makes some files, one of them large, and returns their folder.
func files(t testing.TB) string {
	t.Helper()
	return testkit.Files(t, testkit.Rand(testkit.Seed(t)), map[string]int{
		"a": 1, "b c": 1000, "ü/ñ": 2000, "deep/er/and/deeper": 3000, "empty": 0, "plus+and&and%": 5000, "big": 13 << 20,
	})
}

// M11: rclone copies a tree there, the large file in parts, finds it equal, times included, moves in it, and copies it back.
func TestDoor_Rclone(t *testing.T) {
	testkit.Program(t, "rclone", "")
	testkit.Program(t, "curl", "webdav")
	s := serve(t, nil)
	src, home, back := files(t), t.TempDir(), t.TempDir()
	env := []string{
		"RCLONE_CONFIG=" + filepath.Join(home, "none"), "RCLONE_CONFIG_S_TYPE=s3", "RCLONE_CONFIG_S_PROVIDER=Other", "RCLONE_CONFIG_S_ENDPOINT=" + s.URL,
		"RCLONE_CONFIG_S_ACCESS_KEY_ID=" + access, "RCLONE_CONFIG_S_SECRET_ACCESS_KEY=" + secret, "RCLONE_S3_UPLOAD_CUTOFF=5M", "RCLONE_S3_CHUNK_SIZE=5M",
		"RCLONE_RETRIES=1", "RCLONE_LOW_LEVEL_RETRIES=1", "AWS_CA_BUNDLE=",
	}
	testkit.Run(t, src, env, "rclone", "copy", ".", "s:photos/in")
	testkit.Run(t, src, env, "rclone", "check", ".", "s:photos/in")
	testkit.Run(t, src, env, "rclone", "check", "--download", ".", "s:photos/in")
	if out := testkit.Run(t, src, append(env, "RCLONE_USE_JSON_LOG=true"), "rclone", "sync", "-v", ".", "s:photos/in"); strings.Contains(out, "Copied") {
		t.Errorf("a second time there is something to copy:\n%s", out)
	}
	testkit.Run(t, src, env, "rclone", "sync", "s:photos/in", back)
	testkit.Run(t, src, nil, "diff", "-r", src, back)
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
	url := strings.TrimSpace(testkit.Run(t, src, env, "rclone", "-q", "link", "--expire", "10m", "s:photos/in/b c"))
	testkit.Run(t, home, nil, "curl", "-sSf", "-o", "got", url)
	testkit.Run(t, home, nil, "cmp", "got", filepath.Join(src, "b c"))
	testkit.Run(t, src, env, "rclone", "moveto", "s:photos/in/big", "s:photos/moved/big")
	testkit.Run(t, src, env, "rclone", "purge", "s:photos/in/deep")
	testkit.Run(t, src, env, "rclone", "check", "--one-way", "--download", filepath.Join(src), "s:photos/moved", "--include", "/big")
	if out := testkit.Run(t, src, env, "rclone", "lsf", "-R", "--files-only", "s:photos"); strings.Contains(out, "deep") || !strings.Contains(out, "moved/big") {
		t.Errorf("after a move and a purge there is:\n%s", out)
	}
}

// M11: s3cmd.
func TestDoor_S3cmd(t *testing.T) {
	testkit.Program(t, "s3cmd", "webdav")
	s := serve(t, nil)
	src, home, back := files(t), t.TempDir(), t.TempDir()
	host := strings.TrimPrefix(s.URL, "http://")
	conf := filepath.Join(home, "conf")
	text := fmt.Sprintf("[default]\naccess_key = %s\nsecret_key = %s\nhost_base = %s\nhost_bucket = %s\nuse_https = False\nsignature_v2 = False\nmultipart_chunk_size_mb = 5\n", access, secret, host, host)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := func(args ...string) string {
		return testkit.Run(t, src, nil, "s3cmd", append([]string{"-c", conf}, args...)...)
	}
	cmd("mb", "s3://photos")
	cmd("sync", "./", "s3://photos/in/")
	cmd("sync", "s3://photos/in/", back+"/")
	testkit.Run(t, src, nil, "diff", "-r", src, back)
	cmd("cp", "s3://photos/in/a", "s3://photos/copy")
	if out := cmd("ls", "s3://photos"); !strings.Contains(out, "s3://photos/copy") || !strings.Contains(out, "DIR  s3://photos/in/") {
		t.Errorf("it lists:\n%s", out)
	}
	cmd("del", "--recursive", "--force", "s3://photos")
	cmd("rb", "s3://photos")
}
