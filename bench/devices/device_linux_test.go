package devices

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sheaf is the command, built once.
var sheaf = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "devices-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "sheaf")
	cmd := exec.Command("go", "build", "-o", bin, "github.com/sheaf-drive/sheaf/cmd/sheaf")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sheaf: %w: %s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, err := sheaf(); err == nil {
		_ = os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// A device is a home, and a process that mounts its drive.
type device struct {
	name, home, dir string
	env             []string

	mu     sync.RWMutex // held for writing while it is down
	cmd    *exec.Cmd
	exited chan struct{}
}

func newDevice(t *testing.T, name string) *device {
	t.Helper()
	d := &device{name: name, home: t.TempDir(), dir: t.TempDir()}
	// What lies below the mount takes nothing while it is away.
	below := d.dir
	d.dir = filepath.Join(below, "mount")
	err := unix.Mount("none", below, "tmpfs", 0, "size=64k")
	if err == nil {
		err = errors.Join(os.Mkdir(d.dir, 0o755), unix.Mount("none", below, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, "size=64k"))
	}
	if err != nil {
		t.Fatalf("mount an empty folder: %v", err)
	}
	t.Cleanup(func() {
		d.down()
		if err := unix.Unmount(below, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount the empty folder: %v", err)
		}
	})
	return d
}

// run runs sheaf on this device.
func (d *device) run(ctx context.Context, args ...string) (string, error) {
	bin, err := sheaf()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = slices.Concat(os.Environ(), []string{"SHEAF_HOME=" + d.home, "SHEAF_POLL=300ms"}, d.env)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: sheaf %s: %w: %s", d.name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// up mounts the drive, in a process that can be killed.
func (d *device) up() error {
	bin, err := sheaf()
	if err != nil {
		return err
	}
	// What began while nothing was mounted has the drive open by itself, and ends.
	cmd := exec.Command(bin, "mount", "--foreground", "--lock-wait", "2m", d.dir)
	cmd.Env = slices.Concat(os.Environ(), []string{"SHEAF_HOME=" + d.home, "SHEAF_POLL=300ms"}, d.env)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(d.home, "mount.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return err
	}
	d.cmd, d.exited = cmd, make(chan struct{})
	ready := make(chan error, 1)
	go func() {
		defer close(d.exited)
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			if strings.Contains(sc.Text(), "mounted") {
				select {
				case ready <- nil:
				default:
				}
			}
		}
		err := cmd.Wait()
		select {
		case ready <- errors.Join(errors.New("mount ended before it was ready"), err):
		default:
		}
	}()
	select {
	case err := <-ready:
		return err
	case <-time.After(2 * time.Minute):
		return errors.New("mount is not ready after two minutes")
	}
}

// down kills the process, and takes its mount away.
func (d *device) down() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill()
	<-d.exited
	_ = exec.Command("fusermount3", "-uz", d.dir).Run() // it is gone where the process took it along
	d.cmd = nil
}

// end stops the process in order.
func (d *device) end() error {
	_, err := d.run(context.Background(), "stop", "--force")
	select {
	case <-d.exited:
		d.cmd = nil
	case <-time.After(time.Minute):
		return errors.Join(err, errors.New("the mount did not end"))
	}
	return err
}
