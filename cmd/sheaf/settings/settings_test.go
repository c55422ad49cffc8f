package settings_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/cmd/sheaf/settings"
)

func TestAll_AreInOrderAndTheirDefaultsAreGood(t *testing.T) {
	if !slices.IsSortedFunc(settings.All, func(a, b settings.Setting) int { return strings.Compare(a.Key, b.Key) }) {
		t.Error("they are not in the order of their keys, by which they are found")
	}
	for i := range settings.All {
		s := &settings.All[i]
		if settings.Find(s.Key) != s {
			t.Errorf("%s is not found", s.Key)
		}
		if err := s.Check(s.Default); err != nil {
			t.Errorf("the default: %v", err)
		}
		if err := s.Check("\x00"); err == nil {
			t.Errorf("%s can have any value", s.Key)
		}
		if s.Help == "" || strings.HasPrefix(s.Help, "\n") {
			t.Errorf("%s says nothing of itself", s.Key)
		}
		if want := "SHEAF_" + strings.ToUpper(strings.ReplaceAll(s.Key, "-", "_")); s.Variable() != want {
			t.Errorf("%s has the variable %s", s.Key, s.Variable())
		}
	}
	for _, key := range []string{"", "a", "api2", "zz", "Bandwidth"} {
		if settings.Find(key) != nil {
			t.Errorf("there is a setting %q", key)
		}
	}
}

func TestCheck_SaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ key, good, bad string }{
		{settings.API, "127.0.0.1:0", "0.0.0.0:8474"},
		{settings.API, "[::1]:8474", "127.0.0.1"},
		{settings.Bandwidth, "08:00,512KiB:off 18:00,off", "08:00"},
		{settings.BandwidthLAN, "10MiB", "10"},
		{settings.CacheSize, "20GiB", "1MiB"},
		{settings.CacheSize, "64MiB", "NaN"},
		{settings.LogLevel, "DEBUG", "loud"},
		{settings.Poll, "5m", "1ms"},
	} {
		s := settings.Find(c.key)
		if err := s.Check(c.good); err != nil {
			t.Errorf("%s %q: %v", c.key, c.good, err)
		}
		if err := s.Check(c.bad); err == nil || !strings.HasPrefix(err.Error(), c.key+": ") {
			t.Errorf("%s %q: %v", c.key, c.bad, err)
		}
	}
}
