package home

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sheaf-drive/sheaf/cmd/sheaf/settings"
)

// A Config is what config.toml says.
type Config struct {
	Store string // the folder of the packs; "" if there is no drive yet
	// Replicas are the places that the drive is copied to besides, in the order in which they are asked.
	Replicas []Replica
	// Settings are the values of those that are set, by their keys.
	Settings map[string]string
}

// A Replica is a place that the drive is copied to.
type Replica struct {
	Name string
	At   string // a remote and a path in it, or a folder
}

// ReadConfig reads the configuration; a missing file is an empty one. The file is TOML
// of which sheaf writes and reads only `key = "text"` lines, at the top and in the tables
// [replicas] and [settings]; a key that it does not know, or a value that a setting cannot have, is an error, so that a misspelt one is not silently without effect.
func (h Home) ReadConfig() (Config, error) {
	var c Config
	b, err := os.ReadFile(h.Config)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read configuration: %w", err)
	}
	sc := bufio.NewScanner(bytes.NewReader(b))
	table := ""
	for n := 1; sc.Scan(); n++ {
		if line := strings.TrimSpace(sc.Text()); strings.HasPrefix(line, "[") {
			if table = line; table != replicasTable && table != settingsTable {
				return c, fmt.Errorf("%s, line %d: unknown table %s", h.Config, n, line)
			}
			continue
		}
		key, value, err := parseLine(sc.Text())
		if err != nil {
			return c, fmt.Errorf("%s, line %d: %w", h.Config, n, err)
		}
		switch {
		case key == "":
		case table == replicasTable:
			c.Replicas = append(c.Replicas, Replica{Name: key, At: value})
		case table == settingsTable:
			s := settings.Find(key)
			if s == nil {
				return c, fmt.Errorf("%s, line %d: there is no setting %q", h.Config, n, key)
			}
			if err := s.Check(value); err != nil {
				return c, fmt.Errorf("%s, line %d: %w", h.Config, n, err)
			}
			if c.Settings == nil {
				c.Settings = map[string]string{}
			}
			c.Settings[key] = value
		case key == "store":
			c.Store = value
		default:
			return c, fmt.Errorf("%s, line %d: unknown key %q", h.Config, n, key)
		}
	}
	if err := sc.Err(); err != nil {
		return c, fmt.Errorf("read configuration: %w", err)
	}
	return c, nil
}

// The headers of tables.
const (
	replicasTable = "[replicas]"
	settingsTable = "[settings]"
)

// parseLine reads one line; a comment or an empty line has no key.
func parseLine(line string) (key, value string, err error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", "", nil
	}
	if line[0] == '"' {
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return "", "", fmt.Errorf("the key: %w", err)
		}
		name, err := strconv.Unquote(quoted)
		if err != nil {
			return "", "", fmt.Errorf("the key: %w", err)
		}
		_, value, err := parseLine("key" + line[len(quoted):])
		return name, value, err
	}
	key, rest, ok := strings.Cut(line, "=")
	if !ok {
		return "", "", errors.New(`not of the form: key = "text"`)
	}
	rest = strings.TrimSpace(rest)
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil || quoted[0] != '"' {
		return "", "", errors.New(`the value is no "text" in double quotes`)
	}
	if after := strings.TrimSpace(rest[len(quoted):]); after != "" && after[0] != '#' {
		return "", "", fmt.Errorf("%q after the value", after)
	}
	value, err = strconv.Unquote(quoted)
	return strings.TrimSpace(key), value, err
}

// changing is held while a configuration is changed. No other process does, for this one has the lock of the Home.
var changing sync.Mutex

// Change reads the configuration, has f change it, and writes it, or removes it if nothing is left in it. If f fails nothing is written.
func (h Home) Change(f func(c *Config) error) error {
	changing.Lock()
	defer changing.Unlock()
	c, err := h.ReadConfig()
	if err != nil {
		return err
	}
	if err := f(&c); err != nil {
		return err
	}
	if c.Store != "" || len(c.Replicas)+len(c.Settings) > 0 {
		return h.writeConfig(c)
	}
	if err := os.Remove(h.Config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove configuration: %w", err)
	}
	return nil
}

// SetDrive writes down where the packs of the drive are and what its replicas are, and nothing of it with store "".
func (h Home) SetDrive(store string, replicas ...Replica) error {
	return h.Change(func(c *Config) error {
		c.Store, c.Replicas = store, replicas
		return nil
	})
}

// writeConfig writes all of it anew.
func (h Home) writeConfig(c Config) error {
	text := "# The configuration of sheaf on this device.\n"
	if c.Store != "" {
		text += "# The folder of the packs:\nstore = " + tomlText(c.Store) + "\n"
	}
	if len(c.Replicas) > 0 {
		text += "\n# Where the drive is copied to, sealed (sheaf replica add, sheaf replica rm):\n" + replicasTable + "\n"
	}
	for _, r := range c.Replicas {
		text += tomlText(r.Name) + " = " + tomlText(r.At) + "\n"
	}
	if len(c.Settings) > 0 {
		text += "\n# What is set of this device (sheaf config set):\n" + settingsTable + "\n"
	}
	for _, key := range slices.Sorted(maps.Keys(c.Settings)) {
		text += tomlText(key) + " = " + tomlText(c.Settings[key]) + "\n"
	}
	if err := replace(h.Config, []byte(text)); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// tomlText quotes s as TOML has it.
func tomlText(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
