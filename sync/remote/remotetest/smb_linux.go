package remotetest

import (
	"fmt"
	"net"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

// SMB starts Samba with one share. All that it writes, its passwords among it, lies in a folder of the test: a Samba that
// this machine has otherwise sees nothing of it. Only a program with the build tag smb can speak with it.
func SMB(t testing.TB, set ...Setting) (*Server, Place) {
	t.Helper()
	bin, passwd := need(t, "smbd"), need(t, "smbpasswd")
	tmp := t.TempDir()
	files, state := mkdir(t, tmp, "files"), mkdir(t, tmp, "state")
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	force := ""
	if as := unprivileged(t, files); as != "" {
		force = "force user = " + as + "\n"
	}
	conf := fmt.Sprintf(`[global]
server role = standalone server
interfaces = 127.0.0.1
bind interfaces only = yes
disable netbios = yes
server min protocol = SMB2_10
map to guest = never
load printers = no
disable spoolss = yes
printcap name = /dev/null
passdb backend = tdbsam:%[1]s/passdb.tdb
private dir = %[1]s
state directory = %[1]s
cache directory = %[1]s
lock directory = %[1]s
pid directory = %[1]s
ncalrpc dir = %[1]s/ncalrpc
usershare max shares = 0
log file = /dev/stdout
[share]
path = %[2]s
read only = no
%[3]s`, state, files, force)
	file := filepath.Join(tmp, "conf")
	write(t, file, 0o644, conf)
	pass := secret()
	add := exec.CommandContext(t.Context(), passwd, "-c", file, "-a", "-s", u.Username)
	add.Stdin = strings.NewReader(pass + "\n" + pass + "\n")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("set the password of Samba: %v\n%s", err, out)
	}
	var port string
	s := serve(t, files, mute, set, func(addr string) []string {
		_, port, _ = net.SplitHostPort(addr)
		write(t, file, 0o644, strings.Replace(conf, "[global]\n", "[global]\nsmb ports = "+port+"\n", 1))
		return []string{bin, "--foreground", "--no-process-group", "--debug-stdout", "-s", file}
	})
	return s, Place{
		Kind: "smb", Options: map[string]string{"host": "127.0.0.1", "port": port, "user": u.Username}, Secrets: map[string]string{"pass": pass},
		Path: "share/drive", Dir: files,
	}
}
