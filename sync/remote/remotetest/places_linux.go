package remotetest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"os/user"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
)

// secret returns a password nobody else on this machine knows.
func secret() string { return rand.Text() }

// WebDAV starts Apache with mod_dav, and asks for a password.
func WebDAV(t testing.TB, set ...Setting) (*Server, Place) {
	t.Helper()
	bin := need(t, "apache2")
	tmp := t.TempDir()
	files, state := mkdir(t, tmp, "files"), mkdir(t, tmp, "state")
	pass := secret()
	sum := sha1.Sum([]byte(pass)) //nolint:gosec // the form that Apache reads
	write(t, filepath.Join(tmp, "users"), 0o644, "me:{SHA}"+base64.StdEncoding.EncodeToString(sum[:])+"\n")
	become := ""
	if u := unprivileged(t, files, state); u != "" {
		become = "User " + u + "\nGroup " + u + "\n"
	}
	const modules = "/usr/lib/apache2/modules/"
	conf := ""
	for _, m := range []string{"mpm_event", "authn_core", "authz_core", "authz_user", "auth_basic", "authn_file", "dav", "dav_fs", "setenvif"} {
		conf += fmt.Sprintf("LoadModule %s_module %smod_%s.so\n", m, modules, m)
	}
	conf += fmt.Sprintf(`%sServerName localhost
ServerRoot %s
PidFile %s/pid
DefaultRuntimeDir %s
Mutex file:%s
ErrorLog /dev/stderr
DocumentRoot %s
DavLockDB %s/lock
LimitRequestBody 0
KeepAliveTimeout 120
<Directory %s>
  Dav On
  AuthType Basic
  AuthName files
  AuthUserFile %s/users
  Require valid-user
</Directory>
`, become, state, state, state, state, files, state, files, tmp)
	s := serve(t, files, web, set, func(addr string) []string {
		return []string{bin, "-D", "FOREGROUND", "-f", write(t, filepath.Join(tmp, "conf"), 0o644, "Listen "+addr+"\n"+conf)}
	})
	return s, Place{
		Kind: "webdav", Options: map[string]string{"url": "http://" + s.Addr + "/", "vendor": "other", "user": "me"}, Secrets: map[string]string{"pass": pass},
		Path: "drive", Dir: files,
	}
}

// RcloneWebDAV starts rclone's own server for WebDAV.
func RcloneWebDAV(t testing.TB, set ...Setting) (*Server, Place) {
	t.Helper()
	bin := need(t, "rclone")
	files := mkdir(t, t.TempDir(), "files")
	pass := secret()
	s := serve(t, files, web, set, func(addr string) []string {
		return []string{bin, "serve", "webdav", "--config", "/dev/null", "--addr", addr, "--user", "me", "--pass", pass, "--dir-cache-time", "0s", files}
	})
	return s, Place{
		Kind: "webdav", Options: map[string]string{"url": "http://" + s.Addr + "/", "vendor": "rclone", "user": "me"}, Secrets: map[string]string{"pass": pass},
		Path: "drive", Dir: files,
	}
}

// SFTP starts OpenSSH's server with keys made for the test.
func SFTP(t testing.TB, set ...Setting) (*Server, Place) {
	t.Helper()
	bin := need(t, "sshd")
	tmp := t.TempDir()
	files := mkdir(t, tmp, "files")
	hostKey, hostPub := sshKey(t)
	userKey, userPub := sshKey(t)
	write(t, filepath.Join(tmp, "host"), 0o600, hostKey)
	write(t, filepath.Join(tmp, "may"), 0o600, userPub)
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if u.Uid == "0" { // as the service does, which nobody has started
		mkdir(t, "/run/sshd")
	}
	var port string
	conf := fmt.Sprintf(`ListenAddress 127.0.0.1
HostKey %s/host
AuthorizedKeysFile %s/may
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
`, tmp, tmp)
	s := serve(t, files, banner, set, func(addr string) []string {
		_, port, _ = net.SplitHostPort(addr)
		return []string{bin, "-D", "-e", "-f", write(t, filepath.Join(tmp, "conf"), 0o644, "Port "+port+"\n"+conf)}
	})
	known := write(t, filepath.Join(tmp, "known"), 0o600, fmt.Sprintf("[127.0.0.1]:%s %s", port, hostPub))
	return s, Place{
		Kind:    "sftp",
		Options: map[string]string{"host": "127.0.0.1", "port": port, "user": u.Username, "known_hosts_file": known, "shell_type": "unix"},
		Secrets: map[string]string{"key_pem": pemLine(userKey)},
		Path:    filepath.Join(files, "drive"), Dir: files,
	}
}

// pemLine writes a key as rclone takes it: in one line, with \n for its ends.
func pemLine(key string) string {
	out := ""
	for _, c := range key {
		if c == '\n' {
			out += `\n`
		} else {
			out += string(c)
		}
	}
	return out
}

func sshKey(t testing.TB) (private, public string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "sheaf test")
	if err != nil {
		t.Fatal(err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), string(ssh.MarshalAuthorizedKey(sshPub))
}

// FTP starts vsftpd, for an anonymous user who may write.
func FTP(t testing.TB, set ...Setting) (*Server, Place) {
	t.Helper()
	bin := need(t, "vsftpd")
	tmp := t.TempDir()
	files := mkdir(t, tmp, "files")
	write(t, filepath.Join(tmp, "empty"), 0o644, "")
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	var port string
	s := serve(t, files, banner, set, func(addr string) []string {
		_, port, _ = net.SplitHostPort(addr)
		conf := fmt.Sprintf(`listen=YES
listen_address=127.0.0.1
listen_port=%s
background=NO
run_as_launching_user=YES
anonymous_enable=YES
no_anon_password=YES
anon_root=%s
ftp_username=%s
local_enable=NO
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_umask=022
allow_writeable_chroot=YES
pasv_enable=YES
pasv_address=127.0.0.1
connect_from_port_20=NO
max_clients=0
max_per_ip=0
seccomp_sandbox=NO
xferlog_enable=NO
`, port, files, u.Username)
		return []string{bin, write(t, filepath.Join(tmp, "conf"), 0o600, conf)}
	})
	return s, Place{
		Kind: "ftp", Options: map[string]string{"host": "127.0.0.1", "port": port, "user": "anonymous", "concurrency": "8"}, Secrets: map[string]string{"pass": "me@"},
		Path: "drive", Dir: files,
	}
}

// S3 starts versitygw over a folder. It checks signatures, sums and parts as Amazon does.
func S3(t testing.TB, set ...Setting) (*Server, Place) {
	t.Helper()
	bin := need(t, "versitygw")
	tmp := t.TempDir()
	files := mkdir(t, tmp, "files")
	access, key := "AK"+secret()[:18], secret()
	mkdir(t, files, "bucket")
	meta := mkdir(t, tmp, "meta")
	s := serve(t, files, web, set, func(addr string) []string {
		return []string{bin, "--access", access, "--secret", key, "--port", addr, "posix", "--sidecar", meta, files}
	})
	return s, Place{
		Kind:    "s3",
		Options: map[string]string{"provider": "Other", "endpoint": "http://" + s.Addr, "region": "us-east-1", "force_path_style": "true"},
		Secrets: map[string]string{"access_key_id": access, "secret_access_key": key},
		Path:    "bucket/drive", Dir: files,
	}
}
