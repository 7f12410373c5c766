package broker

// InFlightMax is what tests compare with.
const InFlightMax = inFlightMax

// CoversAll says that a pattern matches every subject of ours.
func CoversAll(pattern string) bool { return covers(pattern) }

// Pending is how many messages wait for their acknowledgments.
func (b *Broker) Pending() int { return b.link.js.PublishAsyncPending() }

// Sent is how many messages the connection has sent.
func (b *Broker) Sent() uint64 { return b.link.nc.Stats().OutMsgs }

// Reconnects is how often the server was reached again, whatever it said then.
func (b *Broker) Reconnects() uint64 { return b.link.nc.Stats().Reconnects }
