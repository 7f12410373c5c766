package tenancy

import (
	"sync"
	"time"
)

// cache is a map whose entries end, and which never holds more than cacheMaxEntries.
type cache[T any] struct {
	mu      sync.RWMutex
	entries map[string]entry[T]
}

type entry[T any] struct {
	value T
	until time.Time
}

func newCache[T any]() *cache[T] { return &cache[T]{entries: map[string]entry[T]{}} }

func (c *cache[T]) get(name string, now time.Time) (T, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, ok := c.entries[name]
	if !ok || !now.Before(e.until) {
		var none T
		return none, false
	}
	return e.value, true
}

// put keeps a value for ttl. A full cache drops what has ended, or else any one entry: the next
// request with that key only costs a query.
func (c *cache[T]) put(name string, value T, now time.Time, ttl time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.entries[name]; !known && len(c.entries) >= cacheMaxEntries {
		c.makeRoom(now)
	}
	c.entries[name] = entry[T]{value, now.Add(ttl)}
}

func (c *cache[T]) makeRoom(now time.Time) {
	for name, e := range c.entries {
		if !now.Before(e.until) {
			delete(c.entries, name)
		}
	}
	for name := range c.entries {
		if len(c.entries) < cacheMaxEntries {
			return
		}
		delete(c.entries, name)
	}
}

func (c *cache[T]) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, name)
}

func (c *cache[T]) size() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.entries)
}
