package provider_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/blobtest"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/provider"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// servers are the real servers that every test of this package may be run on.
var servers = map[string]func(testing.TB, ...remotetest.Setting) (*remotetest.Server, remotetest.Place){
	"s3":     remotetest.S3,
	"webdav": remotetest.WebDAV,
	"sftp":   remotetest.SFTP,
	"ftp":    remotetest.FTP,
}

// open opens a place without what tries again, and closes it at the end of the test.
func open(t *testing.T, p remotetest.Place, make bool) blob.Bucket {
	t.Helper()
	b, err := openErr(t, p, make)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openErr(t *testing.T, p remotetest.Place, make bool) (blob.Bucket, error) {
	t.Helper()
	kind, err := provider.Kinds().Find(p.Kind)
	if err != nil {
		t.Fatal(err)
	}
	c := remote.Config{Path: p.Path, Options: p.Options, Secrets: remote.NewPassing(p.Secrets), Make: make}
	if err := kind.Check(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b, err := kind.Bucket(t.Context(), c)
	if err == nil {
		t.Cleanup(func() {
			if err := b.(io.Closer).Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return b, err
}

// TestBucket_Suite holds the backends to the whole contract, on a server each.
func TestBucket_Suite(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, place := start(t)
			var n atomic.Int64
			blobtest.Run(t, func(t *testing.T) blob.Bucket {
				p := place
				p.Path = fmt.Sprintf("%s%d", place.Path, n.Add(1))
				if p.Kind == "smb" { // what somebody has open is to be tried again, which is done above this package
					return patient(t, p, 40)
				}
				return open(t, p, true)
			})
		})
	}
}

// TestBucket_AServerOfGoReplacesByAMove: it takes the old blob away for a moment, so it is not held to the whole contract.
func TestBucket_AServerOfGoReplacesByAMove(t *testing.T) {
	_, place := remotetest.RcloneWebDAV(t)
	b := open(t, place, true)
	for _, body := range []string{"old", "young", ""} {
		if err := put(t.Context(), b, "heads/x", []byte(body)); err != nil {
			t.Fatal(err)
		}
		if got, err := get(t.Context(), b, "heads/x", 0, -1); err != nil || string(got) != body {
			t.Errorf("got %q and error %v, want %q", got, err, body)
		}
	}
	err := b.Put(t.Context(), "heads/x", strings.NewReader("broken"), 7)
	got, err2 := get(t.Context(), b, "heads/x", 0, -1)
	if !errors.Is(err, blob.ErrSize) || err2 != nil || len(got) != 0 {
		t.Errorf("a put that fails: got error %v, and then %q and error %v", err, got, err2)
	}
	if all, err := listed(t.Context(), b); err != nil || len(all) != 1 {
		t.Errorf("list: got %v and error %v", all, err)
	}
	if err := b.Remove(t.Context(), "heads/x"); err != nil {
		t.Error(err)
	}
}

// Who reads a blob part by part has it looked up once; and what was put, replaced and removed meanwhile, here or elsewhere, shows.
func TestGet_PartsAreLookedUpOnce(t *testing.T) {
	srv, place := remotetest.RcloneWebDAV(t)
	proxy, front := remotetest.Front(t, srv, place)
	b, other := open(t, front, true), open(t, place, true)
	body := []byte(strings.Repeat("0123456789abcdef", 1<<16))
	part := func(off, n int64, want []byte) {
		t.Helper()
		r, err := b.Get(t.Context(), "packs/aa", off, n)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || string(got) != string(want[off:min(off+n, int64(len(want)))]) {
			t.Fatalf("%d bytes from %d: %d bytes, %v", n, off, len(got), err)
		}
	}
	put := func(b blob.Bucket, body []byte) {
		t.Helper()
		if err := b.Put(t.Context(), "packs/aa", strings.NewReader(string(body)), int64(len(body))); err != nil {
			t.Fatal(err)
		}
	}
	put(b, body)
	part(0, 10, body)
	var looks, gets atomic.Int64
	proxy.Before(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet {
			gets.Add(1)
		} else {
			looks.Add(1)
		}
		return false
	})
	for off := int64(0); off < 1<<20; off += 1 << 17 {
		part(off, 1<<17, body)
	}
	if looks.Load() > 0 || gets.Load() != 8 {
		t.Errorf("8 parts took %d looks and %d reads", looks.Load(), gets.Load())
	}
	longer := []byte(strings.Repeat("fedcba9876543210", 1<<17))
	put(other, longer)
	part(100, 50, longer)
	part(1<<20, 1<<17, longer) // where there was nothing
	part(0, int64(len(longer)), longer)
	put(b, body)
	part(1<<19, 1<<19, body)
	part(1<<20-5, 100, body)
	if err := other.Remove(t.Context(), "packs/aa"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "packs/aa", 0, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a part of what was removed: got %v, want fs.ErrNotExist", err)
	}
	put(other, body)
	part(3, 4, body)
}

// Who lists blobs and reads them has none looked up. What was put, replaced and removed by another one since the listing shows, and so does what a listing
// has wrong.
func TestGet_WhatWasListedIsNotLookedUp(t *testing.T) {
	for name, start := range map[string]func(testing.TB, ...remotetest.Setting) (*remotetest.Server, remotetest.Place){"webdav": remotetest.RcloneWebDAV, "apache": remotetest.WebDAV, "s3": remotetest.S3} {
		t.Run(name, func(t *testing.T) {
			srv, place := start(t)
			proxy, front := remotetest.Front(t, srv, place)
			other := open(t, place, true)
			b := open(t, front, true)
			body := func(i, n int) []byte { return []byte(strings.Repeat(string(rune('a'+i)), n)) }
			names := make([]blob.Name, 20)
			for i := range names {
				names[i] = blob.Name(fmt.Sprintf("heads/%02d", i))
				if err := put(t.Context(), other, names[i], body(i, 4096)); err != nil {
					t.Fatal(err)
				}
			}
			for _, n := range []int64{-1, 1 << 17, 4096} {
				if all, err := listed(t.Context(), b); err != nil || len(all) != len(names) {
					t.Fatalf("%v, %v", all, err)
				}
				var requests atomic.Int64
				proxy.Before(func(http.ResponseWriter, *http.Request) bool { requests.Add(1); return false })
				for i, name := range names {
					if got, err := get(t.Context(), b, name, 0, n); err != nil || string(got) != string(body(i, 4096)) {
						t.Errorf("%d bytes of %s: got %d, %v", n, name, len(got), err)
					}
				}
				if got := requests.Load(); got != int64(len(names)) {
					t.Errorf("%d requests for %d blobs that were listed", got, len(names))
				}
				proxy.Before(nil)
			}
			if _, err := listed(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			for i, size := range []int{0, 10, 4095, 4097, 1 << 18} {
				if err := put(t.Context(), other, names[i], body(i+1, size)); err != nil {
					t.Fatal(err)
				}
				if got, err := get(t.Context(), b, names[i], 0, -1); err != nil || string(got) != string(body(i+1, size)) {
					t.Errorf("replaced by %d bytes: got %d, %v", size, len(got), err)
				}
			}
			if err := other.Remove(t.Context(), names[10]); err != nil {
				t.Fatal(err)
			}
			if got, err := get(t.Context(), b, names[10], 0, -1); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("removed: got %d bytes, %v", len(got), err)
			}
		})
	}
}
