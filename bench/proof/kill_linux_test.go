package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// promise is what the drive has acknowledged to one worker.
type promise struct {
	mu      sync.Mutex
	synced  map[string][]byte // the file was written and fsync returned
	renamed map[string]string // rename returned: new name -> old name
	removed map[string]bool   // unlink returned
	logged  []byte            // of the log, up to the last fsync
	touched map[string]bool   // something was begun since, so the old promise no longer holds
}

// M3: the process dies under load. Every fsynced byte and every completed rename and removal is there.
func TestMounted_KillLosesNothingThatWasAcknowledged(t *testing.T) {
	rounds := number(t, "SHEAF_KILL_ROUNDS", 5)
	seed := uint64(number(t, "SHEAF_SEED", int(time.Now().UnixNano())))
	t.Logf("SHEAF_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	home, dir := t.TempDir(), t.TempDir()
	counted, files, renames, removals := 0, 0, 0, 0
	workers := make([]*promise, 4)
	for i := range workers {
		workers[i] = &promise{
			synced: map[string][]byte{}, renamed: map[string]string{}, removed: map[string]bool{}, touched: map[string]bool{},
		}
	}
	for round := 0; counted < rounds; round++ {
		if round > 3*rounds+10 {
			t.Fatalf("in %d rounds only %d had anything fsynced", round, counted)
		}
		p := start(t, home, dir)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		before := total(workers)
		for w, pr := range workers {
			wrng := rand.New(rand.NewPCG(seed, uint64(round*100+w+1)))
			wg.Go(func() { work(ctx, dir, fmt.Sprintf("w%d", w), round, pr, wrng) })
		}
		// Where many programs run, half a second may pass before anything is promised; only one round in eight is
		// killed at any moment, and the others after a promise.
		for end := time.Now().Add(10 * time.Second); round%8 != 0 && total(workers) == before && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(50+rng.IntN(900)) * time.Millisecond) // when the kill comes
		_ = p.cmd.Process.Kill()
		stop()
		wg.Wait() // all they get from a dead mount are errors
		p.kill(t)
		if total(workers) > before {
			counted++
		}
		// A new process, and with the mount the kernel's caches are gone.
		p = start(t, home, dir)
		for w, pr := range workers {
			if err := pr.check(dir, fmt.Sprintf("w%d", w)); err != nil {
				t.Fatalf("round %d, worker %d: %v", round, w, err)
			}
		}
		p.stop(t)
	}
	for _, pr := range workers {
		files, renames, removals = files+len(pr.synced), renames+len(pr.renamed), removals+len(pr.removed)
	}
	d, err := open(t.Context(), home, restless)
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Verify(t.Context(), nil)
	if err != nil || len(r.Findings) > 0 {
		t.Errorf("verify: %v %v", r.Findings, err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("%d rounds in which something was fsynced; %d files, %d renames, %d removals held", counted, files, renames, removals)
}

// total counts what was promised so far.
func total(workers []*promise) (n int) {
	for _, p := range workers {
		p.mu.Lock()
		n += len(p.synced) + len(p.removed) + len(p.logged)
		p.mu.Unlock()
	}
	return n
}

// work writes until the drive dies, and notes what it was promised.
func work(ctx context.Context, dir, name string, round int, p *promise, rng *rand.Rand) {
	own := filepath.Join(dir, name)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return
	}
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprintf("r%d-%d", round, i)
		var err error
		switch k := rng.IntN(10); {
		case k < 6:
			err = p.write(own, id, rng)
		case k < 8:
			err = p.append(own, rng)
		case k < 9:
			err = p.rewrite(own, rng)
		default:
			err = p.remove(own, rng)
		}
		if err != nil {
			return // the drive is dead
		}
	}
}

func put(path string, data []byte, off int64, flag int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|flag, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, off)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		v := rng.Uint64()
		for k := range 8 {
			b[i+k] = byte(v >> (8 * k))
		}
	}
	return b
}

// write makes a file under another name, syncs it, and gives it its name.
func (p *promise) write(own, id string, rng *rand.Rand) error {
	n := rng.IntN(30_000)
	if rng.IntN(20) == 0 {
		n = rng.IntN(3 << 20)
	}
	data := noise(rng, n)
	tmp, final := filepath.Join(own, id+".tmp"), filepath.Join(own, id)
	if err := put(tmp, data, 0, os.O_CREATE|os.O_EXCL); err != nil {
		return err
	}
	p.mu.Lock()
	p.synced[id] = data
	p.mu.Unlock()
	if err := os.Rename(tmp, final); err != nil {
		return err
	}
	p.mu.Lock()
	p.renamed[id] = id + ".tmp"
	p.mu.Unlock()
	return nil
}

// append adds to a log.
func (p *promise) append(own string, rng *rand.Rand) error {
	p.mu.Lock()
	off := len(p.logged)
	p.mu.Unlock()
	data := noise(rng, 100+rng.IntN(5000))
	if err := put(filepath.Join(own, "log"), data, int64(off), os.O_CREATE); err != nil {
		return err
	}
	p.mu.Lock()
	p.logged = append(p.logged, data...)
	p.mu.Unlock()
	return nil
}

// pick returns a file that was renamed, "" if there is none.
func (p *promise) pick(rng *rand.Rand) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.renamed) == 0 {
		return ""
	}
	k := rng.IntN(len(p.renamed))
	for id := range p.renamed {
		if k--; k < 0 {
			return id
		}
	}
	return ""
}

// rewrite changes a part of a file in place.
func (p *promise) rewrite(own string, rng *rand.Rand) error {
	id := p.pick(rng)
	if id == "" {
		return nil
	}
	p.mu.Lock()
	old := p.synced[id]
	p.touched[id] = true
	p.mu.Unlock()
	part := noise(rng, rng.IntN(5000)+8)
	off := rng.IntN(len(old) + 1)
	if err := put(filepath.Join(own, id), part, int64(off), 0); err != nil {
		return err
	}
	now := bytes.Clone(old)
	if need := off + len(part); need > len(now) {
		now = append(now, make([]byte, need-len(now))...)
	}
	copy(now[off:], part)
	p.mu.Lock()
	p.synced[id] = now
	delete(p.touched, id)
	p.mu.Unlock()
	return nil
}

// remove removes a file.
func (p *promise) remove(own string, rng *rand.Rand) error {
	id := p.pick(rng)
	if id == "" {
		return nil
	}
	p.mu.Lock()
	p.touched[id] = true
	p.mu.Unlock()
	if err := os.Remove(filepath.Join(own, id)); err != nil {
		return err
	}
	p.mu.Lock()
	delete(p.synced, id)
	delete(p.renamed, id)
	delete(p.touched, id)
	p.removed[id] = true
	p.mu.Unlock()
	return nil
}

// check holds what is there against what was promised. What was begun and not acknowledged may be
// there or not; it is forgotten.
func (p *promise) check(dir, name string) error {
	own := filepath.Join(dir, name)
	for id, want := range p.synced {
		if p.touched[id] {
			delete(p.synced, id)
			delete(p.renamed, id)
			continue
		}
		got, err := os.ReadFile(filepath.Join(own, id))
		if errors.Is(err, fs.ErrNotExist) && p.renamed[id] == "" {
			got, err = os.ReadFile(filepath.Join(own, id+".tmp"))
			if err == nil {
				err = os.Rename(filepath.Join(own, id+".tmp"), filepath.Join(own, id))
			}
		}
		if err != nil {
			return fmt.Errorf("%s was fsynced: %w", id, err)
		}
		p.renamed[id] = id + ".tmp"
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s has %d bytes that are not the %d that were fsynced", id, len(got), len(want))
		}
		if _, err := os.Lstat(filepath.Join(own, id+".tmp")); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s was renamed and has its old name too: %w", id, err)
		}
	}
	clear(p.touched)
	for id := range p.removed {
		if _, err := os.Lstat(filepath.Join(own, id)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s was removed and is there: %w", id, err)
		}
	}
	got, err := os.ReadFile(filepath.Join(own, "log"))
	if err != nil && len(p.logged) > 0 {
		return err
	}
	if len(got) < len(p.logged) || !bytes.Equal(got[:len(p.logged)], p.logged) {
		return fmt.Errorf("the log has %d bytes, of which the first %d are not those that were fsynced", len(got), len(p.logged))
	}
	return nil
}
