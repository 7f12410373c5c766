package outbound

import "context"

type Caller struct {
	Lane   int
	Repeat bool
	Before func(ctx context.Context) error
}

type callerKey struct{}

func As(ctx context.Context, c Caller) context.Context { return context.WithValue(ctx, callerKey{}, c) }

func Begin(ctx context.Context) error {
	c, _ := ctx.Value(callerKey{}).(Caller)
	if c.Before == nil {
		return nil
	}
	return c.Before(ctx)
}
