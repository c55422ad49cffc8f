package remote_test

import (
	gocmp "cmp"
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

func TestParse_Places(t *testing.T) {
	for text, want := range map[string]remote.Place{
		"nas:":             {Name: "nas"},
		"nas:a/b":          {Name: "nas", Path: "a/b"},
		"nas:/a b:c":       {Name: "nas", Path: "/a b:c"},
		"my nas.1@x+y-z:a": {Name: "my nas.1@x+y-z", Path: "a"},
		"sheaf:/Photos":    {Name: "sheaf", Path: "/Photos"},
		"Größe:x":          {Name: "Größe", Path: "x"},
		"nas,port=22:x":    {Name: "nas", Options: map[string]string{"port": "22"}, Path: "x"},
		":s3:bucket":       {Kind: "s3", Path: "bucket"},
		`:s3,env_auth,endpoint="http://h:9000/a,b":bucket/x`: {
			Kind: "s3", Options: map[string]string{"env_auth": "true", "endpoint": "http://h:9000/a,b"}, Path: "bucket/x",
		},
		`:webdav,url='it''s',user="say ""hi""",pass=:`: {
			Kind: "webdav", Options: map[string]string{"url": "it's", "user": `say "hi"`, "pass": ""},
		},
		`nas,x="a/b":c`:  {Name: "nas", Options: map[string]string{"x": "a/b"}, Path: "c"},
		"/a/b":           {Local: true, Path: "/a/b"},
		"./a:b":          {Local: true, Path: "./a:b"},
		"../x":           {Local: true, Path: "../x"},
		"folder":         {Local: true, Path: "folder"},
		"dir/with:colon": {Local: true, Path: "dir/with:colon"},
		"a:b":            {Name: "a", Path: "b"},
	} {
		got, err := remote.Parse(text, false)
		if err != nil {
			t.Errorf("Parse(%q): %v", text, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", text, diff)
		}
	}
	for text, want := range map[string]remote.Place{
		`C:\x`: {Local: true, Path: `C:\x`}, `c:/x`: {Local: true, Path: "c:/x"}, `\\server\share`: {Local: true, Path: `\\server\share`},
		`nas:a\b`: {Name: "nas", Path: "a/b"},
	} {
		got, err := remote.Parse(text, true)
		if err != nil {
			t.Errorf("Parse(%q) on Windows: %v", text, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Parse(%q) on Windows (-want +got):\n%s", text, diff)
		}
	}
}

func TestParse_Refuses(t *testing.T) {
	for text, want := range map[string]error{
		"": remote.ErrSyntax, "::x": remote.ErrSyntax, ":": remote.ErrSyntax, ":s3,=x:": remote.ErrSyntax, `:s3,a="x:`: remote.ErrSyntax,
		`:s3,a="x"y:`: remote.ErrSyntax, ":s3,a=b": remote.ErrSyntax, ":s3,ä=b:": remote.ErrSyntax, "-nas:x": remote.ErrName,
		" nas:x": remote.ErrName, "nas :x": remote.ErrName, "a\x00b:x": remote.ErrName, "a\\b:x": remote.ErrName, "SHEAF:x": remote.ErrName,
	} {
		if got, err := remote.Parse(text, false); !errors.Is(err, want) {
			t.Errorf("Parse(%q) = %+v, %v, want %v", text, got, err, want)
		}
	}
	if _, err := remote.Parse(`x,a=b:c`, true); !errors.Is(err, remote.ErrName) {
		t.Errorf("a single letter on Windows: got %v, want ErrName", err)
	}
}

// FuzzParse: what is parsed is written down again as the same place, and no text makes a name that is not legal.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"nas:x", `:s3,a="b""c",d:e`, "a/b:c", "C:\\x", ":,:", "x,y='z':"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, windows bool) {
		p, err := remote.Parse(s, windows)
		if err != nil {
			return
		}
		if n := btoi(p.Local) + btoi(p.Name != "") + btoi(p.Kind != ""); n != 1 {
			t.Fatalf("Parse(%q) = %+v is of %d sorts", s, p, n)
		}
		if p.Name != "" && p.Name != remote.Self && remote.CheckName(p.Name) != nil {
			t.Fatalf("Parse(%q) has the name %q", s, p.Name)
		}
		again, err := remote.Parse(p.String(), windows)
		if err != nil {
			t.Fatalf("Parse(%q), which is %q again: %v", p.String(), s, err)
		}
		if diff := cmp.Diff(p, again); diff != "" {
			t.Fatalf("%q and %q differ:\n%s", s, p.String(), diff)
		}
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

var kind = remote.Kind{Name: "test", Options: []remote.Option{
	{Name: "provider"},
	{Name: "host", Required: true},
	{Name: "port", Required: true, Default: "22"},
	{Name: "region", Required: true, Only: "AWS,Other"},
	{Name: "pass", Secret: true},
	{Name: "token", Secret: true},
}}

func TestKind_Check(t *testing.T) {
	for _, c := range []struct {
		options, secrets map[string]string
		want             error
	}{
		{map[string]string{"host": "h"}, nil, nil},
		{map[string]string{"host": "h"}, map[string]string{"pass": "p"}, nil},
		{nil, nil, remote.ErrMissing},
		{map[string]string{"host": "h", "provider": "AWS"}, nil, remote.ErrMissing},
		{map[string]string{"host": "h", "provider": "AWS", "region": "r"}, nil, nil},
		{map[string]string{"host": "h", "provider": "Else"}, nil, nil},
		{map[string]string{"host": "h", "hots": "h"}, nil, remote.ErrOption},
		{map[string]string{"host": "h", "pass": "p"}, nil, remote.ErrOption},
	} {
		err := kind.Check(t.Context(), remote.Config{Options: c.options, Secrets: remote.NewPassing(maps.Clone(c.secrets))})
		if !errors.Is(err, c.want) {
			t.Errorf("Check(%v, %v) = %v, want %v", c.options, c.secrets, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), `"p"`) {
			t.Errorf("a secret is shown: %v", err)
		}
	}
	if !errors.Is(remote.ErrSignIn, blob.ErrUnauthorized) {
		t.Error("ErrSignIn is not an ErrUnauthorized")
	}
}

func TestKind_FromEnv(t *testing.T) {
	env := map[string]string{"SHEAF_REMOTE_MY_NAS_HOST": "env", "SHEAF_REMOTE_MY_NAS_TOKEN": "env token", "SHEAF_REMOTE_OTHER_PORT": "1"}
	kept := remote.NewPassing(map[string]string{"token": "old", "pass": "p"})
	options := map[string]string{"host": "h", "port": "2"}
	c := kind.FromEnv(remote.Config{Name: "my-nas", Options: options, Secrets: kept}, func(n string) string { return env[n] })
	want := map[string]string{"host": "env", "port": "2", "token": "env token", "pass": "p", "provider": ""}
	for name, w := range want {
		if got, err := c.Get(t.Context(), name); got != w || err != nil {
			t.Errorf("%s = %q, %v, want %q", name, got, err, w)
		}
	}
	if options["host"] != "h" {
		t.Error("the options of the caller were changed")
	}
	// A new token is kept, and counts from then on.
	if err := c.Secrets.Set(t.Context(), "token", "new"); err != nil {
		t.Fatal(err)
	}
	if got, _ := c.Get(t.Context(), "token"); got != "new" {
		t.Errorf("token = %q, want the new one", got)
	}
	if got, _ := kept.Get(t.Context(), "token"); got != "new" {
		t.Errorf("the token that is kept is %q, want the new one", got)
	}
}

// full is a place for secrets that keeps nothing more.
type full struct{ *remote.Passing }

func (full) Set(context.Context, string, string) error { return errors.New("full") }

func TestKind_FromEnv_UsesNoSecretThatIsNotKept(t *testing.T) {
	c := kind.FromEnv(remote.Config{Name: "n", Secrets: full{remote.NewPassing(nil)}}, func(n string) string {
		if n == "SHEAF_REMOTE_N_TOKEN" {
			return "env"
		}
		return ""
	})
	if err := c.Secrets.Set(t.Context(), "token", "new"); err == nil {
		t.Error("no error")
	}
	if got, _ := c.Get(t.Context(), "token"); got != "env" {
		t.Errorf("token = %q, want the one that was there", got)
	}
}

func TestKind_Split(t *testing.T) {
	options, secrets := kind.Split(map[string]string{"host": "h", "pass": "p", "what": "?"})
	if diff := cmp.Diff([]map[string]string{{"host": "h", "what": "?"}, {"pass": "p"}}, []map[string]string{options, secrets}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestComparePaths_GoesByElements(t *testing.T) {
	want := []string{"a", "a/2", "a/b", "a/b/1", "a/b-", "a\x01", "a+", "a-", "a-/3", "ab", "b", "ä"}
	for i, a := range want {
		for j, b := range want {
			if got := remote.ComparePaths(a, b); got != gocmp.Compare(i, j) {
				t.Errorf("%q and %q: got %d, want %d", a, b, got, gocmp.Compare(i, j))
			}
		}
	}
}
