package app

import (
	"sync"

	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/outbound"
)

// doors are the ways out of a process. They are added while it is wired, and looked at by its admin listener,
// also where that belongs to an API in the same process.
type doors struct {
	mu  sync.Mutex
	all []func() outbound.Health
}

func (d *doors) add(health func() outbound.Health) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, health)
}

// look asks every door.
func (d *doors) look() []outbound.Health {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := make([]outbound.Health, len(d.all))
	for i, health := range d.all {
		seen[i] = health()
	}
	return seen
}

// doorOf shows a door as it is.
func doorOf(h outbound.Health) *httpapi.Door {
	return &httpapi.Door{
		Breaker: string(h.Breaker), BreakerSince: h.BreakerSince, InFlight: h.InFlight, Waiting: h.Waiting,
		Limit: h.Limit, Places: h.Cap, P95: h.P95,
	}
}
