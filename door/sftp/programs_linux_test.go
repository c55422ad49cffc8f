package sftp_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// files makes some files, one of them large, and returns their folder.
func files(t testing.TB) string {
	t.Helper()
	return testkit.Files(t, testkit.Rand(testkit.Seed(t)), map[string]int{
		"a": 1, "b c": 1000, "ü/ñ": 2000, "deep/er/and/deeper": 3000, "empty": 0, "quote'\"": 5000, "-dash": 6000, "big": 5 << 20,
	})
}

// M11: OpenSSH's own client puts a tree, changes it and gets it back.
func TestDoor_OpenSSH(t *testing.T) {
	testkit.Program(t, "sftp", "")
	s := serve(t, nil)
	src, home := files(t), t.TempDir()
	host, port, err := net.SplitHostPort(s.door.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	known := filepath.Join(home, "known")
	line := fmt.Sprintf("[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(s.key.PublicKey()))
	ask := filepath.Join(home, "ask")
	if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ask, []byte("#!/bin/sh\necho '"+secret+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	batch := filepath.Join(home, "batch")
	text := `mkdir up
put -R . up
rename up/a up/renamed
ln -s renamed up/link
chmod 600 up/renamed
ls -la up
rm up/empty
get -R up .
df .
`
	if err := os.WriteFile(batch, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	back := t.TempDir()
	out := testkit.Run(t, src, []string{"SSH_ASKPASS=" + ask, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=:0"}, "sftp", "-q", "-o", "BatchMode=no",
		"-o", "UserKnownHostsFile="+known, "-o", "StrictHostKeyChecking=yes", "-o", "PubkeyAuthentication=no", "-P", port, "-b", batch, user+"@"+host)
	t.Log(out)
	// It came back into the folder that it came from.
	testkit.Run(t, back, nil, "cp", "-a", filepath.Join(src, "up")+"/.", ".")
	for _, name := range []string{"b c", "ü/ñ", "deep/er/and/deeper", "quote'\"", "-dash", "big"} {
		want, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(back, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d: %v", name, len(got), len(want), err)
		}
	}
	if _, err := os.Stat(filepath.Join(back, "empty")); err == nil {
		t.Error("what was removed came back")
	}
	if fi, err := os.Stat(filepath.Join(back, "renamed")); err != nil || fi.Mode() != 0o600 {
		t.Errorf("what was renamed: %v %v", fi, err)
	}
}

// M11: rclone copies a tree there, finds it equal, and copies it back.
func TestDoor_Rclone(t *testing.T) {
	testkit.Program(t, "rclone", "")
	s := serve(t, nil)
	src, home, back := files(t), t.TempDir(), t.TempDir()
	host, port, err := net.SplitHostPort(s.door.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	hidden := testkit.Run(t, home, nil, "rclone", "obscure", secret)
	env := []string{
		"RCLONE_CONFIG=" + filepath.Join(home, "none"), "RCLONE_CONFIG_S_TYPE=sftp", "RCLONE_CONFIG_S_HOST=" + host, "RCLONE_CONFIG_S_PORT=" + port,
		"RCLONE_CONFIG_S_USER=" + user, "RCLONE_CONFIG_S_PASS=" + hidden[:len(hidden)-1], "RCLONE_CONFIG_S_SHELL_TYPE=none",
	}
	testkit.Run(t, src, env, "rclone", "copy", ".", "s:there")
	testkit.Run(t, src, env, "rclone", "check", "--download", ".", "s:there")
	testkit.Run(t, src, env, "rclone", "sync", "s:there", back)
	testkit.Run(t, src, nil, "diff", "-r", src, back)
	testkit.Run(t, src, env, "rclone", "moveto", "s:there/big", "s:there/moved/big")
	testkit.Run(t, src, env, "rclone", "purge", "s:there/deep")
	if out := testkit.Run(t, src, env, "rclone", "lsf", "-R", "--files-only", "s:there"); bytes.Contains([]byte(out), []byte("deep")) || !bytes.Contains([]byte(out), []byte("moved/big")) {
		t.Errorf("after a move and a purge there is:\n%s", out)
	}
}
