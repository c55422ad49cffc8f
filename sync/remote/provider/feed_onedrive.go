package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/rclone/rclone/lib/encoder"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// A oneDriveFeed reads the delta of a drive of Microsoft OneDrive or SharePoint, as https://learn.microsoft.com/graph/api/driveitem-delta has it: of the whole drive, which is all
// that is promised of those of a business. It is asked for what has changed alone. If it tells of the folders above that all the same, these are seen to be where they were.
// Of what is deleted nothing counts but the ID: a business leaves out the name, and the folder may be another one than it was in. A path is not told.
type oneDriveFeed struct {
	caller
	host  string // the URL of the service
	api   string // the URL of the drive
	drive string // its ID
	top   string // the ID of what the path begins in
	enc   encoder.MultiEncoder
}

// graphs are the services of which the documents have a delta, by regions as the backend calls them.
var graphs = map[string]string{
	"": "https://graph.microsoft.com", "global": "https://graph.microsoft.com", "us": "https://graph.microsoft.us", "de": "https://graph.microsoft.de",
}

// newOneDriveFeed returns the feed of a tree, nil if there is none that tells all.
func newOneDriveFeed(ctx context.Context, t *tree) (*feed, error) {
	d := &oneDriveFeed{caller: newCaller(t)}
	d.host, d.drive, d.top = graphs[d.option("region")], d.option("drive_id"), d.option("root_folder_id")
	if d.host == "" || d.drive == "" || d.option("tenant_url") != "" || d.option("token") == "" {
		return nil, nil
	}
	if err := d.enc.Set(d.option("encoding")); err != nil {
		return nil, err
	}
	d.api = d.host + "/v1.0/drives/" + url.PathEscape(d.drive)
	if d.top != "" {
		var ok bool
		if d.top, ok = d.key(d.top); !ok {
			return nil, nil
		}
		return newFeed(ctx, t, d)
	}
	err := t.patiently(ctx, func() error {
		root, err := d.item(ctx, "/root")
		d.top = root.ID
		return err
	})
	if err != nil {
		return nil, err
	}
	return newFeed(ctx, t, d)
}

// A graphItem is what is read of a driveItem: https://learn.microsoft.com/graph/api/resources/driveitem.
type graphItem struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Folder  *struct{} `json:"folder"`
	Root    *struct{} `json:"root"`
	Deleted *struct{} `json:"deleted"`
	Remote  *struct{} `json:"remoteItem"`
	Parent  struct {
		ID string `json:"id"`
	} `json:"parentReference"`
}

const graphFields = "id,name,folder,root,deleted,remoteItem,parentReference"

// name returns what a folder is called in the tree.
func (d *oneDriveFeed) name(it *graphItem) string {
	return encoder.Standard.Decode(d.enc.ToStandardName(it.Name))
}

func (d *oneDriveFeed) item(ctx context.Context, where string) (it graphItem, err error) {
	err = d.get(ctx, d.api+where, url.Values{"$select": {graphFields}}, &it)
	if answered(err, http.StatusNotFound) || err == nil && it.Deleted != nil {
		err = fmt.Errorf("folder %s: %w", where, fs.ErrNotExist)
	}
	return it, err
}

func (d *oneDriveFeed) there(ctx context.Context, id string) error {
	_, err := d.item(ctx, "/items/"+url.PathEscape(id))
	return err
}

func (d *oneDriveFeed) chain(ctx context.Context) ([]link, error) {
	all := []link{{id: d.top}}
	for name := range d.names() {
		it, err := d.item(ctx, "/items/"+url.PathEscape(all[len(all)-1].id)+":/"+url.PathEscape(d.enc.FromStandardName(name))+":")
		switch {
		case err != nil:
			return nil, err
		case it.Remote != nil:
			return nil, fmt.Errorf("folder %q: %w", name, errNotFollowed)
		case it.Folder == nil:
			return nil, fmt.Errorf("folder %q: %w", name, fs.ErrNotExist)
		}
		all = append(all, link{id: it.ID, name: d.name(&it)})
	}
	return all, nil
}

// key cuts off what the backend puts before an ID: the drive. What is of another one, and only seen in this one, is told by that.
func (d *oneDriveFeed) key(id string) (string, bool) {
	drive, item, ok := strings.Cut(id, "#")
	if !ok {
		return id, true
	}
	return item, strings.EqualFold(drive, d.drive) // as the backend compares them
}

func (d *oneDriveFeed) now(ctx context.Context) (string, error) {
	_, next, more, err := d.read(ctx, d.api+"/root/delta?"+url.Values{"token": {"latest"}, "$select": {graphFields}, "$top": {"1000"}}.Encode())
	if err == nil && more {
		err = errors.New("the newest token is not the last one")
	}
	return next, err
}

// page reads a page. The token is the address that the page before has told, as the documents have it.
func (d *oneDriveFeed) page(ctx context.Context, token string) (all []told, next string, more bool, err error) {
	all, next, more, err = d.read(ctx, token)
	if answered(err, http.StatusBadRequest, http.StatusNotFound, http.StatusGone) {
		err = fmt.Errorf("%w: %w", remote.ErrCursor, err)
	}
	return all, next, more, err
}

func (d *oneDriveFeed) read(ctx context.Context, where string) (all []told, next string, more bool, err error) {
	if !strings.HasPrefix(where, d.host+"/") { // nobody else is given the token of the backend
		return nil, "", false, fmt.Errorf("the feed goes on elsewhere: %w", remote.ErrCursor)
	}
	var got struct {
		Next  string      `json:"@odata.nextLink"`
		Delta string      `json:"@odata.deltaLink"`
		Value []graphItem `json:"value"`
	}
	if err := d.get(ctx, where, nil, &got, "deltaExcludeParent", "true"); err != nil {
		return nil, "", false, err
	}
	for _, it := range got.Value {
		if it.Root != nil && it.Deleted == nil {
			continue // it stays where it is
		}
		c := told{id: it.ID}
		if it.Deleted == nil {
			c.parents = []string{it.Parent.ID}
		}
		if it.Deleted == nil && it.Folder != nil && it.Remote == nil {
			c.name = d.name(&it)
		}
		all = append(all, c)
	}
	if got.Next != "" {
		return all, got.Next, true, nil
	}
	return all, got.Delta, false, nil
}
