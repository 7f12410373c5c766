package transfer

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
	"example.com/holdfast/internal/outbound/notify"
	"example.com/holdfast/internal/outbound/payout"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/telemetry"
)

// The combiners, measured: a second flight makes smaller batches that wait for each other's balances
// (docs/adr/0010), larger batches bring nothing, and what waits in a full queue waits for less than a
// second.
const (
	flights       = 1
	batchMaxItems = 256
	queueMaxItems = 4_096
	bulkBatchMax  = 4
	bulkQueueMax  = 64
	batchAttempts = 3
)

// Screener is the risk service.
type Screener interface {
	Screen(ctx context.Context, r risk.Request) (risk.Decision, error)
	Find(ctx context.Context, effectKey string) (risk.Decision, bool, error)
}

// Notifier tells a tenant's customers how a transfer ended.
type Notifier interface {
	Send(ctx context.Context, m notify.Message) error
	Sent(ctx context.Context, effectKey string) (bool, error)
}

// Rail pays transfers out to the world.
type Rail interface {
	Submit(ctx context.Context, r payout.Request) (payout.Receipt, error)
	Find(ctx context.Context, reference string) (payout.Receipt, bool, error)
	Withdraw(ctx context.Context, reference string) (payout.Receipt, error)
}

// Config is what a service works with. An API needs no Risk, Rail and Notify: it processes nothing.
type Config struct {
	Pool    *pgxpool.Pool
	Risk    Screener
	Rail    Rail
	Notify  Notifier
	Metrics *telemetry.Metrics
	Log     *slog.Logger
	// Subscriptions says who in this program waits for events of transfers.
	Subscriptions []outbox.Subscription
	// Instance names the process in events.
	Instance string
	// AcceptWaitMax is how long a request may have to wait for its batch; one that would wait longer is
	// refused. Zero is no bound.
	AcceptWaitMax time.Duration
	// Now is the clock for waiting and budgets; what goes into rows is Postgres's.
	Now func() time.Time
}

// Service accepts, moves and reads transfers. It works between Start and Stop.
type Service struct {
	cfg     Config
	pool    *pgxpool.Pool
	accepts *groupcommit.Combiner[Create, accepted]
	bulks   *groupcommit.Combiner[Create, accepted]
	moves   *groupcommit.Combiner[move, moved]
	notes   *groupcommit.Combiner[note, bool]
	lanes   *fairshare.Lanes[uuid.UUID]
	random  func() float64
}

// NewService makes a service that is not started.
func NewService(cfg Config) *Service {
	s := &Service{cfg: cfg, pool: cfg.Pool, lanes: fairshare.New[uuid.UUID](), random: rand.Float64}
	s.accepts = groupcommit.New(s.acceptor("accept", batchMaxItems, queueMaxItems), s.flushAccepts)
	s.bulks = groupcommit.New(s.acceptor("accept_bulk", bulkBatchMax, bulkQueueMax), s.flushAccepts)
	s.moves = groupcommit.New(s.combiner("move", batchMaxItems, queueMaxItems), s.flushMoves)
	s.notes = groupcommit.New(s.combiner("note", batchMaxItems, queueMaxItems), s.flushNotes)
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
// has left nothing is begun. What moves transfers on is neither.
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
	s.notes.Start(ctx)
}

// Stop finishes the batches in flight.
func (s *Service) Stop() {
	s.accepts.Stop()
	s.bulks.Stop()
	s.moves.Stop()
	s.notes.Stop()
}

// Lane says in which lane a transfer of the tenant would go now.
func (s *Service) Lane(tenantID uuid.UUID) int { return s.lanes.Lane(tenantID, s.cfg.Now()) }

// count tells the metrics what a committed batch accepted.
func (s *Service) count(accepted []Transfer) {
	for _, t := range accepted {
		s.countMove(t)
	}
}

// countMove tells the metrics of a transfer that was accepted or ended.
func (s *Service) countMove(t Transfer) {
	s.cfg.Metrics.TransferMoved(string(t.State), countedReason(t), t.UpdatedAt.Sub(t.CreatedAt))
}

// countedReason is the reason that a metric tells: of the program's own ones only, so a bounded set.
func countedReason(t Transfer) string {
	if t.State == Expired || t.State == Failed || t.Reason == ReasonRiskUnavailable {
		return t.Reason
	}
	return ""
}

// countIllegal tells the metrics of a move that the table refused, whoever asked for it.
func (s *Service) countIllegal(err error) {
	if illegal, ok := errors.AsType[*fsm.IllegalError](err); ok {
		s.cfg.Metrics.IllegalMove(illegal.From, illegal.Event)
	}
}
