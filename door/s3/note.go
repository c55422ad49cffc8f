package s3

import (
	"context"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// noteAttr is the extended attribute in which a note lies.
const noteAttr = "user.sheaf.s3"

// A note is what clients of S3 know of an object, besides its bytes and its time.
type note struct {
	// Sum is what is called ETag: the MD5 of the bytes, or, longer, something else that changes with them.
	Sum []byte `json:"sum,omitempty"`
	// Size, Written and Changed are the size, the MTime and the CTime of the file of which Sum is, the times in nanoseconds since 1970.
	Size    int64 `json:"size,omitempty"`
	Written int64 `json:"written,omitempty"`
	Changed int64 `json:"changed,omitempty"`
	// Meta are headers that the client gave.
	Meta map[string]string `json:"meta,omitempty"`
	// Made says that a folder was made for what lies in it, and goes with the last of it.
	Made bool `json:"made,omitempty"`
}

// The headers that are not kept in a note, for the file has them itself.
const (
	metaTime     = "X-Amz-Meta-Mtime" // seconds since 1970, as rclone and others have it
	lastModified = "Last-Modified"
)

// noteOf returns the note of a node, with a Sum that is of its bytes.
func noteOf(ctx context.Context, n vfs.Node, a vfs.Attr) (note, error) {
	t := note{}
	switch b, err := n.Xattr(ctx, noteAttr); {
	case err == nil:
		if json.Unmarshal(b, &t) != nil { // somebody else wrote it
			t = note{}
		}
	case !errors.Is(err, vfs.ErrNoXattr):
		return note{}, err
	}
	switch {
	case a.Kind == vfs.KindDir:
		empty, _ := hex.DecodeString("d41d8cd98f00b204e9800998ecf8427e") // the MD5 of nothing
		t.Sum = empty
	case len(t.Sum) == 0 || t.Size != a.Size || t.Written != a.MTime.UnixNano() || t.Changed != a.CTime.UnixNano():
		t.Sum = sumOf(a.Ino, uint64(a.Size), uint64(a.CTime.UnixNano()))
	}
	return t, nil
}

// sumOf returns an ETag that is none of bytes. It is longer than an MD5.
func sumOf(of ...uint64) []byte {
	var b []byte
	for _, v := range of {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	sum := sha1.Sum(b) //nolint:gosec // it is a name, and proves nothing
	return sum[:]
}

// dress gives a draft its note, and the time that the client says. sum is that of its bytes. What it returns is the CTime to give it when it is in its
// place: each later change of any kind makes another.
func dress(ctx context.Context, n vfs.Node, sum []byte, meta map[string]string) (changed time.Time, err error) {
	changed = time.Now()
	t := note{Sum: sum, Changed: changed.UnixNano(), Meta: maps.Clone(meta)}
	delete(t.Meta, lastModified)
	if at, ok := seconds(t.Meta[metaTime]); ok {
		if _, err := n.SetAttr(ctx, vfs.AttrChange{Set: vfs.SetMTime, MTime: at}); err != nil {
			return changed, err
		}
		delete(t.Meta, metaTime)
	}
	a, err := n.Attr(ctx)
	if err != nil {
		return changed, err
	}
	t.Size, t.Written = a.Size, a.MTime.UnixNano()
	b, err := json.Marshal(t)
	if err != nil {
		return changed, fmt.Errorf("note: %w", err)
	}
	return changed, n.SetXattr(ctx, noteAttr, b, vfs.XattrAny)
}

// seconds reads a time as seconds since 1970 with a fraction. A float64 has not all digits of one of today, so that the two parts are read by themselves.
func seconds(v string) (time.Time, bool) {
	whole, rest, _ := strings.Cut(v, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || sec < -1<<40 || sec > 1<<40 {
		return time.Time{}, false
	}
	nsec, err := strconv.ParseUint((rest + "000000000")[:9], 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(sec, int64(nsec)), true
}

// metadata returns the headers of an object.
func (t note) metadata(a vfs.Attr) map[string]string {
	m := maps.Clone(t.Meta)
	if m == nil {
		m = map[string]string{}
	}
	m[lastModified] = a.MTime.UTC().Format(http.TimeFormat)
	m[metaTime] = fmt.Sprintf("%d.%09d", a.MTime.Unix(), a.MTime.Nanosecond())
	return m
}
