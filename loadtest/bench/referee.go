package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/invariant"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/transfer"
)

const (
	// drainPoll is how often the referee looks whether all is done.
	drainPoll = 10 * time.Millisecond
	// refereeStatementMax bounds one of the referee's statements.
	refereeStatementMax = "120s"
	// breaksMax is how many breaks of one invariant a report shows.
	breaksMax = 3
)

// referee looks at the database beside the system under test; it only reads.
type referee struct {
	conn *pgx.Conn
	skew time.Duration
	now  func() time.Time
}

func newReferee(ctx context.Context, url string, now func() time.Time) (*referee, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("referee: %w", err)
	}
	cfg.RuntimeParams["application_name"] = "bench-referee"
	cfg.RuntimeParams["statement_timeout"] = refereeStatementMax
	cfg.RuntimeParams["work_mem"] = "256MB"
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("referee: %w", err)
	}
	r := &referee{conn: conn, now: now}
	if r.skew, err = clockSkew(ctx, conn, now); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *referee) close(ctx context.Context) { _ = r.conn.Close(ctx) } // it has only read

// open counts the transfers and the orders for which somebody still has to do something.
func (r *referee) open(ctx context.Context) (backlog, error) {
	var b backlog
	err := r.conn.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM transfers t WHERE t.wake_at IS NOT NULL),
		       (SELECT count(*) FROM orders o WHERE o.wake_at IS NOT NULL)`).Scan(&b.transfers, &b.orders)
	if err != nil {
		return backlog{}, fmt.Errorf("count what is open: %w", err)
	}
	return b, nil
}

// openOf counts what is open of a kind of work.
func (r *referee) openOf(ctx context.Context, f flow) (int64, error) {
	left, err := r.open(ctx)
	return left.of(f), err
}

// backlog is what is still to be done: transfers to settle or to tell about, orders to end.
type backlog struct{ transfers, orders int64 }

// of counts what a phase is about; an order's payment is a part of it.
func (b backlog) of(f flow) int64 {
	if f.what == orders {
		return b.orders
	}
	return b.transfers
}

// drain waits until nothing is open, and returns how long that took, or false if it took too long.
func (r *referee) drain(ctx context.Context) (time.Duration, bool, error) {
	begin := r.now()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		left, err := r.open(ctx)
		took := r.now().Sub(begin)
		if err != nil || left == (backlog{}) {
			return took, true, err
		}
		if took > drainMax {
			return took, false, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return took, false, ctx.Err()
		}
	}
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
func (r *referee) window(ctx context.Context, f flow, from, to time.Time) (settlements, error) {
	var s settlements
	var p50, p99 float64
	err := r.conn.QueryRow(ctx, window, from.Add(r.skew), to.Add(r.skew), f.begins, f.ends, f.fails).
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
	if f.what == orders {
		all = slices.Concat(all, order.Invariants(), inventory.Invariants())
	}
	return slices.DeleteFunc(all, func(i invariant.Invariant) bool {
		switch i.Name {
		case "transfer_promise_kept":
			return !works(kind)
		case "transfer_never_forgotten":
			return kind != kindHoldfast
		}
		return false
	})
}

// breaks checks invariants of the stored rows and returns the breaks that it found.
func (r *referee) breaks(ctx context.Context, checks []invariant.Invariant) ([]string, error) {
	var found []string
	for _, i := range checks {
		rows, err := r.conn.Query(ctx, fmt.Sprintf("SELECT b.what FROM (%s) b LIMIT %d", i.SQL, breaksMax))
		if err != nil {
			return nil, fmt.Errorf("check invariant %s: %w", i.Name, err)
		}
		whats, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, fmt.Errorf("check invariant %s: %w", i.Name, err)
		}
		for _, what := range whats {
			found = append(found, i.Name+": "+what)
		}
	}
	return found, nil
}
