package simdep

import (
	"context"
	"sync"
)

// maxChores bounds what is pending, on its way or being called back at once.
const maxChores = 1 << 16

// chores are the goroutines that outlive the calls that began them. The server owns them: they end when
// it closes, and it waits for them.
type chores struct {
	ctx context.Context // ends with the server

	mu      sync.Mutex
	running int
	closed  bool
	all     sync.WaitGroup
}

// start runs the chore beside its caller, or reports false if there is no place for it or no time left.
func (c *chores) start(chore func(ctx context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.running >= maxChores {
		return false
	}
	c.running++
	c.all.Go(func() {
		defer c.end()
		chore(c.ctx)
	})
	return true
}

func (c *chores) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
}

// close starts no more chores and waits for those that run; who calls it has told them to end.
func (c *chores) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.all.Wait()
}
