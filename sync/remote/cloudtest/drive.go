package cloudtest

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Types of what is in a Drive, besides files.
const (
	DriveFolder   = "application/vnd.google-apps.folder"
	DriveDocument = "application/vnd.google-apps.document"
	DriveShortcut = "application/vnd.google-apps.shortcut"
)

// A Drive is a Google Drive of one person, as https://developers.google.com/workspace/drive/api/reference/rest/v3 has it: files, uploads in one request and in several, downloads
// with ranges, the trash, searches in pages, and changes. Its exported methods do what somebody else does to it. It is safe for concurrent use.
type Drive struct {
	*Front
	// Root is the ID of the folder that is called root.
	Root string

	mu      sync.Mutex
	n       int
	files   map[string]*driveFile
	below   map[string]map[string]bool // the IDs in a folder
	changes []string                   // IDs; a token is an index into it
	expired int                        // tokens below are not known any more
	uploads map[string]*upload
	lag     int
	old     map[string]*driveFile
}

// A driveFile is the resource of a file, and its content.
type driveFile struct {
	id, name, mime string
	parents        []string
	trashed        bool // by itself
	modified       time.Time
	data           []byte
	md5, sha1, sha string
	target         string // of a shortcut
}

// NewDrive starts an empty Drive. It ends with the test.
func NewDrive(t testing.TB) *Drive {
	t.Helper()
	d := &Drive{files: map[string]*driveFile{}, below: map[string]map[string]bool{}, uploads: map[string]*upload{}}
	d.Root = d.newID()
	d.files[d.Root] = &driveFile{id: d.Root, name: "My Drive", mime: DriveFolder, modified: time.Now()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /drive/v3/files", d.search)
	mux.HandleFunc("POST /drive/v3/files", d.create)
	mux.HandleFunc("GET /drive/v3/files/{id}", d.get)
	mux.HandleFunc("PATCH /drive/v3/files/{id}", d.update)
	mux.HandleFunc("DELETE /drive/v3/files/{id}", d.remove)
	mux.HandleFunc("POST /drive/v3/files/{id}/copy", d.copy)
	mux.HandleFunc("GET /drive/v3/about", d.about)
	mux.HandleFunc("GET /drive/v3/changes/startPageToken", d.start)
	mux.HandleFunc("GET /drive/v3/changes", d.list)
	mux.HandleFunc("POST /upload/drive/v3/files", d.upload)
	mux.HandleFunc("PATCH /upload/drive/v3/files/{id}", d.upload)
	mux.HandleFunc("POST /session/{session}", d.chunk)
	d.Front = newFront(t, locked(&d.mu, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+Token {
			driveError(w, http.StatusUnauthorized, "authError")
			return
		}
		mux.ServeHTTP(w, r)
	}, func(w http.ResponseWriter) { driveError(w, http.StatusBadRequest, "badContent") }),
		func(w http.ResponseWriter, f *Fault) { driveError(w, f.Status, f.Reason) }, "www.googleapis.com")
	return d
}

func driveError(w http.ResponseWriter, status int, reason string) {
	say(w, status, map[string]any{"error": map[string]any{
		"code": status, "message": reason, "errors": []any{map[string]any{"domain": "global", "reason": reason, "message": reason}},
	}})
}

// newID returns one that has no order.
func (d *Drive) newID() string {
	d.n++
	sum := sha256.Sum256([]byte(strconv.Itoa(d.n)))
	return "1" + hex.EncodeToString(sum[:16])
}

func (d *Drive) changed(id string) { d.changes = append(d.changes, id) }

// put makes f part of the Drive, and tells.
func (d *Drive) put(f *driveFile) string {
	if f.id == "" {
		f.id = d.newID()
	}
	if f.modified.IsZero() {
		f.modified = time.Now().UTC().Truncate(time.Millisecond)
	}
	d.files[f.id] = f
	d.settle(f, f.parents)
	d.changed(f.id)
	return f.id
}

// settle gives f parents.
func (d *Drive) settle(f *driveFile, parents []string) {
	for _, p := range f.parents {
		delete(d.below[p], f.id)
	}
	f.parents = slices.Clone(parents)
	for _, p := range f.parents {
		if d.below[p] == nil {
			d.below[p] = map[string]bool{}
		}
		d.below[p][f.id] = true
	}
}

func (f *driveFile) fill(data []byte) {
	f.data = data
	m, s, h := md5.Sum(data), sha1.Sum(data), sha256.Sum256(data) //nolint:gosec // the form of the answer
	f.md5, f.sha1, f.sha = hex.EncodeToString(m[:]), hex.EncodeToString(s[:]), hex.EncodeToString(h[:])
}

// inTrash reports whether f is there, or what it lies in.
func (d *Drive) inTrash(f *driveFile) bool {
	if f.trashed {
		return true
	}
	for _, p := range f.parents {
		if up := d.files[p]; up != nil && d.inTrash(up) {
			return true
		}
	}
	return false
}

// within reports whether f is the folder with that ID, or below it.
func (d *Drive) within(f *driveFile, dir string) bool {
	return f.id == dir || slices.ContainsFunc(f.parents, func(p string) bool { return d.files[p] != nil && d.within(d.files[p], dir) })
}

// destroy removes a thing for good, and all below it.
func (d *Drive) destroy(f *driveFile, tellBelow bool) {
	for id := range maps.Clone(d.below[f.id]) {
		d.destroy(d.files[id], tellBelow)
		if !tellBelow {
			d.changes = d.changes[:len(d.changes)-1]
		}
	}
	d.settle(f, nil)
	delete(d.files, f.id)
	d.changed(f.id)
}

var word = regexp.MustCompile(`[A-Za-z0-9]+`)

// resource is what is said of a file, of the fields that were asked for.
func (d *Drive) resource(f *driveFile, fields string) map[string]any {
	all := map[string]any{
		"kind": "drive#file", "id": f.id, "name": f.name, "mimeType": f.mime, "trashed": d.inTrash(f), "explicitlyTrashed": f.trashed, "ownedByMe": true,
		"modifiedTime": f.modified.UTC().Format("2006-01-02T15:04:05.000Z"), "createdTime": f.modified.UTC().Format("2006-01-02T15:04:05.000Z"),
	}
	if len(f.parents) > 0 {
		all["parents"] = f.parents
	}
	if f.md5 != "" {
		all["size"], all["md5Checksum"], all["sha1Checksum"], all["sha256Checksum"] = strconv.Itoa(len(f.data)), f.md5, f.sha1, f.sha
	}
	if f.target != "" {
		details := map[string]any{"targetId": f.target}
		if t := d.files[f.target]; t != nil {
			details["targetMimeType"] = t.mime
		}
		all["shortcutDetails"] = details
	}
	asked := word.FindAllString(fields, -1)
	if len(asked) == 0 {
		asked = []string{"kind", "id", "name", "mimeType"}
	}
	maps.DeleteFunc(all, func(k string, _ any) bool { return !slices.Contains(asked, k) })
	return all
}

func (d *Drive) about(w http.ResponseWriter, _ *http.Request) {
	const docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
	say(w, http.StatusOK, map[string]any{
		"exportFormats": map[string]any{DriveDocument: []string{docx}}, "importFormats": map[string]any{docx: []string{DriveDocument}},
		"storageQuota": map[string]any{"limit": "1000000000000", "usage": "0", "usageInDrive": "0", "usageInDriveTrash": "0"},
	})
}

func (d *Drive) start(w http.ResponseWriter, _ *http.Request) {
	say(w, http.StatusOK, map[string]any{"kind": "drive#startPageToken", "startPageToken": strconv.Itoa(len(d.changes))})
}

// list tells changes. What changed more than once since the token is told at the last of these.
func (d *Drive) list(w http.ResponseWriter, r *http.Request) {
	from, err := strconv.Atoi(r.FormValue("pageToken"))
	size, sizeErr := strconv.Atoi(r.FormValue("pageSize"))
	if sizeErr != nil {
		size = 100
	}
	if err != nil || from < d.expired || from > len(d.changes) || size < 1 || size > 1000 {
		driveError(w, http.StatusBadRequest, "invalid")
		return
	}
	last := map[string]int{}
	for i, id := range d.changes {
		last[id] = i
	}
	all, i := []any{}, from
	for ; i < len(d.changes) && len(all) < size; i++ {
		id := d.changes[i]
		if last[id] != i {
			continue
		}
		c := map[string]any{"kind": "drive#change", "changeType": "file", "fileId": id, "removed": d.files[id] == nil}
		if f := d.files[id]; f != nil {
			_, fields, _ := strings.Cut(r.FormValue("fields"), "file(")
			c["file"] = d.resource(f, fields)
		}
		all = append(all, c)
	}
	answer := map[string]any{"kind": "drive#changeList", "changes": all}
	if i < len(d.changes) {
		answer["nextPageToken"] = strconv.Itoa(i)
	} else {
		answer["newStartPageToken"] = strconv.Itoa(i)
	}
	say(w, http.StatusOK, answer)
}

// Top returns the ID of the folder that all is in.
func (d *Drive) Top() string { return d.Root }

// Expire has all tokens that were given so far be unknown.
func (d *Drive) Expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed(d.Root)
	d.expired = len(d.changes)
}

// Write makes a file, also where there is one of that name, and returns its ID.
func (d *Drive) Write(dir, name string, data []byte) string {
	f := &driveFile{name: name, mime: "application/octet-stream", parents: []string{dir}}
	f.fill(data)
	return d.add(f)
}

func (d *Drive) add(f *driveFile) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.put(f)
}

// Mkdir makes a folder, also where there is one of that name, and returns its ID.
func (d *Drive) Mkdir(dir, name string) string { return d.Make(dir, name, DriveFolder) }

// Make makes a thing that has no bytes, of the type mime, and returns its ID.
func (d *Drive) Make(dir, name, mime string) string {
	return d.add(&driveFile{name: name, mime: mime, parents: []string{dir}})
}

// Link makes a shortcut to the thing with the ID target.
func (d *Drive) Link(dir, name, target string) string {
	return d.add(&driveFile{name: name, mime: DriveShortcut, parents: []string{dir}, target: target})
}

// change has do change the thing with that ID, if it is there, and tells.
func (d *Drive) change(id string, do func(f *driveFile)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[id]; f != nil {
		do(f)
		d.changed(id)
	}
}

// Overwrite gives a file other bytes.
func (d *Drive) Overwrite(id string, data []byte) {
	d.change(id, func(f *driveFile) {
		f.fill(data)
		f.modified = f.modified.Add(time.Second)
	})
}

// Move gives a thing another name and folder. To move a folder into itself does nothing.
func (d *Drive) Move(id, dir, name string) {
	d.change(id, func(f *driveFile) {
		if up := d.files[dir]; up != nil && !d.within(up, id) {
			d.settle(f, []string{dir})
			f.name = name
		}
	})
}

// Trash puts a thing into the trash, or takes it out again.
func (d *Drive) Trash(id string, in bool) { d.change(id, func(f *driveFile) { f.trashed = in }) }

// Delete removes a thing for good, with all below it. Whether that is told too, the documents leave open.
func (d *Drive) Delete(id string, tellBelow bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[id]; f != nil && id != d.Root {
		d.destroy(f, tellBelow)
	}
}

// Lag has the next n searches tell what is there now, whatever changes: the documents do not say that a search knows what the feed tells.
func (d *Drive) Lag(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lag, d.old = n, map[string]*driveFile{}
	for id, f := range d.files {
		c := *f
		d.old[id] = &c
	}
}
