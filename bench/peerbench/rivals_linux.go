package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

// runTook runs a program that has nothing to do with the network.
func runTook(ctx context.Context, dir string, args ...string) (measure.Took, error) {
	return measure.Run(ctx, dir, nil, args...)
}

// until asks again and again, as long as ctx allows.
func until(ctx context.Context, what string, so func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := so()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// syncthingPair is two instances that know each other's address, over TCP. They are told when something has changed, and so do not wait for it.
type syncthingPair struct{ *ends }

// syncthingConfig is a configuration (https://docs.syncthing.net/users/config.html) that speaks with nobody else.
const syncthingConfig = `<configuration version="36">
<folder id="bench" path="%[1]s" type="sendreceive" rescanIntervalS="0" fsWatcherEnabled="false"><device id="%[2]s"></device><device id="%[3]s"></device></folder>
<device id="%[2]s" compression="metadata"><address>tcp://%[6]s:22000</address></device>
<device id="%[3]s" compression="metadata"><address>tcp://%[7]s:22001</address></device>
<gui enabled="true" tls="false"><address>127.0.0.1:%[4]d</address><apikey>bench</apikey></gui>
<options><listenAddress>tcp://%[8]s:%[5]d</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>
<relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><startBrowser>false</startBrowser><urAccepted>-1</urAccepted><autoUpgradeIntervalH>0</autoUpgradeIntervalH>
<crashReportingEnabled>false</crashReportingEnabled><reconnectionIntervalS>1</reconnectionIntervalS><setLowPriority>false</setLowPriority></options>
</configuration>`

func (s *syncthingPair) start(ctx context.Context) error {
	p := s.c.programs[syncthingName]
	var ids []string
	for i, end := range []string{"a", "b"} {
		home := filepath.Join(s.dir, end)
		if _, err := s.output(ctx, i, nil, p, "generate", "--home", home, "--no-default-folder", "--skip-port-probing"); err != nil {
			return err
		}
		out, err := s.output(ctx, i, nil, p, "--home", home, "--device-id")
		if err != nil {
			return err
		}
		ids = append(ids, strings.TrimSpace(string(out)))
	}
	for i, end := range []string{"a", "b"} {
		home, folder := filepath.Join(s.dir, end), []string{s.source, s.target}[i]
		conf := fmt.Sprintf(syncthingConfig, folder, ids[0], ids[1], 8384+i, 22000+i, s.addr[0], s.addr[1], s.addr[i])
		if err := os.WriteFile(filepath.Join(home, "config.xml"), []byte(conf), 0o600); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(folder, ".stfolder"), 0o755); err != nil {
			return err
		}
		if err := s.keep(i, []string{"STNOUPGRADE=1", "HOME=" + s.dir}, p, "serve", "--home", home, "--no-browser", "--no-restart", "--skip-port-probing"); err != nil {
			return err
		}
	}
	return until(ctx, "two instances of Syncthing meet", func() error {
		out, err := s.ask(ctx, "GET", "system/connections")
		if err == nil && !strings.Contains(strings.ReplaceAll(string(out), " ", ""), `"connected":true`) {
			err = fmt.Errorf("not connected: %s", out)
		}
		return err
	})
}

func (s *syncthingPair) ask(ctx context.Context, method, path string) ([]byte, error) {
	return s.output(ctx, 0, nil, s.c.programs["curl"], "-sS", "-f", "-X", method, "-H", "X-API-Key: bench", "http://127.0.0.1:8384/rest/"+path)
}

func (s *syncthingPair) does(step) string { return "" }

func (s *syncthingPair) bring(ctx context.Context, _ step, _ *load) (_, _ time.Duration, err error) {
	_, err = s.ask(ctx, "POST", "db/scan?folder=bench")
	return 0, 0, err
}

func (s *syncthingPair) settle(context.Context) error { return nil }

// rsyncPair is rsync over ssh to a server of its own.
type rsyncPair struct{ *ends }

func (s *rsyncPair) start(ctx context.Context) error {
	for _, key := range []string{"host", "user"} {
		if _, err := s.output(ctx, 0, nil, s.c.programs["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.dir, key)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // OpenSSH wants it, empty
		return err
	}
	conf := fmt.Sprintf("Port 2222\nListenAddress %[2]s\nHostKey %[1]s/host\nAuthorizedKeysFile %[1]s/user.pub\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n", s.dir, s.addr[1])
	at := filepath.Join(s.dir, "sshd_config")
	if err := os.WriteFile(at, []byte(conf), 0o600); err != nil {
		return err
	}
	if err := s.keep(1, nil, s.c.programs["sshd"], "-D", "-e", "-f", at); err != nil {
		return err
	}
	return until(ctx, "sshd lets in", func() error {
		_, err := s.output(ctx, 0, nil, append(strings.Fields(s.ssh()), "root@"+s.addr[1], "true")...)
		return err
	})
}

func (s *rsyncPair) ssh() string {
	return s.c.programs["ssh"] + " -p 2222 -i " + filepath.Join(s.dir, "user") + " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
}

func (s *rsyncPair) does(step) string { return "" }

func (s *rsyncPair) bring(ctx context.Context, _ step, _ *load) (_, cpu time.Duration, err error) {
	cpu, err = s.run(ctx, 0, nil, s.c.programs[rsyncName], "-a", "--delete", "-e", s.ssh(), s.source+"/", "root@"+s.addr[1]+":"+s.target+"/")
	return 0, cpu, err
}

func (s *rsyncPair) settle(context.Context) error { return nil }

// crocPair sends by croc, through a relay that is here, as both ends have to find each other.
type crocPair struct {
	*ends
	sent int
}

func (s *crocPair) start(ctx context.Context) error {
	if err := s.keep(0, []string{"HOME=" + s.dir}, s.c.programs[crocName], "relay", "--host", s.addr[0], "--ports", "9009,9010,9011,9012,9013"); err != nil {
		return err
	}
	return until(ctx, "croc's relay listens", func() error {
		out, err := s.output(ctx, 0, nil, "cat", "/proc/net/tcp")
		if err == nil && !strings.Contains(string(out), ":2331 ") {
			err = fmt.Errorf("nobody is at port 9009")
		}
		return err
	})
}

func (s *crocPair) does(st step) string {
	if st.rename != "" {
		return "it sends files and knows no folder that was renamed"
	}
	return ""
}

func (s *crocPair) bring(ctx context.Context, st step, _ *load) (_, cpu time.Duration, err error) {
	s.sent++
	env := []string{"HOME=" + s.dir, fmt.Sprintf("CROC_SECRET=%d-sheaf-bench-peers", 1000+s.sent)}
	from := filepath.Join(s.source, st.at)
	common := []string{s.c.programs[crocName], "--yes", "--overwrite", "--relay", s.addr[0] + ":9009"}
	sender := s.in(0, append(common, "send", "--no-local", from)...)
	cmd := exec.CommandContext(ctx, sender[0], sender[1:]...)
	cmd.Env, cmd.Dir = append(os.Environ(), env...), s.dir
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	took, err := measure.Run(ctx, s.target, env, s.in(1, common...)...)
	if err != nil {
		_ = cmd.Process.Kill()
	}
	werr := cmd.Wait()
	if err == nil && werr != nil {
		err = fmt.Errorf("croc send: %w", werr)
	}
	return 0, took.CPU + cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), err
}

func (s *crocPair) settle(context.Context) error { return nil }
