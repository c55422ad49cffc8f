//go:build unix

package home

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSocket_OfALongHomeIsShortAndItsOwn(t *testing.T) {
	long := strings.Repeat("x", 120)
	a, b := under("/a/"+long), under("/b/"+long)
	if len(a.Socket()) > maxSocket || a.Socket() == b.Socket() {
		t.Errorf("got %s and %s", a.Socket(), b.Socket())
	}
	if s := under("/a").Socket(); filepath.ToSlash(s) != "/a/run/sheaf.sock" {
		t.Errorf("got %s", s)
	}
}

func TestListen_TakesTheSocketOfAKilledProcess(t *testing.T) {
	h := under(t.TempDir())
	if err := h.Make(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.Socket(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := h.Listen(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(h.Socket())
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the socket is %v, %v, want it private", info.Mode(), err)
	}
	accepted := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = c.Close()
		}
		accepted <- err
	}()
	c, err := h.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	_ = c.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := h.Dial(t.Context()); err == nil {
		t.Error("a closed socket answers")
	}
}
