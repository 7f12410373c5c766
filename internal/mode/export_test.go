package mode

import (
	"context"
	"time"
)

// InForce is the mode of a process that has read one.
func InForce(p *Policy, m Mode) *Current {
	c := NewCurrent(p, time.Now)
	c.follow(State{Mode: m}, time.Now())
	return c
}

// Round lets a governor that was not started do what it does again and again.
func (g *Governor) Round(ctx context.Context) { g.round(ctx) }

// Measured puts reports together.
func Measured(reports ...Report) Values { return measured(reports) }
