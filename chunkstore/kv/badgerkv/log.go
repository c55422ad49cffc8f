package badgerkv

import (
	"fmt"
	"log/slog"
	"strings"
)

// logger hands badger's messages on. They are texts of badger's own making, hence the
// one fixed message.
type logger struct{ log *slog.Logger }

func text(format string, args []any) string {
	return strings.TrimSpace(fmt.Sprintf(format, args...))
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("key-value database", "badger", text(format, args))
}

func (l logger) Warningf(format string, args ...any) {
	l.log.Warn("key-value database", "badger", text(format, args))
}

func (l logger) Infof(format string, args ...any) {
	l.log.Debug("key-value database", "badger", text(format, args))
}

func (l logger) Debugf(string, ...any) {}
