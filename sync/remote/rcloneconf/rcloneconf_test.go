package rcloneconf

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const plain = "# made by hand\n[nas]\ntype = sftp\nhost = h=1\n pass= x\n\n; more\n[b 2]\r\ntype=b2\r\nkey = `in ticks`\n[odd]\na =\n"

func TestParse(t *testing.T) {
	got, err := Parse([]byte(plain), "")
	want := []Section{
		{"nas", "sftp", map[string]string{"host": "h=1", "pass": "x"}},
		{"b 2", "b2", map[string]string{"key": "in ticks"}},
		{"odd", "", map[string]string{"a": ""}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"key = secret", "[a", "[]", "[a]\nsecret", "[a]\n[a]", "[a]\n= secret", "# x\nRCLONE_ENCRYPT_V0:\nsecret"} {
		_, err := Parse([]byte(bad), "p")
		if !errors.Is(err, ErrSyntax) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	for _, bad := range []string{"", "x", "a b", strings.Repeat("A", 21), "äöü"} {
		if _, err := Reveal(bad); !errors.Is(err, ErrSyntax) {
			t.Errorf("Reveal(%q): got %v", bad, err)
		}
	}
}

// rclone runs the real program.
func rclone(t *testing.T, conf string, stdin string, args ...string) string {
	t.Helper()
	bin, err := exec.LookPath("rclone")
	if err != nil {
		t.Fatal("rclone is not there: scripts/deps remotes")
	}
	cmd := exec.CommandContext(t.Context(), bin, args...)
	cmd.Env = append(os.Environ(), "RCLONE_CONFIG="+conf)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("rclone %v: %v: %s", args, err, errs.String())
	}
	return strings.TrimSpace(out.String())
}

// encrypt has rclone encrypt a configuration. It reads past what it needs, so it is told each thing only when it asks.
func encrypt(t *testing.T, conf, password string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "rclone", "config")
	cmd.Env = append(os.Environ(), "RCLONE_CONFIG="+conf)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close() // it has its own
	answers := []string{"s", "a", password, password, "q", "q"}
	said, buf := "", make([]byte, 4096)
	for {
		n, err := out.Read(buf)
		said += string(buf[:n])
		if asks := strings.HasSuffix(said, "> ") || strings.HasSuffix(said, "assword:"); asks && len(answers) > 0 {
			if _, err := in.Write([]byte(answers[0] + "\n")); err != nil {
				t.Fatal(err)
			}
			answers, said = answers[1:], said+"\n"
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil || len(answers) > 0 {
		t.Fatalf("rclone config: %v, %d answers left: %s", err, len(answers), said)
	}
}

func TestRclone_WritesWhatIsRead(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "rclone.conf")
	for _, word := range []string{"x", "pass word", "ünï 🔑 \"quoted\""} {
		obscured := rclone(t, conf, word, "obscure", "-")
		if got, err := Reveal(obscured); err != nil || got != word {
			t.Errorf("Reveal of %q: %q, %v", word, got, err)
		}
	}
	rclone(t, conf, "", "config", "create", "nas", "webdav", "url", "http://h:1/a?b=c", "user", "me", "pass", "secret", "--obscure")
	check := func(password string) {
		t.Helper()
		b, err := os.ReadFile(conf)
		if err != nil {
			t.Fatal(err)
		}
		all, err := Parse(b, password)
		if err != nil || len(all) != 1 {
			t.Fatalf("got %d remotes, %v", len(all), err)
		}
		s := all[0]
		if s.Name != "nas" || s.Kind != "webdav" || s.Values["url"] != "http://h:1/a?b=c" || s.Values["user"] != "me" {
			t.Errorf("got %+v", s)
		}
		if got, err := Reveal(s.Values["pass"]); err != nil || got != "secret" {
			t.Errorf("pass: %q, %v", got, err)
		}
	}
	check("")
	encrypt(t, conf, "open sesame")
	b, err := os.ReadFile(conf)
	if err != nil || bytes.Contains(b, []byte("webdav")) {
		t.Fatalf("rclone did not encrypt its configuration: %v", err)
	}
	check("open sesame")
	for _, wrong := range []string{"", "sesame"} {
		if _, err := Parse(b, wrong); !errors.Is(err, ErrPassword) {
			t.Errorf("password %q: got %v", wrong, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(plain), "p")
	f.Add([]byte("RCLONE_ENCRYPT_V0:\nAAAA"), "p")
	f.Fuzz(func(t *testing.T, b []byte, password string) {
		all, err := Parse(b, password)
		if err != nil && !errors.Is(err, ErrSyntax) && !errors.Is(err, ErrPassword) {
			t.Errorf("got %v", err)
		}
		for _, s := range all {
			for _, v := range s.Values {
				_, _ = Reveal(v)
			}
		}
	})
}
