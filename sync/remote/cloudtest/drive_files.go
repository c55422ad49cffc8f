package cloudtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"time"
)

func (d *Drive) one(w http.ResponseWriter, r *http.Request) *driveFile {
	id := r.PathValue("id")
	if id == "root" {
		id = d.Root
	}
	f := d.files[id]
	if f == nil {
		driveError(w, http.StatusNotFound, "notFound")
	}
	return f
}

func (d *Drive) get(w http.ResponseWriter, r *http.Request) {
	f := d.one(w, r)
	switch {
	case f == nil:
	case r.FormValue("alt") != "media":
		say(w, http.StatusOK, d.resource(f, r.FormValue("fields")))
	case f.md5 == "":
		driveError(w, http.StatusForbidden, "fileNotDownloadable")
	default:
		w.Header().Set("Content-Type", f.mime)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
	}
}

// meta is what a client says of a file. nil is what it does not say.
type meta struct {
	Name         *string   `json:"name"`
	MimeType     *string   `json:"mimeType"`
	Parents      *[]string `json:"parents"`
	Trashed      *bool     `json:"trashed"`
	ModifiedTime *string   `json:"modifiedTime"`
}

// apply changes f as m says.
func (m *meta) apply(f *driveFile) error {
	if m.Name != nil {
		f.name = *m.Name
	}
	if m.MimeType != nil {
		f.mime = *m.MimeType
	}
	if m.Trashed != nil {
		f.trashed = *m.Trashed
	}
	if m.ModifiedTime != nil {
		at, err := time.Parse(time.RFC3339Nano, *m.ModifiedTime)
		if err != nil {
			return err
		}
		f.modified = at.Truncate(time.Millisecond)
	}
	return nil
}

// made returns a new file as m says.
func (d *Drive) made(m *meta) (*driveFile, error) {
	f := &driveFile{name: "Untitled", mime: "application/octet-stream", parents: []string{d.Root}}
	if m.Parents != nil {
		f.parents = nil
		for _, p := range *m.Parents {
			if p == "root" {
				p = d.Root
			}
			if d.files[p] == nil {
				return nil, fmt.Errorf("no folder %s", p)
			}
			f.parents = append(f.parents, p)
		}
	}
	return f, m.apply(f)
}

func (d *Drive) create(w http.ResponseWriter, r *http.Request) {
	var m meta
	err := json.NewDecoder(r.Body).Decode(&m)
	var f *driveFile
	if err == nil {
		f, err = d.made(&m)
	}
	if err != nil {
		driveError(w, http.StatusNotFound, "notFound")
		return
	}
	if !strings.HasPrefix(f.mime, "application/vnd.google-apps.") {
		f.fill(nil)
	}
	d.put(f)
	say(w, http.StatusOK, d.resource(f, r.FormValue("fields")))
}

func (d *Drive) update(w http.ResponseWriter, r *http.Request) {
	f := d.one(w, r)
	if f == nil {
		return
	}
	var m meta
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil && !errors.Is(err, io.EOF) {
		driveError(w, http.StatusBadRequest, "parseError")
		return
	}
	parents := slices.DeleteFunc(slices.Clone(f.parents), func(p string) bool { return slices.Contains(strings.Split(r.FormValue("removeParents"), ","), p) })
	for p := range strings.SplitSeq(r.FormValue("addParents"), ",") {
		if p == "" {
			continue
		}
		if d.files[p] == nil || d.within(d.files[p], f.id) {
			driveError(w, http.StatusForbidden, "cannotAddParent")
			return
		}
		parents = append(parents, p)
	}
	if err := m.apply(f); err != nil {
		driveError(w, http.StatusBadRequest, "invalid")
		return
	}
	d.settle(f, parents)
	d.changed(f.id)
	say(w, http.StatusOK, d.resource(f, r.FormValue("fields")))
}

func (d *Drive) remove(w http.ResponseWriter, r *http.Request) {
	if f := d.one(w, r); f != nil {
		d.destroy(f, false)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (d *Drive) copy(w http.ResponseWriter, r *http.Request) {
	f := d.one(w, r)
	if f == nil {
		return
	}
	var m meta
	err := json.NewDecoder(r.Body).Decode(&m)
	to := *f
	to.id, to.modified = "", time.Time{}
	if err == nil && m.Parents != nil {
		to.parents = *m.Parents
	}
	if err == nil {
		err = m.apply(&to)
	}
	if err != nil || f.mime == DriveFolder {
		driveError(w, http.StatusBadRequest, "invalid")
		return
	}
	d.put(&to)
	say(w, http.StatusOK, d.resource(&to, r.FormValue("fields")))
}

// An upload is one in several requests.
type upload struct {
	id   string // of the file that is there; "": it is a new one
	meta meta
	parts
}

func (d *Drive) upload(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if id != "" && d.one(w, r) == nil {
		return
	}
	up := &upload{id: id}
	switch r.FormValue("uploadType") {
	case "multipart":
		_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		parts := multipart.NewReader(r.Body, params["boundary"])
		for i := 0; i < 2 && err == nil; i++ {
			var p *multipart.Part
			if p, err = parts.NextPart(); err != nil {
				break
			}
			if i == 0 {
				err = json.NewDecoder(p).Decode(&up.meta)
			} else {
				up.data, err = io.ReadAll(p)
			}
		}
		if err == nil {
			_, err = parts.NextPart() // of what was cut off nothing is kept
			if errors.Is(err, io.EOF) {
				err = nil
			}
		}
		if err != nil {
			driveError(w, http.StatusBadRequest, "badContent")
			return
		}
		d.finish(w, r, up)
	case "resumable":
		if err := json.NewDecoder(r.Body).Decode(&up.meta); err != nil {
			driveError(w, http.StatusBadRequest, "parseError")
			return
		}
		session := d.newID()
		d.uploads[session] = up
		w.Header().Set("Location", "https://www.googleapis.com/session/"+session+"?"+r.URL.RawQuery)
		w.WriteHeader(http.StatusOK)
	default:
		driveError(w, http.StatusBadRequest, "badRequest")
	}
}

// chunk takes a part of an upload: https://developers.google.com/workspace/drive/api/guides/manage-uploads.
func (d *Drive) chunk(w http.ResponseWriter, r *http.Request) {
	up := d.uploads[r.PathValue("session")]
	if up == nil {
		driveError(w, http.StatusNotFound, "notFound")
		return
	}
	whole, ok := up.add(r)
	if !ok {
		driveError(w, http.StatusBadRequest, "invalid")
		return
	}
	if !whole {
		w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", len(up.data)-1))
		w.WriteHeader(http.StatusPermanentRedirect)
		return
	}
	delete(d.uploads, r.PathValue("session"))
	d.finish(w, r, up)
}

// finish makes of an upload a file.
func (d *Drive) finish(w http.ResponseWriter, r *http.Request, up *upload) {
	f := d.files[up.id]
	var err error
	if f == nil {
		f, err = d.made(&up.meta)
	} else {
		f.modified = time.Now().UTC().Truncate(time.Millisecond)
		err = up.meta.apply(f)
	}
	if err != nil {
		driveError(w, http.StatusNotFound, "notFound")
		return
	}
	f.fill(up.data)
	if up.id == "" {
		d.put(f)
	} else {
		d.changed(f.id)
	}
	say(w, http.StatusOK, d.resource(f, r.FormValue("fields")))
}
