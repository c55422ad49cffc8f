package cloudtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// graphMeta is what a client says of an item.
type graphMeta struct {
	Name   string `json:"name"`
	Parent *struct {
		ID string `json:"id"`
	} `json:"parentReference"`
	Info struct {
		Modified string `json:"lastModifiedDateTime"`
	} `json:"fileSystemInfo"`
}

func (m *graphMeta) apply(t *thing) {
	if at := parseTime(m.Info.Modified); !at.IsZero() {
		t.modified = at
	}
}

func (d *OneDrive) get(w http.ResponseWriter, _ *http.Request, to target) {
	say(w, http.StatusOK, d.item(to.t))
}

func (d *OneDrive) remove(w http.ResponseWriter, _ *http.Request, to target) {
	if to.t == d.top {
		graphError(w, http.StatusForbidden, "accessDenied")
		return
	}
	d.take(to.t, false)
	w.WriteHeader(http.StatusNoContent)
}

// create makes a folder, where nothing of its name is to be.
func (d *OneDrive) create(w http.ResponseWriter, r *http.Request, to target) {
	var m graphMeta
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil || !graphName(m.Name) {
		graphError(w, http.StatusBadRequest, "invalidRequest")
		return
	}
	t := d.make(m.Name, true)
	if !d.put(t, to.t, m.Name) {
		graphError(w, http.StatusConflict, "nameAlreadyExists")
		return
	}
	say(w, http.StatusCreated, d.item(t))
}

// graphName reports whether an item may have that name: https://support.microsoft.com/office/restrictions-and-limitations-in-onedrive-and-sharepoint.
func graphName(name string) bool {
	return name != "" && len([]rune(name)) <= 255 && !strings.ContainsAny(name, `"*:<>?/\|`) && strings.TrimRight(name, " .") == name && strings.TrimLeft(name, " ") == name
}

// update gives an item what is said of it.
func (d *OneDrive) update(w http.ResponseWriter, r *http.Request, to target) {
	var m graphMeta
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		graphError(w, http.StatusBadRequest, "invalidRequest")
		return
	}
	up, name := to.up, to.name
	if m.Parent != nil {
		up = d.find(m.Parent.ID)
	}
	if m.Name != "" {
		name = m.Name
	}
	m.apply(to.t)
	switch {
	case up == to.t.up && name == to.t.name:
		d.tell(to.t, false)
	case !graphName(name):
		graphError(w, http.StatusBadRequest, "invalidRequest")
		return
	case !d.put(to.t, up, name):
		graphError(w, http.StatusConflict, "nameAlreadyExists")
		return
	}
	say(w, http.StatusOK, d.item(to.t))
}

// copy makes a copy at once, and has the client ask whether it is made: https://learn.microsoft.com/graph/api/driveitem-copy.
func (d *OneDrive) copy(w http.ResponseWriter, r *http.Request, to target) {
	var m graphMeta
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil || m.Parent == nil || to.t.below != nil {
		graphError(w, http.StatusBadRequest, "invalidRequest")
		return
	}
	t := d.make(m.Name, false)
	d.fill(t, to.t.data, t.modified)
	if !d.put(t, d.find(m.Parent.ID), m.Name) {
		graphError(w, http.StatusConflict, "nameAlreadyExists")
		return
	}
	w.Header().Set("Location", "https://"+graphBytes+"/monitor/1")
	w.WriteHeader(http.StatusAccepted)
}

// A session is an upload in several requests: https://learn.microsoft.com/graph/api/driveitem-createuploadsession.
type session struct {
	target
	parts
	modified time.Time
}

// room says in the answer why nothing can be put there, and returns false then.
func (d *OneDrive) room(w http.ResponseWriter, to target) bool {
	switch {
	case !graphName(to.name):
		graphError(w, http.StatusBadRequest, "invalidRequest")
	case to.up == nil || to.up.below == nil || to.t != nil && to.t.below != nil:
		graphError(w, http.StatusConflict, "nameAlreadyExists")
	default:
		return true
	}
	return false
}

// finish gives the file that is there the bytes, or makes one.
func (d *OneDrive) finish(w http.ResponseWriter, to target, data []byte, modified time.Time) {
	status := http.StatusOK
	if _, _, t := d.walk(to.up, to.name); t != nil {
		to.t = t
		d.fill(t, data, modified)
		d.tell(t, false)
	} else {
		status = http.StatusCreated
		to.t = d.make(to.name, false)
		d.fill(to.t, data, modified)
		if d.find(to.up.id) == nil || !d.put(to.t, to.up, to.name) {
			graphError(w, http.StatusNotFound, "itemNotFound")
			return
		}
	}
	say(w, status, d.item(to.t))
}

func (d *OneDrive) upload(w http.ResponseWriter, r *http.Request, to target) {
	data, _ := io.ReadAll(r.Body) // of memory
	if d.room(w, to) {
		d.finish(w, to, data, time.Now().UTC().Truncate(time.Millisecond))
	}
}

func (d *OneDrive) session(w http.ResponseWriter, r *http.Request, to target) {
	var m struct {
		Item graphMeta `json:"item"`
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		graphError(w, http.StatusBadRequest, "invalidRequest")
		return
	}
	if !d.room(w, to) {
		return
	}
	d.opened++
	id := strconv.Itoa(d.opened)
	d.sessions[id] = &session{target: to, modified: parseTime(m.Item.Info.Modified)}
	say(w, http.StatusOK, map[string]any{"uploadUrl": "https://" + graphBytes + "/up/" + id, "expirationDateTime": "2099-01-01T00:00:00Z", "nextExpectedRanges": []string{"0-"}})
}

func (d *OneDrive) download(w http.ResponseWriter, _ *http.Request, to target) {
	if to.t.below != nil {
		graphError(w, http.StatusBadRequest, "invalidRequest")
		return
	}
	w.Header().Set("Location", "https://"+graphBytes+"/down/"+to.t.id)
	w.WriteHeader(http.StatusFound)
}

// bytes answers at the addresses that were given to the client.
func (d *OneDrive) bytes(w http.ResponseWriter, r *http.Request) {
	if id, ok := strings.CutPrefix(r.URL.Path, "/down/"); ok && d.find(id) != nil {
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(d.find(id).data))
		return
	}
	if strings.HasPrefix(r.URL.Path, "/monitor/") {
		say(w, http.StatusOK, map[string]any{"status": "completed", "percentageComplete": 100})
		return
	}
	id := strings.TrimPrefix(r.URL.Path, "/up/")
	up := d.sessions[id]
	switch {
	case up == nil:
		graphError(w, http.StatusNotFound, "itemNotFound")
	case r.Method == http.MethodDelete:
		delete(d.sessions, id)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet:
		say(w, http.StatusOK, up.left())
	default:
		whole, ok := up.add(r)
		switch {
		case !ok:
			graphError(w, http.StatusRequestedRangeNotSatisfiable, "invalidRange")
		case !whole:
			say(w, http.StatusAccepted, up.left())
		default:
			delete(d.sessions, id)
			d.finish(w, up.target, up.data, up.modified)
		}
	}
}

func (s *session) left() map[string]any {
	return map[string]any{"expirationDateTime": "2099-01-01T00:00:00Z", "nextExpectedRanges": []string{fmt.Sprintf("%d-", len(s.data))}}
}
