package groupcommit

// Waiting is how many items are in the queue.
func (c *Combiner[Item, Outcome]) Waiting() int { return len(c.queue) }
