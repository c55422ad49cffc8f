package remotetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// SeaweedFS starts a cluster of one machine with its server for S3. Like Amazon's, and unlike versitygw, it has buckets that are no
// folders of a file system, and it answers a key that it does not know by 403.
func SeaweedFS(t testing.TB, set ...Setting) (*Server, Place) {
	t.Helper()
	bin := need(t, "weed")
	tmp := t.TempDir()
	files := mkdir(t, tmp, "files")
	access, key := "AK"+secret()[:18], secret()
	conf, err := json.Marshal(map[string]any{"identities": []any{map[string]any{
		"name": "me", "actions": []string{"Admin", "Read", "Write", "List", "Tagging"},
		"credentials": []any{map[string]string{"accessKey": access, "secretKey": key}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, filepath.Join(tmp, "s3.json"), 0o600, string(conf))
	// Each part of it has a port for HTTP and one for gRPC, which are to be the same when it starts again.
	flags := []string{
		"server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-dir=" + files, "-filer", "-s3", "-s3.config=" + file, "-s3.autoCreateBucket=false",
		"-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.localSocket=" + filepath.Join(tmp, "s3.sock"), "-filer.localSocket=" + filepath.Join(tmp, "filer.sock"),
		"-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=100", "-volume.preStopSeconds=0",
	}
	var master string
	for _, part := range []string{"master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port.grpc"} {
		_, port, _ := net.SplitHostPort(testkit.FreeAddr(t))
		flags = append(flags, "-"+part+"="+port)
		switch part {
		case "master.port":
			master = "127.0.0.1:" + port
		case "master.port.grpc":
			master += "." + port
		}
	}
	s := serve(t, files, web, set, func(addr string) []string {
		_, port, _ := net.SplitHostPort(addr)
		return append(append([]string{bin, "-logtostderr"}, flags...), "-s3.port="+port)
	})
	make := func() error {
		c := exec.CommandContext(t.Context(), bin, "shell", "-master="+master)
		c.Stdin = strings.NewReader("s3.bucket.create -name bucket\ns3.bucket.list\nexit\n")
		out, err := c.CombinedOutput()
		if err == nil && !strings.Contains(string(out), "\n  bucket\t") {
			err = errors.New("it lists no bucket")
		}
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}
	// Its parts find each other some time after they answer.
	for end := time.Now().Add(startTime); ; time.Sleep(100 * time.Millisecond) {
		if err = make(); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("make a bucket: %v\n%s", err, s.out)
		}
	}
	return s, Place{
		Kind:    "s3",
		Options: map[string]string{"provider": "SeaweedFS", "endpoint": "http://" + s.Addr, "region": "us-east-1", "force_path_style": "true"},
		Secrets: map[string]string{"access_key_id": access, "secret_access_key": key},
		Path:    "bucket/drive", Dir: files,
	}
}
