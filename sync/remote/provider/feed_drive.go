package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// A driveFeed reads the changes of Google Drive, as https://developers.google.com/workspace/drive/api/reference/rest/v3/changes has them. It asks itself, with the token of the
// backend: what the backend makes of them (ChangeNotify) drops errors, begins when it comes to it, and names only paths that it has met.
type driveFeed struct {
	caller
	leaves leaves
	top    string // the ID of what the path begins in
	shared string // the ID of a shared drive; "": it is the user's own
}

// leaves are backends that find a directory by its name in another one.
type leaves interface {
	FindLeaf(ctx context.Context, dir, name string) (id string, found bool, err error)
}

const (
	driveAPI    = "https://www.googleapis.com/drive/v3/"
	driveFolder = "application/vnd.google-apps.folder"
)

// notFollowed are the options of which each shows another tree than that of which the feed tells, or signs in otherwise than by a token.
var notFollowed = []string{
	"service_account_file", "service_account_credentials", "env_auth", "shared_with_me", "starred_only", "trashed_only", "impersonate",
}

// newDriveFeed returns the feed of a tree, nil if there is none that tells all.
func newDriveFeed(ctx context.Context, t *tree) (*feed, error) {
	d := &driveFeed{caller: newCaller(t)}
	d.leaves, _ = t.f.(leaves)
	d.top = cmp.Or(d.option("root_folder_id"), d.option("team_drive"), "root")
	if d.anySet(notFollowed...) || d.option("token") == "" || d.leaves == nil || d.top == "appDataFolder" {
		return nil, nil
	}
	var of driveFile
	err := t.patiently(ctx, func() (err error) {
		of, err = d.file(ctx, d.top)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) || err == nil && (of.MimeType != driveFolder || of.DriveID == "" && !of.OwnedByMe) {
		return nil, nil // what others own and share is in nobody's feed for certain
	}
	var a *answerError
	if errors.As(err, &a) && a.StatusCode == http.StatusForbidden && !a.soon() {
		return nil, nil // who signed in so that less is seen, such as the folder of an app, may list and not ask for this
	}
	if err != nil {
		return nil, err
	}
	d.top, d.shared = of.ID, of.DriveID
	return newFeed(ctx, t, d)
}

// A driveFile is what is read of the resource of a file.
type driveFile struct {
	ID        string   `json:"id"`
	MimeType  string   `json:"mimeType"`
	Parents   []string `json:"parents"`
	Trashed   bool     `json:"trashed"`
	DriveID   string   `json:"driveId"`
	OwnedByMe bool     `json:"ownedByMe"`
}

func (d *driveFeed) file(ctx context.Context, id string) (f driveFile, err error) {
	err = d.get(ctx, driveAPI+"files/"+url.PathEscape(id), url.Values{"fields": {"id,mimeType,trashed,driveId,ownedByMe"}}, &f)
	if answered(err, http.StatusNotFound) || err == nil && f.Trashed {
		err = fmt.Errorf("folder %s: %w", id, fs.ErrNotExist)
	}
	return f, err
}

func (d *driveFeed) there(ctx context.Context, id string) error {
	_, err := d.file(ctx, id)
	return err
}

func (d *driveFeed) chain(ctx context.Context) ([]link, error) {
	all := []link{{id: d.top}}
	for name := range d.names() {
		id, found, err := d.leaves.FindLeaf(ctx, all[len(all)-1].id, name)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, fmt.Errorf("folder %q: %w", name, fs.ErrNotExist)
		}
		if _, ok := d.key(id); !ok {
			return nil, fmt.Errorf("folder %q: %w", name, errNotFollowed)
		}
		all = append(all, link{id: id})
	}
	return all, nil
}

// key knows nothing of what rclone makes of a shortcut: an ID of two. What it points to may be where no feed tells of it.
func (d *driveFeed) key(id string) (string, bool) { return id, !strings.Contains(id, "\t") }

func (d *driveFeed) values(v url.Values) url.Values {
	v.Set("supportsAllDrives", "true")
	if d.shared != "" {
		v.Set("driveId", d.shared)
	}
	return v
}

func (d *driveFeed) now(ctx context.Context) (string, error) {
	var got struct {
		StartPageToken string `json:"startPageToken"`
	}
	err := d.get(ctx, driveAPI+"changes/startPageToken", d.values(url.Values{}), &got)
	return got.StartPageToken, err
}

func (d *driveFeed) page(ctx context.Context, token string) (all []told, next string, more bool, err error) {
	var got struct {
		NextPageToken     string `json:"nextPageToken"`
		NewStartPageToken string `json:"newStartPageToken"`
		Changes           []struct {
			FileID  string    `json:"fileId"`
			Removed bool      `json:"removed"`
			File    driveFile `json:"file"`
		} `json:"changes"`
	}
	err = d.get(ctx, driveAPI+"changes", d.values(url.Values{
		"pageToken": {token}, "pageSize": {"1000"}, "includeRemoved": {"true"}, "includeItemsFromAllDrives": {"true"},
		"fields": {"nextPageToken,newStartPageToken,changes(fileId,removed,file(id,mimeType,parents,trashed))"},
	}), &got)
	if answered(err, http.StatusBadRequest, http.StatusNotFound, http.StatusGone) {
		err = fmt.Errorf("%w: %w", remote.ErrCursor, err)
	}
	if err != nil {
		return nil, "", false, err
	}
	for _, c := range got.Changes {
		if c.FileID == "" {
			continue // of a shared drive itself
		}
		t := told{id: c.FileID}
		if !c.File.Trashed {
			t.parents = c.File.Parents
		}
		all = append(all, t)
	}
	if got.NextPageToken != "" {
		return all, got.NextPageToken, true, nil
	}
	return all, got.NewStartPageToken, false, nil
}
