//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// ownNetwork is set in a process that has a network of its own, which nobody else uses.
const ownNetwork = "SHEAF_TEST_OWN_NETWORK"

// inOwnNetwork runs this test once more in a network of its own, and reports whether this is that run. There the test can drop packets,
// and does it to nobody else.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(ownNetwork) != "" {
		for _, args := range [][]string{{"ip", "link", "set", "lo", "up"}} {
			if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
			}
		}
		return true
	}
	if os.Geteuid() != 0 {
		testkit.Lacks(t, "only root may make a network for a test")
	}
	for _, tool := range []string{"ip", "tc"} {
		if _, err := exec.LookPath(tool); err != nil {
			testkit.Lacks(t, fmt.Errorf("%w: run scripts/deps", err))
		}
	}
	parts := strings.Split(t.Name(), "/")
	for i, p := range parts {
		parts[i] = "^" + p + "$"
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.count=1", "-test.timeout=1h", "-test.run="+strings.Join(parts, "/"))
	cmd.Env = append(os.Environ(), ownNetwork+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("in a network of its own:\n%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("it did not pass there: %v", err)
	}
	return false
}

// drop drops all packets of this network, or no longer. Nobody is told: no connection is refused or reset.
func drop(t *testing.T, on bool, addr string) {
	t.Helper()
	verb := []string{"del", "dev", "lo", "root"}
	if on {
		verb = []string{"add", "dev", "lo", "root", "blackhole"}
	}
	if out, err := exec.CommandContext(t.Context(), "tc", append([]string{"qdisc"}, verb...)...).CombinedOutput(); err != nil {
		t.Fatalf("tc qdisc %v: %v: %s", verb, err, out)
	}
	d := net.Dialer{Timeout: 1500 * time.Millisecond}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err == nil {
		_ = c.Close()
	}
	var timeout net.Error
	if on && (err == nil || !errors.As(err, &timeout) || !timeout.Timeout()) || !on && err != nil {
		t.Fatalf("with packets dropped (%v), to reach the server ends with %v", on, err)
	}
}

// A watch times what a person does on a mount, and fails if something takes long or fails.
type watch struct {
	t     *testing.T
	slow  time.Duration
	took  map[string]time.Duration
	times map[string]int
}

// do does something that has to succeed soon.
func (w *watch) do(what string, f func() error) {
	w.t.Helper()
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if err != nil {
			w.t.Errorf("%s: %v", what, err)
		}
	case <-time.After(time.Minute):
		w.t.Fatalf("%s hangs", what)
	}
	d := time.Since(began)
	w.took[what], w.times[what] = max(w.took[what], d), w.times[what]+1
	if d > w.slow {
		w.t.Errorf("%s took %v", what, d)
	}
}

// reads reads a file from the daemon, and not from what the kernel keeps of it.
func reads(path string, want [32]byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if [32]byte(h.Sum(nil)) != want {
		return errors.New("other bytes were read")
	}
	return nil
}

func writes(path string, flags int, body []byte) error {
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	return errors.Join(err, f.Sync(), f.Close())
}

// session is some minutes of work in a mounted folder: what is pinned or cached is read, and all kinds of writes are done.
func (w *watch) session(mnt, mine string, round int, sums map[string][32]byte, body []byte) {
	for name, sum := range sums {
		w.do("read "+filepath.Dir(name), func() error { return reads(filepath.Join(mnt, name), sum) })
	}
	dir := filepath.Join(mnt, mine, fmt.Sprint(round))
	w.do("mkdir", func() error { return os.MkdirAll(dir, 0o755) })
	w.do("write and fsync", func() error { return writes(filepath.Join(dir, "a"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, body) })
	w.do("append and fsync", func() error { return writes(filepath.Join(dir, "a"), os.O_APPEND|os.O_WRONLY, body[:1000]) })
	w.do("read back", func() error {
		return reads(filepath.Join(dir, "a"), sha256.Sum256(append(bytes.Clone(body), body[:1000]...)))
	})
	w.do("rename", func() error { return os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b")) })
	w.do("symlink", func() error { return os.Symlink("b", filepath.Join(dir, "link")) })
	w.do("create and remove", func() error {
		p := filepath.Join(dir, "gone")
		return errors.Join(writes(p, os.O_CREATE|os.O_WRONLY, body[:100]), os.Remove(p))
	})
	w.do("chmod", func() error { return os.Chmod(filepath.Join(dir, "b"), 0o600) })
	w.do("readdir and stat", func() error {
		all, err := os.ReadDir(filepath.Join(mnt, mine))
		for _, e := range all {
			if _, serr := e.Info(); serr != nil {
				err = serr
			}
		}
		if err == nil && len(all) < round {
			err = fmt.Errorf("%d folders are shown, of %d", len(all), round)
		}
		return err
	})
}

// M4: two devices have the drive mounted, and all packets to the server are dropped, for ten minutes in full. Reads of what is pinned or
// cached and all writes go on, each within seconds; what is not here can be given up; and when packets pass again, what was
// written drains by itself, and both devices and a third show one tree.
func TestServers_OfflineGoesOnAndDrains(t *testing.T) {
	places := map[string]func(testing.TB, ...remotetest.Setting) (*remotetest.Server, remotetest.Place){
		"webdav": remotetest.WebDAV, "sftp": remotetest.SFTP, "s3": remotetest.S3,
	}
	for name, start := range places {
		if name == "sftp" && !inFull() {
			continue // half a minute of CI
		}
		t.Run(name, func(t *testing.T) {
			if inOwnNetwork(t) {
				offline(t, start)
			}
		})
	}
}

func offline(t *testing.T, start func(testing.TB, ...remotetest.Setting) (*remotetest.Server, remotetest.Place)) {
	span := 20 * time.Second
	if inFull() {
		span = 10 * time.Minute
	}
	srv, place := start(t)
	seed := testkit.Seed(t)
	r := testkit.Rand(seed)
	first, second := newMachine(t, "SHEAF_POLL=1s"), newMachine(t, "SHEAF_POLL=1s")
	words := begin(t, first, place)
	src := filepath.Join(filepath.Dir(first.home), "src")
	sums := map[string][32]byte{}
	for _, name := range []string{"kept/one", "kept/two", "cached/one", "cached/two"} {
		body := testkit.Random(r, 2_000_000+r.IntN(1_000_000))
		sums[name] = sha256.Sum256(body)
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(src, name)), 0o755), os.WriteFile(filepath.Join(src, name), body, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	writeRandom(t, filepath.Join(src, "far"), seed, 60_000_000, 0, 1)
	first.sheaf(t, "cp", src+"/.", "sheaf:/")
	first.sheaf(t, "replica", "add", "place:"+place.Path)
	first.sheaf(t, "wait", "--copies", "2", "--timeout", "20m")
	join(t, second, place, words)
	machines := []*machine{first, second}
	mounts := []string{first.mount(t), second.mount(t)}
	second.sheaf(t, "pin", "/kept")
	for name, sum := range sums {
		if err := reads(filepath.Join(mounts[1], name), sum); err != nil {
			t.Fatal(err)
		}
	}

	drop(t, true, srv.Addr)
	w := &watch{t: t, slow: 5 * time.Second, took: map[string]time.Duration{}, times: map[string]int{}}
	// Somebody wants what is not here.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	far := exec.CommandContext(ctx, "cat", filepath.Join(mounts[1], "far"))
	if err := far.Start(); err != nil {
		t.Fatal(err)
	}
	farEnded := make(chan error, 1)
	go func() { farEnded <- far.Wait() }()
	rounds := 0
	for end := time.Now().Add(span); time.Now().Before(end); rounds++ {
		for i, m := range machines {
			body := testkit.Random(r, 100_000+r.IntN(200_000))
			w.session(mounts[i], fmt.Sprint("of-", i), rounds, sums, body)
			w.do("sheaf status", func() error {
				code, out, errs := m.run(t, "status", "--json")
				if code != 0 || !strings.Contains(out, `"state":"open"`) {
					return fmt.Errorf("exit %d: %s%s", code, out, errs)
				}
				return nil
			})
		}
		time.Sleep(span / 200) // people rest, too
	}
	if rounds < 3 {
		t.Errorf("only %d rounds of work while packets were dropped", rounds)
	}
	w.do("giving up what is not here", func() error {
		select {
		case err := <-farEnded:
			if err == nil {
				return errors.New("60 MB were read through a network that drops all")
			}
			t.Logf("to read what is not here ended by itself: %v", err)
			return nil
		default:
		}
		cancel() // kills it
		<-farEnded
		return nil
	})
	for i, m := range machines {
		if st := m.status(t); st.atRest() {
			t.Errorf("machine %d says that all is at the server, which nothing reached: %+v", i, st)
		}
	}
	for what, d := range w.took {
		t.Logf("offline, %5d times %-26s at most %v", w.times[what], what, d.Round(time.Millisecond))
	}

	drop(t, false, srv.Addr)
	drained := soon(t, 8*time.Minute, "what was written drains", func() bool { return first.status(t).atRest() && second.status(t).atRest() })
	alike := soon(t, 3*time.Minute, "both devices show one tree", func() bool {
		return maps.Equal(treeOf(t, mounts[0]), treeOf(t, mounts[1]))
	})
	want := treeOf(t, mounts[0])
	for i := range machines {
		for round := range rounds {
			if want[fmt.Sprintf("of-%d/%d/b", i, round)] == "" {
				t.Errorf("what machine %d wrote in round %d is not there", i, round)
			}
		}
	}
	third := newMachine(t)
	join(t, third, place, words)
	back := filepath.Join(filepath.Dir(third.home), "back")
	third.sheaf(t, "cp", "sheaf:/.", back)
	if got := treeOf(t, back); !maps.Equal(got, want) {
		t.Errorf("a third device has another tree (-mounted +copied):\n%.2000s", cmp.Diff(want, got))
	}
	t.Logf("%d rounds in %v without a packet; drained %v after packets passed again, alike %v later: %d nodes", rounds, span, drained.Round(time.Second), alike.Round(time.Second), len(want))
	for i, m := range machines {
		m.sheaf(t, "umount", mounts[i])
	}
}
