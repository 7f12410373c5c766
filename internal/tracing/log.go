package tracing

import (
	"context"
	"log/slog"
)

// Logged is a handler whose lines name the trace that their context belongs to.
func Logged(to slog.Handler) slog.Handler { return logged{to} }

type logged struct{ slog.Handler }

// Handle adds trace_id to the line.
func (l logged) Handle(ctx context.Context, r slog.Record) error {
	if id := ID(ctx); id != "" {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", id))
	}
	return l.Handler.Handle(ctx, r)
}

// WithAttrs keeps the handler what it is.
func (l logged) WithAttrs(attrs []slog.Attr) slog.Handler { return logged{l.Handler.WithAttrs(attrs)} }

// WithGroup keeps the handler what it is.
func (l logged) WithGroup(name string) slog.Handler { return logged{l.Handler.WithGroup(name)} }
