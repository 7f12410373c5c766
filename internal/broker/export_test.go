package broker

import (
	"fmt"

	"example.com/holdfast/internal/cloudevent"
)

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

// SendAnyway sends a message without looking whether the server is there.
func (b *Broker) SendAnyway(m cloudevent.Message) error {
	_, err := b.link.js.PublishMsgAsync(toMsg(m))
	return err
}

// LastError is the last one that the connection has heard of.
func (b *Broker) LastError() string { return fmt.Sprint(b.link.nc.LastError()) }
