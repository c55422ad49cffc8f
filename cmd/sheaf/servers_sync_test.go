//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// A folder and a place on a real server are kept alike by the command, in both directions, and the server that is away deletes nothing.
func TestServers_ARuleKeepsAFolderAndAServerAlike(t *testing.T) {
	for name, start := range map[string]func(testing.TB, ...remotetest.Setting) (*remotetest.Server, remotetest.Place){
		"webdav": remotetest.WebDAV, "sftp": remotetest.SFTP,
	} {
		t.Run(name, func(t *testing.T) {
			srv, place := start(t)
			m := newMachine(t)
			m.sheaf(t, "init")
			tmp := filepath.Dir(m.home)
			m.sheaf(t, addArgs(t, tmp, "place", place)...)
			dir := filepath.Join(tmp, "folder")
			write := func(name, text string) {
				t.Helper()
				if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			write("one.txt", "one")
			write("sub/two.txt", "two")
			at := "place:" + place.Path
			m.sheaf(t, "sync", "add", "rule", dir, at)
			m.sheaf(t, "sync", "run", "rule")
			if got := m.sheaf(t, "cat", at+"/sub/two.txt"); got != "two" {
				t.Errorf("the server has %q, want two", got)
			}
			write("three.txt", "three")
			m.sheaf(t, "cp", filepath.Join(dir, "three.txt"), at+"/four.txt")
			m.sheaf(t, "rm", at+"/one.txt")
			m.sheaf(t, "sync", "run", "rule")
			if got := m.sheaf(t, "cat", at+"/three.txt"); got != "three" {
				t.Errorf("the server has %q, want three", got)
			}
			if _, err := os.Stat(filepath.Join(dir, "one.txt")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("what was removed at the server is in the folder: %v", err)
			}
			srv.Kill()
			if code, out, errs := m.run(t, "sync", "run", "rule"); code == 0 {
				t.Errorf("a server that is away had a turn: %s%s", out, errs)
			}
			for name, want := range map[string]string{"three.txt": "three", "four.txt": "three", "sub/two.txt": "two"} {
				if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
					t.Errorf("%s has %q, error %v", name, b, err)
				}
			}
			srv.Start()
			m.sheaf(t, "sync", "run", "rule")
		})
	}
}
