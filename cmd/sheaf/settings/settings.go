// Package settings lists what can be set of a device, and reads sizes and the like as people write them. It keeps nothing:
// the configuration does.
package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/sync/remote/timetable"
)

// A Setting is one thing that can be set.
type Setting struct {
	Key     string
	Default string
	Help    string // the first line says it in short
	Live    bool   // a change holds at once; else from the next start of the daemon
	check   func(value string) error
}

// The keys.
const (
	API          = "api"
	Bandwidth    = "bandwidth"
	BandwidthLAN = "bandwidth-lan"
	CacheSize    = "cache-size"
	DeviceCopies = "device-copies"
	LogLevel     = "log-level"
	Poll         = "poll"
	StoreSize    = "store-size"
)

// Off is the value of what is not to be, On of what is.
const (
	Off = "off"
	On  = "on"
)

// All are all there are, by their keys. Nobody changes them.
var All = []Setting{
	{
		Key: API, Default: Off, check: checkAPI,
		Help: "where the daemon serves the API to programs of this machine\n127.0.0.1:PORT, with port 0 for one that is free, or off. Callers need a token: sheaf token create.",
	},
	{
		Key: Bandwidth, Default: Off, Live: true, check: checkTable,
		Help: `how fast bytes may go to remotes and come from them, and so to and from other devices
A rate in bytes a second (512KiB), UP:DOWN (512KiB:4MiB), off, or by the hour: "08:00,512KiB 18:00,off", "Mon-08:00,1MiB Fri-18:00,off".
What goes to remotes and what goes to devices are each limited to it. Folders of this machine are not.`,
	},
	{
		Key: BandwidthLAN, Default: Off, Live: true, check: checkTable,
		Help: "the same for devices in the networks of this machine, for which bandwidth is not\nThose at addresses of private networks that are reached over no relay.",
	},
	{
		Key: CacheSize, Default: "1GiB", check: checkCache,
		Help: "how much of what is at replicas is kept on this device, beside what is pinned\nAt least 64MiB.",
	},
	{
		Key: DeviceCopies, Default: On, check: checkOnOff,
		Help: "whether this device keeps a copy of all that the other devices of the drive write\non, or off: it reads that from them, or from replicas, when it is needed, keeps it in the cache, and keeps what is pinned (sheaf pin). They do not count it as a copy then. " +
			"What it has kept before stays.",
	},
	{
		Key: LogLevel, Default: "warn", check: checkLevel,
		Help: "what goes into the log: debug, info, warn or error",
	},
	{
		Key: Poll, Default: "30s", check: checkPoll,
		Help: "how long replicas are left alone while nothing happens here\nAt least 100ms. Devices that are connected tell each other, however long it is.",
	},
	{
		Key: StoreSize, Default: Off, check: checkStore,
		Help: "how much of what this device has written stays on it, once replicas have it; off: all of it\nWhat is more is removed here, the oldest first, and read from the replicas when it is needed: two of them must be seen to have it, or the one that there is. " +
			"What is pinned stays, and what they do not have yet. At least 64MiB.",
	},
}

// Find returns the setting of that key, or nil.
func Find(key string) *Setting {
	i, ok := slices.BinarySearchFunc(All, key, func(s Setting, key string) int { return strings.Compare(s.Key, key) })
	if !ok {
		return nil
	}
	return &All[i]
}

// Variable returns the variable of the environment that goes before the configuration.
func (s *Setting) Variable() string {
	return "SHEAF_" + strings.ToUpper(strings.ReplaceAll(s.Key, "-", "_"))
}

// Check says what is wrong with a value.
func (s *Setting) Check(value string) error {
	if err := s.check(value); err != nil {
		return fmt.Errorf("%s: %w", s.Key, err)
	}
	return nil
}

func checkTable(value string) error {
	_, err := timetable.Parse(value)
	return err
}

func checkCache(value string) error {
	n, err := ParseSize(value)
	if err == nil && n < 64<<20 {
		err = errors.New("64MiB is the least")
	}
	return err
}

func checkStore(value string) error {
	if value == Off {
		return nil
	}
	return checkCache(value)
}

func checkOnOff(value string) error {
	if value != On && value != Off {
		return fmt.Errorf("%q is not on or off", value)
	}
	return nil
}

func checkLevel(value string) error {
	var level slog.Level
	if level.UnmarshalText([]byte(value)) != nil {
		return fmt.Errorf("%q is not debug, info, warn or error", value)
	}
	return nil
}

func checkPoll(value string) error {
	d, err := time.ParseDuration(value)
	if err != nil || d < 100*time.Millisecond {
		return fmt.Errorf("%q is no time span of 100ms or more: they are like 30s or 5m", value)
	}
	return nil
}

func checkAPI(value string) error {
	if value == Off {
		return nil
	}
	_, err := ParseAPI(value)
	return err
}

// ParseAPI reads an address at which only programs of this machine call.
func ParseAPI(s string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(s)
	if err != nil || !at.Addr().IsLoopback() || at.Addr().Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("%q is no loopback address with a port, as 127.0.0.1:8474 is", s)
	}
	return at, nil
}

// Level returns the level of a log that a value names, and that of warnings for one that names none.
func Level(value string) slog.Level {
	level := slog.LevelWarn
	if level.UnmarshalText([]byte(value)) != nil {
		return slog.LevelWarn
	}
	return level
}

// ParseSize reads a size in bytes as people write it: 1.5GiB, 64M, 100kB. A letter alone is binary, kB and MB are decimal.
func ParseSize(s string) (int64, error) {
	num := strings.TrimRight(s, "KMGTPEkmgtpeiB")
	v, err := strconv.ParseFloat(num, 64)
	if err != nil || !(v >= 0) || num == "" { // NaN is none
		return 0, fmt.Errorf("size %q", s)
	}
	unit := s[len(num):]
	base := 1024.0
	if len(unit) == 2 && unit[1] == 'B' { // kB, MB
		base = 1000
	}
	unit = strings.TrimSuffix(strings.TrimSuffix(unit, "B"), "i")
	if len(unit) > 1 {
		return 0, fmt.Errorf("size %q", s)
	}
	if unit != "" {
		for range strings.Index("KMGTPE", strings.ToUpper(unit)) + 1 {
			v *= base
		}
	}
	if v >= 1<<63 {
		return 0, fmt.Errorf("size %q", s)
	}
	return int64(v), nil
}
