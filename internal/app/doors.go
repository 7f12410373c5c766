package app

import (
	"sync"

	"example.com/holdfast/internal/httpapi"
)

// doors are the ways out of a process. They are added while it is wired, and looked at by its admin listener,
// also where that belongs to an API in the same process.
type doors struct {
	mu  sync.Mutex
	all []func() doorState
}

// doorState is a door at one moment.
type doorState struct {
	httpapi.Door

	dependency string
	conditions []httpapi.Condition
}

func (d *doors) add(state func() doorState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, state)
}

// look asks every door.
func (d *doors) look() []doorState {
	d.mu.Lock()
	defer d.mu.Unlock()
	states := make([]doorState, len(d.all))
	for i, state := range d.all {
		states[i] = state()
	}
	return states
}
