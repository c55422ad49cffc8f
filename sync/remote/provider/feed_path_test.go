package provider

import (
	"errors"
	"testing"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// TestFeedPath_FoldersUnderOtherLetters: what small letters of a name are is up to a place. A path that may lead through a folder which is there is not taken for one that has come.
func TestFeedPath_FoldersUnderOtherLetters(t *testing.T) {
	for what, c := range map[string]struct {
		path string
		told []string
		want error
		at   string // the directory that is looked at
	}{
		"a file at the top":                    {"/root/a", nil, nil, ""},
		"in a folder of the same letters":      {"/root/plain/a", nil, nil, "Plain"},
		"in one of other English letters":      {"/root/straẞe/none/a", nil, nil, "Straẞe"},
		"in one of small letters":              {"/root/straße/a", nil, nil, "Straẞe"},
		"in one that may have other letters":   {"/root/strasse/a", nil, remote.ErrCursor, ""},
		"in one that has come":                 {"/root/strasse/a", []string{"/root/strasse"}, nil, ""},
		"below one that has come":              {"/root/strasse/new/a", []string{"/root/strasse"}, nil, ""},
		"outside of the tree":                  {"/rootstrasse/a", nil, nil, "nowhere"},
		"in one below one that has only plain": {"/root/plain/ñ/a", nil, nil, "Plain"},
	} {
		x := newIndex("id:root")
		for _, dir := range []string{"Plain", "Straẞe"} {
			x.put(&remote.Item{Path: dir, Kind: remote.Dir}, "id:"+dir)
		}
		f := newFeedAt(nil, nil, []link{{}, {id: "id:root", path: "/root"}})
		f.x = x
		var all []told
		for _, p := range append(c.told, c.path) {
			all = append(all, told{path: p})
		}
		if err := f.toldPath(told{path: c.path}, all); !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v, want %v", what, err, c.want)
		}
		p := f.pending[c.path]
		if p == nil && c.at != "nowhere" {
			t.Errorf("%s: it is not looked at", what)
		}
		if p == nil || c.want != nil {
			continue
		}
		dir, _ := split(p.path)
		if n, _ := x.near(dir); n.path() != c.at {
			t.Errorf("%s: %q is looked at, want %q", what, n.path(), c.at)
		}
	}
}
