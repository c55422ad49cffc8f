package home

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func none(string) string { return "" }

func TestFind_EverythingLiesUnderTheOneFolder(t *testing.T) {
	dir := t.TempDir()
	h, err := Find("", func(name string) string { return map[string]string{"SHEAF_HOME": dir}[name] })
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{h.Config, h.Data, h.Store, h.State, h.Cache, h.Run, h.Mount} {
		if !strings.HasPrefix(p, dir+string(filepath.Separator)) {
			t.Errorf("%s is not under %s", p, dir)
		}
	}
}

func TestOfSystem_FollowsXDG(t *testing.T) {
	h := ofSystem("linux", "/u", func(name string) string {
		return map[string]string{"XDG_DATA_HOME": "/data", "XDG_STATE_HOME": "relative", "XDG_RUNTIME_DIR": "/run/user/0"}[name]
	})
	for got, want := range map[string]string{
		h.Data: "/data/sheaf/data", h.Store: "/data/sheaf/store", h.State: "/u/.local/state/sheaf",
		h.Config: "/u/.config/sheaf/config.toml", h.Cache: "/u/.cache/sheaf", h.Run: "/u/.local/state/sheaf/run",
	} {
		if filepath.ToSlash(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestConfig_ComesBackAsItWasWritten(t *testing.T) {
	for _, store := range []string{"/store", `C:\Users\ä "quoted"`, "new\nline\x7f", ""} {
		h := under(t.TempDir())
		if err := h.SetDrive(store); err != nil {
			t.Fatal(err)
		}
		got, err := h.ReadConfig()
		if err != nil || got.Store != store {
			t.Errorf("got %q, %v, want %q", got.Store, err, store)
		}
	}
}

func TestConfig_RefusesWhatItDoesNotUnderstand(t *testing.T) {
	for _, text := range []string{"shop = \"x\"", "store = x", "store = \"x", "store = \"x\" y", "store", "[store]", "store = `x`", "store = 'x'"} {
		h := under(t.TempDir())
		if err := os.WriteFile(h.Config, []byte("# fine\n\n"+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := h.ReadConfig(); err == nil || !strings.Contains(err.Error(), "line 3") {
			t.Errorf("%q: got %+v, %v", text, c, err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(`store = "a\u0041" # why`)
	f.Fuzz(func(t *testing.T, line string) {
		key, value, err := parseLine(line)
		if err != nil || key == "" {
			return
		}
		if _, again, err := parseLine("k = " + tomlText(value)); err == nil && again != value && !strings.ContainsRune(value, '\uFFFD') && strings.ToValidUTF8(value, "") == value {
			t.Errorf("%q became %q", value, again)
		}
	})
}

func TestLock_IsOneProcessAtATime(t *testing.T) {
	h := under(t.TempDir())
	l, err := h.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Lock(t.Context(), 0); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("got %v, want held, by whom", err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if l, err = h.TryLock(); err != nil {
		t.Fatal(err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
}

func TestMounts_AnyNameComesBack(t *testing.T) {
	h := under(t.TempDir())
	want := []string{"/a b", "/new\nline", "/\xff"}
	if err := h.SetMounts(want); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Mounts(); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestFind_TwoHomesNeverMeet(t *testing.T) {
	a, err := Find(t.TempDir(), none)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Find(t.TempDir(), none)
	if err != nil {
		t.Fatal(err)
	}
	if a.Socket() == b.Socket() || a.Data == b.Data || a.Store == b.Store {
		t.Errorf("got %+v and %+v", a, b)
	}
}

func TestWanted_ComeBackAsTheyWere(t *testing.T) {
	h := under(t.TempDir())
	if all, err := h.Wanted(); err != nil || len(all) != 0 {
		t.Errorf("of nothing: got %v, %v", all, err)
	}
	want := []Wanted{{Dir: []byte("/a\xff\n")}, {Dir: []byte("/b"), ReadOnly: true, At: "s1"}}
	if err := h.SetWanted(want); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Wanted(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}
