package outbound

import (
	"time"

	"example.com/holdfast/internal/breaker"
	"example.com/holdfast/internal/condition"
)

// saturationAfter is how long the demand has to be as large as the limit to be called saturation.
const saturationAfter = 30 * time.Second

// Health is a snapshot of one dependency as its client sees it. The bulkhead's part and the rest are
// each consistent.
type Health struct {
	Dependency     string
	Breaker        breaker.State
	BreakerSince   time.Time // when the breaker last left closed; zero while it is closed
	InFlight       int
	Waiting        int
	Limit          int    // effective
	Cap            int    // what this process was given
	Adaptive       int    // 0: the dependency bears the cap
	WaitsRefused   uint64 // calls that found no place within their wait, ever
	P95            time.Duration
	RetryTokens    float64   // repeats that would be let through
	SaturatedSince time.Time // zero unless the demand is as large as the limit for saturationAfter
}

// Health returns the snapshot of this moment.
func (c *Client) Health() Health {
	now := c.now()
	stats := c.bulkhead.Stats()
	h := Health{
		Dependency: c.name, InFlight: stats.InFlight, Waiting: stats.Waiting, Limit: stats.Limit,
		Cap: stats.Cap, Adaptive: stats.Adaptive, WaitsRefused: stats.Refused,
	}
	if !stats.FullSince.IsZero() && now.Sub(stats.FullSince) >= saturationAfter {
		h.SaturatedSince = stats.FullSince
	}
	c.guard.mu.Lock()
	defer c.guard.mu.Unlock()
	c.guard.retries.refill(now)
	h.Breaker, h.BreakerSince = c.guard.breaker.State(now)
	h.P95, h.RetryTokens = c.guard.latency.p95(), c.guard.retries.tokens
	return h
}

// Conditions returns what is wrong with the dependency now.
func (c *Client) Conditions() []condition.Active { return c.Health().Conditions() }

// Conditions returns what the snapshot says is wrong.
func (h Health) Conditions() []condition.Active {
	var active []condition.Active
	if !h.SaturatedSince.IsZero() {
		active = append(active, condition.Active{
			Condition: condition.DependencySaturated, Subject: h.Dependency, Since: h.SaturatedSince,
		})
	}
	switch h.Breaker {
	case breaker.Open, breaker.HalfOpen:
		active = append(active, condition.Active{
			Condition: condition.BreakerOpen, Subject: h.Dependency, Since: h.BreakerSince,
		})
	case breaker.Closed:
	}
	return active
}
