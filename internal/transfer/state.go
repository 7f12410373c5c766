package transfer

import (
	"example.com/holdfast/internal/fsm"
)

// State is where a transfer is in its life.
type State string

// The states. The last five are terminal. A settling transfer is with the payout rail: its money may have
// left, so only the rail's answer ends it.
const (
	Accepted State = "accepted"
	InReview State = "in_review"
	Approved State = "approved"
	Settling State = "settling"
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
	Submit  Event = "submit"
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
	edge{From: Accepted, Event: Approve, To: Approved},
	edge{From: Accepted, Event: Review, To: InReview},
	edge{From: Accepted, Event: Block, To: Blocked},
	edge{From: InReview, Event: Approve, To: Approved},
	edge{From: InReview, Event: Block, To: Blocked},
	edge{From: Approved, Event: Settle, To: Settled},
	edge{From: Approved, Event: Submit, To: Settling},
	edge{From: Settling, Event: Settle, To: Settled},
	edge{From: Settling, Event: Fail, To: Failed},
	edge{From: Accepted, Event: Cancel, To: Canceled},
	edge{From: InReview, Event: Cancel, To: Canceled},
	edge{From: Approved, Event: Cancel, To: Canceled},
	edge{From: Accepted, Event: Expire, To: Expired},
	edge{From: InReview, Event: Expire, To: Expired},
	edge{From: Approved, Event: Expire, To: Expired},
	edge{From: Accepted, Event: Fail, To: Failed},
	edge{From: InReview, Event: Fail, To: Failed},
	edge{From: Approved, Event: Fail, To: Failed},
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
