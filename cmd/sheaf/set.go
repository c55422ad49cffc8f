package main

import (
	"cmp"
	"sync"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/home"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/settings"
)

// set is what is set of a Home, as service.Settings has it.
type set struct {
	app  *app
	pace *pace
	mu   sync.Mutex // held while one is set, so that what was written last is what holds
}

// get returns what holds. A configuration that cannot be read sets nothing: whoever needs more of it says so.
func (s *set) get(key string) string {
	c, err := s.app.home.ReadConfig()
	if err != nil {
		c = home.Config{}
	}
	return s.value(key, c)
}

// value returns what holds with a configuration.
func (s *set) value(key string, c home.Config) string {
	value, _ := s.holds(settings.Find(key), c)
	return value
}

// keep holds this process to the bandwidth that is set.
func (s *set) keep(c home.Config) {
	s.pace.change(s.value(settings.Bandwidth, c), s.value(settings.BandwidthLAN, c))
}

// holds returns what holds, and why: a flag or the environment goes before the configuration, and that before the default.
func (s *set) holds(x *settings.Setting, c home.Config) (string, sheafv1.SettingSource) {
	flag := map[string]string{settings.CacheSize: s.app.cache, settings.API: s.app.api}[x.Key]
	if v := cmp.Or(flag, s.app.getenv(x.Variable())); v != "" {
		return v, sheafv1.SettingSource_SETTING_SOURCE_ENVIRONMENT
	}
	if v := c.Settings[x.Key]; v != "" {
		return v, sheafv1.SettingSource_SETTING_SOURCE_FILE
	}
	return x.Default, sheafv1.SettingSource_SETTING_SOURCE_DEFAULT
}

func (s *set) setting(x *settings.Setting, c home.Config) *sheafv1.Setting {
	value, source := s.holds(x, c)
	return &sheafv1.Setting{Key: x.Key, Value: value, Default: x.Default, Source: source, Help: x.Help, Variable: x.Variable(), Live: x.Live}
}

// Path implements service.Settings.
func (s *set) Path() string { return s.app.home.Config }

// List implements service.Settings.
func (s *set) List() ([]*sheafv1.Setting, error) {
	c, err := s.app.home.ReadConfig()
	if err != nil {
		return nil, err
	}
	var all []*sheafv1.Setting
	for i := range settings.All {
		all = append(all, s.setting(&settings.All[i], c))
	}
	return all, nil
}

// Set implements service.Settings.
func (s *set) Set(key, value string) (*sheafv1.Setting, error) {
	x := settings.Find(key)
	if x == nil {
		return nil, coded(sheafv1.Code_CODE_NOT_FOUND, "sheaf config get", "there is no setting %q", key)
	}
	if value != "" {
		if err := x.Check(value); err != nil {
			return nil, usagef("sheaf config get "+key, "%w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var after home.Config
	err := s.app.home.Change(func(c *home.Config) error {
		if value == "" {
			delete(c.Settings, key)
		} else {
			if c.Settings == nil {
				c.Settings = map[string]string{}
			}
			c.Settings[key] = value
		}
		after = *c
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.keep(after)
	return s.setting(x, after), nil
}

// checkEnvironment says what is wrong with a variable that goes before the configuration.
func checkEnvironment(getenv func(string) string) error {
	for i := range settings.All {
		x := &settings.All[i]
		if v := getenv(x.Variable()); v != "" {
			if err := x.Check(v); err != nil {
				return usagef("", "%s: %w", x.Variable(), err)
			}
		}
	}
	return nil
}
