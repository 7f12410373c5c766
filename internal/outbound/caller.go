package outbound

import (
	"context"

	"example.com/holdfast/internal/bulkhead"
)

// Caller says on whose behalf a call is made.
type Caller struct {
	// Lane is the caller's lane at the bulkhead: bulkhead.LaneFirst goes before all others, bulkhead.Lanes
	// after them. Zero counts as the first.
	Lane int
	// Repeat says that this is a further call for the same effect: a retry, or a question after an
	// outcome that is not known. Repeats are bounded by a share of the first tries. A call after one that
	// was Deferred is no repeat: nothing was tried.
	Repeat bool
	// Before is called when the call has its place and before it is sent, and may keep it back by an
	// error: the call ends as KindWithheld then. It is for callers who have to write down that something
	// is sent. Nil does nothing.
	Before func(ctx context.Context) error
}

type callerKey struct{}

// As returns a context whose calls are made as the caller.
func As(ctx context.Context, c Caller) context.Context { return context.WithValue(ctx, callerKey{}, c) }

// Begin does what the caller of a context wants done before its call is sent.
func Begin(ctx context.Context) error {
	if before := callerOf(ctx).Before; before != nil {
		return before(ctx)
	}
	return nil
}

// IsRepeat reports whether the calls of a context are repeats.
func IsRepeat(ctx context.Context) bool { return callerOf(ctx).Repeat }

// callerOf returns who calls; a context that says nothing is a first try in the first lane.
func callerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	c.Lane = max(c.Lane, bulkhead.LaneFirst)
	return c
}
