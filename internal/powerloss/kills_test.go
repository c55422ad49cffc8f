//go:build linux

package powerloss

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// someKills is about how many processes the short form kills.
const someKills = 60

// G4: at each call by which a workload changes the disk, the process that does it is killed by SIGKILL, as soon as the call is carried out
// and before it has the answer, or instead of the call. A new process opens what is there: all that was done is there, of the step
// that was under way all or nothing, Verify finds nothing, and the drive is writable. SHEAF_KILLS=K kills at each K-th call, from a
// call of the seed on, or of SHEAF_KILLS_FROM: SHEAF_KILLS=1, or SHEAF_LONG, at each; without either, there are some dozens for
// all workloads.
func TestDrive_SurvivesAKillAtEachWrite(t *testing.T) {
	every := number(t, "SHEAF_KILLS", 0)
	if every == 0 && long() {
		every = 1
	}
	if every == 0 && testing.Short() {
		t.Skip("make model runs it: with -race it takes minutes")
	}
	seed := testkit.Seed(t)
	var mu sync.Mutex
	writes, killed := 0, 0
	t.Run("workload", func(t *testing.T) {
		for i, l := range workloads {
			t.Run(l.name, func(t *testing.T) {
				t.Parallel()
				w, k := kills(t, i, seed, every)
				mu.Lock()
				defer mu.Unlock()
				writes, killed = writes+w, killed+k
			})
		}
	})
	t.Logf("%d workloads, %d calls that change the disk, %d processes killed", len(workloads), writes, killed)
	if killed == 0 {
		t.Error("nothing was killed: this proves nothing")
	}
}

// forks is held by who starts a process, and for reading by who has a drive open here: a process is born with all that is open, and closes it
// a moment later only.
var forks sync.RWMutex

// kills kills one workload, again and again. It returns at how many calls it could, and how often it did.
func kills(t *testing.T, workload int, seed int64, every int) (writes, killed int) {
	forks.Lock()
	w := newWorld(t)
	forks.Unlock()
	writes = life(w, workload, seed+int64(workload))

	k := killer{t: t, w: w, job: Job{Dir: w.home, Workload: workload, Seed: seed + int64(workload)}}
	r := testkit.Rand(seed ^ int64(workload)<<32)
	for _, before := range []bool{false, true} {
		step := every
		if step == 0 {
			step = max(1, 2*len(workloads)*writes/someKills)
		}
		// What works in the background makes the number of calls vary a little: the end is where nobody is killed any more.
		for at := number(t, "SHEAF_KILLS_FROM", r.IntN(min(step, writes))); ; at += step {
			died, err := k.once(at, before)
			if err != nil {
				t.Errorf("killed at call %d, before it %t: %v", at, before, err)
			}
			if t.Failed() || !died {
				break
			}
			killed++
		}
	}
	t.Logf("%d calls that change the disk, %d steps, %d processes killed", writes, len(w.steps), killed)
	return writes, killed
}

// life does a workload to its end, and returns at how many calls it can die. The world knows what there is after each step. The disk is as it was, but for
// an empty drive if the workload begins with one.
func life(w *world, number int, seed int64) (calls int) {
	t, l := w.t, workloads[number]
	t.Helper()
	forks.RLock()
	defer forks.RUnlock()
	begin := func() {} // the first one creates its drive itself
	if number > 0 {
		// The death of a process that creates a drive is a workload of its own: the others begin with one.
		d, err := createDrive(t.Context(), w.home, w.secrets[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.close(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.disk.Reset(Cut{At: w.disk.Pos(), Model: Killed})
		begin = w.open
	}
	// Once to its end: this tells what there is after each step, and the number of calls.
	w.disk.SetKill(Kill{})
	begin()
	w.run(l, seed, false)
	calls = w.disk.Changes().Calls

	w.disk.Again()
	return calls
}

// A Job is what the victim is to do.
type Job struct {
	Dir      string
	Workload int
	Seed     int64
}

// killer kills one workload on one disk.
type killer struct {
	t   *testing.T
	w   *world // was done to the end
	job Job
	n   int
}

// once has the workload done by a process that is killed at a call, and looks at what is left. It reports whether the process lived to meet
// the call.
func (k *killer) once(at int, before bool) (died bool, err error) {
	k.w.disk.Again()
	var notes, text bytes.Buffer
	v, send, err := k.process("victim", &notes, &text)
	if err != nil {
		return false, err
	}
	k.w.disk.SetKill(Kill{Pid: v.Process.Pid, At: at, Before: before})
	err = gob.NewEncoder(send).Encode(k.job) // from here on it runs
	err = errors.Join(err, send.Close())
	werr := v.Wait()
	died = k.w.disk.Changes().Killed
	if !died {
		return false, errors.Join(err, werr, said(&text))
	}
	if s, ok := v.ProcessState.Sys().(syscall.WaitStatus); !ok || !s.Signaled() || s.Signal() != syscall.SIGKILL {
		return true, errors.Join(errors.New("the process did not die by the signal"), err, werr, said(&text))
	}
	p, err := promiseOf(notes.String())
	p.Created = p.Created || k.job.Workload > 0
	if err != nil {
		return true, err
	}
	if p.High > k.w.last() {
		return true, fmt.Errorf("the process began step %d of %d", p.High, k.w.last())
	}
	return true, k.look(p)
}

// look has a new process look at what is left.
func (k *killer) look(p promise) error {
	home := filepath.Join(ram(k.t), "home")
	defer func() { _ = os.RemoveAll(filepath.Dir(home)) }()
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	at := k.w.disk.Pos()
	k.w.disk.Write(Cut{At: at, Model: Killed}, home)
	c := Case{Home: home, Promise: p, Deep: k.n%10 == 0, Secrets: k.w.secrets}
	k.n++
	for _, s := range k.w.steps {
		c.Steps = append(c.Steps, Step{s.what, s.state})
	}
	var text bytes.Buffer
	j, send, err := k.process("judge", &text, &text)
	if err != nil {
		return err
	}
	err = gob.NewEncoder(send).Encode(c)
	err = errors.Join(err, send.Close(), j.Wait())
	if err != nil {
		return fmt.Errorf("%w\n%s\nbefore the kill:\n  %s", err, &text, strings.Join(k.w.disk.Log(max(0, at-12), at), "\n  "))
	}
	return nil
}

// roleEnv is set for a test binary that is to be the victim of a kill, or the judge of what is left. Both are told by their input what to do.
const roleEnv = "SHEAF_POWERLOSS_ROLE"

func (k *killer) process(role string, out, text *bytes.Buffer) (*exec.Cmd, interface {
	Write([]byte) (int, error)
	Close() error
}, error,
) {
	cmd := exec.CommandContext(k.t.Context(), os.Args[0])
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), roleEnv+"="+role), out, text
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	forks.Lock()
	defer forks.Unlock()
	return cmd, in, cmd.Start()
}

func said(b *bytes.Buffer) error {
	if b.Len() == 0 {
		return nil
	}
	return errors.New(b.String())
}

// promiseOf reads the notes of a process that died. It loses nothing that was done.
func promiseOf(notes string) (p promise, err error) {
	for line := range strings.Lines(notes) {
		var what string
		var step int
		if _, err := fmt.Sscanf(line, "%s %d", &what, &step); err != nil {
			return p, fmt.Errorf("read note %q: %w", line, err)
		}
		switch what {
		case "begin":
			p.High = step
		case "end":
			p.Low, p.Created = step, true
		case "begin-secret":
			p.NewSecret = step
		case "end-secret":
			p.Secret = step
		default:
			return p, fmt.Errorf("a note is %q", line)
		}
	}
	return p, nil
}

// lone is a testing.TB for a process that is no test: it ends it.
type lone struct{ testing.TB }

func (lone) Helper() {}

func (lone) Context() context.Context { return context.Background() }

func (lone) Fatal(args ...any) {
	_, _ = fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}

func (l lone) Fatalf(format string, args ...any) { l.Fatal(fmt.Sprintf(format, args...)) }

// victim does a workload and does not return, if this process was started for that.
func victim() {
	var j Job
	if !asked("victim", &j) {
		return
	}
	w := worldIn(lone{}, j.Dir)
	w.told = func(note string) {
		if _, err := fmt.Println(note); err != nil {
			w.t.Fatal(err)
		}
	}
	if j.Workload > 0 {
		w.open()
	}
	w.run(workloads[j.Workload], j.Seed, false)
	os.Exit(0)
}

// A Case is what a judge is to look at.
type Case struct {
	Home    string
	Promise promise
	Deep    bool
	Secrets []sheaf.Secret
	Steps   []Step
}

// A Step is a step, and what there is after it.
type Step struct {
	What  string
	State []string
}

// judge checks what a dead process has left, and does not return, if this process was started for that.
func judge() {
	var c Case
	if !asked("judge", &c) {
		return
	}
	w := &world{t: lone{}, secrets: c.Secrets}
	for _, s := range c.Steps {
		w.steps = append(w.steps, step{what: s.What, state: s.State})
	}
	if err := w.checkHome(c.Home, c.Promise, c.Deep); err != nil {
		w.t.Fatal(err)
	}
	os.Exit(0)
}

// asked reports whether this process has a role, and reads what it is to do.
func asked(role string, what any) bool {
	if os.Getenv(roleEnv) != role {
		return false
	}
	if err := gob.NewDecoder(os.Stdin).Decode(what); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
	return true
}
