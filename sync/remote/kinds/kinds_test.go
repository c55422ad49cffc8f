package kinds_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/kinds"
)

func TestAll_IsAListThatAFormCanBeMadeOf(t *testing.T) {
	all := kinds.All()
	var names []string
	for _, k := range all {
		names = append(names, k.Name)
		if !regexp.MustCompile(`^[a-z0-9]+$`).MatchString(k.Name) || k.Title == "" || k.Bucket == nil {
			t.Errorf("%q: title %q", k.Name, k.Title)
		}
		for _, o := range k.Options {
			if !regexp.MustCompile(`^[a-z0-9_]+$`).MatchString(o.Name) || o.Help == "" && k.Name != "box" {
				t.Errorf("%s: option %q: help %q", k.Name, o.Name, o.Help)
			}
			if o.Obscured && !o.Secret {
				t.Errorf("%s: %s is a password and no secret", k.Name, o.Name)
			}
			for _, word := range []string{"password", "secret", "token"} {
				if strings.Contains(o.Name, word) && o.Default == "" && !o.Secret && !strings.HasSuffix(o.Name, "_url") && !strings.HasSuffix(o.Name, "_command") {
					t.Errorf("%s: %s is no secret", k.Name, o.Name)
				}
			}
		}
		if o := k.OAuth; o != nil {
			for _, name := range append([]string{"token", "client_id", "client_secret"}, o.Instead...) {
				if k.Option(name) == nil {
					t.Errorf("%s has no option %s", k.Name, name)
				}
			}
			if !strings.HasPrefix(o.AuthURL, "https://") || !strings.HasPrefix(o.TokenURL, "https://") {
				t.Errorf("%s: sign-in at %q and %q", k.Name, o.AuthURL, o.TokenURL)
			}
		}
	}
	want := []string{
		"azureblob", "b2", "box", "drive", "dropbox", "ftp", "googlecloudstorage", "hdfs", "koofr", remote.Local, "mega", "onedrive",
		"pcloud", "protondrive", "s3", "sftp", "swift", "webdav",
	}
	if slices.Contains(names, "smb") { // by its build tag
		want = append(want, "smb")
		slices.Sort(want)
	}
	if !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}
