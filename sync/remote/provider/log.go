package provider

import (
	"context"
	"log/slog"
	"sync/atomic"

	rclone "github.com/rclone/rclone/fs"
)

// rclone logs by one logger for the whole process, which writes to stderr unless it is told otherwise.
func init() { rclone.SetLogger(&messages{}) }

// log is where the messages go now.
var log atomic.Pointer[slog.Logger]

// SetLog says where rclone's own messages go, of all remotes of this process. Until it is called, and with nil, they are
// discarded. Nothing in them is an answer to anything: what fails is an error of the call that failed.
func SetLog(l *slog.Logger) { log.Store(l) }

// messages is a slog.Handler that hands on to log.
type messages struct {
	with []func(slog.Handler) slog.Handler
}

func (m *messages) handler() slog.Handler {
	l := log.Load()
	if l == nil {
		return slog.DiscardHandler
	}
	h := l.Handler()
	for _, w := range m.with {
		h = w(h)
	}
	return h
}

// level makes debug messages of all but warnings: what is worth a notice to somebody who copies by hand is
// of little interest here.
func level(l slog.Level) slog.Level {
	if l < slog.LevelWarn {
		return slog.LevelDebug
	}
	return min(l, slog.LevelError)
}

func (m *messages) Enabled(ctx context.Context, l slog.Level) bool {
	return m.handler().Enabled(ctx, level(l))
}

func (m *messages) Handle(ctx context.Context, r slog.Record) error {
	r.Level = level(r.Level)
	return m.handler().Handle(ctx, r)
}

func (m *messages) WithAttrs(attrs []slog.Attr) slog.Handler {
	return m.and(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (m *messages) WithGroup(name string) slog.Handler {
	return m.and(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (m *messages) and(w func(slog.Handler) slog.Handler) slog.Handler {
	return &messages{with: append(m.with[:len(m.with):len(m.with)], w)}
}

var _ slog.Handler = (*messages)(nil)
