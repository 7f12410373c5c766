package app

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/problem"
)

// How admission looks at the queue.
const (
	sampleEvery = 100 * time.Millisecond
	// sampleTimeout bounds a look; while the database does not answer, the last age stands.
	sampleTimeout = time.Second
	// quietShare of the largest age is where refusing begins; from there to the whole it grows to
	// all, so that admission settles instead of switching.
	quietShare = 0.3
	// overloadedRetry is the middle of what a refused client is told to wait.
	overloadedRetry = time.Second
)

// admission refuses new work at once when the work that was accepted waits too long: what is accepted
// is finished in time, and the rest is told so in a millisecond.
type admission struct {
	pool   *pgxpool.Pool
	ageMax time.Duration
	env    Env
	age    atomic.Int64
	cancel context.CancelFunc
	group  sync.WaitGroup
}

func newAdmission(pool *pgxpool.Pool, ageMax time.Duration, env Env) *admission {
	return &admission{pool: pool, ageMax: ageMax, env: env}
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

// sample looks at the queues of what was accepted and waits to go on: transfers for their screening,
// orders for stock and payment. Notifications delay nobody's promise and do not count.
func (a *admission) sample(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	var oldest time.Duration
	for _, queue := range []string{jobqueue.QueueRisk, jobqueue.QueueDB} {
		age, err := jobqueue.ReadyAge(ctx, a.pool, queue)
		if err != nil {
			if ctx.Err() == nil {
				a.env.Log.WarnContext(ctx, "queue age is not known", slog.Any("error", err))
			}
			return
		}
		oldest = max(oldest, age)
	}
	a.age.Store(int64(oldest))
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

// admit is the answer to a request that would create work.
func (a *admission) admit(class string) error {
	refused := share(time.Duration(a.age.Load()), a.ageMax, class)
	if refused == 0 || rand.Float64() >= refused {
		return nil
	}
	a.env.Metrics.Shed("queue_age")
	p := problem.New(problem.Overloaded, "Accepted work waits too long; new work is refused for a moment.")
	p.RetryAfter = overloadedRetry/2 + rand.N(overloadedRetry)
	return p
}
