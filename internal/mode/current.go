package mode

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"example.com/holdfast/internal/mode/internal/modedb"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy"
)

// Current is the mode that a process acts by. It answers from memory, and is Normal until the first read.
type Current struct {
	policy *Policy
	now    func() time.Time
	last   atomic.Pointer[reading]
	sample atomic.Pointer[Sample]
}

// latestMax is how old the latest sample may be that is told as what is so now.
const latestMax = time.Minute

// reading is what was read when, by our clock.
type reading struct {
	State

	at time.Time
}

// NewCurrent makes the mode of a process that acts by a policy.
func NewCurrent(policy *Policy, now func() time.Time) *Current {
	c := &Current{policy: policy, now: now}
	c.last.Store(&reading{
		State: State{Mode: Normal, Before: Normal, Level: Normal, Control: policy.Control}, at: now(),
	})
	return c
}

// Policy is what the process acts by.
func (c *Current) Policy() *Policy { return c.policy }

// State is what was read last.
func (c *Current) State() State { return c.last.Load().State }

// Blind is for how long nothing could be read.
func (c *Current) Blind() time.Duration { return c.now().Sub(c.last.Load().at) }

// follow puts what was read in force, and says what was before it.
func (c *Current) follow(s State, at time.Time) State { return c.last.Swap(&reading{s, at}).State }

// see reads the sample that was judged last.
func (c *Current) see(ctx context.Context, db modedb.DBTX) error {
	found, err := modedb.New().SystemGetSample(ctx, db, c.State().judgedAt)
	if err != nil {
		return fmt.Errorf("read latest sample: %w", err)
	}
	for _, row := range found {
		s, err := sampleOf(row)
		if err != nil {
			return err
		}
		c.sample.Store(&s)
	}
	return nil
}

// Latest is the latest sample, or false where there is none of the last minute.
func (c *Current) Latest() (Sample, bool) {
	s, r := c.sample.Load(), c.last.Load()
	if s == nil || r.Now.Add(c.now().Sub(r.at)).Sub(s.At) > latestMax {
		return Sample{}, false
	}
	return *s, true
}

// Share is the part of its places that a flow has now; see Policy.Share.
func (c *Current) Share(f Flow) float64 {
	r := c.last.Load()
	return c.policy.Share(f, r.State, r.Now.Add(c.now().Sub(r.at)))
}

// Check refuses a work of a class that does not pass in this mode. How long its client has to wait differs
// from answer to answer, so that those who were refused together do not come back together.
func (c *Current) Check(w Work, class tenancy.Class) error {
	m := c.last.Load().Mode
	if m == Normal || c.policy.passes(m, w).admits(class) {
		return nil
	}
	p := problem.New(problem.RefusedByMode,
		"The service is in the mode %s, in which requests of the class %s for %s are refused.", m, class, w)
	wait := c.policy.RetryAfter[m]
	p.RetryAfter = wait/2 + rand.N(wait)
	return p
}
