// Command release builds what users install: for each system an archive with the program, its manual pages and the completions of
// shells; for Linux packages of Debian, of Red Hat and of Alpine, too; a list of what each program was built from (CycloneDX); the formula of
// Homebrew and the manifests of winget, where a URL says where the archives will lie; and the sums of all.
//
// Two runs on one commit make the same bytes, wherever its clone lies: "make release-check" holds that.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A target is one system that is built for.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

// exe is the program's name there.
func (t target) exe() string {
	if t.os == "windows" {
		return "sheaf.exe"
	}
	return "sheaf"
}

const allTargets = "linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64 android/arm64"

// A release is one run.
type release struct {
	dir     string // the clone
	out     string
	work    string // for what is not kept
	tags    string
	url     string    // where the archives will lie; "" if that is not known
	version string    // "1.2.3", or "0.0.0-gCOMMIT" where no tag is
	when    time.Time // of the commit: all files bear it
}

func main() {
	var r release
	targets := flag.String("targets", allTargets, "what to build for, as GOOS/GOARCH")
	dirty := flag.Bool("dirty", false, "also from a clone with changes that are not committed, which nobody can build again")
	flag.StringVar(&r.dir, "dir", ".", "the clone")
	flag.StringVar(&r.out, "out", "dist", "the folder for what is made; what is in it is removed")
	flag.StringVar(&r.tags, "tags", "pebblegozstd", "build tags")
	flag.StringVar(&r.url, "url", "", "where the archives will lie, without their names, for the formula of Homebrew and the manifests of winget")
	flag.Parse()
	if err := r.run(strings.Fields(*targets), *dirty); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func (r *release) run(targets []string, dirty bool) (err error) {
	if r.dir, err = filepath.Abs(r.dir); err != nil {
		return err
	}
	if r.out, err = filepath.Abs(r.out); err != nil {
		return err
	}
	if err := r.identify(dirty); err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "release-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.work)) }()
	if err := errors.Join(os.RemoveAll(r.out), os.MkdirAll(r.out, 0o755)); err != nil {
		return err
	}
	help, err := r.help()
	if err != nil {
		return err
	}
	for _, text := range targets {
		goos, arch, ok := strings.Cut(text, "/")
		if !ok || !slices.Contains(strings.Fields(allTargets), text) {
			return fmt.Errorf("target %q is none of: %s", text, allTargets)
		}
		t := target{goos, arch}
		fmt.Println("building for", t)
		bin := filepath.Join(r.work, goos+"-"+arch, t.exe())
		if err := r.build(t, bin); err != nil {
			return err
		}
		if err := r.pack(t, bin, help); err != nil {
			return fmt.Errorf("pack for %s: %w", t, err)
		}
	}
	if r.url != "" {
		if err := r.shelves(targets); err != nil {
			return err
		}
	}
	return r.sums()
}

// command runs a command in the clone and returns what it prints.
func (r *release) command(env []string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stderr = r.dir, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// identify finds out what is built.
func (r *release) identify(dirty bool) error {
	state, err := r.command(nil, "git", "status", "--porcelain")
	if err != nil {
		return err
	}
	if state != "" && !dirty {
		return fmt.Errorf("the clone has changes that are not committed:\n%s\ncommit them, or use -dirty", state)
	}
	tag, err := r.command(nil, "git", "describe", "--tags", "--always", "--match", "v[0-9]*", "--abbrev=12")
	if err != nil {
		return err
	}
	r.version = "0.0.0-g" + tag
	if v, ok := strings.CutPrefix(tag, "v"); ok {
		r.version = v
	}
	at, err := r.command(nil, "git", "log", "-1", "--format=%ct")
	if err != nil {
		return err
	}
	sec, err := strconv.ParseInt(at, 10, 64)
	r.when = time.Unix(sec, 0).UTC()
	return err
}

// build builds the program: without C, without paths of this machine, without what only a debugger reads.
func (r *release) build(t target, bin string) error {
	env := []string{"CGO_ENABLED=0", "GOOS=" + t.os, "GOARCH=" + t.arch, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0"}
	_, err := r.command(env, "go", "build", "-trimpath", "-buildvcs=true", "-tags", r.tags, "-ldflags", "-s -w -buildid=", "-o", bin, "./cmd/sheaf")
	return err
}

// help returns the manual pages and completions, by their paths in an archive. The program of this machine writes them.
func (r *release) help() (map[string][]byte, error) {
	host, err := r.command(nil, "go", "env", "GOHOSTOS", "GOHOSTARCH")
	if err != nil {
		return nil, err
	}
	f := strings.Fields(host)
	bin := filepath.Join(r.work, "host", "sheaf")
	if err := r.build(target{f[0], f[1]}, bin); err != nil {
		return nil, err
	}
	pages := filepath.Join(r.work, "man")
	home := []string{"SHEAF_HOME=" + filepath.Join(r.work, "home")}
	if _, err := r.command(home, bin, "man", pages); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	entries, err := os.ReadDir(pages)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if files["man/"+e.Name()], err = os.ReadFile(filepath.Join(pages, e.Name())); err != nil {
			return nil, err
		}
	}
	for shell, name := range map[string]string{"bash": "sheaf.bash", "zsh": "_sheaf", "fish": "sheaf.fish", "powershell": "sheaf.ps1"} {
		text, err := r.command(home, bin, "completion", shell)
		if err != nil {
			return nil, err
		}
		files["completions/"+name] = []byte(text + "\n")
	}
	return files, nil
}

// sums writes the list of sums, as sha256sum reads it.
func (r *release) sums() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, e := range entries {
		if e.IsDir() { // the image's, with what is in the archives
			continue
		}
		f, err := os.Open(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s  %s\n", hex.EncodeToString(h.Sum(nil)), e.Name())
	}
	fmt.Print(b.String())
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(b.String()), 0o644)
}
