package provider

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/rclone/rclone/backend/memory"
	rclone "github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config/configmap"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/signin"
	"github.com/sheaf-drive/sheaf/sync/remote/signin/signintest"
)

func TestBody_KeepsTheEndUntilTheSourceHasEnded(t *testing.T) {
	broken := errors.New("broken")
	data := bytes.Repeat([]byte("0123456789"), 1000)
	size := int64(len(data))
	for what, c := range map[string]struct {
		r    io.Reader
		want error
	}{
		"whole":                {bytes.NewReader(data), nil},
		"in small parts":       {iotest.OneByteReader(bytes.NewReader(data)), nil},
		"its end with a byte":  {iotest.DataErrReader(bytes.NewReader(data)), nil},
		"short":                {bytes.NewReader(data[:size-1]), blob.ErrSize},
		"long":                 {bytes.NewReader(append(data[:size:size], 'x')), blob.ErrSize},
		"broken at its end":    {io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), broken},
		"broken in the middle": {io.MultiReader(bytes.NewReader(data[:5000]), iotest.ErrReader(broken)), broken},
	} {
		sum := sha256.New()
		b, err := newBody(t.Context(), c.r, size, sum)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(b)
		if !errors.Is(err, c.want) || c.want != nil && int64(len(got)) >= size {
			t.Errorf("%s: got %d of %d bytes and error %v, want %v", what, len(got), size, err, c.want)
		}
		if c.want == nil && (!bytes.Equal(got, data) || !b.complete() || sha256.Sum256(data) != [32]byte(sum.Sum(nil))) {
			t.Errorf("%s: got %d other bytes", what, len(got))
		}
		if err := b.end(); !errors.Is(err, c.want) {
			t.Errorf("%s: end: got error %v, want %v", what, err, c.want)
		}
		if n, err := b.Read(make([]byte, 10)); n != 0 || !errors.Is(err, errOver) {
			t.Errorf("%s: after the end: got %d bytes and error %v", what, n, err)
		}
	}
	for size, r := range map[int64]io.Reader{0: strings.NewReader("x"), -1: strings.NewReader("")} {
		if _, err := newBody(t.Context(), r, size, nil); !errors.Is(err, blob.ErrSize) {
			t.Errorf("size %d: got error %v, want blob.ErrSize", size, err)
		}
	}
}

func find(t *testing.T, name string) (*remote.Kind, *rclone.RegInfo) {
	t.Helper()
	k, err := Kinds().Find(name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := rclone.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return k, info
}

func TestMapper_ATokenIsRenewedAboveTheBackend(t *testing.T) {
	world := signintest.New(t, signintest.Settings{})
	kind, info := find(t, "box")
	kind.OAuth = world.OAuth()
	secrets := remote.NewPassing(map[string]string{"client_secret": signintest.ClientSecret})
	c := remote.Config{Name: "mine", Options: map[string]string{"client_id": signintest.ClientID}, Secrets: secrets}
	flow, err := signin.Begin(t.Context(), signin.Paste, kind, c, signin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := flow.Finish(t.Context(), signintest.Visit(t, flow.URL())); err != nil {
		t.Fatal(err)
	}
	// The token that is kept has come to its end.
	expire := func() {
		t.Helper()
		kept, _ := secrets.Get(t.Context(), "token")
		all := map[string]any{}
		if err := json.Unmarshal([]byte(kept), &all); err != nil {
			t.Fatal(err)
		}
		all["expiry"] = time.Now().Add(-time.Hour).Format(time.RFC3339)
		p, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		if err := secrets.Set(t.Context(), "token", string(p)); err != nil {
			t.Fatal(err)
		}
	}
	expire()
	m, err := newMapper(t.Context(), kind, info, c)
	if err != nil {
		t.Fatal(err)
	}
	token, ok := m.Get("token")
	var got struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(token), &got); !ok || err != nil || !world.Good(got.Access) || got.Refresh != "" {
		t.Errorf("got token %q, want one that is good, and that the backend cannot renew", token)
	}
	kept, _ := secrets.Get(t.Context(), "token")
	if !strings.Contains(kept, got.Access) || !strings.Contains(kept, "refresh_token") {
		t.Errorf("kept is %q", kept)
	}
	m.Set("token", "what a backend would keep")
	if again, _ := secrets.Get(t.Context(), "token"); again != kept {
		t.Errorf("the backend has changed the token that is kept")
	}
	world.Revoke()
	expire()
	if token, ok := m.Get("token"); ok {
		t.Errorf("after a revocation: got token %q", token)
	}
	b := &bucket{m: m}
	if err := b.failed(t.Context(), errors.New("no token")); !errors.Is(err, remote.ErrSignIn) || !errors.Is(err, blob.ErrUnauthorized) {
		t.Errorf("got error %v, want remote.ErrSignIn", err)
	}
}

// closedBook has secrets that nobody can read just now.
type closedBook struct{ remote.Secrets }

var errClosed = errors.New("the book is closed")

func (closedBook) Get(context.Context, string) (string, error) { return "", errClosed }

// A place that would be opened without a secret that it has is another one, or seen by somebody else.
func TestOpen_FailsIfASecretCannotBeRead(t *testing.T) {
	k, _ := find(t, "s3")
	_, err := k.Bucket(t.Context(), remote.Config{
		Path: "bucket", Options: map[string]string{"provider": "Other", "endpoint": "http://127.0.0.1:1"}, Secrets: closedBook{remote.NewPassing(nil)},
	})
	if !errors.Is(err, errClosed) {
		t.Errorf("got error %v, want that of the secrets", err)
	}
}

func TestMapper_WhatABackendSets(t *testing.T) {
	kind, info := find(t, "mega")
	secrets := remote.NewPassing(map[string]string{"pass": "open sesame"})
	m, err := newMapper(t.Context(), kind, info, remote.Config{Options: map[string]string{"user": "me"}, Secrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	hidden, ok := m.Get("pass")
	if !ok || hidden == "open sesame" {
		t.Errorf("a password reaches the backend as %q, and is to be obscured", hidden)
	}
	m.Set("pass", hidden)
	m.Set("session_id", "abc")
	m.Set("use_https", "true")
	for name, want := range map[string]string{"pass": "open sesame", "session_id": "abc", "use_https": ""} {
		if got, _ := secrets.Get(t.Context(), name); got != want {
			t.Errorf("secret %s: got %q, want %q", name, got, want)
		}
	}
	if v, _ := m.Get("use_https"); v != "true" {
		t.Errorf("an option that was set: got %q", v)
	}
	if v, ok := m.Get("hard_delete"); !ok || v != "false" {
		t.Errorf("a default: got %q, %v", v, ok)
	}
	if _, ok := m.Get("no_such_option"); ok {
		t.Error("an option that nobody knows is there")
	}
}

func TestFailed_DoesNotCallItMissingWhatCannotBeReached(t *testing.T) {
	b := &bucket{m: &mapper{}}
	err := b.failed(t.Context(), fmt.Errorf("read: %w", io.ErrUnexpectedEOF))
	if !errors.Is(err, blob.ErrTemporary) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.failed(ctx, io.ErrUnexpectedEOF); !errors.Is(err, context.Canceled) || errors.Is(err, blob.ErrTemporary) {
		t.Errorf("done: got error %v, want context.Canceled", err)
	}
}

func TestSetLog_TakesWhatRcloneSays(t *testing.T) {
	var out bytes.Buffer
	rclone.Errorf("remote", "before %d", 1)
	SetLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(func() { SetLog(nil) })
	rclone.Errorf("remote", "after %d", 2)
	rclone.Logf("remote", "a notice")
	got := out.String()
	if strings.Contains(got, "before") || !strings.Contains(got, "level=ERROR msg=\"after 2\"") || !strings.Contains(got, "level=DEBUG msg=\"a notice\"") {
		t.Errorf("got %q", got)
	}
}

// featured has features of its own.
type featured struct {
	rclone.Fs
	f rclone.Features
}

func (f *featured) Features() *rclone.Features { return &f.f }

// A change of the case of a name is two moves. When the second fails the file has its name again, or at least one that is seen and is kept.
func TestTree_AMoveThatEndsHalfWayHidesNothing(t *testing.T) {
	for _, back := range []bool{false, true} {
		f, err := memory.NewFs(t.Context(), "test", fmt.Sprint("half-way-", back), configmap.Simple{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Put(t.Context(), strings.NewReader("x"), source{f: f, name: "name", size: 1}); err != nil {
			t.Fatal(err)
		}
		place := &featured{f, *f.Features()}
		broken := false
		place.f.Move = func(ctx context.Context, o rclone.Object, to string) (rclone.Object, error) {
			if to == "NAME" || broken && back {
				broken = true
				return nil, errors.New("the line broke")
			}
			moved, err := f.Features().Copy(ctx, o, to)
			return moved, errors.Join(err, o.Remove(ctx))
		}
		b := &bucket{f: place, b: &backend{name: "test"}, m: &mapper{}, conf: t.Context()}
		tree := &tree{bucket: b, can: remote.TreeCan{Write: true, Fold: true, EmptyDirs: true, ServerMove: true}}
		it, err := tree.Stat(t.Context(), "name")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tree.Move(t.Context(), "name", "NAME", it.Version); err == nil {
			t.Fatal("a move that breaks off did not fail")
		}
		var names []string
		for it, err := range tree.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, it.Path)
		}
		if len(names) != 1 || !back && names[0] != "name" {
			t.Errorf("the way back is blocked: %v: got %q, want the file", back, names)
		}
	}
}

// TestVanished_NamesOfFilesSayNothing: a file may be called as an error is.
func TestVanished_NamesOfFilesSayNothing(t *testing.T) {
	for _, name := range []string{"found file when looking for folder", "path/not_folder/x"} {
		if err := fmt.Errorf("open %s: %w", name, io.ErrUnexpectedEOF); vanished(err) {
			t.Errorf("%v: it counts as not there", err)
		}
		if err := fmt.Errorf("list: %w", errors.New(name)); !vanished(err) {
			t.Errorf("%v: it does not count as not there", err)
		}
	}
}
