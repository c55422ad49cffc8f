package sftp_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// need ends a test if a program is not there.
func need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		testkit.Lacks(t, program+" is not here: run scripts/deps")
	}
}

// run runs a program in dir and returns what it says.
func run(t testing.TB, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// tree makes some files, among them names that are not easy, and returns their folder.
func tree(t testing.TB) string {
	t.Helper()
	dir, rng := t.TempDir(), rand.New(rand.NewPCG(uint64(testkit.Seed(t)), 1))
	for i, name := range []string{"a", "b c", "ü/ñ", "deep/er/and/deeper", "empty", "quote'\"", "-dash", "big"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, i*1000)
		switch name {
		case "empty":
			b = nil
		case "big":
			b = make([]byte, 5<<20)
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

// M11: OpenSSH's own client puts a tree, changes it and gets it back.
func TestDoor_OpenSSH(t *testing.T) {
	need(t, "sftp")
	s := serve(t, nil)
	src, home := tree(t), t.TempDir()
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
	out := run(t, src, []string{"SSH_ASKPASS=" + ask, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=:0"}, "sftp", "-q", "-o", "BatchMode=no",
		"-o", "UserKnownHostsFile="+known, "-o", "StrictHostKeyChecking=yes", "-o", "PubkeyAuthentication=no", "-P", port, "-b", batch, user+"@"+host)
	t.Log(out)
	// It came back into the folder that it came from.
	run(t, back, nil, "cp", "-a", filepath.Join(src, "up")+"/.", ".")
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
	need(t, "rclone")
	s := serve(t, nil)
	src, home, back := tree(t), t.TempDir(), t.TempDir()
	host, port, err := net.SplitHostPort(s.door.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	hidden := run(t, home, nil, "rclone", "obscure", secret)
	env := []string{
		"RCLONE_CONFIG=" + filepath.Join(home, "none"), "RCLONE_CONFIG_S_TYPE=sftp", "RCLONE_CONFIG_S_HOST=" + host, "RCLONE_CONFIG_S_PORT=" + port,
		"RCLONE_CONFIG_S_USER=" + user, "RCLONE_CONFIG_S_PASS=" + hidden[:len(hidden)-1], "RCLONE_CONFIG_S_SHELL_TYPE=none",
	}
	run(t, src, env, "rclone", "copy", ".", "s:there")
	run(t, src, env, "rclone", "check", "--download", ".", "s:there")
	run(t, src, env, "rclone", "sync", "s:there", back)
	run(t, src, nil, "diff", "-r", src, back)
	run(t, src, env, "rclone", "moveto", "s:there/big", "s:there/moved/big")
	run(t, src, env, "rclone", "purge", "s:there/deep")
	if out := run(t, src, env, "rclone", "lsf", "-R", "--files-only", "s:there"); bytes.Contains([]byte(out), []byte("deep")) || !bytes.Contains([]byte(out), []byte("moved/big")) {
		t.Errorf("after a move and a purge there is:\n%s", out)
	}
}
