package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/budget"
	"example.com/holdfast/internal/outbox/internal/outboxdb"
	"example.com/holdfast/internal/pgtx"
)

const (
	// sinkLease is how long a holder that is not heard of keeps a sink.
	sinkLease = 6 * time.Second
	// publishMax bounds one Publish. It is well below the lease, so a holder that lives loses none.
	publishMax = 4 * time.Second
	// sinkPage is how many events one Publish gets at most.
	sinkPage = LogPageMax
	// sinkLook is how often a sink looks at the log without being rung for, and whether it may hold a sink
	// that another one holds.
	sinkLook = time.Second
	// sinkWarnEvery is how many failures in a row there are to a warning: about one a minute.
	sinkWarnEvery = 60
	// sinkStatementMax bounds each statement of a sink.
	sinkStatementMax = 2 * time.Second
)

// Sink hands every event of the log to Publish, between Start and Stop: at least once, each aggregate's in
// the order of seq, by one process at a time. It remembers in Postgres how far it is.
type Sink struct {
	// Name is the sink's in the database; Holder names the process.
	Name, Holder string
	// Publish returns nil when all events are safe at the other side. Events that it gets again, since an
	// earlier Publish failed or its outcome was lost, are recognised by their aggregate and seq. It must not
	// let an event of an aggregate pass before the one before it is safe.
	Publish func(ctx context.Context, events []Logged) error
	// Published, if any, is told of each round: how many events went out, and the error that ended it.
	Published func(events int, err error)
	Pool      *pgxpool.Pool
	Bell      *Bell
	Log       *slog.Logger
	// Random is for the jitter of pauses, in [0, 1).
	Random func() float64
	// Deferred says whether nothing is to be published for now; events wait in the log. Nil is never.
	Deferred func() bool

	cancel context.CancelFunc
	group  sync.WaitGroup
}

// held is a sink in this process's hand.
type held struct{ last, claims int64 }

// Start begins to publish when nobody else does.
func (s *Sink) Start(ctx context.Context) {
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.group.Go(func() {
		for ctx.Err() == nil {
			if s.deferred() {
				Pause(ctx, nil, sinkLook)
				continue
			}
			rung := s.Bell.Next()
			h, ok, err := s.claim(ctx)
			if ok {
				err = s.serve(ctx, h)
			}
			if err != nil && ctx.Err() == nil {
				s.Log.WarnContext(ctx, "sink let go", slog.String("sink", s.Name), slog.Any("error", err))
			}
			if !ok {
				rung = nil // the log grows for whoever holds it
			}
			Pause(ctx, rung, sinkLook)
		}
	})
}

// Stop lets the Publish in hand end by its context, and lets others take over at once.
func (s *Sink) Stop() {
	s.cancel()
	s.group.Wait()
}

func (s *Sink) claim(ctx context.Context) (held, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, sinkStatementMax)
	defer cancel()
	rows, err := outboxdb.New().SystemClaimSink(ctx, s.Pool, outboxdb.SystemClaimSinkParams{
		Name: s.Name, Holder: s.Holder, Lease: pgtx.Interval(sinkLease),
	})
	if err != nil || len(rows) == 0 {
		return held{}, false, asSink(s.Name, err)
	}
	return held{rows[0].Last, rows[0].Claims}, true, nil
}

func (s *Sink) deferred() bool { return s.Deferred != nil && s.Deferred() }

// serve publishes until the process stops, somebody else holds the sink, or it is deferred.
func (s *Sink) serve(ctx context.Context, h held) error {
	defer s.leave(ctx, h)
	failures := 0
	for ctx.Err() == nil && !s.deferred() {
		rung := s.Bell.Next()
		next, failure, err := s.page(ctx, h)
		if err != nil {
			return err
		}
		kept, err := s.advance(ctx, next)
		switch {
		case err != nil || !kept:
			return err
		case failure != nil:
			failures++
			s.rest(ctx, failures, failure)
		case next == h:
			Pause(ctx, rung, sinkLook)
		default:
			failures = 0
		}
		h = next
	}
	return nil
}

// page publishes the next page, and says how far the sink is then and why it was not taken.
func (s *Sink) page(ctx context.Context, h held) (held, error, error) {
	events, err := ReadWholeLog(ctx, s.Pool, h.last, sinkPage)
	if err != nil || len(events) == 0 {
		return h, nil, err
	}
	if failure := s.publish(ctx, events); failure != nil {
		return h, failure, nil
	}
	h.last = events[len(events)-1].Place
	return h, nil, nil
}

// rest waits after failures in a row.
func (s *Sink) rest(ctx context.Context, failures int, failure error) {
	if failures%sinkWarnEvery == 1 && ctx.Err() == nil {
		s.Log.WarnContext(ctx, "sink did not take events", slog.String("sink", s.Name),
			slog.Int("failures", failures), slog.Any("error", failure))
	}
	Pause(ctx, nil, min(budget.Backoff(failures, s.Random), sinkLook))
}

func (s *Sink) publish(ctx context.Context, events []Logged) error {
	ctx, cancel := context.WithTimeout(ctx, publishMax)
	defer cancel()
	err := s.Publish(ctx, events)
	if s.Published != nil {
		s.Published(len(events), err)
	}
	return err
}

// advance says how far the sink is, and whether this process still holds it. What was published is written
// down also when the process stops.
func (s *Sink) advance(ctx context.Context, h held) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sinkStatementMax)
	defer cancel()
	rows, err := outboxdb.New().SystemAdvanceSink(ctx, s.Pool, outboxdb.SystemAdvanceSinkParams{
		Name: s.Name, Last: h.last, Claims: h.claims, Lease: pgtx.Interval(sinkLease),
	})
	return len(rows) > 0, asSink(s.Name, err)
}

// leave lets another process take the sink at once; if that fails the lease ends by itself.
func (s *Sink) leave(ctx context.Context, h held) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sinkStatementMax)
	defer cancel()
	err := outboxdb.New().SystemLeaveSink(ctx, s.Pool, outboxdb.SystemLeaveSinkParams{
		Name: s.Name, Claims: h.claims,
	})
	if err != nil {
		s.Log.WarnContext(ctx, "sink not given back", slog.String("sink", s.Name), slog.Any("error", err))
	}
}

func asSink(name string, err error) error {
	if err != nil {
		return fmt.Errorf("sink %s: %w", name, err)
	}
	return nil
}

// ReleaseSinks lets others take what holders have that are dead, before their leases end.
func ReleaseSinks(ctx context.Context, db outboxdb.DBTX, holders []string) error {
	if err := outboxdb.New().SystemReleaseSinks(ctx, db, holders); err != nil {
		return fmt.Errorf("release sinks of %d holders: %w", len(holders), err)
	}
	return nil
}
