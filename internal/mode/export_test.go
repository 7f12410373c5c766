package mode

import (
	"context"
	"time"
)

// Following is the mode of a process that has read one.
func Following(p *Policy, m Mode) *Current {
	stopped := func() time.Time { return time.Time{} }
	c := NewCurrent(p, stopped)
	c.follow(State{Mode: m}, stopped())
	return c
}

// Do lets a governor that was not started do what it does again and again.
func (g *Governor) Do(ctx context.Context) { g.round(ctx) }

// Together puts reports together.
func Together(reports ...Report) Values { return measured(reports) }
