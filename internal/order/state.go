package order

import (
	"example.com/holdfast/internal/fsm"
)

// State is where an order is in its life.
type State string

// The states. The last two are terminal.
const (
	Pending   State = "pending"
	Reserved  State = "reserved"
	Confirmed State = "confirmed"
	Canceled  State = "canceled"
)

// Event is what moves an order.
type Event string

// The events.
const (
	Reserve Event = "reserve"
	Confirm Event = "confirm"
	Cancel  Event = "cancel"
)

type edge = fsm.Edge[State, Event]

// Transitions is the table of legal moves; the database holds the same rows as a second lock.
//
//nolint:gochecknoglobals // the one table, read-only
var Transitions = mustTable(
	edge{From: Pending, Event: Reserve, To: Reserved},
	edge{From: Reserved, Event: Confirm, To: Confirmed},
	edge{From: Pending, Event: Cancel, To: Canceled},
	edge{From: Reserved, Event: Cancel, To: Canceled},
)

func mustTable(edges ...edge) fsm.Table[State, Event] {
	table, err := fsm.New(edges...)
	if err != nil {
		panic(err) // a doubled row above, caught by every test of this package
	}
	return table
}

// Terminal says whether the order has ended.
func (s State) Terminal() bool { return Transitions.Terminal(s) }
