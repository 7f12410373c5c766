// Package fault names the points where a crash test may break the program.
//
// A caller writes one line, fault.At(ctx, "transfer.screen.before_commit"), and treats an error
// like any other. Two things can act there. A test of one goroutine hands an injector down in the
// context (With). A binary built with the tag "faults" is armed by HOLDFAST_FAULT or Set and can
// also kill, stop or delay the whole process. An ordinary build has no second mechanism: a point
// costs one context lookup and nothing outside the program can reach it.
//
// Invariant: without an injector in the context, an ordinary build's points do nothing.
package fault

import (
	"context"
	"errors"
	"fmt"
)

// ErrInjected is matched by every error that an armed point returns.
var ErrInjected = errors.New("injected fault")

type injectorKey struct{}

// With returns a context whose points ask inject first. A non-nil error ends the caller's step
// there, as a crash would: the test then drops what the step held in memory.
func With(ctx context.Context, inject func(name string) error) context.Context {
	return context.WithValue(ctx, injectorKey{}, inject)
}

// At passes the named point. The error, if any, is the injector's or matches ErrInjected.
func At(ctx context.Context, name string) error {
	if inject, ok := ctx.Value(injectorKey{}).(func(name string) error); ok {
		if err := inject(name); err != nil {
			return fmt.Errorf("fault point %s: %w", name, err)
		}
	}
	return point(ctx, name)
}
