package rig

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
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/webhook"
)

const (
	// drainPoll is how often the referee looks whether all is done.
	drainPoll = 10 * time.Millisecond
	// statementMax bounds one of the referee's statements.
	statementMax = "120s"
	// breaksMax is how many breaks of one invariant a report shows.
	breaksMax = 3
)

// Referee looks at the database beside the system under test; it only reads. It is for one goroutine.
type Referee struct {
	Conn *pgx.Conn
	// Skew is how far the database's clock is before ours.
	Skew time.Duration
	now  func() time.Time
}

// NewReferee connects to a database.
func NewReferee(ctx context.Context, url string, now func() time.Time) (*Referee, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("referee: %w", err)
	}
	cfg.RuntimeParams["application_name"] = "referee"
	cfg.RuntimeParams["statement_timeout"] = statementMax
	cfg.RuntimeParams["work_mem"] = "256MB"
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("referee: %w", err)
	}
	r := &Referee{Conn: conn, now: now}
	if r.Skew, err = clockSkew(ctx, conn, now); err != nil {
		return nil, err
	}
	return r, nil
}

// Close gives the connection back; it has only read.
func (r *Referee) Close(ctx context.Context) { _ = r.Conn.Close(context.WithoutCancel(ctx)) }

// Backlog is what is still to be done: transfers and orders to end, and ends to tell about, which a mode may
// defer.
type Backlog struct{ Transfers, Orders, Untold int64 }

// promised says whether something is open that a client was promised an end of.
func (b Backlog) promised() bool { return b.Transfers+b.Orders > 0 }

// any says whether anything is left to do.
func (b Backlog) any() bool { return b != Backlog{} }

// Open counts what somebody still has to do something about. A transfer in review waits for a person.
func (r *Referee) Open(ctx context.Context) (Backlog, error) {
	var b Backlog
	err := r.Conn.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE t.state IN ('accepted', 'approved', 'settling')),
		       (SELECT count(*) FROM orders o WHERE o.wake_at IS NOT NULL),
		       count(*) FILTER (WHERE t.notification = 'pending')
		  FROM transfers t WHERE t.wake_at IS NOT NULL`).Scan(&b.Transfers, &b.Orders, &b.Untold)
	if err != nil {
		return Backlog{}, fmt.Errorf("count what is open: %w", err)
	}
	return b, nil
}

// Drain waits until nothing is left to do, and returns how long that took, or false if it took longer than
// most.
func (r *Referee) Drain(ctx context.Context, most time.Duration) (time.Duration, bool, error) {
	return r.await(ctx, most, Backlog.any)
}

// End waits until all that was promised has ended, told or not, and returns as Drain does.
func (r *Referee) End(ctx context.Context, most time.Duration) (time.Duration, bool, error) {
	return r.await(ctx, most, Backlog.promised)
}

func (r *Referee) await(
	ctx context.Context, most time.Duration, open func(Backlog) bool,
) (time.Duration, bool, error) {
	begin := r.now()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		left, err := r.Open(ctx)
		took := r.now().Sub(begin)
		if err != nil || !open(left) {
			return took, true, err
		}
		if took > most {
			return took, false, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return took, false, ctx.Err()
		}
	}
}

// Invariants are all that a database with the program in it can be held to.
func Invariants() []invariant.Invariant {
	return slices.Concat(ledger.Invariants(), inventory.Invariants(), outbox.Invariants(),
		transfer.Invariants(), order.Invariants(), webhook.Invariants())
}

// Breaks checks invariants of the stored rows and returns the breaks that it found.
func (r *Referee) Breaks(ctx context.Context, checks []invariant.Invariant) ([]string, error) {
	// Tables that grew since they were last analyzed look small, and joining all of them row by row takes
	// minutes.
	if _, err := r.Conn.Exec(ctx, "SET enable_nestloop = off"); err != nil {
		return nil, fmt.Errorf("set up checks: %w", err)
	}
	var found []string
	for _, i := range checks {
		rows, err := r.Conn.Query(ctx, fmt.Sprintf("SELECT b.what FROM (%s) b LIMIT %d", i.SQL, breaksMax))
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
