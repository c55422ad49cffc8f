package pebblekv

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// logger hands pebble's messages on. They are texts of pebble's own making, hence the
// one fixed message.
type logger struct{ log *slog.Logger }

func (l logger) say(level slog.Level, format string, args []any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "key-value database", "pebble", text(format, args))
	}
}

func text(format string, args []any) string {
	return strings.TrimSpace(fmt.Sprintf(format, args...))
}

// Infof implements pebble.Logger.
func (l logger) Infof(format string, args ...any) { l.say(slog.LevelDebug, format, args) }

// Errorf implements pebble.Logger.
func (l logger) Errorf(format string, args ...any) { l.say(slog.LevelError, format, args) }

// Fatalf implements pebble.Logger. It is called where pebble's own rules are broken, which no error of the disk does, see sealedFS,
// and must not return.
func (l logger) Fatalf(format string, args ...any) { panic("pebble: " + text(format, args)) }
