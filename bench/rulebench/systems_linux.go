package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

// The names of the programs. The first is the one that the others are compared with.
const (
	sheafName  = "sheaf"
	rcloneName = "rclone sync"
	bisyncName = "rclone bisync"
	unisonName = "unison"
)

var systemNames = []string{sheafName, rcloneName, bisyncName, unisonName}

// A system is a program that is to keep two places alike.
type system interface {
	// lacks says why it cannot do so on a route; "": it can.
	lacks(r route) string
	// prepare is what is done once, before the first turn: it is not measured.
	prepare(ctx context.Context) error
	// turn has it make the places alike. first: they meet for the first time.
	turn(ctx context.Context, first bool) (measure.Took, error)
}

// runs is what all systems have: the programs, a folder for what they remember, and two places.
type runs struct {
	programs map[string]string
	home     string
	at       [2]*place
}

func newSystem(name string, r runs) system {
	switch name {
	case sheafName:
		return &rule{r}
	case rcloneName:
		return &rclone{runs: r}
	case bisyncName:
		return &rclone{runs: r, both: true}
	}
	return &unison{r}
}

// sides are what the two places are called.
var sides = [2]string{"left", "right"}

// A rule is sheaf, without a daemon.
type rule struct{ runs }

func (s *rule) lacks(route) string { return "" }

func (s *rule) env() []string { return []string{"SHEAF_HOME=" + filepath.Join(s.home, "sheaf")} }

func (s *rule) prepare(ctx context.Context) error {
	all := [][]string{{"init"}}
	var at [2]string
	for i, p := range s.at {
		switch p.kind {
		case folder:
			at[i] = p.dir
			continue
		case sftp:
			all = append(all, []string{"remote", "add", sides[i], sftp, "host=127.0.0.1", "port=" + strconv.Itoa(p.proxy.port()), "user=root", "key_file=" + p.key, "known_hosts_file=" + p.known})
			at[i] = sides[i] + ":" + p.dir
		case webdav:
			all = append(all, []string{"remote", "add", sides[i], webdav, "vendor=other", "url=" + p.url()})
			at[i] = sides[i] + ":"
		}
	}
	all = append(all, []string{"sync", "add", "rule", at[0], at[1], "--paused"})
	for _, args := range all {
		if _, err := measure.Output(ctx, s.home, s.env(), nil, append([]string{s.programs["sheaf"]}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

func (s *rule) turn(ctx context.Context, _ bool) (measure.Took, error) {
	return measure.Run(ctx, s.home, s.env(), s.programs["sheaf"], "sync", "run", "rule")
}

// rclone is one of its two ways to keep places alike.
type rclone struct {
	runs
	both bool // bisync
}

func (s *rclone) lacks(r route) string {
	if s.both && r.kinds != [2]string{folder, folder} && r.kinds != [2]string{folder, sftp} {
		return "bisync needs places that keep times, and this server keeps none"
	}
	return ""
}

func (s *rclone) prepare(context.Context) error { return nil }

func (s *rclone) turn(ctx context.Context, first bool) (measure.Took, error) {
	env := []string{"RCLONE_CONFIG=/dev/null", "RCLONE_CACHE_DIR=" + filepath.Join(s.home, "cache")}
	var at [2]string
	for i, p := range s.at {
		of := "RCLONE_CONFIG_" + strings.ToUpper(sides[i]) + "_"
		switch p.kind {
		case folder:
			at[i] = p.dir
		case sftp:
			env = append(env, of+"TYPE=sftp", of+"HOST=127.0.0.1", of+"PORT="+strconv.Itoa(p.proxy.port()), of+"USER=root", of+"KEY_FILE="+p.key, of+"KNOWN_HOSTS_FILE="+p.known)
			at[i] = sides[i] + ":" + p.dir
		case webdav:
			env = append(env, of+"TYPE=webdav", of+"VENDOR=other", of+"URL="+p.url())
			at[i] = sides[i] + ":"
		}
	}
	args := []string{s.programs["rclone"], "sync", at[0], at[1]}
	if s.both {
		args = []string{s.programs["rclone"], "bisync", at[0], at[1], "--workdir", filepath.Join(s.home, "bisync")}
		if first {
			args = append(args, "--resync")
		}
	}
	return measure.Run(ctx, s.home, env, args...)
}

// unison knows folders, and machines on which it is, too.
type unison struct{ runs }

func (s *unison) lacks(r route) string {
	if r.kinds[0] != folder || r.kinds[1] == webdav {
		return "it does not know WebDAV"
	}
	return ""
}

func (s *unison) prepare(context.Context) error {
	return os.MkdirAll(filepath.Join(s.home, "unison"), 0o700)
}

func (s *unison) turn(ctx context.Context, _ bool) (measure.Took, error) {
	to, args := s.at[1].dir, []string{s.programs["unison"], "-batch", "-auto", "-times", "-confirmbigdel=false"}
	if p := s.at[1]; p.kind == sftp {
		to = fmt.Sprintf("ssh://root@127.0.0.1:%d/%s", p.proxy.port(), p.dir)
		args = append(args, "-sshcmd", s.programs["ssh"], "-sshargs", p.ssh(), "-servercmd", "env UNISON="+filepath.Join(s.home, "other")+" "+s.programs["unison"])
		if err := os.MkdirAll(filepath.Join(s.home, "other"), 0o700); err != nil {
			return measure.Took{}, err
		}
	}
	return measure.Run(ctx, s.home, []string{"UNISON=" + filepath.Join(s.home, "unison")}, append(args, s.at[0].dir, to)...)
}
