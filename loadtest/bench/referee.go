package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"example.com/holdfast/internal/invariant"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/loadtest/rig"
)

// referee looks at the database beside the system under test; it only reads.
type referee struct{ *rig.Referee }

// openOf counts what is open of a kind of work.
func (r referee) openOf(ctx context.Context, f flow) (int64, error) {
	left, err := r.Open(ctx)
	return f.of(left), err
}

// settlements is what the events of a window say.
type settlements struct {
	accepted int64 // in the window
	settled  int64 // in the window, whenever they were accepted; confirmed, if they are orders
	canceled int64 // orders, since the window began, until now
	p50, p99 time.Duration
}

// The kinds of work.
const (
	transfers = "transfers"
	orders    = "orders"
)

// flow says which events tell of a kind of work.
type flow struct {
	what string
	// begins and ends are the types of the events between which the latency is; fails is another end.
	begins, ends, fails string
}

// of counts what a phase is about; an order's payment is a part of it.
func (f flow) of(left rig.Backlog) int64 {
	if f.what == orders {
		return left.Orders
	}
	return left.Transfers
}

func transferFlow() flow {
	return flow{what: transfers, begins: "transfer.accepted", ends: "transfer.settled"}
}

func orderFlow() flow {
	return flow{what: orders, begins: "order.pending", ends: "order.confirmed", fails: "order.canceled"}
}

// window counts a window's events; the latencies are of what was accepted in it, whenever it settled.
const window = `
WITH took AS (
    SELECT extract(epoch FROM s.at - a.at)::float8 AS seconds
      FROM events a
      LEFT JOIN events s ON s.tenant_id = a.tenant_id AND s.aggregate_id = a.aggregate_id
                        AND s.type = $4
     WHERE a.type = $3 AND a.at >= $1 AND a.at < $2
)
SELECT (SELECT count(*) FROM took),
       (SELECT count(*) FROM events e WHERE e.type = $4 AND e.at >= $1 AND e.at < $2),
       (SELECT count(*) FROM events e WHERE e.type = $5 AND e.at >= $1),
       coalesce((SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY t.seconds) FROM took t), 0),
       coalesce((SELECT percentile_disc(0.99) WITHIN GROUP (ORDER BY t.seconds) FROM took t), 0)`

// window reads what happened between two of our times.
func (r referee) window(ctx context.Context, f flow, from, to time.Time) (settlements, error) {
	var s settlements
	var p50, p99 float64
	err := r.Conn.QueryRow(ctx, window, from.Add(r.Skew), to.Add(r.Skew), f.begins, f.ends, f.fails).
		Scan(&s.accepted, &s.settled, &s.canceled, &p50, &p99)
	if err != nil {
		return settlements{}, fmt.Errorf("read events of a phase: %w", err)
	}
	s.p50, s.p99 = time.Duration(p50*float64(time.Second)), time.Duration(p99*float64(time.Second))
	return s, nil
}

// invariantsOf lists what has to hold after a phase. Where nobody works, promises are not kept and what is
// due stays so; and the naive path's jobs are not those that the check for them knows.
// Where nothing was ordered, there is no more to say about orders and stock than that there are none.
func invariantsOf(kind string, f flow) []invariant.Invariant {
	all := slices.Concat(ledger.Invariants(), transfer.Invariants())
	if kind == kindLogged || kind == kindPublished || kind == kindTraced {
		all = slices.Concat(all, outbox.Invariants())
	}
	if f.what == orders {
		all = slices.Concat(all, order.Invariants(), inventory.Invariants())
	}
	return slices.DeleteFunc(all, func(i invariant.Invariant) bool {
		switch i.Name {
		case "transfer_promise_kept":
			return !works(kind)
		case "transfer_never_forgotten":
			return !isHoldfast(kind)
		}
		return false
	})
}
