package order

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/fairshare"
	"example.com/holdfast/internal/fsm"
	"example.com/holdfast/internal/groupcommit"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/telemetry"
)

// The combiners: those of transfers (docs/adr/0010), with smaller batches since an order has many lines.
const (
	flights       = 1
	batchMaxItems = 128
	queueMaxItems = 4_096
	bulkBatchMax  = 4
	bulkQueueMax  = 64
	batchAttempts = 3
)

// Config is what a service works with. An API needs no Payments: it processes nothing.
type Config struct {
	Pool     *pgxpool.Pool
	Payments Payments
	Metrics  *telemetry.Metrics
	Log      *slog.Logger
	// Instance names the process in events.
	Instance string
	// AcceptWaitMax is how long a request may have to wait for its batch; one that would wait longer is
	// refused. Zero is no bound.
	AcceptWaitMax time.Duration
	// Now is the clock for waiting and budgets; what goes into rows is Postgres's.
	Now func() time.Time
}

// Service places, moves and reads orders. It works between Start and Stop.
type Service struct {
	cfg     Config
	pool    *pgxpool.Pool
	accepts *groupcommit.Combiner[Create, accepted]
	bulks   *groupcommit.Combiner[Create, accepted]
	moves   *groupcommit.Combiner[move, moved]
	lanes   *fairshare.Lanes[uuid.UUID]
	random  func() float64
}

// NewService makes a service that is not started.
func NewService(cfg Config) *Service {
	s := &Service{cfg: cfg, pool: cfg.Pool, lanes: fairshare.New[uuid.UUID](), random: rand.Float64}
	s.accepts = groupcommit.New(s.acceptor("place", batchMaxItems, queueMaxItems), s.flushAccepts)
	s.bulks = groupcommit.New(s.acceptor("place_bulk", bulkBatchMax, bulkQueueMax), s.flushAccepts)
	s.moves = groupcommit.New(s.combiner("move_order", batchMaxItems, queueMaxItems), s.flushMoves)
	return s
}

func (s *Service) combiner(name string, batchMax, queueMax int) groupcommit.Config {
	return groupcommit.Config{
		Name: name, BatchMax: batchMax, QueueMax: queueMax, Flights: flights, Attempts: batchAttempts,
		Again:   func(err error) bool { return pgtx.Raced(err) || pgtx.Unknown(err) },
		Alone:   func(err error) bool { return pgtx.Raced(err) || pgtx.Broken(err) || pgtx.Busy(err) },
		Observe: func(size int) { s.cfg.Metrics.BatchSize(name, size) },
	}
}

// acceptor is a combiner of what clients ask for: who would wait too long is refused, and for a client who
// has left nothing is begun. What moves orders on is neither.
func (s *Service) acceptor(name string, batchMax, queueMax int) groupcommit.Config {
	c := s.combiner(name, batchMax, queueMax)
	c.WaitMax, c.Now, c.Drop = s.cfg.AcceptWaitMax, s.cfg.Now, true
	return c
}

// Start begins to commit batches.
func (s *Service) Start(ctx context.Context) {
	s.accepts.Start(ctx)
	s.bulks.Start(ctx)
	s.moves.Start(ctx)
}

// Stop finishes the batches in flight.
func (s *Service) Stop() {
	s.accepts.Stop()
	s.bulks.Stop()
	s.moves.Stop()
}

// Lane says in which lane an order of the tenant would go now.
func (s *Service) Lane(tenantID uuid.UUID) int { return s.lanes.Lane(tenantID, s.cfg.Now()) }

// count tells the metrics what a committed batch brought about.
func (s *Service) count(orders []Order) {
	for _, o := range orders {
		s.cfg.Metrics.OrderMoved(string(o.State), string(o.Reason), o.UpdatedAt.Sub(o.CreatedAt))
	}
}

// countIllegal tells the metrics of a move that the table refused, whoever asked for it.
func (s *Service) countIllegal(err error) {
	if illegal, ok := errors.AsType[*fsm.IllegalError](err); ok {
		s.cfg.Metrics.IllegalMove(illegal.From, illegal.Event)
	}
}
