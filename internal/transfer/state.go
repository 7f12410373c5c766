package transfer

import (
	"example.com/holdfast/internal/fsm"
)

// State is where a transfer is in its life.
type State string

// The states. The last five are terminal.
const (
	Accepted State = "accepted"
	InReview State = "in_review"
	Approved State = "approved"
	Settled  State = "settled"
	Blocked  State = "blocked"
	Canceled State = "canceled"
	Expired  State = "expired"
	Failed   State = "failed"
)

// Event is what moves a transfer.
type Event string

// The events.
const (
	Approve Event = "approve"
	Review  Event = "review"
	Block   Event = "block"
	Settle  Event = "settle"
	Cancel  Event = "cancel"
	Expire  Event = "expire"
	Fail    Event = "fail"
)

type edge = fsm.Edge[State, Event]

// Transitions is the table of legal moves; the database holds the same rows as a second lock.
//
//nolint:gochecknoglobals // the one table, read-only
var Transitions = mustTable(
	edge{Accepted, Approve, Approved},
	edge{Accepted, Review, InReview},
	edge{Accepted, Block, Blocked},
	edge{InReview, Approve, Approved},
	edge{InReview, Block, Blocked},
	edge{Approved, Settle, Settled},
	edge{Accepted, Cancel, Canceled},
	edge{InReview, Cancel, Canceled},
	edge{Approved, Cancel, Canceled},
	edge{Accepted, Expire, Expired},
	edge{InReview, Expire, Expired},
	edge{Approved, Expire, Expired},
	edge{Accepted, Fail, Failed},
	edge{InReview, Fail, Failed},
	edge{Approved, Fail, Failed},
)

func mustTable(edges ...edge) fsm.Table[State, Event] {
	table, err := fsm.New(edges...)
	if err != nil {
		panic(err) // a doubled row above, caught by every test of this package
	}
	return table
}

// Terminal says whether the transfer has ended.
func (s State) Terminal() bool { return Transitions.Terminal(s) }
