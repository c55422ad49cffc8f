package provider_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	rclone "github.com/rclone/rclone/fs"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/cloudtest"
	"github.com/sheaf-drive/sheaf/sync/remote/provider"
	"github.com/sheaf-drive/sheaf/sync/remote/treetest"
)

// An emulated is a provider on loopback. Its methods do what other people and devices do; the ID of what cannot be made is "".
type emulated interface {
	changed
	Lag(n int)
	Expire()
	Calls() []string
	SetFault(fault func(*http.Request) *cloudtest.Fault)
}

// changed is what people and other devices do there, by IDs.
type changed interface {
	Top() string
	Write(dir, name string, data []byte) string
	Mkdir(dir, name string) string
	Overwrite(id string, data []byte)
	Move(id, dir, name string)
	Trash(id string, in bool)
	Delete(id string, tellBelow bool)
}

// A cloud is an emulated provider, and what is to be known of it.
type cloud struct {
	emulated
	front   *cloudtest.Front
	kind    string
	options map[string]string
	// feed and list are the ends of the paths of requests for what has changed, and for what a folder holds.
	feed, list string
	forgotten  cloudtest.Fault // says that a token is known no more
	faults     map[string]fault
	files      []string // names that files have
	paths      bool     // its feed tells of paths
	blind      bool     // it has hashes that nobody else has: a first turn reads all files
	// odd makes things of no bytes, in the folder dir, by what they are.
	odd []func(dir, name string) string
	// uncovered makes what no feed covers, by what it is.
	uncovered map[string]func(dir string)
	// link makes a folder in the folder dir that is one of elsewhere; nil: there is no such thing.
	link func(dir, name string)
}

// clouds starts a provider, by its name.
var clouds = map[string]func(t testing.TB) *cloud{
	"Google Drive": func(t testing.TB) *cloud {
		d := cloudtest.NewDrive(t)
		as := func(mime string) func(dir, name string) string {
			return func(dir, name string) string { return d.Make(dir, name, mime) }
		}
		return &cloud{
			emulated: d, front: d.Front, kind: "drive", options: map[string]string{"pacer_min_sleep": "1ms", "pacer_burst": "1000", "scope": "drive"},
			feed: "/changes", list: "/files", forgotten: cloudtest.Fault{Status: 410, Reason: "gone"},
			faults: map[string]fault{
				"too many calls, as 403": {"/changes", cloudtest.Fault{Status: 403, Reason: "userRateLimitExceeded"}, nil},
			},
			files: []string{"a", "b", "c", "d.docx", "e/f", ".."}, odd: []func(dir, name string) string{as(cloudtest.DriveDocument), as("application/vnd.google-apps.form")},
			uncovered: map[string]func(dir string){
				"two folders of one name": func(dir string) {
					d.Mkdir(dir, "twice")
					d.Mkdir(dir, "twice")
				},
				"a shortcut": func(dir string) { d.Link(dir, "link", d.Write(dir, "target", []byte("1"))) },
			},
			link: func(dir, name string) { d.Link(dir, name, d.Mkdir(d.Mkdir(dir, "target of "+name), "in it")) },
		}
	},
	"Dropbox": func(t testing.TB) *cloud {
		d := cloudtest.NewDropbox(t)
		return &cloud{
			emulated: d, front: d.Front, kind: "dropbox", options: map[string]string{"pacer_min_sleep": "1ms", "batch_mode": "off"},
			feed: "/list_folder/continue", list: "/list_folder", forgotten: cloudtest.Fault{Status: 409, Reason: "reset"},
			files: []string{"a", "A", "b", "c", "Dé.docx", "e：f", "．"}, paths: true, blind: true,
		}
	},
	"OneDrive of a person":   func(t testing.TB) *cloud { return oneDrive(cloudtest.NewOneDrive(t, false)) },
	"OneDrive of a business": func(t testing.TB) *cloud { return oneDrive(cloudtest.NewOneDrive(t, true)) },
}

func oneDrive(d *cloudtest.OneDrive) *cloud {
	return &cloud{
		emulated: d, front: d.Front, kind: "onedrive", options: map[string]string{"drive_id": d.Drive, "drive_type": d.Type},
		feed: "/delta", list: "/children", forgotten: cloudtest.Fault{Status: 410, Reason: "resyncRequired"},
		faults: map[string]fault{
			"the feed is not found": {"/delta", cloudtest.Fault{Status: 404, Reason: "itemNotFound"}, remote.ErrCursor},
		},
		files: []string{"a", "A", "b", "c", "d.docx", "e：f", "．"}, blind: true,
		uncovered: map[string]func(dir string){"a folder of another drive": func(dir string) { d.Link(dir, "link") }},
		link:      func(dir, name string) { d.Link(dir, name) },
	}
}

// eachCloud runs a test on each of the clouds.
func eachCloud(t *testing.T, test func(t *testing.T, start func(t testing.TB) *cloud)) {
	t.Helper()
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(clouds)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, clouds[name])
		})
	}
}

// through returns a context in which rclone reaches a provider only through an emulated one.
func through(ctx context.Context, f *cloudtest.Front) context.Context {
	ctx, ci := rclone.AddConfig(ctx)
	ci.HTTPProxy, ci.CaCert = f.Proxy, []string{f.CA}
	return ctx
}

// open opens a folder of which the feed tells.
func (c *cloud) open(t testing.TB, path string, mk bool) remote.Tree {
	t.Helper()
	tree := c.tree(t, path, mk)
	if !tree.Can().ChangeFeed {
		t.Fatal("there is no feed")
	}
	return tree
}

// tree opens a folder of a cloud with rclone's own backend, and closes it at the end of the test.
func (c *cloud) tree(t testing.TB, path string, mk bool) remote.Tree {
	t.Helper()
	return openAs(through(t.Context(), c.front), t, c.kind, remote.Config{
		Path: path, Make: mk, Options: c.options,
		Secrets: remote.NewPassing(map[string]string{"token": `{"access_token":"` + cloudtest.Token + `","token_type":"Bearer","expiry":"2099-01-01T00:00:00Z"}`}),
	})
}

// openAs opens a place of plain files, and closes it at the end of the test.
func openAs(ctx context.Context, t testing.TB, name string, c remote.Config) remote.Tree {
	t.Helper()
	kind, err := provider.Kinds().Find(name)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := kind.Tree(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.(io.Closer).Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

// asks reports whether a request is one for what has changed.
func (c *cloud) asks(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, c.feed) }

// TestEmulated_Suite holds rclone's backends, and the feeds over them, to the contract of plain files. The places are emulated.
func TestEmulated_Suite(t *testing.T) {
	eachCloud(t, func(t *testing.T, start func(testing.TB) *cloud) {
		c := start(t)
		var n atomic.Int64
		treetest.Run(t, func(t *testing.T) treetest.Place {
			path := fmt.Sprintf("places/st%d", n.Add(1))
			return treetest.Place{Tree: c.open(t, path, true), Again: c.open(t, path, false), Slow: testing.Short()}
		})
	})
}
