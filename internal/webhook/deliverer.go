package webhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/webhook/internal/webhookdb"
)

const (
	// handsWell and handsFailing bound the endpoints that a process has in hand. Those that fail have hands
	// of their own: they may hang for a whole timeout, and must not keep the others waiting.
	handsWell    = 48
	handsFailing = 16

	// lookEvery is how often all endpoints are looked at, and lookPause how soon after a look there may be
	// another one, of those whose tenants have new events.
	lookEvery = time.Second
	lookPause = 25 * time.Millisecond
	// newRows is how many rows of the log are looked at for tenants at a time, and newPages how many times.
	newRows  = outbox.LogPageMax
	newPages = 8

	// lease is how long an endpoint stays in the hand of a process that is not heard of.
	lease = 15 * time.Second
	// turnMax is how long an endpoint stays in one hand at a time, so that others get theirs.
	turnMax = 10 * time.Second
	// statementMax bounds what is asked of the database at a time.
	statementMax = 2 * time.Second

	// callMax is the longest attempt, placeWaitMax the longest wait for a place to make it.
	callMax      = 5 * time.Second
	placeWaitMax = time.Second
	// flightMax is how many attempts are on their way to an endpoint at a time.
	flightMax = 8
	// replyMaxBytes is how much of a reply is read, to use its connection again.
	replyMaxBytes = 4 << 10
	// dependency names all endpoints together in errors and metrics.
	dependency = "webhook"
)

// Observer is told how deliveries go. Each of its functions may be nil; they are called side by side.
type Observer struct {
	// Attempted is told of each attempt: its kind, its outcome, and how long it took.
	Attempted func(kind, outcome string, took time.Duration)
	// Delivered is told how long after it happened an event was delivered.
	Delivered func(lag time.Duration)
	// Died is told how many events are dead from now on, Disabled that an endpoint is.
	Died     func(events int)
	Disabled func()
	// Called is told of each call, as of those to any dependency.
	Called func(outbound.Observation)
}

// Deliverer sends events to endpoints, between Start and Stop. Any number may run on one database.
type Deliverer struct {
	Pool *pgxpool.Pool
	// Bell tells when there are new events.
	Bell *outbox.Bell
	Log  *slog.Logger
	Now  func() time.Time
	// Random is for jitter and for the choice of probes, in [0, 1).
	Random func() float64
	// Holder names the process.
	Holder string
	// Key is the master key that secrets are made of.
	Key []byte
	// Development allows http, and addresses of this machine.
	Development bool
	// Resolver resolves the names of hosts; nil is the system's.
	Resolver *net.Resolver
	// Encode writes events as messages, one for each, in their order.
	Encode func(context.Context, []outbox.Logged) ([]cloudevent.Message, error)
	// EncodePing writes what tries an endpoint out: the same message whenever it is sent.
	EncodePing func(cloudevent.Ping) (cloudevent.Message, error)
	Observer   Observer
	// Share is the part of its hands that a process uses now; with none of them it begins nothing more, and
	// what there is waits. Nil is all.
	Share func() float64

	every  time.Duration // lookEvery, but for tests
	checks checks
	calls  outbound.Config // of every endpoint's client, but for its address
	watch  watch
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu     sync.Mutex
	inHand map[bool]int  // of those that fail, and of the others
	freed  chan struct{} // has room for one: a hand is free
}

// watch is where the Deliverer has looked.
type watch struct {
	place   int64     // of the log, up to which tenants were told of
	wholeAt time.Time // when all endpoints were looked at
	hungry  bool      // there may be more than was taken
}

// Start begins to deliver.
func (d *Deliverer) Start(ctx context.Context) error {
	if len(d.Key) == 0 {
		return errors.New("deliver webhooks: there is no key to sign them with")
	}
	d.every = cmp.Or(d.every, lookEvery)
	allowed := newAddresses(d.Development)
	d.checks = checks{addresses: allowed, development: d.Development}
	d.calls = outbound.Config{
		Name: dependency, Limit: flightMax, WaitMax: placeWaitMax, Timeout: callMax, InTx: pgtx.InTx,
		Now: d.Now, Observer: d.Observer.Called, Random: d.Random,
		Transport: outbound.Strangers{
			Allowed: allowed.allowed, Resolver: d.Resolver, IdlePerHost: flightMax,
		}.Transport(),
	}
	d.inHand, d.freed = map[bool]int{}, make(chan struct{}, 1)
	ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	d.group.Go(func() { d.run(ctx) })
	return nil
}

// Stop begins no attempt any more, waits for those on their way, writes down what came of them, and lets
// others take over.
func (d *Deliverer) Stop() {
	d.cancel()
	d.group.Wait()
	if idle, ok := d.calls.Transport.(interface{ CloseIdleConnections() }); ok {
		idle.CloseIdleConnections()
	}
}

func (d *Deliverer) run(ctx context.Context) {
	for ctx.Err() == nil {
		if d.share() == 0 {
			outbox.Pause(ctx, nil, d.every)
			continue
		}
		rung := d.Bell.Next()
		began := d.Now()
		if err := d.look(ctx, began); err != nil && ctx.Err() == nil {
			d.Log.WarnContext(ctx, "webhooks not looked for", slog.Any("error", err))
			outbox.Pause(ctx, nil, lookEvery)
		}
		if d.watch.hungry {
			rung = d.freed
		}
		outbox.Pause(ctx, rung, d.every-d.Now().Sub(d.watch.wholeAt))
		outbox.Pause(ctx, nil, lookPause-d.Now().Sub(began))
	}
}

// look takes endpoints that have work: of all now and then, otherwise of the tenants that have new events.
func (d *Deliverer) look(ctx context.Context, began time.Time) error {
	if d.watch.hungry || began.Sub(d.watch.wholeAt) >= d.every {
		return d.lookAtAll(ctx, began)
	}
	limited, cancel := context.WithTimeout(ctx, statementMax)
	defer cancel()
	tenants, err := d.newTenants(limited)
	if err != nil || len(tenants) == 0 {
		return err
	}
	free, asked := d.free(false), d.Now()
	rows, err := webhookdb.New().ClaimEndpoints(limited, d.Pool, webhookdb.ClaimEndpointsParams{
		Holder: d.Holder, Lease: pgtx.Interval(lease), Tenants: tenants, Most: free,
	})
	if err != nil {
		return fmt.Errorf("claim endpoints of %d tenants: %w", len(tenants), err)
	}
	d.watch.hungry = len(rows) == int(free)
	for _, row := range rows {
		d.take(ctx, &hand{d: d, e: row, from: row.Place, asked: asked})
	}
	return nil
}

// newTenants says whose events are in the log since the last look. What is more than it reads, the next look
// at all endpoints finds.
func (d *Deliverer) newTenants(ctx context.Context) ([]uuid.UUID, error) {
	var all []uuid.UUID
	for range newPages {
		tenants, last, err := outbox.Tenants(ctx, d.Pool, d.watch.place, newRows)
		if err != nil {
			return nil, err
		}
		if last == d.watch.place {
			break
		}
		d.watch.place = last
		all = append(all, tenants...)
	}
	return all, nil
}

func (d *Deliverer) lookAtAll(ctx context.Context, began time.Time) error {
	limited, cancel := context.WithTimeout(ctx, statementMax)
	defer cancel()
	extent, err := outbox.ReadExtent(limited, d.Pool)
	if err != nil {
		return err
	}
	d.watch.place, d.watch.wholeAt, d.watch.hungry = max(d.watch.place, extent.Last), began, false
	for _, failing := range []bool{false, true} {
		free := d.free(failing)
		if free == 0 {
			d.watch.hungry = d.watch.hungry || !failing
			continue
		}
		asked := d.Now()
		claim := webhookdb.SystemClaimEndpointsParams{
			Holder: d.Holder, Lease: pgtx.Interval(lease), Failing: failing, Most: free,
		}
		rows, err := webhookdb.New().SystemClaimEndpoints(limited, d.Pool, claim)
		if err != nil {
			return fmt.Errorf("claim endpoints: %w", err)
		}
		if !failing {
			d.watch.hungry = len(rows) == int(free)
		}
		for _, row := range rows {
			d.take(ctx, &hand{
				d: d, e: row, from: max(row.Place, extent.Forgotten), asked: asked, failing: failing,
			})
		}
	}
	return nil
}

// share is the part of the hands that may be used.
func (d *Deliverer) share() float64 {
	if d.Share == nil {
		return 1
	}
	return d.Share()
}

// free is how many more endpoints may be taken.
func (d *Deliverer) free(failing bool) int32 {
	hands := handsWell
	if failing {
		hands = handsFailing
	}
	most := int(math.Ceil(d.share() * float64(hands)))
	d.mu.Lock()
	defer d.mu.Unlock()
	return int32(max(0, most-d.inHand[failing])) //nolint:gosec // at most the hands
}

// take serves an endpoint that was claimed, in a goroutine that Stop waits for.
func (d *Deliverer) take(ctx context.Context, h *hand) {
	d.count(h.failing, 1)
	d.group.Go(func() {
		defer d.count(h.failing, -1)
		h.serve(ctx)
	})
}

func (d *Deliverer) count(failing bool, by int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inHand[failing] += by
	if by < 0 {
		select {
		case d.freed <- struct{}{}:
		default: // somebody was told already
		}
	}
}
