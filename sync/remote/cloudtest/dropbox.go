package cloudtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	dropboxAPI   = "api.dropboxapi.com"
	dropboxBytes = "content.dropboxapi.com"
)

// A Dropbox is that of one person, as https://www.dropbox.com/developers/documentation/http/documentation has it: files and folders by path, whatever its case, or by ID; uploads
// in one request, downloads, and cursors that tell what has changed below the top. Its exported methods do what somebody else does to it. It is safe for concurrent use.
type Dropbox struct {
	*Front
	*shelf
}

// NewDropbox starts an empty one. It ends with the test.
func NewDropbox(t testing.TB) *Dropbox {
	t.Helper()
	d := &Dropbox{}
	d.shelf = newShelf(func(n int) string { return fmt.Sprintf("id:a4ayc_80_OEAAAAAA%06d", n) }, dropboxHash)
	d.Front = newFront(t, locked(&d.shelf.mu, d.serve, func(w http.ResponseWriter) { dropboxError(w, http.StatusBadRequest, "the body is cut off") }),
		func(w http.ResponseWriter, f *Fault) { dropboxError(w, f.Status, f.Reason) }, dropboxAPI, dropboxBytes)
	return d
}

// dropboxError answers in the form of the section on errors. tags are those of the unions that an error of an endpoint is, from the outside.
func dropboxError(w http.ResponseWriter, status int, tags ...string) {
	var e any
	for i, tag := range slices.Backward(tags) {
		u := map[string]any{".tag": tag}
		if i+1 < len(tags) {
			u[tag] = e
		}
		e = u
	}
	say(w, status, map[string]any{"error_summary": strings.Join(tags, "/") + "/..", "error": e})
}

// dropboxHash is that of https://www.dropbox.com/developers/reference/content-hash: the hash of the hashes of blocks of 4 MiB.
func dropboxHash(data []byte) string {
	all := sha256.New()
	for block := range slices.Chunk(data, 4<<20) {
		sum := sha256.Sum256(block)
		_, _ = all.Write(sum[:]) // never fails
	}
	return hex.EncodeToString(all.Sum(nil))
}

// dropboxArg is what is asked for, of all endpoints together.
type dropboxArg struct {
	Path      string `json:"path"`
	From      string `json:"from_path"`
	To        string `json:"to_path"`
	Cursor    string `json:"cursor"`
	Limit     int    `json:"limit"`
	Recursive bool   `json:"recursive"`
	Modified  string `json:"client_modified"`
}

func (d *Dropbox) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+Token {
		dropboxError(w, http.StatusUnauthorized, "invalid_access_token")
		return
	}
	body, _ := io.ReadAll(r.Body) // of memory
	args := []byte(r.Header.Get("Dropbox-API-Arg"))
	if r.Host == dropboxAPI {
		args = body
	}
	var arg dropboxArg
	if err := json.Unmarshal(args, &arg); err != nil {
		dropboxError(w, http.StatusBadRequest, "not JSON")
		return
	}
	switch strings.TrimPrefix(r.URL.Path, "/2/files/") {
	case "get_metadata":
		d.metadata(w, &arg)
	case "list_folder":
		d.list(w, &arg)
	case "list_folder/get_latest_cursor":
		d.latest(w, &arg)
	case "list_folder/continue":
		d.proceed(w, &arg)
	case "create_folder_v2":
		d.create(w, &arg)
	case "delete_v2":
		d.remove(w, &arg)
	case "move_v2", "copy_v2":
		d.relocate(w, &arg, strings.HasSuffix(r.URL.Path, "copy_v2"))
	case "upload":
		d.upload(w, &arg, body)
	case "download":
		d.download(w, r, &arg)
	default:
		dropboxError(w, http.StatusNotFound, "no such endpoint")
	}
}

// at returns what has a path or an ID.
func (d *Dropbox) at(path string) (up *thing, name string, t *thing) {
	if strings.HasPrefix(path, "id:") {
		if t = d.find(path); t == nil {
			return nil, "", nil
		}
		return t.up, t.name, t
	}
	return d.walk(d.top, path)
}

// entry is what is said of a thing.
func (d *Dropbox) entry(t *thing) map[string]any {
	e := map[string]any{".tag": "folder", "name": t.name, "id": t.id, "path_display": t.path(), "path_lower": strings.ToLower(t.path())}
	if t.below == nil {
		at := t.modified.UTC().Format("2006-01-02T15:04:05Z")
		e[".tag"], e["client_modified"], e["server_modified"], e["rev"] = "file", at, at, "015f9e1ccb0a000000000a1b2c3d"
		e["size"], e["is_downloadable"], e["content_hash"] = len(t.data), true, t.sum
	}
	return e
}

func (d *Dropbox) metadata(w http.ResponseWriter, arg *dropboxArg) {
	_, _, t := d.at(arg.Path)
	switch {
	case t == d.top:
		dropboxError(w, http.StatusBadRequest, "the root folder is unsupported")
	case t == nil:
		dropboxError(w, http.StatusConflict, "path", "not_found")
	default:
		say(w, http.StatusOK, d.entry(t))
	}
}

// A cursor is where a list of a folder goes on, or from where on changes are told.
type cursor struct {
	Dir   string `json:"dir"` // "": of changes
	At    int    `json:"at"`
	Limit int    `json:"limit"`
}

func (c cursor) String() string {
	p, _ := json.Marshal(c) // never fails
	return hex.EncodeToString(p)
}

func parseCursor(s string) (c cursor, err error) {
	p, err := hex.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(p, &c)
	}
	return c, err
}

// list tells what is in a folder.
func (d *Dropbox) list(w http.ResponseWriter, arg *dropboxArg) {
	_, _, t := d.at(arg.Path)
	switch {
	case t == nil:
		dropboxError(w, http.StatusConflict, "path", "not_found")
	case t.below == nil:
		dropboxError(w, http.StatusConflict, "path", "not_folder")
	default:
		d.page(w, cursor{Dir: t.id, Limit: arg.Limit})
	}
}

func (d *Dropbox) page(w http.ResponseWriter, c cursor) {
	t := d.find(c.Dir)
	if t == nil {
		dropboxError(w, http.StatusConflict, "path", "not_found")
		return
	}
	all := d.children(t)
	all = all[min(c.At, len(all)):]
	n := len(all)
	if c.Limit > 0 {
		n = min(n, c.Limit)
	}
	entries := make([]any, 0, n)
	for _, k := range all[:n] {
		entries = append(entries, d.entry(k))
	}
	more := n < len(all)
	c.At += n
	say(w, http.StatusOK, map[string]any{"entries": entries, "cursor": c.String(), "has_more": more})
}

func (d *Dropbox) latest(w http.ResponseWriter, arg *dropboxArg) {
	if arg.Path != "" || !arg.Recursive {
		dropboxError(w, http.StatusBadRequest, "only all is followed here")
		return
	}
	say(w, http.StatusOK, map[string]any{"cursor": cursor{At: len(d.events), Limit: arg.Limit}.String()})
}

// proceed tells what comes after a cursor. Of a path at which more than once something has changed it is told at the last of these.
func (d *Dropbox) proceed(w http.ResponseWriter, arg *dropboxArg) {
	c, err := parseCursor(arg.Cursor)
	switch {
	case err != nil || c.At > len(d.events) && c.Dir == "":
		dropboxError(w, http.StatusBadRequest, "no cursor")
		return
	case c.Dir != "":
		d.page(w, c)
		return
	case c.At < d.expire:
		dropboxError(w, http.StatusConflict, "reset")
		return
	}
	last := map[string]int{}
	for i, e := range d.events {
		last[strings.ToLower(e.path)] = i
	}
	entries := []any{}
	for ; c.At < len(d.events) && (c.Limit == 0 || len(entries) < c.Limit); c.At++ {
		lower := strings.ToLower(d.events[c.At].path)
		if lower == "" || last[lower] != c.At {
			continue
		}
		if _, name, t := d.walk(d.top, lower); t != nil {
			entries = append(entries, d.entry(t))
		} else {
			entries = append(entries, map[string]any{".tag": "deleted", "name": name, "path_lower": lower, "path_display": d.events[c.At].path})
		}
	}
	say(w, http.StatusOK, map[string]any{"entries": entries, "cursor": c.String(), "has_more": c.At < len(d.events)})
}

// room returns the folder that a path lies in, and makes it if it is not there, as the place does. It answers and returns nil if there can be none, or the name cannot be.
func (d *Dropbox) room(w http.ResponseWriter, path string, outer ...string) (up *thing, name string) {
	names := strings.Split(strings.Trim(path, "/"), "/")
	up = d.top
	for i, name := range names {
		if name == "" || len([]rune(name)) > 255 || strings.Contains(name, `\`) || strings.TrimRight(name, " ") != name {
			dropboxError(w, http.StatusConflict, append(outer, "malformed_path")...)
			return nil, ""
		}
		if i == len(names)-1 {
			break
		}
		k := up.below[strings.ToLower(name)]
		if k == nil {
			k = d.make(name, true)
			d.put(k, up, name)
		}
		if k.below == nil {
			dropboxError(w, http.StatusConflict, append(outer, "conflict", "file_ancestor")...)
			return nil, ""
		}
		up = k
	}
	return up, names[len(names)-1]
}

func (d *Dropbox) create(w http.ResponseWriter, arg *dropboxArg) {
	up, name := d.room(w, arg.Path, "path")
	if up == nil {
		return
	}
	t := d.make(name, true)
	if !d.put(t, up, name) {
		dropboxError(w, http.StatusConflict, "path", "conflict", "folder")
		return
	}
	say(w, http.StatusOK, map[string]any{"metadata": d.entry(t)})
}

func (d *Dropbox) remove(w http.ResponseWriter, arg *dropboxArg) {
	_, _, t := d.at(arg.Path)
	if t == nil || t == d.top {
		dropboxError(w, http.StatusConflict, "path_lookup", "not_found")
		return
	}
	e := d.entry(t)
	d.take(t, false)
	say(w, http.StatusOK, map[string]any{"metadata": e})
}

// relocate moves or copies.
func (d *Dropbox) relocate(w http.ResponseWriter, arg *dropboxArg, again bool) {
	_, _, t := d.at(arg.From)
	if t == nil || t == d.top || again && t.below != nil {
		dropboxError(w, http.StatusConflict, "from_lookup", "not_found")
		return
	}
	up, name := d.room(w, arg.To, "to")
	if up == nil {
		return
	}
	if again {
		c := d.make(name, false)
		d.fill(c, t.data, t.modified)
		t = c
	}
	if !d.put(t, up, name) {
		dropboxError(w, http.StatusConflict, "to", "conflict", "file")
		return
	}
	say(w, http.StatusOK, map[string]any{"metadata": d.entry(t)})
}

// upload puts a file over the one that is there.
func (d *Dropbox) upload(w http.ResponseWriter, arg *dropboxArg, data []byte) {
	up, name := d.room(w, arg.Path, "path")
	if up == nil {
		return
	}
	modified := parseTime(arg.Modified)
	if modified.IsZero() {
		modified = time.Now().UTC().Truncate(time.Second)
	}
	t := up.below[strings.ToLower(name)]
	switch {
	case t == nil:
		t = d.make(name, false)
		d.fill(t, data, modified)
		d.put(t, up, name)
	case t.below != nil:
		dropboxError(w, http.StatusConflict, "path", "conflict", "folder")
		return
	default:
		d.fill(t, data, modified)
		d.tell(t, false)
	}
	say(w, http.StatusOK, d.entry(t))
}

func (d *Dropbox) download(w http.ResponseWriter, r *http.Request, arg *dropboxArg) {
	_, _, t := d.at(arg.Path)
	if t == nil || t.below != nil {
		dropboxError(w, http.StatusConflict, "path", "not_found")
		return
	}
	p, _ := json.Marshal(d.entry(t)) // never fails
	w.Header().Set("Dropbox-API-Result", ascii(string(p)))
	w.Header().Set("Content-Type", "application/octet-stream")
	q := r.Clone(r.Context())
	q.Method = http.MethodGet // or ranges are not looked at
	http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(t.data))
}

// ascii writes JSON so that it may be in a header.
func ascii(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 0x7f:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		}
	}
	return b.String()
}
