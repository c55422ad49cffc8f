package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func TestObject_IsJSONWithNumbersTimesAndWords(t *testing.T) {
	old := time.Local
	time.Local = time.UTC
	defer func() { time.Local = old }()
	var out bytes.Buffer
	a := &app{out: &out}
	j := &sheafv1.Job{
		Id: "7", Work: "import", State: sheafv1.JobState_JOB_STATE_PARTIAL, Bytes: 1 << 60, Counted: true,
		Started:  timestamppb.New(time.Date(2026, 11, 23, 1, 2, 3, 4, time.UTC)),
		Failures: []*sheafv1.Failure{{Path: "a\"\x00ff<ü", Code: sheafv1.Code_CODE_NOT_FOUND}},
	}
	if err := a.object("job", j); err != nil {
		t.Fatal(err)
	}
	line := out.String()
	for _, want := range []string{
		`{"kind":"job","id":"7","work":"import","state":"partial","started":"2026-11-23T01:02:03.000000004Z","ended":null,`,
		`"bytes":1152921504606846976,`, `"failures":[{"path":"a\"\u0000ff<ü","error":"","code":"not_found"}]`, `"actions":[],"verify":null,`,
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
	if !json.Valid(out.Bytes()) || strings.Count(line, "\n") != 1 {
		t.Errorf("not one line of JSON: %s", line)
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		n    int64
		si   bool
		want string
	}{
		{0, false, "0 B"},
		{1023, false, "1023 B"},
		{1024, false, "1.0 KiB"},
		{1536, false, "1.5 KiB"},
		{1<<20 - 1, false, "1.0 MiB"},
		{1 << 30, false, "1.0 GiB"},
		{1<<63 - 1, false, "8.0 EiB"},
		{1000, true, "1.0 kB"},
		{999_999, true, "1.0 MB"},
	} {
		a := &app{si: c.si}
		if got := a.size(c.n); got != c.want {
			t.Errorf("%d, si %v: got %q, want %q", c.n, c.si, got, c.want)
		}
	}
}

func TestPrintable_LeavesNothingThatMovesACursor(t *testing.T) {
	if got := printable("a\x1b[31mb\tc\r\xffü"); strings.ContainsAny(got, "\x1b\r\t") || !strings.HasSuffix(got, "ü") {
		t.Errorf("got %q", got)
	}
	if got := printable("plain ü name"); got != "plain ü name" {
		t.Errorf("got %q", got)
	}
}

func TestQuoted(t *testing.T) {
	for s, want := range map[string]string{"/a/b.txt": "/a/b.txt", "a b": "'a b'", "it's": `'it'\''s'`, "": "''"} {
		if got := quoted(s); got != want {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
	}
}

func TestManPages_EachCommandHasOneWithItsOptions(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	pages := manPages(a.root())
	for _, name := range []string{"sheaf.1", "sheaf-cp.1", "sheaf-mount-list.1", "sheaf-key-recovery.1"} {
		if pages[name] == "" {
			t.Errorf("no page %s", name)
		}
	}
	if p := pages["sheaf-cp.1"]; !strings.Contains(p, `\-P, \-\-progress`) || !strings.Contains(p, ".SH EXAMPLES") {
		t.Errorf("sheaf-cp.1 is %s", p)
	}
}

// Nothing secret is taken in argv: no command has a flag that holds a secret itself.
func TestFlags_NoneHoldsASecret(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	for name, page := range manPages(a.root()) {
		for line := range strings.SplitSeq(page, "\n") {
			if !strings.HasPrefix(line, `.B \-`) && !strings.HasPrefix(line, `.B --`) {
				continue
			}
			l := strings.ToLower(strings.ReplaceAll(line, `\`, ""))
			if (strings.Contains(l, "pass") || strings.Contains(l, "recovery") || strings.Contains(l, "secret")) && !strings.Contains(l, "-file") {
				t.Errorf("%s has %s", name, line)
			}
		}
	}
}
