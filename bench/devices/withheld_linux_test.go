package devices

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// A withholder stands before a server for WebDAV and spoils every third listing of a folder: it ends early, as if that were all, or lacks names
// anywhere, or is what was told of that folder some time ago.
type withholder struct {
	mu    sync.Mutex
	rng   *rand.Rand
	quiet bool
	old   map[string][]byte
	lies  map[string]int
}

// responseEnd ends what Apache says of one name.
const responseEnd = "</D:response>"

func (w *withholder) after(r *http.Response) error {
	if r.Request.Method != "PROPFIND" || r.Request.Header.Get("Depth") != "1" || r.StatusCode != http.StatusMultiStatus {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	_ = r.Body.Close() // all was read
	body = w.spoil(r.Request.URL.Path, body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength, r.TransferEncoding = int64(len(body)), nil
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

func (w *withholder) spoil(path string, body []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.old[path]
	if old == nil || w.rng.IntN(8) == 0 {
		w.old[path] = body
	}
	parts := strings.SplitAfter(string(body), responseEnd)
	names := parts[1 : len(parts)-1] // without the folder itself, and what ends the document
	if w.quiet || len(names) == 0 || w.rng.IntN(3) > 0 {
		return body
	}
	switch n := w.rng.IntN(3); {
	case n == 0 && old != nil:
		w.lies["stale"]++
		return old
	case n == 1:
		w.lies["partial"]++
		names = names[:w.rng.IntN(len(names))]
	default:
		w.lies["withheld"]++
		var some []string
		for _, s := range names {
			if w.rng.IntN(3) > 0 {
				some = append(some, s)
			}
		}
		names = some
	}
	return []byte(parts[0] + strings.Join(names, "") + parts[len(parts)-1])
}

// The same where the devices meet at a server whose listings are not to be trusted while they write: what is not listed was not removed.
func TestDevices_LoseNothingWhereListingsLie(t *testing.T) {
	seed := testkit.Seed(t)
	srv, direct := remotetest.WebDAV(t)
	proxy, place := remotetest.Front(t, srv, direct)
	m := meeting{at: "place:" + place.Path}
	add := []string{"remote", "add", "place", place.Kind}
	for k, v := range place.Options {
		add = append(add, k+"="+v)
	}
	m.tell = [][]string{add}
	for k, v := range place.Secrets {
		m.env = append(m.env, "SHEAF_REMOTE_PLACE_"+strings.ToUpper(k)+"="+v)
	}
	all := fleet(t, 3, m)
	w := &withholder{rng: rand.New(rand.NewPCG(uint64(seed), 7)), old: map[string][]byte{}, lies: map[string]int{}}
	proxy.After(w.after)
	live(t, seed, all, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.quiet = true
	})
	t.Logf("listings that lied: %v", w.lies)
	if len(w.lies) < 3 {
		t.Error("no listing lied: the run proves nothing")
	}
}
