package access

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// procedures yields every call of the contract.
func procedures(t *testing.T, f func(procedure string, m protoreflect.MethodDescriptor)) {
	t.Helper()
	n := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("sheaf.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			for j := range s.Methods().Len() {
				n++
				f("/"+string(s.FullName())+"/"+string(s.Methods().Get(j).Name()), s.Methods().Get(j))
			}
		}
		return true
	})
	if n < 50 {
		t.Fatalf("only %d calls were found", n)
	}
}

// T-A26, the part of calls: each has an entry, and says of itself what the contract says.
func TestNeeds_KnowEachCall(t *testing.T) {
	left := map[string]bool{}
	for p := range Needs {
		left[p] = true
	}
	procedures(t, func(p string, m protoreflect.MethodDescriptor) {
		need, ok := Needs[p]
		if !ok {
			t.Errorf("%s has no entry in Needs: say what it needs", p)
		}
		delete(left, p)
		pure := m.Options().(*descriptorpb.MethodOptions).GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
		if pure && need.Writes {
			t.Errorf("%s has no side effects and needs to write", p)
		}
		if !pure && !need.Writes && !m.IsStreamingServer() {
			t.Errorf("%s has side effects and does not need to write", p)
		}
		if need.Paths != nil { // it takes the messages of this call
			msg, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
			if err != nil {
				t.Fatal(err)
			}
			need.Paths(msg.New().Interface())
		}
	})
	for p := range left {
		t.Errorf("%s is in Needs and not in the contract", p)
	}
}

func TestCheck_RefusesWhatIsNotGranted(t *testing.T) {
	stat := func(p string) proto.Message { return &sheafv1.StatRequest{Path: p} }
	all, reads := &Grant{ID: "a"}, &Grant{ID: "r", ReadOnly: true}
	folder := &Grant{ID: "f", Folder: "Photos/Rome"}
	files := &Grant{ID: "s", Services: []string{"files"}}
	for _, c := range []struct {
		name string
		g    *Grant
		call string
		m    proto.Message
		want error
	}{
		{"no grant", nil, "Files/Stat", stat("a"), ErrForbidden},
		{"all", all, "Files/Stat", stat("a"), nil},
		{"unknown", all, "Files/New", stat("a"), ErrForbidden},
		{"tokens by a token", all, "Tokens/Create", &sheafv1.TokensCreateRequest{}, ErrForbidden},
		{"secrets", all, "Keys/NewRecovery", &sheafv1.NewRecoveryRequest{}, ErrForbidden},
		{"files of this machine", all, "Jobs/Start", &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Import{}}, ErrForbidden},
		{"a job of the drive", all, "Jobs/Start", &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Verify{}}, nil},
		{"reads", reads, "Files/Stat", stat("a"), nil},
		{"reads, and writes", reads, "Files/Mkdir", &sheafv1.MkdirRequest{Path: "a"}, ErrForbidden},
		{"reads, and writes, before a message", reads, "Files/Write", nil, ErrForbidden},
		{"files", files, "Files/Mkdir", &sheafv1.MkdirRequest{Path: "a"}, nil},
		{"files, and others", files, "Snapshots/List", &sheafv1.SnapshotsListRequest{}, ErrForbidden},
		{"files, and who answers", files, "Drives/Version", &sheafv1.VersionRequest{}, nil},
		{"the folder", folder, "Files/Stat", stat("/Photos/Rome/"), nil},
		{"in the folder", folder, "Files/Stat", stat("Photos/Rome/a/b"), nil},
		{"beside", folder, "Files/Stat", stat("Photos/Rome2"), fs.ErrNotExist},
		{"above", folder, "Files/Stat", stat("Photos"), fs.ErrNotExist},
		{"the root", folder, "Files/Stat", stat(""), fs.ErrNotExist},
		{"out of it", folder, "Files/Stat", stat("Photos/Rome/../Paris"), fs.ErrNotExist},
		{"another case", folder, "Files/Stat", stat("photos/rome/a"), fs.ErrNotExist},
		{"no text", folder, "Files/Stat", stat("Photos/Rome/\x00zz"), fs.ErrNotExist},
		{"the past", folder, "Files/Stat", &sheafv1.StatRequest{Path: "Photos/Rome/a", At: "latest"}, ErrForbidden},
		{"move in it", folder, "Files/Move", &sheafv1.MoveRequest{From: "Photos/Rome/a", To: "Photos/Rome/b"}, nil},
		{"move out", folder, "Files/Move", &sheafv1.MoveRequest{From: "Photos/Rome/a", To: "b"}, fs.ErrNotExist},
		{"move in", folder, "Files/Move", &sheafv1.MoveRequest{From: "b", To: "Photos/Rome/a"}, fs.ErrNotExist},
		{"move over itself", folder, "Files/Move", &sheafv1.MoveRequest{From: "Photos/Rome/a", To: "Photos/Rome"}, fs.ErrNotExist},
		{"remove itself", folder, "Files/Remove", &sheafv1.RemoveRequest{Paths: []string{"Photos/Rome/a", "/Photos/Rome"}}, fs.ErrNotExist},
		{"write out", folder, "Files/Write", &sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_Start{Start: &sheafv1.WriteStart{Path: "x"}}}, fs.ErrNotExist},
		{"the whole drive", folder, "Snapshots/List", &sheafv1.SnapshotsListRequest{}, ErrForbidden},
		{"the names of others", folder, "Jobs/List", &sheafv1.JobsListRequest{}, ErrForbidden},
	} {
		ctx := t.Context()
		if c.g != nil {
			ctx = With(ctx, c.g)
		}
		if err := Check(ctx, "/sheaf.v1."+c.call, c.m); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

// Every call against every kind of token: a token that reads makes no call that writes, one of a folder none without a path.
func TestCheck_HoldsForEachCallAndEachScope(t *testing.T) {
	procedures(t, func(p string, m protoreflect.MethodDescriptor) {
		msg, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
		if err != nil {
			t.Fatal(err)
		}
		empty, need := msg.New().Interface(), Needs[p]
		for _, c := range []struct {
			g     *Grant
			allow bool
		}{
			{&Grant{}, !need.Socket},
			{&Grant{ReadOnly: true}, !need.Socket && !need.Writes},
			{&Grant{Services: []string{"none"}}, need.Anyone},
			{&Grant{Folder: "f"}, need.Anyone || p == "/sheaf.v1.Files/Write" || p == "/sheaf.v1.Files/Remove" || p == "/sheaf.v1.Events/Watch"}, // these name nothing here
			{&Grant{local: true}, true},
		} {
			if err := Check(With(t.Context(), c.g), p, empty); (err == nil) != c.allow {
				t.Errorf("%s with %+v: got %v", p, c.g, err)
			}
		}
		if err := Check(t.Context(), p, empty); err == nil {
			t.Errorf("%s without a grant was allowed", p)
		}
	})
}

func TestStore_KeepsHashesOnlyAndSurvives(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data", "tokens.json")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := NewStore(file)
	s.now = func() time.Time { return now }
	tok, secret, err := s.Create(Token{Label: "l", ReadOnly: true, Folder: "a/b", Services: []string{"files"}}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), strings.TrimPrefix(secret, secretPrefix)) {
		t.Error("the secret is in the file")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
	s = NewStore(file)
	s.now = func() time.Time { return now }
	ctx, cancel, err := s.Admit(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	if g := Of(ctx); g.ID != tok.ID || !g.ReadOnly || g.Folder != "a/b" || len(g.Services) != 1 {
		t.Errorf("got %+v", g)
	}
	cancel()
	all, err := NewStore(file).List()
	if err != nil || len(all) != 1 || !all[0].Used.Equal(now) {
		t.Errorf("got %+v, %v", all, err)
	}
	now = now.Add(time.Hour)
	if _, _, err := s.Admit(t.Context(), secret); !errors.Is(err, ErrInvalid) {
		t.Errorf("after its end: %v", err)
	}
	if err := s.Revoke("x"); !errors.Is(err, ErrToken) {
		t.Errorf("got %v", err)
	}
	if err := s.Revoke(tok.ID); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		t    Token
		life time.Duration
	}{{Token{}, 0}, {Token{}, -1}, {Token{}, 11 * 366 * 24 * time.Hour}, {Token{Services: []string{"tokens"}}, time.Hour}, {Token{Label: strings.Repeat("x", 101)}, time.Hour}} {
		if _, _, err := s.Create(c.t, c.life); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%+v for %s: got %v", c.t, c.life, err)
		}
	}
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewStore(file).Admit(context.Background(), secret); err == nil || errors.Is(err, ErrInvalid) {
		t.Errorf("of a damaged file: %v", err)
	}
}
