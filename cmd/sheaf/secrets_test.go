package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func env(vars ...string) func(string) string {
	return func(name string) string {
		for _, v := range vars {
			if n, value, _ := strings.Cut(v, "="); n == name {
				return value
			}
		}
		return ""
	}
}

func TestPassphraseFromEnv_TakesTheFirstThatAnswers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p")
	if err := os.WriteFile(file, []byte("from file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env  []string
		want string
	}{
		{nil, ""},
		{[]string{"SHEAF_PASSWORD=plain ", "SHEAF_PASSWORD_FILE=" + file}, "plain "},
		{[]string{"SHEAF_PASSWORD_FILE=" + file, "SHEAF_PASSWORD_COMMAND=echo no"}, "from file"},
		{[]string{"SHEAF_PASSWORD_COMMAND=echo from command"}, "from command"},
	} {
		a := &app{getenv: env(c.env...), err: new(bytes.Buffer)}
		got, err := a.passphraseFromEnv(t.Context())
		if err != nil || string(got) != c.want {
			t.Errorf("%v: got %q, %v, want %q", c.env, got, err, c.want)
		}
	}
}

func TestPassphraseFromEnv_AnEmptyAnswerIsNone(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "p")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"SHEAF_PASSWORD_FILE=" + empty, "SHEAF_PASSWORD_COMMAND=true", "SHEAF_PASSWORD_FD=0", "SHEAF_PASSWORD_FD=x"} {
		a := &app{getenv: env(v), err: new(bytes.Buffer)}
		if p, err := a.passphraseFromEnv(t.Context()); explainCode(err) != sheafv1.Code_CODE_USAGE {
			t.Errorf("%s: got %q, %v, want an error of usage", v, p, err)
		}
	}
}

func TestAsk_WithoutATerminalAsksNobody(t *testing.T) {
	a := &app{in: strings.NewReader("typed\n"), err: new(bytes.Buffer)}
	if p, err := a.ask(t.Context(), "passphrase", false); !errors.Is(err, errNoTerminal) {
		t.Errorf("got %q, %v", p, err)
	}
}

func TestRecoveryWords_AreReadHoweverTheyWereWrittenDown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "w")
	words := strings.Fields(strings.Repeat("abandon ", 23) + "art")
	text := strings.ToUpper(strings.Join(words[:12], "\n")) + "\n\n  " + strings.Join(words[12:], "\t") + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{getenv: env("SHEAF_RECOVERY_FILE=" + file)}
	if got, err := a.recoveryWords(""); err != nil || got != strings.Join(words, " ") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCleanEnv_LeavesNoSecretToOtherProcesses(t *testing.T) {
	in := []string{"PATH=/bin", "SHEAF_PASSWORD=x", "SHEAF_PASSWORD_FILE=x", "SHEAF_PASSWORD_COMMAND=x", "SHEAF_PASSWORD_FD=3", "SHEAF_NEW_PASSWORD=x", "SHEAF_RECOVERY_FILE=x", "SHEAF_HOME=h"}
	if got := cleanEnv(in); !slices.Equal(got, []string{"PATH=/bin", "SHEAF_HOME=h"}) {
		t.Errorf("got %q", got)
	}
}
