// Package home knows where the things of one device lie: its configuration, its
// drive, its socket, its lock. It opens no drive and mounts nothing.
package home

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/durable"
)

// A Home is the folders of one device. Two Homes never meet.
type Home struct {
	Dir    string // the one folder of all the rest; "" if they lie where the system wants them
	Config string // config.toml, for people to read
	Data   string // the device's key and the state of its drive; private
	Store  string // where the packs lie, unless Config says otherwise
	State  string // logs, what is mounted and is to be
	Cache  string // can be deleted at any time
	Run    string // the socket
	Mount  string // where `up` mounts
}

// Find returns the Home that the environment names: one folder (dir, or else
// SHEAF_HOME), or the places where the system wants such things. SHEAF_CONFIG overrides the
// configuration's place. Nothing is made.
func Find(dir string, getenv func(string) string) (Home, error) {
	if dir == "" {
		dir = getenv("SHEAF_HOME")
	}
	var h Home
	if dir != "" {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return Home{}, fmt.Errorf("find home: %w", err)
		}
		h = under(dir)
		h.Dir, h.Mount = dir, filepath.Join(dir, "Sheaf")
	} else {
		user, err := os.UserHomeDir()
		if err != nil {
			return Home{}, fmt.Errorf("find home: %w", err)
		}
		h = ofSystem(runtime.GOOS, user, getenv)
		h.Mount = filepath.Join(user, "Sheaf")
	}
	if c := getenv("SHEAF_CONFIG"); c != "" {
		var err error
		if h.Config, err = filepath.Abs(c); err != nil {
			return Home{}, fmt.Errorf("find configuration: %w", err)
		}
	}
	return h, nil
}

// under returns the Home in one folder.
func under(dir string) Home {
	return Home{
		Config: filepath.Join(dir, "config.toml"), Data: filepath.Join(dir, "data"), Store: filepath.Join(dir, "store"),
		State: filepath.Join(dir, "state"), Cache: filepath.Join(dir, "cache"), Run: filepath.Join(dir, "run"),
	}
}

// ofSystem returns the Home where the system wants it. The socket lies with the state and not in a
// folder of the login session, so that all sessions of a user find one daemon.
func ofSystem(goos, user string, getenv func(string) string) Home {
	switch goos {
	case "windows":
		app := getenv("APPDATA")
		if app == "" {
			app = filepath.Join(user, "AppData", "Roaming")
		}
		return under(filepath.Join(app, "sheaf"))
	case "darwin", "ios":
		h := under(filepath.Join(user, "Library", "Application Support", "sheaf"))
		h.Cache = filepath.Join(user, "Library", "Caches", "sheaf")
		return h
	}
	xdg := func(name, def string) string {
		if d := getenv(name); filepath.IsAbs(d) {
			return filepath.Join(d, "sheaf")
		}
		return filepath.Join(user, def, "sheaf")
	}
	data, state := xdg("XDG_DATA_HOME", ".local/share"), xdg("XDG_STATE_HOME", ".local/state")
	return Home{
		Config: filepath.Join(xdg("XDG_CONFIG_HOME", ".config"), "config.toml"),
		Data:   filepath.Join(data, "data"), Store: filepath.Join(data, "store"),
		State: state, Cache: xdg("XDG_CACHE_HOME", ".cache"), Run: filepath.Join(state, "run"),
	}
}

// Make makes the folders that sheaf writes to, readable by their owner only.
func (h Home) Make() error {
	for _, dir := range []string{h.Data, h.State, h.socketDir()} {
		if err := durable.MkdirAll(dir); err != nil {
			return fmt.Errorf("make home: %w", err)
		}
	}
	return checkPrivate(h.socketDir())
}

// Log returns the path of the daemon's log.
func (h Home) Log() string { return filepath.Join(h.State, "sheaf.log") }

// Mounts returns the folders that were mounted when the list was written last.
func (h Home) Mounts() ([]string, error) {
	b, err := os.ReadFile(filepath.Join(h.State, "mounts"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read list of mounts: %w", err)
	}
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == 0 }), nil
}

// SetMounts writes the list of folders that are mounted.
func (h Home) SetMounts(dirs []string) error {
	if err := replace(filepath.Join(h.State, "mounts"), []byte(strings.Join(dirs, "\x00"))); err != nil {
		return fmt.Errorf("write list of mounts: %w", err)
	}
	return nil
}

// A Wanted is a mount that is there again when the daemon is.
type Wanted struct {
	Dir      []byte `json:"dir"` // a path may be no text
	ReadOnly bool   `json:"readOnly,omitempty"`
	At       string `json:"at,omitempty"` // the snapshot; "" is the drive as it is
}

// Wanted returns the mounts that were wanted when the list was written last.
func (h Home) Wanted() ([]Wanted, error) {
	b, err := os.ReadFile(filepath.Join(h.State, "wanted.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []Wanted
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read list of wanted mounts: %w", err)
	}
	return all, nil
}

// SetWanted writes the list of mounts that are wanted.
func (h Home) SetWanted(all []Wanted) error {
	b, err := json.Marshal(all)
	if err == nil {
		err = replace(filepath.Join(h.State, "wanted.json"), b)
	}
	if err != nil {
		return fmt.Errorf("write list of wanted mounts: %w", err)
	}
	return nil
}

// replace writes a file whole or not at all.
func replace(path string, b []byte) error {
	if err := durable.MkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	return durable.WriteFile(path, b)
}
