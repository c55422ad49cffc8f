package sheaf

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// secrets is what must be found nowhere: canaries by what they are.
type secrets map[string]testkit.Canary

func (s secrets) add(what, text string) { s[what] = testkit.CanaryOf(text) }

// scan reads every file below dir, names too, and returns which secret is where in which form.
func (s secrets) scan(t testing.TB, dir string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		found = append(found, s.in("name of "+rel, []byte(rel))...)
		if !e.Type().IsRegular() {
			return nil
		}
		p, err := os.ReadFile(path)
		// The database makes its files large before it needs them: the zeros at their ends hold nothing.
		found = append(found, s.in(rel, bytes.TrimRight(p, "\x00"))...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (s secrets) in(where string, p []byte) (found []string) {
	for what, c := range s {
		if form := c.Find(p); form != "" {
			found = append(found, fmt.Sprintf("%s: %s as %s", where, what, form))
		}
	}
	return found
}

// notebook is a log that keeps all, for a look at it afterwards.
type notebook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (n *notebook) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(p)
}

func (n *notebook) text() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return bytes.Clone(n.b.Bytes())
}

// plant writes a canary into everything that takes one, under prefix, and returns what to look for.
func (s secrets) plant(t testing.TB, d *Drive, prefix string, fresh func() string) {
	t.Helper()
	ctx, v := t.Context(), d.FS()
	add := func(what string) string {
		text := fresh()
		s.add(prefix+" "+what, text)
		return text
	}
	dir := add("directory name")
	if _, err := vfs.MkdirAll(ctx, v, dir, vfs.New{Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	write(t, v, dir+"/"+add("file name"), []byte(add("body of one chunk")))
	write(t, v, dir+"/text", []byte(strings.Repeat("filler text ", 40_000)+add("body that compresses")+strings.Repeat(" filler", 40_000)))
	noise := make([]byte, 900<<10)
	newNoise(uint64(len(s))).fill(noise)
	write(t, v, dir+"/noise", slices.Concat(noise, []byte(add("body that does not compress")), noise))
	n, err := vfs.Walk(ctx, v, dir+"/text")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.SetXattr(ctx, "user."+add("xattr name"), []byte(add("xattr value")), vfs.XattrAny); err != nil {
		t.Fatal(err)
	}
	top, err := v.Root(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := top.Make(ctx, add("link name"), vfs.New{Kind: vfs.KindLink, Mode: 0o777, Target: "../" + add("link target")}); err != nil {
		t.Fatal(err)
	}
	gone := add("removed name")
	write(t, v, gone, []byte(add("removed body")))
	if err := vfs.RemoveAll(ctx, v, gone); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFile(ctx, v, "before", nil, vfs.New{Kind: vfs.KindFile, Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if err := top.Rename(ctx, "before", top, add("new name"), vfs.RenameReplace); err != nil {
		t.Fatal(err)
	}
}

// K1, T-A9's other half: canaries in bodies, names, attributes, targets, labels, the name of the device, the passphrase and
// the recovery words, some committed, some in the journal only, are in no file of the drive: store,
// database, journal, device files; and neither are keys. The log, at its most talkative, has none of them either.
func TestSecrets_AreInNoFileAndNoLog(t *testing.T) {
	rng := testkit.Rand(testkit.Seed(t))
	fresh := func() string { return testkit.NewCanary(rng).Text() }
	s, log := secrets{}, &notebook{}
	h := newHome(t)
	options := func(secret Secret) Options {
		o := h.options(secret)
		o.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}))
		o.DeviceName = s["device name"].Text()
		return o
	}
	s.add("device name", fresh())
	s.add("passphrase", fresh())
	phrase := Secret{Passphrase: []byte(s["passphrase"].Text())}
	d, words, err := Create(t.Context(), options(phrase))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	s.addWords(t, words)
	for _, c := range kdf.All() {
		key := d.account.Ring.Derive(c)
		s.add("K("+string(c)+")", string(key[:]))
	}
	root := filepath.Dir(h.dir)
	look := func(when string) {
		t.Helper()
		for _, f := range s.scan(t, root) {
			t.Errorf("%s: %s", when, f)
		}
	}
	s.plant(t, d, "committed", fresh)
	s.add("label", fresh())
	if _, err := d.Snapshot(t.Context(), s["label"].Text()); err != nil {
		t.Fatal(err)
	}
	if err := d.store.WriteIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.plant(t, d, "journaled", fresh)
	if err := d.FS().Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	look("open, half in the journal")
	drop(t, d)
	look("stopped, half in the journal")
	// Wrong secrets are secrets, too: mostly they are right ones for something else.
	s.add("wrong passphrase", fresh())
	if _, err := Open(t.Context(), options(Secret{Passphrase: []byte(s["wrong passphrase"].Text())})); err == nil {
		t.Error("a wrong passphrase opens the drive")
	}
	if d, err = Open(t.Context(), options(phrase)); err != nil {
		t.Fatal(err)
	}
	// Another passphrase, other words, a key on the device; errors with names in them; verify and gc.
	s.add("second passphrase", fresh())
	if err := d.SetPassphrase(t.Context(), []byte(s["second passphrase"].Text())); err != nil {
		t.Fatal(err)
	}
	if words, err = d.NewRecovery(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.RetireRecovery(t.Context(), words); err != nil {
		t.Fatal(err)
	}
	s.addWords(t, words)
	if _, err := vfs.ReadFile(t.Context(), d.FS(), s["committed directory name"].Text()+"/no", 1); err == nil {
		t.Error("read of what is not there")
	}
	clean(t, d)
	if _, err := d.GC(t.Context(), GCOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	for ref := range chunksOf(t, d) {
		s.add("key of chunk "+ref.ID.String(), string(ref.Key[:]))
		if len(s) > 120 {
			break // of hundreds that are made alike
		}
	}
	closeDrive(t, d)
	look("closed")
	// What is there is there: the drive gives it all back.
	d = h.open(Secret{Passphrase: []byte(s["second passphrase"].Text())})
	got, err := stateOf(t.Context(), d.FS())
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"committed", "journaled"} {
		dir := s[prefix+" directory name"].Text()
		if got[dir+"/"+s[prefix+" file name"].Text()] != "file "+s[prefix+" body of one chunk"].Text() ||
			!strings.Contains(got[dir+"/noise"], s[prefix+" body that does not compress"].Text()) {
			t.Errorf("what was %s is not in the drive: this test shows nothing", prefix)
		}
	}
	if len(log.text()) == 0 {
		t.Error("nothing was logged: this shows nothing")
	}
	for _, f := range s.in("log", log.text()) {
		t.Error(f)
	}
	t.Logf("%d secrets, %d bytes of log", len(s), len(log.text()))
}

// addWords adds what recovery words give away: their code, and every four of them in a row.
func (s secrets) addWords(t testing.TB, words string) {
	t.Helper()
	code, err := keys.ParseWords(words)
	if err != nil {
		t.Fatal(err)
	}
	s.add(fmt.Sprintf("recovery code %x", code[:2]), string(code[:]))
	w := strings.Fields(words)
	for i := range len(w) - 3 {
		s.add(fmt.Sprintf("words %d of code %x", i, code[:2]), strings.Join(w[i:i+4], " "))
	}
}

// The control of the scan: it finds one canary in the midst of a store's file, in every form.
func TestSecrets_ScanFindsWhatIsPlanted(t *testing.T) {
	rng := testkit.Rand(testkit.Seed(t))
	c := testkit.NewCanary(rng)
	s := secrets{"planted": c}
	text := []byte(c.Text())
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	percent, wide := "", ""
	for _, b := range text {
		percent += fmt.Sprintf("%%%02x", b)
		wide += string([]byte{b, 0})
	}
	for what, p := range map[string]string{
		"raw": string(text), "hex": hex.EncodeToString(text), "percent": percent, "utf-16": wide,
		"base64, first":  base64.StdEncoding.EncodeToString(slices.Concat([]byte("abc"), text)),
		"base64, second": base64.StdEncoding.EncodeToString(slices.Concat([]byte("abcd"), text)),
		"base64, third":  base64.URLEncoding.EncodeToString(slices.Concat([]byte("abcde"), text)),
		"zstd":           string(enc.EncodeAll(slices.Concat(testkit.Text(rng, 3000), text, testkit.Text(rng, 3000)), nil)),
	} {
		dir := t.TempDir()
		noise := testkit.Random(rng, 100_000)
		body := slices.Concat(noise, []byte(p), noise, make([]byte, 1000))
		if err := os.WriteFile(filepath.Join(dir, "pack"), body, 0o600); err != nil {
			t.Fatal(err)
		}
		if len(s.scan(t, dir)) == 0 {
			t.Errorf("%s: not found", what)
		}
		if err := os.WriteFile(filepath.Join(dir, "pack"), noise, 0o600); err != nil {
			t.Fatal(err)
		}
		if f := s.scan(t, dir); len(f) != 0 {
			t.Errorf("found in noise: %v", f)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, c.Text()), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if len(s.scan(t, dir)) == 0 {
		t.Error("not found in the name of a file")
	}
}
