package cloudtest

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	graphHost = "graph.microsoft.com"
	// Bytes go to and come from elsewhere, by addresses that need no token and must not be given one:
	// https://learn.microsoft.com/graph/api/driveitem-createuploadsession and driveitem-get-content.
	graphBytes = "sn3302.up.1drv.com"
	// farDrive is the drive of somebody else, in which there are empty folders.
	farDrive = "0123456789abcdef"
)

// A OneDrive is one drive of Microsoft OneDrive, as https://learn.microsoft.com/graph/api/resources/onedrive has it: items by ID and by path, uploads in one request and in
// several, downloads, copies that are waited for, and the delta of the drive. Its exported methods do what somebody else does to it. It is safe for concurrent use.
//
// The two sorts differ in what a delta tells. That of a person tells the folders above what has changed, too, and names what is gone, in a folder that it was not in. That of a
// business tells only what has changed, if it is asked for no more, and of what is gone no name.
type OneDrive struct {
	*Front
	*shelf
	// Drive is the ID of the drive, and Type what sort it is, as the API calls it.
	Drive, Type string

	sessions map[string]*session
	opened   int // sessions
}

// NewOneDrive starts an empty one. It ends with the test.
func NewOneDrive(t testing.TB, business bool) *OneDrive {
	t.Helper()
	d := &OneDrive{sessions: map[string]*session{}, Drive: "f38c1bed489ee12f", Type: "personal"}
	newID := func(n int) string { return fmt.Sprintf("F38C1BED489EE12F!%d", 100+n) }
	if business {
		d.Drive, d.Type = "b!WSWlJL1W9kyaAvz7NLW_npCY43r3-FhEj6kFGpp", "business"
		newID = func(n int) string { return fmt.Sprintf("01FLIMP2OEMFKZQUIL5NHL7OOZ6S%06d", n) }
	}
	d.shelf = newShelf(newID, quickXor)
	d.Front = newFront(t, locked(&d.shelf.mu, d.serve, func(w http.ResponseWriter) { graphError(w, http.StatusBadRequest, "invalidRequest") }),
		func(w http.ResponseWriter, f *Fault) { graphError(w, f.Status, f.Reason) }, graphHost, graphBytes)
	return d
}

// graphError answers in the form of https://learn.microsoft.com/graph/errors.
func graphError(w http.ResponseWriter, status int, code string, inner ...string) {
	e := map[string]any{"code": code, "message": code}
	if len(inner) > 0 {
		e["innererror"] = map[string]any{"code": inner[0]}
	}
	say(w, status, map[string]any{"error": e})
}

// quickXor is the hash of https://learn.microsoft.com/onedrive/developer/code-snippets/quickxorhash: each byte is added to 160 bits, 11 bits after the one before it, and the
// length to the last 64 of them.
func quickXor(data []byte) string {
	const bits, step = 160, 11
	var sum [bits / 8]byte
	for i, b := range data {
		at := i * step % bits
		for k := range 8 {
			if b>>k&1 == 1 {
				bit := (at + k) % bits
				sum[bit/8] ^= 1 << (bit % 8)
			}
		}
	}
	var size [8]byte
	binary.LittleEndian.PutUint64(size[:], uint64(len(data)))
	for i, b := range size {
		sum[len(sum)-len(size)+i] ^= b
	}
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (d *OneDrive) serve(w http.ResponseWriter, r *http.Request) {
	token := r.Header.Get("Authorization")
	switch {
	case r.Host == graphBytes && token == "":
		d.bytes(w, r)
	case r.Host != graphBytes && token == "Bearer "+Token:
		d.graph(w, r)
	default:
		graphError(w, http.StatusUnauthorized, "unauthenticated")
	}
}

// A target is what a request names: https://learn.microsoft.com/graph/onedrive-addressing-driveitems.
type target struct {
	up   *thing
	name string
	t    *thing // nil: it is not there
}

// target finds what a path names, and what is asked of it.
func (d *OneDrive) target(path string) (to target, action string) {
	from, rest := d.top, ""
	if id, ok := strings.CutPrefix(path, "/items/"); ok {
		end := strings.IndexAny(id, ":/")
		if end < 0 {
			end = len(id)
		}
		from, rest = d.find(id[:end]), id[end:]
	} else if rest, ok = strings.CutPrefix(path, "/root"); !ok {
		from = nil
	}
	if from == nil {
		return to, strings.TrimPrefix(rest, "/")
	}
	below := ""
	if p, ok := strings.CutPrefix(rest, ":/"); ok {
		below, rest, _ = strings.Cut(p, ":")
	}
	to.up, to.name, to.t = d.walk(from, below)
	return to, strings.TrimPrefix(rest, "/")
}

func (d *OneDrive) graph(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v1.0/drives/"+farDrive+"/items/") && strings.HasSuffix(r.URL.Path, "/children") {
		say(w, http.StatusOK, map[string]any{"value": []any{}})
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v1.0/drives/"+d.Drive)
	if !ok {
		graphError(w, http.StatusNotFound, "itemNotFound")
		return
	}
	if path == "" {
		say(w, http.StatusOK, map[string]any{"id": d.Drive, "driveType": d.Type, "quota": map[string]any{"total": 1 << 40, "remaining": 1 << 40, "state": "normal"}})
		return
	}
	to, action := d.target(path)
	do := map[string]func(http.ResponseWriter, *http.Request, target){
		"GET ": d.get, "PATCH ": d.update, "DELETE ": d.remove, "GET children": d.list, "POST children": d.create, "GET delta": d.delta, "GET content": d.download,
		"POST copy": d.copy, "PUT content": d.upload, "POST createUploadSession": d.session,
	}[r.Method+" "+action]
	there := to.t != nil || r.Method != http.MethodGet && strings.HasPrefix(action, "c") && action != "copy" && action != "children" && to.up != nil
	switch {
	case do == nil:
		graphError(w, http.StatusMethodNotAllowed, "notSupported")
	case !there:
		graphError(w, http.StatusNotFound, "itemNotFound")
	default:
		do(w, r, to)
	}
}

func (d *OneDrive) reference(up *thing) map[string]any {
	ref := map[string]any{"driveId": d.Drive, "driveType": d.Type}
	if up != nil {
		ref["id"] = up.id
	}
	return ref
}

// item is what is said of a thing: https://learn.microsoft.com/graph/api/resources/driveitem.
func (d *OneDrive) item(t *thing) map[string]any {
	at := t.modified.UTC().Format("2006-01-02T15:04:05.999Z")
	it := map[string]any{
		"id": t.id, "name": t.name, "size": len(t.data), "createdDateTime": at, "lastModifiedDateTime": at, "parentReference": d.reference(t.up),
		"fileSystemInfo": map[string]any{"createdDateTime": at, "lastModifiedDateTime": at},
	}
	switch {
	case t == d.top:
		it["root"] = map[string]any{}
		fallthrough
	case t.below != nil:
		it["folder"] = map[string]any{"childCount": len(t.below)}
	default:
		it["file"] = map[string]any{"mimeType": "application/octet-stream", "hashes": map[string]any{"quickXorHash": t.sum}}
	}
	if t.far {
		it["remoteItem"] = map[string]any{
			"id": "0123456789ABCDEF!1", "name": t.name, "folder": map[string]any{}, "parentReference": map[string]any{"driveId": farDrive, "driveType": d.Type},
		}
		delete(it, "folder")
	}
	return it
}

// Link makes a folder of another drive seen in this one, and returns the ID of what leads there.
func (d *OneDrive) Link(dir, name string) string { return d.mkdir(dir, name, true) }

// list tells what a folder holds, in pages: https://learn.microsoft.com/graph/api/driveitem-list-children.
func (d *OneDrive) list(w http.ResponseWriter, r *http.Request, to target) {
	all := d.children(to.t)
	from, _ := strconv.Atoi(r.FormValue("$skiptoken")) // "" is the first
	size, err := strconv.Atoi(r.FormValue("$top"))
	if err != nil {
		size = 200
	}
	all = all[min(from, len(all)):]
	answer := map[string]any{}
	if len(all) > size {
		all = all[:size]
		answer["@odata.nextLink"] = d.link(r, "$skiptoken", from+size)
	}
	value := make([]any, 0, len(all))
	for _, t := range all {
		value = append(value, d.item(t))
	}
	answer["value"] = value
	say(w, http.StatusOK, answer)
}

// link returns the address of another page of what was asked for.
func (d *OneDrive) link(r *http.Request, name string, at int) string {
	q := r.URL.Query()
	q.Set(name, strconv.Itoa(at))
	return "https://" + graphHost + (&url.URL{Path: r.URL.Path}).EscapedPath() + "?" + q.Encode()
}

// delta tells what has changed in the drive: https://learn.microsoft.com/graph/api/driveitem-delta. What changed more than once since the token is told at the last of these. It
// does not tell all that is there, as it does to who has no token.
func (d *OneDrive) delta(w http.ResponseWriter, r *http.Request, to target) {
	if to.t != d.top {
		graphError(w, http.StatusBadRequest, "notSupported") // the documents have it of the root alone
		return
	}
	from, err := strconv.Atoi(r.FormValue("token"))
	size, sizeErr := strconv.Atoi(r.FormValue("$top"))
	if sizeErr != nil {
		size = 200
	}
	switch {
	case r.FormValue("token") == "latest":
		from = len(d.events)
	case err != nil || from > len(d.events):
		graphError(w, http.StatusBadRequest, "invalidRequest")
		return
	case from < d.expire:
		w.Header().Set("Location", d.link(r, "token", len(d.events)))
		graphError(w, http.StatusGone, "resyncRequired", "resyncChangesApplyDifferences")
		return
	}
	last := map[string]int{}
	for i, e := range d.events {
		last[e.id] = i
	}
	value, told, i := []any{}, map[string]bool{}, from
	if d.Type == "personal" {
		value = d.above(value, told, nil) // whatever has changed
	}
	for n := 0; i < len(d.events) && n < size; i++ {
		id := d.events[i].id
		if id == "" || last[id] != i {
			continue
		}
		n++
		if d.Type == "personal" || r.Header.Get("deltaExcludeParent") == "" {
			value = d.above(value, told, d.find(id))
		}
		value = append(value, d.changed(id))
	}
	answer := map[string]any{"value": value}
	if i < len(d.events) {
		answer["@odata.nextLink"] = d.link(r, "token", i)
	} else {
		answer["@odata.deltaLink"] = d.link(r, "token", i)
	}
	say(w, http.StatusOK, answer)
}

// above adds the folders above t, from the root, that were not told in this page.
func (d *OneDrive) above(value []any, told map[string]bool, t *thing) []any {
	if t == nil {
		t = &thing{up: d.top} // a deleted thing is said to be in the root
	}
	var dirs []*thing
	for up := t.up; up != nil && !told[up.id]; up = up.up {
		told[up.id] = true
		dirs = append(dirs, up)
	}
	slices.Reverse(dirs)
	for _, up := range dirs {
		value = append(value, d.item(up))
	}
	return value
}

// changed is what a delta tells of a thing.
func (d *OneDrive) changed(id string) map[string]any {
	t := d.find(id)
	if t != nil {
		return d.item(t)
	}
	it := map[string]any{"id": id, "deleted": map[string]any{"state": "deleted"}, "parentReference": d.reference(d.top)}
	if d.Type == "personal" {
		it["name"] = d.all[id].name
	}
	if d.all[id].below != nil {
		it["folder"] = map[string]any{}
	} else {
		it["file"] = map[string]any{}
	}
	return it
}

// parseTime reads a time of the API; the zero time if it is none.
func parseTime(s string) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, s)
	return at
}
