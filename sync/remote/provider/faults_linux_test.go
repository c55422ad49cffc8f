package provider_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/retry"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/provider"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// patient opens a place as the product does, but waits less between tries.
func patient(t *testing.T, p remotetest.Place, tries int) blob.Bucket {
	t.Helper()
	b, err := provider.Kinds().Open(t.Context(), p.Remote(), nil, remote.Options{
		Make: true, Retry: retry.Options{Tries: tries, First: 20 * time.Millisecond, Most: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // its server may be gone
	return b
}

func put(ctx context.Context, b blob.Bucket, name blob.Name, body []byte) error {
	return b.Put(ctx, name, bytes.NewReader(body), int64(len(body)))
}

func get(ctx context.Context, b blob.Bucket, name blob.Name, off, n int64) ([]byte, error) {
	r, err := b.Get(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(r)
	return p, errors.Join(err, r.Close())
}

func listed(ctx context.Context, b blob.Bucket) (map[blob.Name]int64, error) {
	all := map[blob.Name]int64{}
	for i, err := range b.List(ctx, "") {
		if err != nil {
			return all, err
		}
		all[i.Name] = i.Size
	}
	return all, nil
}

// TestBucket_AServerThatDiesAndComesBack: all that was acknowledged is there, whole, and nobody has to begin anew.
func TestBucket_AServerThatDiesAndComesBack(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, place := start(t)
			r := testkit.Rand(testkit.Seed(t))
			b := patient(t, place, 40)
			var mu sync.Mutex
			bodies := map[blob.Name][]byte{}
			var done atomic.Int64
			next := make(chan blob.Name)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for name := range next {
						mu.Lock()
						body := bodies[name]
						mu.Unlock()
						if err := put(t.Context(), b, name, body); err != nil {
							t.Errorf("put %s: %v", name, err)
						}
						done.Add(1)
					}
				})
			}
			const n = 40
			for i := range n {
				name := blob.Name(fmt.Sprintf("packs/%02d/%d", i%5, i))
				mu.Lock()
				bodies[name] = testkit.Random(r, 200_000+r.IntN(300_000))
				mu.Unlock()
				if i == 12 || i == 25 {
					server.Kill()
					defer time.AfterFunc(300*time.Millisecond, server.Start).Stop()
				}
				next <- name
			}
			close(next)
			wg.Wait()
			for name, body := range bodies {
				if got, err := get(t.Context(), b, name, 0, -1); err != nil || !bytes.Equal(got, body) {
					t.Errorf("get %s: got %d bytes and error %v, want %d bytes", name, len(got), err, len(body))
				}
			}
			all, err := listed(t.Context(), b)
			if err != nil || len(all) != n {
				t.Errorf("list: got %d names and error %v, want %d", len(all), err, n)
			}
		})
	}
}

// web are the servers before which a Proxy can stand.
var web = []string{"s3", "webdav"}

func TestBucket_SaysWhatAnAnswerMeans(t *testing.T) {
	for _, name := range web {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, place := servers[name](t)
			proxy, place := remotetest.Front(t, server, place)
			b := open(t, place, true)
			old, young := []byte("old"), []byte("young")
			if err := put(t.Context(), b, "x", old); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				status int
				want   error
				after  string
			}{
				{http.StatusUnauthorized, blob.ErrUnauthorized, ""},
				{http.StatusForbidden, blob.ErrUnauthorized, ""},
				{http.StatusTooManyRequests, blob.ErrTemporary, "2"},
				{http.StatusServiceUnavailable, blob.ErrTemporary, "2"},
				{http.StatusInternalServerError, blob.ErrTemporary, ""},
				{http.StatusBadGateway, blob.ErrTemporary, ""},
				{http.StatusInsufficientStorage, blob.ErrNoSpace, ""},
			} {
				proxy.Before(func(w http.ResponseWriter, r *http.Request) bool {
					if c.after == "" {
						return remotetest.Answer(w, c.status)
					}
					return remotetest.Answer(w, c.status, "Retry-After: "+c.after)
				})
				check := func(what string, err error) {
					t.Helper()
					if !errors.Is(err, c.want) || errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%d: %s: got error %v, want %v", c.status, what, err, c.want)
					}
					// rclone's WebDAV drops the header.
					if wait := blob.After(err); name == "s3" && c.after != "" && (wait < time.Second || wait > 2*time.Second) {
						t.Errorf("%d: %s: got a wait of %v, want 2 s: %v", c.status, what, wait, err)
					}
				}
				check("put", put(t.Context(), b, "y", young))
				check("put again", put(t.Context(), b, "x", young))
				_, err := listed(t.Context(), b)
				check("list", err)
				check("remove", b.Remove(t.Context(), "x"))
				if name != "s3" || c.status != http.StatusForbidden { // a HEAD has no body that says why
					_, err = get(t.Context(), b, "x", 0, -1)
					check("get", err)
				}
				// When it is over, the same Bucket goes on, and the blob that was to be replaced is there.
				proxy.Before(nil)
				if got, err := get(t.Context(), b, "x", 0, -1); err != nil || !bytes.Equal(got, old) {
					t.Errorf("after %d: got %q and error %v", c.status, got, err)
				}
			}
		})
	}
}

func TestBucket_ABodyThatIsNotWholeIsAnError(t *testing.T) {
	body := testkit.Random(testkit.Rand(1), 300_000)
	cut := func(keep int64, length bool) func(*http.Response) error {
		return func(r *http.Response) error {
			if r.Request.Method != http.MethodGet || r.ContentLength < keep {
				return nil
			}
			inner := r.Body
			r.Body = struct {
				io.Reader
				io.Closer
			}{io.LimitReader(inner, keep), inner}
			if length { // the answer is whole in itself
				r.ContentLength = keep
				r.Header.Set("Content-Length", strconv.FormatInt(keep, 10))
			}
			return nil
		}
	}
	page := func(r *http.Response) error {
		if r.Request.Method == http.MethodGet {
			const html = "<html><body>Please sign in to the wireless network.</body></html>"
			_ = r.Body.Close()
			r.StatusCode, r.Status, r.Body, r.ContentLength = 200, "200 OK", io.NopCloser(bytes.NewReader([]byte(html))), int64(len(html))
			r.Header = http.Header{"Content-Type": {"text/html"}, "Content-Length": {strconv.Itoa(len(html))}}
		}
		return nil
	}
	for _, name := range web {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, place := servers[name](t)
			proxy, place := remotetest.Front(t, server, place)
			b := open(t, place, true)
			if err := put(t.Context(), b, "x", body); err != nil {
				t.Fatal(err)
			}
			for what, after := range map[string]func(*http.Response) error{"cut off": cut(100_000, false), "too short": cut(100_000, true), "a page": page} { //nolint:bodyclose // the proxy closes it
				proxy.After(after)
				for _, off := range []int64{0, 1000} {
					got, err := get(t.Context(), b, "x", off, -1)
					if !errors.Is(err, blob.ErrTemporary) {
						t.Errorf("%s: got %d bytes from %d and error %v, want blob.ErrTemporary", what, len(got), off, err)
					}
				}
			}
			// A server that does not know ranges sends all.
			proxy.After(nil)
			proxy.Before(func(_ http.ResponseWriter, r *http.Request) bool {
				if name == "webdav" { // those of S3 are signed
					r.Header.Del("Range")
				}
				return false
			})
			if got, err := get(t.Context(), b, "x", 1000, 500); err == nil && !bytes.Equal(got, body[1000:1500]) {
				t.Errorf("without ranges: got %d other bytes and no error", len(got))
			}
		})
	}
}

// TestBucket_AnUploadThatIsLostIsNotAcknowledged: the server says yes, and has something else, or nothing.
func TestBucket_AnUploadThatIsLostIsNotAcknowledged(t *testing.T) {
	server, place := remotetest.WebDAV(t)
	proxy, place := remotetest.Front(t, server, place)
	b := open(t, place, true)
	body := testkit.Random(testkit.Rand(2), 100_000)
	lost := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body) // as a server does that stores it
		return remotetest.Answer(w, http.StatusCreated)
	}
	wrong := func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			p, _ := io.ReadAll(r.Body) // as above
			if len(p) > 0 {
				p[len(p)/2] ^= 1
			}
			r.Body = io.NopCloser(bytes.NewReader(p))
		}
		return false
	}
	for what, before := range map[string]func(http.ResponseWriter, *http.Request) bool{"lost": lost, "changed": wrong} {
		proxy.Before(before)
		if err := put(t.Context(), b, "x", body); !errors.Is(err, blob.ErrMangled) {
			t.Errorf("%s: got error %v, want blob.ErrMangled", what, err)
		}
		proxy.Before(nil)
		if _, err := get(t.Context(), b, "x", 0, -1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: get: got error %v, want fs.ErrNotExist", what, err)
		}
	}
	if err := put(t.Context(), b, "x", body); err != nil {
		t.Error(err)
	}
}

// TestBucket_AMapThroughAStorm: many requests fail, in many ways: a third for S3, of which a blob takes two or three, and a twelfth for
// WebDAV, of which it takes ten. What is acknowledged holds, what fails leaves the old or the new, and no byte is wrong.
func TestBucket_AMapThroughAStorm(t *testing.T) {
	for _, name := range web {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := testkit.Seed(t)
			server, place := servers[name](t)
			proxy, place := remotetest.Front(t, server, place)
			b := patient(t, place, 12)
			var mu sync.Mutex
			chance := testkit.Rand(seed + 1)
			var failed int
			dice, steps := 18, 40
			if name == "webdav" {
				dice, steps = 72, 40
			}
			proxy.Before(func(w http.ResponseWriter, _ *http.Request) bool {
				mu.Lock()
				now := chance.IntN(dice)
				if now < 6 {
					failed++
				}
				mu.Unlock()
				switch now {
				case 0:
					return remotetest.Answer(w, http.StatusInternalServerError)
				case 1:
					return remotetest.Answer(w, http.StatusServiceUnavailable)
				case 2:
					return remotetest.Answer(w, http.StatusTooManyRequests)
				case 3, 4:
					panic(http.ErrAbortHandler) // the connection ends
				case 5:
					return remotetest.Answer(w, http.StatusBadGateway)
				}
				return false
			})
			if os.Getenv("SHEAF_LONG") != "" {
				steps = 20_000
			}
			storm(t, b, testkit.Rand(seed), steps)
			mu.Lock()
			t.Logf("%d requests failed", failed)
			mu.Unlock()
		})
	}
}

// storm holds a Bucket against a map.
func storm(t *testing.T, b blob.Bucket, r *rand.Rand, steps int) {
	t.Helper()
	may := map[blob.Name][][]byte{} // what may be there; nil: nothing
	ok := func(name blob.Name, got []byte) bool {
		if len(may[name]) == 0 {
			return got == nil
		}
		for _, m := range may[name] {
			if (m == nil) == (got == nil) && bytes.Equal(m, got) {
				return true
			}
		}
		return false
	}
	for range steps {
		name := blob.Name(fmt.Sprintf("p%d/x%d", r.IntN(3), r.IntN(8)))
		switch r.IntN(4) {
		case 0, 1:
			body := testkit.Random(r, 1+r.IntN(50_000))
			if err := put(t.Context(), b, name, body); err == nil {
				may[name] = [][]byte{body}
			} else if len(may[name]) == 0 {
				may[name] = [][]byte{nil, body}
			} else {
				may[name] = append(may[name], body, nil) // what was not kept as it was given is removed
			}
		case 2:
			if err := b.Remove(t.Context(), name); err == nil {
				may[name] = nil
			} else if len(may[name]) > 0 {
				may[name] = append(may[name], nil)
			}
		case 3:
			got, err := get(t.Context(), b, name, 0, -1)
			if errors.Is(err, fs.ErrNotExist) {
				got, err = nil, nil
			}
			if err == nil && !ok(name, got) {
				t.Errorf("get %s: got %d bytes, which nobody has put", name, len(got))
			}
		}
	}
	all, err := listed(t.Context(), b)
	if err != nil && !errors.Is(err, blob.ErrTemporary) {
		t.Errorf("list: %v", err)
	}
	for name := range may {
		if size, there := all[name]; err == nil && !there && !ok(name, nil) {
			t.Errorf("%s is not listed (%d)", name, size)
		}
	}
}

func TestBucket_APlaceThatIsGoneIsNotEmpty(t *testing.T) {
	for name, start := range servers {
		if name == "weed" {
			continue // its buckets are no folders that a test could take away
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, place := start(t)
			if _, err := openErr(t, place, false); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("open what is not there: got error %v, want fs.ErrNotExist", err)
			}
			b := open(t, place, true)
			if err := put(t.Context(), b, "a/x", []byte("x")); err != nil {
				t.Fatal(err)
			}
			open(t, place, false)
			// The disk with the files is away.
			dir := filepath.Join(place.Dir, "drive")
			if name == "s3" {
				dir = filepath.Join(place.Dir, "bucket")
			}
			if err := os.Rename(dir, dir+".away"); err != nil {
				t.Fatal(err)
			}
			if _, err := get(t.Context(), b, "a/x", 0, -1); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("get: got error %v, want one that is not fs.ErrNotExist", err)
			}
			if all, err := listed(t.Context(), b); err == nil {
				t.Errorf("list: got %v and no error", all)
			}
			if _, err := openErr(t, place, false); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("open: got error %v, want fs.ErrNotExist", err)
			}
			if err := os.Rename(dir+".away", dir); err != nil {
				t.Fatal(err)
			}
			if got, err := get(t.Context(), b, "a/x", 0, -1); err != nil || string(got) != "x" {
				t.Errorf("when it is back: got %q and error %v", got, err)
			}
		})
	}
}

func TestBucket_AFullDiskIsNoSpace(t *testing.T) {
	for _, name := range []string{"webdav", "sftp", "ftp"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, place := servers[name](t, remotetest.Space(3<<20))
			b := open(t, place, true)
			body := testkit.Random(testkit.Rand(3), 2<<20)
			if err := put(t.Context(), b, "packs/a", body); err != nil {
				t.Fatal(err)
			}
			want := blob.ErrNoSpace
			if name == "ftp" {
				want = blob.ErrTemporary // vsftpd has one answer for all that goes wrong with a file
			}
			if err := put(t.Context(), b, "packs/b", body); !errors.Is(err, want) {
				t.Errorf("got error %v, want %v", err, want)
			}
			// What was there is whole, what was not put is not there, and takes no room.
			if got, err := get(t.Context(), b, "packs/a", 0, -1); err != nil || !bytes.Equal(got, body) {
				t.Errorf("get a: got %d bytes and error %v", len(got), err)
			}
			if _, err := get(t.Context(), b, "packs/b", 0, -1); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("get b: got error %v, want fs.ErrNotExist", err)
			}
			if err := b.Remove(t.Context(), "packs/a"); err != nil {
				t.Fatal(err)
			}
			if err := put(t.Context(), b, "packs/b", body); err != nil {
				t.Errorf("when there is room: %v", err)
			}
		})
	}
}

func TestBucket_WhatACrashLeftIsSwept(t *testing.T) {
	_, place := remotetest.SFTP(t)
	if err := put(t.Context(), open(t, place, true), "x", []byte("x")); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(place.Dir, "drive", "tmp~")
	for name, age := range map[string]time.Duration{"old": 72 * time.Hour, "young": time.Hour} {
		at := time.Now().Add(-age)
		path := filepath.Join(dir, "put-"+strconv.FormatInt(at.Unix(), 36)+"-"+name)
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "somebody's"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, place, false)
	if err := put(t.Context(), b, "y", []byte("y")); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("got %v and error %v, want the young one and somebody's", left, err)
	}
	if all, err := listed(t.Context(), b); err != nil || len(all) != 2 {
		t.Errorf("list: got %v and error %v, want x and y", all, err)
	}
}
