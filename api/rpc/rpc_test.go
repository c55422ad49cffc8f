package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/vfs"
)

func TestErrors_KeepTheirKindAndHintOverTheWire(t *testing.T) {
	for _, err := range []error{
		sheaf.ErrNoDrive, sheaf.ErrLocked, sheaf.ErrPassphrase, sheaf.ErrNeedSecret, sheaf.ErrNoSnapshot,
		vfs.ErrReadOnly, vfs.ErrNotDir, vfs.ErrNotEmpty, vfs.ErrName, vfs.ErrNoSpace, vfs.ErrCorrupt,
		fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, context.Canceled, errors.ErrUnsupported, errors.New("whatever"),
	} {
		err := fmt.Errorf("do: %w", err)
		want, got := service.Explain(err), FromWire(toWire(err))
		if got.Code != want.Code || got.Hint != want.Hint || got.Error() != want.Error() {
			t.Errorf("%v: got %v, %q, %q", err, got.Code, got.Hint, got.Error())
		}
	}
	if FromWire(nil) != nil || toWire(nil) != nil {
		t.Error("no error became one")
	}
}

func TestDrives_AreClosedUntilTheSecretIsRight(t *testing.T) {
	d := &fakeDevice{drive: newFakeDrive(), none: true}
	s := service.New(service.Options{Device: d})
	defer func() { _ = s.Close(context.Background()) }()
	ctx := t.Context()
	_, err := s.Stat(ctx, &sheafv1.StatRequest{})
	wantCode(t, toWire(err), sheafv1.Code_CODE_NO_DRIVE)
	d.none = false
	_, err = s.Stat(ctx, &sheafv1.StatRequest{})
	wantCode(t, toWire(err), sheafv1.Code_CODE_NEED_SECRET)
	_, err = s.Unlock(ctx, &sheafv1.UnlockRequest{Passphrase: []byte("no")})
	wantCode(t, toWire(err), sheafv1.Code_CODE_WRONG_SECRET)
	st, err := s.Status(ctx, nil)
	if err != nil || st.GetState() != sheafv1.DriveState_DRIVE_STATE_LOCKED {
		t.Errorf("got %v, %v", st, err)
	}
	if _, err = s.Unlock(ctx, &sheafv1.UnlockRequest{Passphrase: []byte("open")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(ctx, &sheafv1.StatRequest{}); err != nil {
		t.Error(err)
	}
	_, err = s.Init(ctx, &sheafv1.InitRequest{})
	wantCode(t, toWire(err), sheafv1.Code_CODE_EXISTS)
}

func TestFiles_PathsAreAnyBytesAndNeverLeadOut(t *testing.T) {
	f := start(t, service.Options{})
	f.write(t, "caf\xe9", "x")
	n, err := f.Files.Stat(t.Context(), &sheafv1.StatRequest{Path: "/caf\x00e9"})
	if err != nil || n.GetPath() != "caf\x00e9" || n.GetSize() != 1 {
		t.Errorf("got %v, %v", n, err)
	}
	for _, p := range []string{"..", "/../x", "a/../b", "a//b", ".", "a\x00", strings.Repeat("x", 256)} {
		_, err := f.Files.Stat(t.Context(), &sheafv1.StatRequest{Path: p})
		wantCode(t, err, sheafv1.Code_CODE_USAGE)
	}
}

func TestFiles_ListAndReadStream(t *testing.T) {
	f := start(t, service.Options{})
	var want []string
	for i := range 700 {
		name := fmt.Sprintf("d/f%04d", i)
		if i == 0 {
			if _, err := f.Files.Mkdir(t.Context(), &sheafv1.MkdirRequest{Path: "d"}); err != nil {
				t.Fatal(err)
			}
		}
		f.write(t, name, "")
		want = append(want, name)
	}
	st, err := f.Files.List(t.Context(), &sheafv1.ListRequest{Path: "d"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for st.Receive() {
		for _, n := range st.Msg().GetNodes() {
			got = append(got, n.GetPath())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || st.Err() != nil {
		t.Error(diff, st.Err())
	}

	body := make([]byte, 3<<20+11)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(body)
	f.write(t, "big", string(body))
	for _, r := range [][2]int64{{0, 0}, {5, 0}, {1 << 20, 7}, {3 << 20, 100}, {4 << 20, 0}} {
		st, err := f.Files.Read(t.Context(), &sheafv1.ReadRequest{Path: "big", Offset: r[0], Length: r[1]})
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for st.Receive() {
			got = append(got, st.Msg().GetData()...)
		}
		from := min(r[0], int64(len(body)))
		to := int64(len(body))
		if r[1] > 0 {
			to = min(to, from+r[1])
		}
		if !bytes.Equal(got, body[from:to]) || st.Err() != nil {
			t.Errorf("range %v: got %d bytes, %v, want %d", r, len(got), st.Err(), to-from)
		}
	}
}

// send makes an upload of parts and ends it if end is set.
func (f *fixture) send(ctx context.Context, start *sheafv1.WriteStart, end *sheafv1.WriteEnd, parts ...[]byte) (*sheafv1.WriteResponse, error) {
	st, err := f.Files.Write(ctx)
	if err != nil {
		return nil, err
	}
	_ = st.Send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_Start{Start: start}})
	for _, p := range parts {
		_ = st.Send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_Data{Data: p}})
	}
	if end != nil {
		_ = st.Send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_End{End: end}})
	}
	return st.CloseAndReceive()
}

func TestWrite_AppearsWholeAndGoesOnAfterACut(t *testing.T) {
	f := start(t, service.Options{})
	ctx := t.Context()
	f.write(t, "f", "before")
	r, err := f.send(ctx, &sheafv1.WriteStart{Path: "f", Upload: "u-1"}, nil, []byte("hello "), []byte("wor"))
	if err != nil || r.GetOffset() != 9 || r.GetNode() != nil {
		t.Fatalf("got %v, %v", r, err)
	}
	if got := f.read(t, "f"); got != "before" {
		t.Errorf("an upload without end shows: %q", got)
	}
	u, err := f.Files.Upload(ctx, &sheafv1.UploadRequest{Path: "f", Upload: "u-1"})
	if err != nil || u.GetOffset() != 9 {
		t.Fatalf("got %v, %v", u, err)
	}
	size := int64(11)
	r, err = f.send(ctx, &sheafv1.WriteStart{Path: "f", Upload: "u-1", Offset: 9, Mode: 0o600}, &sheafv1.WriteEnd{Size: &size}, []byte("ld"))
	if err != nil || r.GetNode().GetSize() != 11 || r.GetNode().GetMode() != 0o600 {
		t.Fatalf("got %v, %v", r, err)
	}
	if got := f.read(t, "f"); got != "hello world" {
		t.Errorf("got %q", got)
	}
	if u, err := f.Files.Upload(ctx, &sheafv1.UploadRequest{Path: "f", Upload: "u-1"}); err != nil || u.GetOffset() != 0 {
		t.Errorf("the upload is still there: %v, %v", u, err)
	}
}

func TestWrite_RefusesWhatMakesNoSense(t *testing.T) {
	f := start(t, service.Options{})
	ctx := t.Context()
	f.write(t, "f", "there")
	size := int64(3)
	end := &sheafv1.WriteEnd{}
	for name, c := range map[string]struct {
		start *sheafv1.WriteStart
		end   *sheafv1.WriteEnd
		want  sheafv1.Code
	}{
		"exclusive":       {&sheafv1.WriteStart{Path: "f", Exclusive: true}, end, sheafv1.Code_CODE_EXISTS},
		"offset too far":  {&sheafv1.WriteStart{Path: "g", Upload: "a", Offset: 7}, end, sheafv1.Code_CODE_USAGE},
		"negative":        {&sheafv1.WriteStart{Path: "g", Upload: "a", Offset: -7}, end, sheafv1.Code_CODE_USAGE},
		"offset, no name": {&sheafv1.WriteStart{Path: "g", Offset: 1}, end, sheafv1.Code_CODE_USAGE},
		"odd name":        {&sheafv1.WriteStart{Path: "g", Upload: "../x"}, end, sheafv1.Code_CODE_USAGE},
		"another length":  {&sheafv1.WriteStart{Path: "g"}, &sheafv1.WriteEnd{Size: &size}, sheafv1.Code_CODE_USAGE},
		"no parent":       {&sheafv1.WriteStart{Path: "no/g"}, end, sheafv1.Code_CODE_NOT_FOUND},
		"the root":        {&sheafv1.WriteStart{Path: "/"}, end, sheafv1.Code_CODE_USAGE},
		"cut, no name":    {&sheafv1.WriteStart{Path: "g"}, nil, sheafv1.Code_CODE_TEMPORARY},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.send(ctx, c.start, c.end, []byte("data"))
			wantCode(t, err, c.want)
		})
	}
	if _, err := f.Files.Stat(ctx, &sheafv1.StatRequest{Path: "g"}); err == nil {
		t.Error("a refused upload made its file")
	}
	if got := f.read(t, "f"); got != "there" {
		t.Errorf("got %q", got)
	}
	_, err := f.send(ctx, &sheafv1.WriteStart{Path: "h"}, end, make([]byte, maxMessage+1))
	if err == nil {
		t.Error("a message beyond the bound was taken")
	}
	if _, err := f.Files.Stat(ctx, &sheafv1.StatRequest{Path: "h"}); err == nil {
		t.Error("an upload that was cut off by the bound made its file")
	}
}

func TestWrite_OfACallerThatVanishesIsKept(t *testing.T) {
	f := start(t, service.Options{})
	ctx, vanish := context.WithCancel(t.Context())
	st, err := f.Files.Write(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_Start{Start: &sheafv1.WriteStart{Path: "f", Upload: "u"}}}); err != nil {
		t.Fatal(err)
	}
	if err := st.Send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_Data{Data: []byte("some")}}); err != nil {
		t.Fatal(err)
	}
	offset := func() int64 {
		u, err := f.Files.Upload(t.Context(), &sheafv1.UploadRequest{Path: "f", Upload: "u"})
		if err != nil {
			t.Fatal(err)
		}
		return u.GetOffset()
	}
	for offset() != 4 { // until it came
		if t.Context().Err() != nil {
			t.Fatal("it does not come")
		}
	}
	vanish()
	_, _ = st.CloseAndReceive()
	// The server may still be at it, and says so then.
	for {
		r, err := f.send(t.Context(), &sheafv1.WriteStart{Path: "f", Upload: "u", Offset: 4}, &sheafv1.WriteEnd{}, []byte("more"))
		if err != nil && FromWire(err).Code == sheafv1.Code_CODE_TEMPORARY {
			continue
		}
		if err != nil || r.GetOffset() != 8 {
			t.Fatalf("got %v, %v", r, err)
		}
		break
	}
	if got := f.read(t, "f"); got != "somemore" {
		t.Errorf("got %q", got)
	}
}

func TestRemove_NamesASnapshotThatStillHasIt(t *testing.T) {
	f := start(t, service.Options{})
	ctx := t.Context()
	if _, err := f.Files.Mkdir(ctx, &sheafv1.MkdirRequest{Path: "a/b", Parents: true}); err != nil {
		t.Fatal(err)
	}
	f.write(t, "a/b/f", "body")
	_, err := f.Files.Remove(ctx, &sheafv1.RemoveRequest{Paths: []string{"a"}})
	wantCode(t, err, sheafv1.Code_CODE_WRONG_KIND)
	_, err = f.Files.Remove(ctx, &sheafv1.RemoveRequest{Paths: []string{"/"}, Recursive: true})
	wantCode(t, err, sheafv1.Code_CODE_USAGE)
	_, err = f.Files.Remove(ctx, &sheafv1.RemoveRequest{Paths: []string{"a", "nothing"}, Recursive: true})
	wantCode(t, err, sheafv1.Code_CODE_NOT_FOUND)
	if got := f.read(t, "a/b/f"); got != "body" {
		t.Fatal("something went although another path was wrong")
	}
	r, err := f.Files.Remove(ctx, &sheafv1.RemoveRequest{Paths: []string{"a", "a/b", "nothing"}, Recursive: true, Force: true})
	if err != nil || r.GetRemoved() != 3 || r.GetSnapshot() == "" {
		t.Fatalf("got %v, %v", r, err)
	}
	n, err := f.Files.Stat(ctx, &sheafv1.StatRequest{Path: "a/b/f", At: r.GetSnapshot()})
	if err != nil || n.GetSize() != 4 {
		t.Errorf("got %v, %v", n, err)
	}
}

func TestDiff_SaysWhatHappened(t *testing.T) {
	f := start(t, service.Options{})
	if _, err := f.Snapshots.Create(t.Context(), &sheafv1.CreateRequest{Label: "a"}); err != nil {
		t.Fatal(err)
	}
	st, err := f.Snapshots.Diff(t.Context(), &sheafv1.DiffRequest{From: "a"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for st.Receive() {
		m := st.Msg()
		got = append(got, fmt.Sprintf("%q %v %d %d", m.GetPath(), m.GetChange(), m.GetOldSize(), m.GetNewSize()))
	}
	want := []string{`"new\x00ff" CHANGE_ADDED 0 3`, `"old" CHANGE_REMOVED 4 0`}
	if diff := cmp.Diff(want, got); diff != "" || st.Err() != nil {
		t.Error(diff, st.Err())
	}
}
