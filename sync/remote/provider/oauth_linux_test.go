package provider_test

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/provider"
	"github.com/sheaf-drive/sheaf/sync/remote/signin"
	"github.com/sheaf-drive/sheaf/sync/remote/signin/signintest"
)

// gcs is an emulator of as much of Google Cloud Storage as rclone's backend calls. It says nothing about Google; it is there so that a real
// backend gets its tokens from a provider that holds clients to the standards, and takes none that has been revoked.
type gcs struct {
	url string

	mu      sync.Mutex
	objects map[string][]byte
}

const gcsBucket = "bucket"

func newGCS(t *testing.T, p *signintest.Provider) *gcs {
	g := &gcs{objects: map[string][]byte{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /storage/v1/b/{bucket}/o", g.list)
	mux.HandleFunc("GET /storage/v1/b/{bucket}/o/{object...}", g.stat)
	mux.HandleFunc("DELETE /storage/v1/b/{bucket}/o/{object...}", g.remove)
	mux.HandleFunc("POST /upload/storage/v1/b/{bucket}/o", g.insert)
	mux.HandleFunc("GET /media/{object...}", g.media)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !p.Good(token) {
			http.Error(w, `{"error":{"code":401,"message":"Invalid Credentials"}}`, http.StatusUnauthorized)
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	g.url = srv.URL
	return g
}

// resource is what is said of an object.
func (g *gcs) resource(name string) map[string]any {
	sum := md5.Sum(g.objects[name]) //nolint:gosec // the form of the answer
	return map[string]any{
		"kind": "storage#object", "bucket": gcsBucket, "name": name, "size": strconv.Itoa(len(g.objects[name])), "md5Hash": base64.StdEncoding.EncodeToString(sum[:]),
		"updated": time.Now().UTC().Format(time.RFC3339Nano), "mediaLink": g.url + "/media/" + name,
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who asked may be gone
}

func (g *gcs) list(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("bucket") != gcsBucket {
		http.NotFound(w, r)
		return
	}
	items, prefixes := []any{}, map[string]bool{}
	prefix, delimiter := r.FormValue("prefix"), r.FormValue("delimiter")
	for _, name := range slices.Sorted(maps.Keys(g.objects)) {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		if dir, _, below := strings.Cut(rest, "/"); below && delimiter == "/" {
			prefixes[prefix+dir+"/"] = true
			continue
		}
		items = append(items, g.resource(name))
	}
	answer(w, map[string]any{"kind": "storage#objects", "items": items, "prefixes": slices.Sorted(maps.Keys(prefixes))})
}

func (g *gcs) stat(w http.ResponseWriter, r *http.Request) {
	if _, ok := g.objects[r.PathValue("object")]; !ok {
		http.NotFound(w, r)
		return
	}
	answer(w, g.resource(r.PathValue("object")))
}

func (g *gcs) remove(w http.ResponseWriter, r *http.Request) {
	if _, ok := g.objects[r.PathValue("object")]; !ok {
		http.NotFound(w, r)
		return
	}
	delete(g.objects, r.PathValue("object"))
	w.WriteHeader(http.StatusNoContent)
}

func (g *gcs) media(w http.ResponseWriter, r *http.Request) {
	body, ok := g.objects[r.PathValue("object")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// insert takes an object in two parts: what it is called, and its bytes.
func (g *gcs) insert(w http.ResponseWriter, r *http.Request) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	parts := multipart.NewReader(r.Body, params["boundary"])
	var meta struct{ Name, Md5Hash string }
	var body []byte
	if err == nil {
		var p *multipart.Part
		if p, err = parts.NextPart(); err == nil {
			err = json.NewDecoder(p).Decode(&meta)
		}
		if err == nil {
			if p, err = parts.NextPart(); err == nil {
				body, err = io.ReadAll(p)
			}
		}
	}
	if err != nil || meta.Name == "" {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	g.objects[meta.Name] = body
	if sum, _ := g.resource(meta.Name)["md5Hash"].(string); meta.Md5Hash != "" && meta.Md5Hash != sum {
		delete(g.objects, meta.Name)
		http.Error(w, "the hash is another", http.StatusBadRequest)
		return
	}
	answer(w, g.resource(meta.Name))
}

// TestOAuth_TokensEndAmongTheCallsOfARealBackend: rclone's own backend is given tokens that last some seconds, of a provider that takes each refresh
// token once. Calls of several at a time never see that; what was granted and is revoked needs a person, and then all goes on.
func TestOAuth_TokensEndAmongTheCallsOfARealBackend(t *testing.T) {
	t.Parallel()
	// rclone takes a token for ended ten seconds before it is.
	oauth := signintest.New(t, signintest.Settings{Lasts: 15 * time.Second})
	g := newGCS(t, oauth)
	kind, err := provider.Kinds().Find("googlecloudstorage")
	if err != nil {
		t.Fatal(err)
	}
	c := remote.Config{
		Name: "mine", Path: gcsBucket + "/drive", Make: true,
		Options: map[string]string{
			"client_id": signintest.ClientID, "auth_url": oauth.URL + "/auth", "token_url": oauth.URL + "/token", "endpoint": g.url + "/storage/v1/",
			"bucket_policy_only": "true",
		},
		Secrets: remote.NewPassing(map[string]string{"client_secret": signintest.ClientSecret}),
	}
	signIn := func() {
		t.Helper()
		ours := *kind
		ours.OAuth = oauth.OAuth() // what is granted there is called otherwise than at Google
		f, err := signin.Begin(t.Context(), signin.Browser, &ours, c, signin.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		signintest.Visit(t, f.URL())
		if err := f.Finish(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
	}
	start := func() (blob.Bucket, error) {
		b, err := kind.Bucket(t.Context(), c)
		if err == nil {
			t.Cleanup(func() { _ = b.(io.Closer).Close() }) // its tokens may be revoked
		}
		return b, err
	}
	if _, err := start(); !errors.Is(err, remote.ErrSignIn) {
		t.Fatalf("nobody has signed in: got error %v", err)
	}
	signIn()
	b, err := start()
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(2 * time.Minute)
	for w := range 4 {
		wg.Go(func() {
			for i := 0; oauth.Count("refresh_token") < 3; i++ {
				name := blob.Name(fmt.Sprintf("packs/%d/%d", w, i%50))
				body := []byte(fmt.Sprintf("body %d of %d", i, w))
				if err := put(t.Context(), b, name, body); err != nil {
					t.Errorf("put %s: %v", name, err)
					return
				}
				if got, err := get(t.Context(), b, name, 0, -1); err != nil || !bytes.Equal(got, body) {
					t.Errorf("get %s: got %q and error %v", name, got, err)
					return
				}
				if calls.Add(2); time.Now().After(end) {
					t.Errorf("after two minutes %d tokens were renewed", oauth.Count("refresh_token"))
					return
				}
			}
		})
	}
	wg.Wait()
	before, err := listed(t.Context(), b)
	if err != nil || len(before) < 4 {
		t.Fatalf("list: got %d names and error %v", len(before), err)
	}
	t.Logf("%d calls, %d tokens", calls.Load(), oauth.Count("refresh_token")+1)

	// The place says no at once, and the provider when the token is to be renewed.
	oauth.Revoke()
	if err := put(t.Context(), b, "x", []byte("x")); !errors.Is(err, blob.ErrUnauthorized) {
		t.Errorf("put after it was revoked: got error %v, want ErrUnauthorized", err)
	}
	if _, err := start(); !errors.Is(err, remote.ErrSignIn) {
		t.Errorf("open after it was revoked: got error %v, want ErrSignIn", err)
	}
	signIn()
	if b, err = start(); err != nil {
		t.Fatal(err)
	}
	after, err := listed(t.Context(), b)
	if err != nil || !maps.Equal(before, after) {
		t.Errorf("after a person has signed in again: got %d names and error %v, want %d", len(after), err, len(before))
	}
}
