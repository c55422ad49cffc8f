package posix

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// run runs a program in dir as somebody, and fails the test if it does.
func run(t *testing.T, as who, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "HOME="+dir, "LC_ALL=C")
	if as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out[max(0, len(out)-4000):])
	}
	return string(out)
}

var transactions = regexp.MustCompile(`number of transactions actually processed: (\d+)`)

// PostgreSQL: initdb with checksums of its pages, pgbench, its death by SIGKILL under load, its recovery, and what
// its own checks say of every page and index afterwards.
func TestPostgreSQL(t *testing.T) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		missing(t, "PostgreSQL is not installed: run scripts/deps posix")
	}
	if !long() {
		t.Skip("takes a minute: make posix runs it")
	}
	bin := filepath.Dir(found[len(found)-1])
	dir := mounted(t, "")
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	as := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	work := filepath.Join(dir, "pg")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(work, uid, gid); err != nil {
		t.Fatal(err)
	}
	socket := reachable(t)
	if err := os.Chown(socket, uid, gid); err != nil {
		t.Fatal(err)
	}
	data, log := filepath.Join(work, "data"), filepath.Join(work, "log")
	pg := func(name string, args ...string) string {
		t.Helper()
		return run(t, as, work, filepath.Join(bin, name), args...)
	}
	ctl := func(args ...string) {
		t.Helper()
		pg("pg_ctl", append([]string{"-D", data, "-s", "-w", "-t", "300"}, args...)...)
	}
	t.Cleanup(func() {
		if b, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("PostgreSQL says:\n%s", b[max(0, len(b)-4000):])
		}
	})
	begin := func() { t.Helper(); ctl("-l", log, "-o", "-k "+socket+" -h '' -c fsync=on", "start") }
	sql := func(q string) string {
		t.Helper()
		return strings.TrimSpace(pg("psql", "-h", socket, "-AtX", "-c", q, "postgres"))
	}
	pg("initdb", "-D", data, "-k", "-A", "trust")
	begin()
	up := true
	t.Cleanup(func() {
		if up {
			cmd := exec.Command(filepath.Join(bin, "pg_ctl"), "-D", data, "-m", "immediate", "stop")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
			_ = cmd.Run()
		}
	})
	pg("pgbench", "-h", socket, "-i", "-q", "-s", "5", "postgres")
	seconds := strconv.Itoa(number(t, "SHEAF_PGBENCH", 30))
	out := pg("pgbench", "-h", socket, "-c", "4", "-j", "2", "-T", seconds, "postgres")
	m := transactions.FindStringSubmatch(out)
	if m == nil || m[1] == "0" || !strings.Contains(out, "number of failed transactions: 0 ") {
		t.Fatalf("pgbench says\n%s", out)
	}
	// Each transaction leaves one line in the history, so none may be missing.
	if got := sql("select count(*) from pgbench_history"); got != m[1] {
		t.Errorf("%s transactions, and %s in the history", m[1], got)
	}
	t.Logf("pgbench: %s transactions in %s s", m[1], seconds)
	// It dies under load. What it told its clients is there afterwards.
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		cmd := exec.Command(filepath.Join(bin, "pgbench"), "-h", socket, "-n", "-c", "4", "-T", "600", "-l", "--log-prefix", filepath.Join(socket, "done"), "postgres")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
		_ = cmd.Run() // it ends when the server is gone
	}()
	time.Sleep(5 * time.Second) // how long it is under load
	pid, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(pid), "\n")
	n, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	all := []int{n}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", n, n))
	for _, c := range strings.Fields(string(children)) {
		if id, err := strconv.Atoi(c); err == nil {
			all = append(all, id)
		}
	}
	for _, id := range all {
		_ = syscall.Kill(id, syscall.SIGKILL)
	}
	for _, id := range all {
		for end := time.Now().Add(30 * time.Second); lives(id); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("process %d of PostgreSQL does not die", id)
			}
		}
	}
	<-killed
	acknowledged := 0
	logs, _ := filepath.Glob(filepath.Join(socket, "done*"))
	for _, l := range logs {
		b, err := os.ReadFile(l)
		if err != nil {
			t.Fatal(err)
		}
		acknowledged += strings.Count(string(b), "\n")
	}
	// Its locks name a process that nobody may have collected yet.
	locks, _ := filepath.Glob(filepath.Join(socket, ".s.*"))
	for _, l := range append(locks, filepath.Join(data, "postmaster.pid")) {
		if err := os.Remove(l); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	before, _ := strconv.Atoi(m[1])
	got, err := strconv.Atoi(sql("select count(*) from pgbench_history"))
	if err != nil || got < before+acknowledged {
		t.Errorf("after its death: %d transactions are there (%v), %d were acknowledged", got, err, before+acknowledged)
	}
	t.Logf("after SIGKILL: %d acknowledged, %d there", before+acknowledged, got)
	if got := sql("select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)"); got != "t" {
		t.Errorf("the accounts do not add up to the history: %q", got)
	}
	sql("create extension amcheck")
	sql("select bt_index_check(c.oid, true) from pg_class c join pg_index i on i.indexrelid = c.oid where c.relam = (select oid from pg_am where amname = 'btree') and c.relpersistence = 'p' and i.indisvalid")
	ctl("-m", "fast", "stop")
	up = false
	if out := pg("pg_checksums", "--check", "-D", data); !strings.Contains(out, "Bad checksums:  0") {
		t.Errorf("pg_checksums says\n%s", out)
	}
}

// lives reports whether there is such a process, and it is not dead and uncollected.
func lives(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// sqlite: both of its journals, several writers and readers at the same time, processes that are killed in
// the middle, and its own check.
func TestSqlite(t *testing.T) {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		lacks(t, "sqlite3 is not installed: run scripts/deps")
	}
	rows, kills := 30, 1
	if long() {
		rows, kills = 300, 10
	}
	dir := mounted(t, "")
	for _, mode := range []string{"wal", "delete", "truncate", "persist"} {
		t.Run(mode, func(t *testing.T) {
			db := filepath.Join(dir, mode+".db")
			run(t, nil, dir, "sqlite3", db, "pragma journal_mode="+mode+"; create table t(i integer primary key, w int, n int, b blob); create index x on t(b);")
			var wg sync.WaitGroup
			for w := range 4 {
				wg.Go(func() {
					var q strings.Builder
					q.WriteString(".timeout 120000\n")
					for n := range rows {
						fmt.Fprintf(&q, "begin immediate; insert into t(w, n, b) values (%d, %d, randomblob(2000)); update t set b = randomblob(2500) where w = %d and n = %d / 2; commit;\n", w, n, w, n)
						if n%20 == 0 {
							q.WriteString("select count(*) from t;\n")
						}
					}
					cmd := exec.CommandContext(t.Context(), "sqlite3", "-bail", db)
					cmd.Stdin = strings.NewReader(q.String())
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Errorf("writer %d: %v\n%s", w, err, out)
					}
				})
			}
			wg.Wait()
			for range kills {
				cmd := exec.CommandContext(t.Context(), "sqlite3", db)
				cmd.Stdin = strings.NewReader(".timeout 120000\n" + strings.Repeat("insert into t(w, n, b) values (9, 0, randomblob(3000));\n", 5000))
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(60 * time.Millisecond) // when the kill comes
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				if got := strings.TrimSpace(run(t, nil, dir, "sqlite3", "-cmd", ".timeout 120000", db, "pragma integrity_check;")); got != "ok" {
					t.Fatalf("after a kill sqlite says %q", got)
				}
			}
			if got := strings.TrimSpace(run(t, nil, dir, "sqlite3", db, "select count(*), count(distinct w || ' ' || n) from t where w < 9; vacuum; pragma integrity_check;")); got != fmt.Sprintf("%d|%d\nok", 4*rows, 4*rows) {
				t.Errorf("sqlite says %q", got)
			}
		})
	}
}

// git: many commits and branches, a rebase, worktrees at work at the same time, repacking meanwhile, and its own check.
func TestGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		lacks(t, "git is not installed: run scripts/deps")
	}
	commits, trees := 8, 3
	if long() {
		commits, trees = 100, 6
	}
	dir := mounted(t, "")
	repo := filepath.Join(dir, "repo")
	git := func(in string, args ...string) string {
		t.Helper()
		return run(t, nil, in, "git", append([]string{
			"-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "gc.auto=0", "-c", "core.fsync=all", "-c", "safe.directory=*",
		}, args...)...)
	}
	git(dir, "init", "-q", "-b", "main", repo)
	git(repo, "commit", "-q", "--allow-empty", "-m", "first")
	for i := range trees {
		git(repo, "worktree", "add", "-q", "-b", "b"+strconv.Itoa(i), filepath.Join(dir, "tree"+strconv.Itoa(i)))
	}
	var wg sync.WaitGroup
	for i := range trees {
		wg.Go(func() {
			tree := filepath.Join(dir, "tree"+strconv.Itoa(i))
			for c := range commits {
				sub := filepath.Join(tree, "d"+strconv.Itoa(i), strconv.Itoa(c%7))
				if err := os.MkdirAll(sub, 0o755); err != nil {
					t.Error(err)
					return
				}
				for f := range 5 {
					text := strings.Repeat(fmt.Sprintf("line %d of %d in %d\n", f, c, i), 100+c)
					if err := os.WriteFile(filepath.Join(sub, "f"+strconv.Itoa(f)), []byte(text), 0o644); err != nil {
						t.Error(err)
						return
					}
				}
				git(tree, "add", "-A")
				git(tree, "commit", "-q", "-m", "c"+strconv.Itoa(c))
				if c%25 == 24 {
					git(tree, "rebase", "-q", "--root", "--exec", "true")
				}
			}
		})
	}
	wg.Go(func() {
		for range 3 {
			// Not with -d: it removes folders that others are about to write into, against which git tries only twice.
			git(repo, "repack", "-q", "-a")
			git(repo, "pack-refs", "--all")
		}
	})
	wg.Wait()
	for i := range trees {
		git(repo, "merge", "-q", "-m", "m", "b"+strconv.Itoa(i))
	}
	git(repo, "fsck", "--full", "--strict")
	git(repo, "gc", "-q", "--aggressive", "--prune=now")
	git(repo, "fsck", "--full", "--strict")
	for i := range trees {
		if out := git(filepath.Join(dir, "tree"+strconv.Itoa(i)), "status", "--porcelain"); out != "" {
			t.Errorf("tree %d is not clean:\n%s", i, out)
		}
	}
	if got, want := strings.TrimSpace(git(repo, "rev-list", "--count", "--no-merges", "HEAD")), strconv.Itoa(1+trees*commits); got != want && !long() {
		t.Errorf("%s commits, want %s", got, want)
	}
	clone := filepath.Join(dir, "clone")
	git(dir, "clone", "-q", "--no-local", repo, clone)
	if out := run(t, nil, dir, "diff", "-r", "-x", ".git", repo, clone); out != "" {
		t.Errorf("the clone differs:\n%s", out)
	}
}
