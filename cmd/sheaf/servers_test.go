//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// machine is one machine with a home of its own.
type machine struct {
	home string
	env  []string
}

func newMachine(t *testing.T, env ...string) *machine {
	m := &machine{home: filepath.Join(t.TempDir(), "home"), env: env}
	t.Cleanup(func() { stopDaemon(t, m.home) })
	return m
}

// notLong is for commands that tests run: what asks for the long form of a test is the flag --long of sheaf ls to them.
const notLong = "SHEAF_LONG="

// run runs the command and returns its exit code and what it printed.
func (m *machine) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sheaf", args...)
	cmd.Env = append(append(os.Environ(), "SHEAF_HOME="+m.home, notLong), m.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var e *exec.ExitError
	if err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// sheaf runs the command, which has to succeed, and returns what it printed.
func (m *machine) sheaf(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := m.run(t, args...)
	if code != 0 {
		t.Fatalf("sheaf %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// fails runs the command, which has to exit with that code, and returns what it said.
func (m *machine) fails(t *testing.T, want int, args ...string) string {
	t.Helper()
	code, out, errs := m.run(t, args...)
	if code != want {
		t.Errorf("sheaf %s: exit %d, want %d\n%s%s", strings.Join(args, " "), code, want, out, errs)
	}
	return errs
}

// addArgs are the arguments of "remote add" for a place, with its secrets in files of dir.
func addArgs(t *testing.T, dir, name string, p remotetest.Place) []string {
	t.Helper()
	args := []string{"remote", "add", name, p.Kind, "--path", parent(p)}
	for k, v := range p.Options {
		args = append(args, k+"="+v)
	}
	for k, v := range p.Secrets {
		file := filepath.Join(dir, k)
		if err := os.WriteFile(file, []byte(v+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--from-file", k+"="+file)
	}
	return args
}

// parent is the path that is there; it is that of a bucket, or the root.
func parent(p remotetest.Place) string {
	if dir := path.Dir(p.Path); dir != "." {
		return dir
	}
	return ""
}

// envOf are the variables that answer for the secrets of a place, as a remote of that name.
func envOf(name string, p remotetest.Place) []string {
	var env []string
	for k, v := range p.Secrets {
		env = append(env, "SHEAF_REMOTE_"+strings.ToUpper(name)+"_"+strings.ToUpper(k)+"="+v)
	}
	return env
}

// content returns what is in a tree: by path, the bytes, or where a link leads.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			all[rel] = "folder"
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(name)
			all[rel] = "link " + to
			return err
		default:
			b, err := os.ReadFile(name)
			all[rel] = "file " + string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// wantNoCanary fails if a canary is in a name or in the bytes of what a server keeps.
func wantNoCanary(t *testing.T, dir string, canaries ...testkit.Canary) {
	t.Helper()
	files := 0
	for file, body := range content(t, dir) {
		files++
		for _, c := range canaries {
			if how := c.Find([]byte(file)); how != "" {
				t.Errorf("the name %s has a canary as %s", file, how)
			}
			if how := c.Find([]byte(body)); how != "" {
				t.Errorf("%s holds a canary as %s", file, how)
			}
		}
	}
	if files < 5 {
		t.Errorf("the server has %d files", files)
	}
}

// drivePlaces are the servers to which a drive goes as a whole, on one machine.
var drivePlaces = map[string]func(testing.TB, ...remotetest.Setting) (*remotetest.Server, remotetest.Place){
	"webdav":   remotetest.RcloneWebDAV,
	"lighttpd": remotetest.Lighttpd,
	"apache":   remotetest.WebDAV,
	"s3":       remotetest.S3,
	"weed":     remotetest.SeaweedFS,
	"sftp":     remotetest.SFTP,
	"ftp":      remotetest.FTP,
}

// A drive is pushed to a real server; another machine opens it from there by the words alone, and a third from a copy.
func TestServers_ADriveGoesThereAndComesBack(t *testing.T) {
	for name, start := range drivePlaces {
		t.Run(name, func(t *testing.T) {
			srv, place := start(t)
			r := testkit.Rand(testkit.Seed(t))
			tmp := t.TempDir()
			inName, inBody := testkit.NewCanary(r), testkit.NewCanary(r)
			src := filepath.Join(tmp, "src")
			if err := os.MkdirAll(filepath.Join(src, inName.Text()), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(src, inName.Text(), "note"), []byte("so "+inBody.Text()), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := testkit.Tree(r, src, 60); err != nil {
				t.Fatal(err)
			}
			want := content(t, src)
			at := "place:" + place.Path

			// The first machine, with the secrets in its book.
			first := newMachine(t)
			var made struct{ Recovery, Drive string }
			if err := json.Unmarshal([]byte(first.sheaf(t, "init", "--json")), &made); err != nil {
				t.Fatal(err)
			}
			words := filepath.Join(tmp, "words")
			if err := os.WriteFile(words, []byte(made.Recovery), 0o600); err != nil {
				t.Fatal(err)
			}
			first.sheaf(t, addArgs(t, tmp, "place", place)...)
			first.sheaf(t, "cp", src+"/.", "sheaf:/tree")
			first.sheaf(t, "replica", "add", at)
			first.sheaf(t, "wait", "--copies", "2", "--timeout", "2m")
			first.sheaf(t, "replica", "verify")
			wantNoCanary(t, place.Dir, inName, inBody)

			// The second, with the secrets in its environment.
			second := newMachine(t, envOf("place", place)...)
			args := []string{"remote", "add", "place", place.Kind, "--path", parent(place)}
			for k, v := range place.Options {
				args = append(args, k+"="+v)
			}
			second.sheaf(t, args...)
			second.fails(t, 5, "init", "--from", "place:"+place.Path+"-not", "--recovery-file", words)
			if out := second.sheaf(t, "init", "--from", at, "--recovery-file", words, "--json"); !strings.Contains(out, made.Drive) {
				t.Errorf("another drive was opened: %s", out)
			}
			back := filepath.Join(tmp, "back")
			second.sheaf(t, "cp", "sheaf:/tree/.", back)
			if diff := cmp.Diff(want, content(t, back)); diff != "" {
				t.Errorf("the trees differ (-want +got):\n%.2000s", diff)
			}
			if out := second.sheaf(t, "store", "verify"); !strings.Contains(out, "0 damaged") {
				t.Errorf("store verify: %s", out)
			}

			// A copy without keys, between places that are described on the spot; and a third machine opens that.
			copied := place
			copied.Path += "-copy"
			third := newMachine(t, envOf("place", place)...)
			third.sheaf(t, "replica", "copy", place.Remote().String(), copied.Remote().String())
			third.sheaf(t, args...)
			if errs := third.fails(t, 2, "init", "--from", copied.Remote().String(), "--recovery-file", words); !strings.Contains(errs, "is a secret") {
				t.Errorf("a place with a secret in its name was not refused for it: %s", errs)
			}
			third.sheaf(t, "init", "--from", "place:"+copied.Path, "--recovery-file", words)
			third.sheaf(t, "cp", "sheaf:/tree/.", filepath.Join(tmp, "third"))
			if diff := cmp.Diff(want, content(t, filepath.Join(tmp, "third"))); diff != "" {
				t.Errorf("the copy differs (-want +got):\n%.2000s", diff)
			}
			wantNoCanary(t, place.Dir, inName, inBody)
			wantNoSecrets(t, place, first.home, second.home, third.home)

			// Wrong secrets, and a server that is gone.
			for _, secrets := range wrongSecrets(place) {
				wrong := newMachine(t)
				for k, v := range secrets {
					wrong.env = append(wrong.env, "SHEAF_REMOTE_PLACE_"+strings.ToUpper(k)+"="+v)
				}
				if errs := wrong.fails(t, 7, args...); !strings.Contains(errs, "does not let us in") || !strings.Contains(errs, "try: sheaf remote add place") {
					t.Errorf("wrong secrets: %s", errs)
				}
				wrong.sheaf(t, append(args, "--no-test")...)
				if errs := wrong.fails(t, 7, "remote", "test", "place:"+parent(place)); !strings.Contains(errs, "try: sheaf remote edit place") {
					t.Errorf("wrong secrets: %s", errs)
				}
			}
			if place.Kind == "s3" {
				if errs := third.fails(t, 4, "remote", "test", "place:nobucket"); !strings.Contains(errs, `the bucket "nobucket" is not there`) || !strings.Contains(errs, "nobucket --make") {
					t.Errorf("a bucket that is not there: %s", errs)
				}
			}
			srv.Kill()
			first.fails(t, 5, "remote", "test", "place:"+parent(place))
			first.sheaf(t, "cp", words, "sheaf:/later")
			first.fails(t, 3, "replica", "sync")
			srv.Start()
			first.sheaf(t, "wait", "--copies", "2", "--timeout", "2m")
			second.sheaf(t, "replica", "sync")
			second.sheaf(t, "cat", "/later")
		})
	}
}

// wrongSecrets returns secrets of the form that the kind of a place wants, and with which nobody is let in: one of them is wrong at a
// time. There are none where everybody is let in, and where the secret is a key, which a wrong word is not.
func wrongSecrets(p remotetest.Place) (all []map[string]string) {
	if p.Kind == "ftp" || p.Kind == "sftp" {
		return nil
	}
	for k := range p.Secrets {
		one := maps.Clone(p.Secrets)
		one[k] = "WRONG" + one[k][5:]
		all = append(all, one)
	}
	return all
}

// wantNoSecrets fails if a secret of the place is in a file of a home as it is.
func wantNoSecrets(t *testing.T, p remotetest.Place, homes ...string) {
	t.Helper()
	for _, home := range homes {
		for file, body := range content(t, home) {
			for k, v := range p.Secrets {
				if len(v) >= 12 && testkit.CanaryOf(v).Find([]byte(body)) != "" {
					t.Errorf("%s of %s holds %s", file, home, k)
				}
			}
		}
	}
}
