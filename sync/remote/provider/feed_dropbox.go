package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/rclone/rclone/lib/encoder"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// A dropboxFeed reads what has changed in a Dropbox, as https://www.dropbox.com/developers/documentation/http/documentation#files-list_folder-continue has it: paths at which a file or a
// folder is now, or nothing. It follows the whole place: what becomes of a cursor of a folder that moves is not said. Of a folder that moves all that it holds is told.
type dropboxFeed struct {
	caller
	enc encoder.MultiEncoder
}

const dropboxAPI = "https://api.dropboxapi.com/2/files/"

// newDropboxFeed returns the feed of a tree, nil if there is none that tells all.
func newDropboxFeed(ctx context.Context, t *tree) (*feed, error) {
	d := &dropboxFeed{caller: newCaller(t)}
	if d.anySet("impersonate", "impersonate_admin", "root_namespace", "shared_files", "shared_folders", "skip_shared_folders", "skip_unowned_folders") {
		return nil, nil // another place, or another view of it
	}
	if d.option("token") == "" || strings.HasPrefix(t.m.c.Path, "/") { // by which the backend means the space of a team
		return nil, nil
	}
	if err := d.enc.Set(d.option("encoding")); err != nil {
		return nil, err
	}
	return newFeed(ctx, t, d)
}

// A dropboxEntry is what is read of the metadata of a file, of a folder, or of what is deleted.
type dropboxEntry struct {
	Tag  string `json:".tag"`
	ID   string `json:"id"`
	Path string `json:"path_lower"`
}

func (d *dropboxFeed) ask(ctx context.Context, what string, arg, v any) error {
	return d.call(ctx, http.MethodPost, dropboxAPI+what, arg, v)
}

// lower returns a path of the place as one of the tree, in small letters.
func (d *dropboxFeed) lower(path string) string {
	names := strings.Split(path, "/")
	for i, name := range names {
		names[i] = strings.ToLower(encoder.Standard.Decode(d.enc.ToStandardName(name)))
	}
	return strings.Join(names, "/")
}

// folder returns the folder that has an ID or a path. The top has neither: it is there if it can be listed.
func (d *dropboxFeed) folder(ctx context.Context, of string) (e dropboxEntry, err error) {
	if of == "" {
		var got struct{}
		return e, d.ask(ctx, "list_folder", map[string]any{"path": "", "limit": 1}, &got)
	}
	err = d.ask(ctx, "get_metadata", map[string]any{"path": of}, &e)
	var a *answerError
	if errors.As(err, &a) && a.StatusCode == http.StatusConflict && strings.HasPrefix(a.Reason, "path/not_found") || err == nil && e.Tag != "folder" {
		err = fmt.Errorf("folder %s: %w", of, fs.ErrNotExist)
	}
	return e, err
}

func (d *dropboxFeed) there(ctx context.Context, id string) error {
	_, err := d.folder(ctx, id)
	return err
}

func (d *dropboxFeed) chain(ctx context.Context) ([]link, error) {
	all := []link{{}}
	path := ""
	for name := range d.names() {
		path += "/" + d.enc.FromStandardName(name)
		e, err := d.folder(ctx, path)
		if err != nil {
			return nil, err
		}
		all = append(all, link{id: e.ID, path: d.lower(e.Path)})
	}
	return all, nil
}

func (d *dropboxFeed) key(id string) (string, bool) { return id, true }

func (d *dropboxFeed) now(ctx context.Context) (string, error) {
	var got struct {
		Cursor string `json:"cursor"`
	}
	err := d.ask(ctx, "list_folder/get_latest_cursor", map[string]any{"path": "", "recursive": true, "limit": 1000}, &got)
	return got.Cursor, err
}

func (d *dropboxFeed) page(ctx context.Context, token string) (all []told, next string, more bool, err error) {
	var got struct {
		Entries []dropboxEntry `json:"entries"`
		Cursor  string         `json:"cursor"`
		More    bool           `json:"has_more"`
	}
	err = d.ask(ctx, "list_folder/continue", map[string]any{"cursor": token}, &got)
	if answered(err, http.StatusBadRequest, http.StatusConflict) { // it has to be reset, or is none
		err = fmt.Errorf("%w: %w", remote.ErrCursor, err)
	}
	if err != nil {
		return nil, "", false, err
	}
	for _, e := range got.Entries {
		if e.Path == "" {
			return nil, "", false, fmt.Errorf("it tells of what has no path here: %w", remote.ErrCursor)
		}
		all = append(all, told{id: e.ID, path: d.lower(e.Path)})
	}
	return all, got.Cursor, got.More, nil
}
