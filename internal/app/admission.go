package app

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/fairshare"
	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/problem"
)

// How admission looks at the queues.
const (
	// paymentAgeMax is how old the work for the risk service may get before standard orders are refused. An
	// order waits for its payment within its own promise of minutes, so a slow risk service is no reason to
	// refuse it as long as payments get through in a small part of that.
	paymentAgeMax = 10 * time.Second
	sampleEvery   = 100 * time.Millisecond
	// sampleTimeout bounds a look; while the database does not answer, the last age stands.
	sampleTimeout = time.Second
	// quietShare of the largest age is where refusing begins; from there to the whole it grows to
	// all, so that admission settles instead of switching.
	quietShare = 0.3
	// fullKept is the part of what is remembered of a full queue from one look to the next: all standard
	// requests are let in again after 1.2 s, the others before and after them.
	fullKept = 0.9
	// overloadedRetry is the middle of what a refused client is told to wait.
	overloadedRetry = time.Second
)

// admission refuses new work at once when accepted work of its kind waits too long where it would wait: what
// is accepted is finished in time, and the rest is told so in a millisecond. Work that waits elsewhere, or in
// a lane behind, refuses nothing: a slow dependency holds up its own callers only, and a flood its tenant.
type admission struct {
	pool   *pgxpool.Pool
	ageMax time.Duration
	lanes  laneOf
	env    Env
	ages   atomic.Pointer[ages]
	full   ages // of the sampler alone
	cancel context.CancelFunc
	group  sync.WaitGroup
}

// laneOf says in which lane the work of a tenant goes. The payments of orders go where the orders do.
type laneOf struct {
	transfers, orders func(tenant uuid.UUID) int
}

// lanes is how long the oldest due work of a queue has waited, by lane.
type lanes [jobqueue.Lanes]time.Duration

// wait is how long work of a lane waits, going by what is there: it goes behind all lanes before it.
func (l lanes) wait(lane int) time.Duration {
	return slices.Max(l[:min(max(lane, fairshare.First), len(l))])
}

// full remembers by lane that the oldest work was older than is borne, for a while that fades. An age tells
// of a wait after it was waited for: at ten times what a queue can do, the work of seconds is let in before
// the first of it is old. So when that is done, the door opens by degrees, and first for those who are to be
// served longest; opened at once, it would let the same flood in again, whatever its class.
func (l lanes) full(before lanes, ageMax time.Duration) lanes {
	for n := range l {
		if l[n] >= ageMax {
			before[n] = ageMax
		} else {
			before[n] = time.Duration(fullKept * float64(before[n]))
		}
	}
	return before
}

// atLeast are the larger ones of two.
func (l lanes) atLeast(others lanes) lanes {
	for n := range l {
		l[n] = max(l[n], others[n])
	}
	return l
}

// ages are those of the queues in which work waits that a client was promised: transfers for their screening,
// orders for stock and payment. Notifications delay nobody's promise and do not count.
type ages struct{ risk, db lanes }

func newAdmission(pool *pgxpool.Pool, ageMax time.Duration, lanes laneOf, env Env) *admission {
	a := &admission{pool: pool, ageMax: ageMax, lanes: lanes, env: env}
	a.ages.Store(&ages{})
	return a
}

func (a *admission) start(ctx context.Context) {
	ctx, a.cancel = context.WithCancel(context.WithoutCancel(ctx))
	a.group.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				a.sample(ctx)
			}
		}
	})
}

func (a *admission) stop() {
	a.cancel()
	a.group.Wait()
}

func (a *admission) sample(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	var now ages
	for _, queue := range []struct {
		name string
		ages *lanes
	}{{jobqueue.QueueRisk, &now.risk}, {jobqueue.QueueDB, &now.db}} {
		found, err := jobqueue.ReadyAges(ctx, a.pool, queue.name)
		if err != nil {
			if ctx.Err() == nil {
				a.env.Log.WarnContext(ctx, "queue age is not known", slog.Any("error", err))
			}
			return
		}
		*queue.ages = found
	}
	a.full.risk, a.full.db = now.risk.full(a.full.risk, a.ageMax), now.db.full(a.full.db, a.ageMax)
	now.risk, now.db = now.risk.atLeast(a.full.risk), now.db.atLeast(a.full.db)
	a.ages.Store(&now)
}

// tolerance is how much of the largest age a class of traffic bears.
func tolerance(class string) float64 {
	switch class {
	case "critical":
		return 2
	case "sheddable":
		return 0.5
	}
	return 1
}

// share is the part of the requests of a class that is refused at an age.
func share(age, ageMax time.Duration, class string) float64 {
	bears := tolerance(class) * float64(ageMax)
	return min(1, max(0, (float64(age)-quietShare*bears)/((1-quietShare)*bears)))
}

// refused is the part of the requests like this one that is refused. What is neither a transfer nor an order
// waits in no queue, but needs the database as the work in front does.
func (a *admission) refused(r httpapi.Admission) float64 {
	now := a.ages.Load()
	switch r.Creates {
	case httpapi.CreatesTransfer:
		return share(now.risk.wait(a.lanes.transfers(r.TenantID)), a.ageMax, r.Class)
	case httpapi.CreatesOrder:
		lane := a.lanes.orders(r.TenantID)
		return max(share(now.db.wait(lane), a.ageMax, r.Class),
			share(now.risk.wait(lane), max(paymentAgeMax, a.ageMax), r.Class))
	case httpapi.CreatesOther:
		return share(now.db.wait(fairshare.First), a.ageMax, r.Class)
	}
	return 0
}

// admit is the answer to a request that would create work. Who asks counts the refusal.
func (a *admission) admit(r httpapi.Admission) error {
	refused := a.refused(r)
	if refused == 0 || rand.Float64() >= refused {
		return nil
	}
	p := problem.New(problem.Overloaded, "Accepted work waits too long; new work is refused for a moment.")
	p.RetryAfter = overloadedRetry/2 + rand.N(overloadedRetry)
	return p
}
