package app

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/webhook"
)

const (
	// lookEvery is how often a process looks at what waits in the database, and lookMax bounds a look.
	lookEvery = time.Second
	lookMax   = 2 * time.Second
	// lookStale is how old the last look may get before its age is added to what it saw: what cannot be seen
	// must not look drained.
	lookStale = 3 * lookEvery
)

// look is what one look at the database saw of what waits in it.
type look struct {
	// at is when it was taken, by our clock; all ages in it are by Postgres's.
	at        time.Time
	ready     map[string]lanes
	transfers transfer.Promises
	orders    order.Promises
	outbox    outbox.Lag
	webhooks  webhook.Stats
}

// lookAt reads everything, by probes of indexes: what has ended costs nothing, however much of it there is.
func lookAt(ctx context.Context, pool *pgxpool.Pool) (look, error) {
	l := look{ready: map[string]lanes{}}
	var errs [4]error
	for _, queue := range jobqueue.Queues() {
		ages, err := jobqueue.ReadyAges(ctx, pool, queue)
		if err != nil {
			return look{}, err // Postgres cannot be asked, and need not be four times more
		}
		l.ready[queue] = ages
	}
	l.transfers, errs[0] = transfer.ReadPromises(ctx, pool)
	l.orders, errs[1] = order.ReadPromises(ctx, pool)
	l.outbox, errs[2] = outbox.ReadLag(ctx, pool, consumers()...)
	l.webhooks, errs[3] = webhook.ReadStats(ctx, pool)
	return l, errors.Join(errs[:]...)
}

// sampler looks again and again, so that a scrape reads memory only. APIs have one as workers do: that work
// waits has to be seen when no worker runs.
type sampler struct {
	pool *pgxpool.Pool
	env  Env
	last atomic.Pointer[look]
	// seenOnce says that last was seen, and is not what is thought at first.
	seenOnce atomic.Bool
	// governor makes the process follow the mode; nil in tests of looks.
	governor *mode.Governor
	// then is told of every look, nil of one that saw nothing. It may be nil itself.
	then   func(context.Context, *look)
	mine   bool
	cancel context.CancelFunc
	group  sync.WaitGroup
}

func newSampler(pool *pgxpool.Pool, env Env) *sampler {
	s := &sampler{pool: pool, env: env}
	s.last.Store(&look{at: env.Now()})
	return s
}

// start begins to look, unless another part of this process does.
func (s *sampler) start(ctx context.Context) {
	if s.mine = s.env.sampled.CompareAndSwap(false, true); !s.mine {
		return
	}
	s.env.Metrics.WatchLook(s.seen)
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if s.governor != nil {
		s.governor.Start(ctx)
	}
	s.group.Go(func() { s.run(ctx) })
}

func (s *sampler) stop(ctx context.Context) {
	if !s.mine {
		return
	}
	if s.governor != nil {
		s.governor.Stop(ctx)
	}
	s.cancel()
	s.group.Wait()
	s.mine = false
	s.env.sampled.Store(false)
}

func (s *sampler) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if seen := s.look(ctx); s.then != nil && ctx.Err() == nil {
			s.then(ctx, seen)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look keeps what it saw, and returns it; what it saw in part is nothing.
func (s *sampler) look(ctx context.Context) *look {
	once, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	at := s.env.Now()
	l, err := lookAt(once, s.pool)
	if err != nil {
		if ctx.Err() == nil {
			s.env.Log.WarnContext(ctx, "what waits was not seen", slog.Any("error", err))
		}
		return nil
	}
	l.at = at
	s.last.Store(&l)
	s.seenOnce.Store(true)
	return &l
}

// seen is the last look as metrics show it.
func (s *sampler) seen() telemetry.Look { return s.last.Load().shown(s.env.Now()) }

// shown is a look as metrics show it at a time.
func (l *look) shown(now time.Time) telemetry.Look {
	blind := now.Sub(l.at)
	out := telemetry.Look{Age: blind.Seconds(), Ready: map[string][]float64{}}
	if blind < lookStale {
		blind = 0
	}
	for _, queue := range jobqueue.Queues() {
		lanes := l.ready[queue]
		for _, age := range lanes {
			out.Ready[queue] = append(out.Ready[queue], (age + blind).Seconds())
		}
	}
	out.Promises = map[string]telemetry.OpenPromises{
		telemetry.KindTransfer: {Age: (l.transfers.Age + blind).Seconds(), Overdue: l.transfers.Overdue},
		telemetry.KindOrder:    {Age: (l.orders.Age + blind).Seconds(), Overdue: l.orders.Overdue},
	}
	for _, t := range busiest(l.transfers, l.orders) {
		out.TenantOpen = append(out.TenantOpen, t.Transfers+t.Orders)
	}
	out.Outbox = l.shownOutbox(blind)
	return out
}

// shownOutbox is what was seen of events, as much older as nothing was seen since.
func (l *look) shownOutbox(blind time.Duration) telemetry.Outbox {
	out := telemetry.Outbox{
		Age: (l.outbox.Outbox + blind).Seconds(), Sinks: map[string]float64{},
		Consumers: map[string]float64{}, Mismatch: map[[2]string]int{},
		Webhooks:     map[string]int{"failing": l.webhooks.Failing, "disabled": l.webhooks.Disabled},
		WebhooksDead: l.webhooks.Dead,
	}
	for _, s := range l.outbox.Sinks {
		out.Sinks[s.Name] = (s.Age + blind).Seconds()
	}
	for _, c := range l.outbox.Consumers {
		out.Consumers[c.Name] = (c.Age + blind).Seconds()
	}
	for _, u := range l.outbox.Unhandled {
		out.Mismatch[[2]string{u.Consumer, u.Type}] = u.Events
	}
	return out
}

// busiest are the tenants with the most open work, the busiest first. Metrics tell them by their rank,
// operators by who they are.
func busiest(transfers transfer.Promises, orders order.Promises) []httpapi.BusyTenant {
	byID := map[uuid.UUID]httpapi.BusyTenant{}
	for id, n := range transfers.Open {
		byID[id] = httpapi.BusyTenant{TenantID: id, Transfers: n}
	}
	for id, n := range orders.Open {
		t := byID[id]
		t.TenantID, t.Orders = id, n
		byID[id] = t
	}
	all := slices.SortedFunc(maps.Values(byID), func(a, b httpapi.BusyTenant) int {
		more := cmp.Compare(b.Transfers+b.Orders, a.Transfers+a.Orders)
		return cmp.Or(more, cmp.Compare(a.TenantID.String(), b.TenantID.String()))
	})
	return all[:min(len(all), telemetry.RankMax)]
}

// consumers names the parts of this program that wait for events.
func consumers() []string {
	var names []string
	for _, s := range Subscriptions() {
		names = append(names, s.Consumer)
	}
	return names
}
