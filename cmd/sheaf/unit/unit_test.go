package unit

import (
	"encoding/json"
	"encoding/xml"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// odd are words that mean something to somebody on the way.
var odd = []string{
	"", "plain", "two words", `"quoted"`, `it's`, "50%", "%h %%", "$HOME ${X} $$", `back\slash\`, `end\\"`, "ümläut 文", "a&b<c>d", "tab\there", "-x", "C:\\Program Files\\sheaf\\",
}

// The agent is read by somebody else's reader as it was meant.
func TestLaunchd_PythonReadsWhatWasMeant(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		testkit.Lacks(t, err)
	}
	s := Spec{Name: "sheaf-1", Exe: "/Applications/a & b/sheaf", Args: odd, Env: map[string]string{"A": "x", "B<": "y & z"}, Log: "/tmp/l <o> g"}
	cmd := exec.Command("python3", "-c", "import json, plistlib, sys; json.dump(plistlib.loads(sys.stdin.buffer.read()), sys.stdout)")
	cmd.Stdin = strings.NewReader(Launchd{}.text(s))
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	var got struct {
		Label                string
		ProgramArguments     []string
		EnvironmentVariables map[string]string
		RunAtLoad            bool
		KeepAlive            map[string]bool
		StandardErrorPath    string
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if got.Label != s.Name || !reflect.DeepEqual(got.ProgramArguments, append([]string{s.Exe}, odd...)) || !reflect.DeepEqual(got.EnvironmentVariables, s.Env) ||
		!got.RunAtLoad || got.KeepAlive["SuccessfulExit"] || len(got.KeepAlive) != 1 || got.StandardErrorPath != s.Log {
		t.Errorf("got %+v", got)
	}
}

// The rules of CommandLineToArgvW, as Microsoft has written them down.
func TestTasks_QuoteAsWindowsReads(t *testing.T) {
	for _, s := range odd {
		if got := argvW(windowsQuote(s)); got != s {
			t.Errorf("%q is read as %q from %s", s, got, windowsQuote(s))
		}
	}
	for in, want := range map[string]string{`a\\b d"e f"g h`: `a\\b`, `"a\\\"b"`: `a\"b`, `"a\\\\b" c`: `a\\\\b`} { // from their page
		if got := argvW(in); got != want {
			t.Errorf("this test reads %s as %q, not %q", in, got, want)
		}
	}
}

// argvW returns the first word of a command line: 2n backslashes before a quote are n, one more makes the quote a letter; others are themselves.
func argvW(line string) string {
	var b strings.Builder
	quoted, slashes := false, 0
	for i := range len(line) {
		c := line[i]
		if c == '\\' {
			slashes++
			continue
		}
		if c == '"' {
			b.WriteString(strings.Repeat(`\`, slashes/2))
			if slashes%2 == 1 {
				b.WriteByte(c)
			} else {
				quoted = !quoted
			}
			slashes = 0
			continue
		}
		b.WriteString(strings.Repeat(`\`, slashes))
		slashes = 0
		if (c == ' ' || c == '\t') && !quoted {
			return b.String()
		}
		b.WriteByte(c)
	}
	return b.String() + strings.Repeat(`\`, slashes)
}

func TestTasks_IsXMLThatSaysWhatWasMeant(t *testing.T) {
	s := Spec{Name: "sheaf", Exe: `C:\a & b\sheaf.exe`, Args: odd}
	var got struct {
		Command   string `xml:"Actions>Exec>Command"`
		Arguments string `xml:"Actions>Exec>Arguments"`
		User      string `xml:"Triggers>LogonTrigger>UserId"`
	}
	d := xml.NewDecoder(strings.NewReader(strings.Replace(Tasks{User: `PC\a<b`}.text(s), "UTF-16", "UTF-8", 1)))
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, a := range odd {
		want = append(want, windowsQuote(a))
	}
	if got.Command != s.Exe || got.Arguments != strings.Join(want, " ") || got.User != `PC\a<b` {
		t.Errorf("got %+v", got)
	}
}

func TestNameFor_EachHomeHasItsOwn(t *testing.T) {
	a, b := NameFor("/a"), NameFor("/b")
	if NameFor("") != "sheaf" || a == b || a != NameFor("/a") || !strings.HasPrefix(a, "sheaf-") {
		t.Errorf("got %s, %s, %s", NameFor(""), a, b)
	}
}
