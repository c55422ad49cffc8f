package remotetest

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"
)

// Lighttpd starts lighttpd with mod_webdav, and asks for a password. It answers 415 to a question in XML that does not say that it is XML, as
// those of rclone's WebDAV do not; so the place has an option for that, which a person needs there, too. As it is
// delivered it believes for a second that a file has the length that it had; then what is put is put again, which the suite would not bear.
func Lighttpd(t testing.TB, set ...Setting) (*Server, Place) {
	t.Helper()
	bin := need(t, "lighttpd")
	tmp := t.TempDir()
	files, state := mkdir(t, tmp, "files"), mkdir(t, tmp, "state")
	pass := secret()
	users := write(t, filepath.Join(tmp, "users"), 0o644, "me:"+pass+"\n")
	become := ""
	if u := unprivileged(t, files, state); u != "" {
		become = fmt.Sprintf("server.username = %q\nserver.groupname = %[1]q\n", u)
	}
	s := serve(t, files, web, set, func(addr string) []string {
		_, port, _ := net.SplitHostPort(addr)
		// A connection that is closed when it has rested for five seconds meets requests on a machine that is busy.
		conf := fmt.Sprintf(`%sserver.modules = ("mod_auth", "mod_authn_file", "mod_webdav")
server.bind = "127.0.0.1"
server.port = %s
server.document-root = %q
server.upload-dirs = (%q)
server.stat-cache-engine = "disable"
server.max-keep-alive-idle = 120
webdav.activate = "enable"
webdav.sqlite-db-name = "%[4]s/props.db"
auth.backend = "plain"
auth.backend.plain.userfile = %[5]q
auth.require = ("/" => ("method" => "basic", "realm" => "files", "require" => "valid-user"))
`, become, port, files, state, users)
		return []string{bin, "-D", "-f", write(t, filepath.Join(tmp, "conf"), 0o644, conf)}
	})
	return s, Place{
		Kind:    "webdav",
		Options: map[string]string{"url": "http://" + s.Addr + "/", "vendor": "other", "user": "me", "headers": "Content-Type,application/xml"},
		Secrets: map[string]string{"pass": pass}, Path: "drive", Dir: files,
	}
}
