// Package load sends a running Holdfast a load of requests over HTTP, and says how fast it was and whether it
// kept its promises.
//
// The load is an open loop: requests are due at their times, whatever became of the others, and their latency
// counts from then. What was accepted is followed in the feed of events, so that the time to its end is told
// by Postgres's clock alone. Afterwards the answers, the ends, the balances and the stock are held against
// each other; a rate is never part of the verdict.
//
// It refuses a target that is neither this machine nor in a private network, unless it is told to go
// anywhere, and it takes accounts and stock of its own, filled from the tenant's money: nothing else of the
// tenant moves.
//
// Invariant: a load is bounded in its rate, its time and its requests, and what it began it waits for.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// The bounds of a load.
const (
	rateMax     = 20_000.0 // a second
	durationMax = 24 * time.Hour
	// RequestsMax bounds the requests of one load: each that is accepted is remembered, in about 500 bytes.
	RequestsMax = 1_000_000
	callersMax  = 4_096
	accountsMax = 2_000
	keysMax     = 100
	drainMax    = time.Hour
	// fundMin is enough for what the amounts of a load add up to by chance.
	fundMin = 1_000
)

// Key is an API key of the target, and the class of traffic that it was made for.
type Key struct{ Class, Secret string }

// Options says what to load with what.
type Options struct {
	// URL is where the public API is; Keys are those of its tenants, which need all scopes.
	URL  string
	Keys []Key
	// Mix and Profile are names of the lists; zeros take the profile's own duration.
	Mix, Profile string
	Rate         float64
	Duration     time.Duration
	RequestsMax  int
	Seed         uint64
	// Poisson spreads arrivals by chance, as independent clients do, instead of evenly.
	Poisson bool
	// Callers is how many requests may wait for their answers at once.
	Callers int
	// Accounts is how many accounts of a tenant the load uses, each filled up to Fund minor units of
	// Currency.
	Accounts int
	Fund     int64
	Currency string
	// Funders are accounts to take that money from; the richest one if none is named.
	Funders []uuid.UUID
	// Drain is how long what was accepted may take to end after the load.
	Drain time.Duration
	// Database is checked against all SQL invariants if it is named.
	Database string
	// Anywhere allows targets that are not private.
	Anywhere bool
	// Now is the clock of load and waits, Progress gets a line now and then.
	Now      func() time.Time
	Progress io.Writer
}

// check refuses a load without bounds. It fills in the profile's duration.
func (o *Options) check(p Profile) error {
	if o.Duration == 0 {
		o.Duration = p.Duration
	}
	for _, bound := range []struct {
		name      string
		v, lo, hi float64
	}{
		{"rate", o.Rate, 0.1, rateMax},
		{"duration in seconds", o.Duration.Seconds(), 0.1, durationMax.Seconds()},
		{"number of requests", float64(o.RequestsMax), 1, RequestsMax},
		{"number of callers", float64(o.Callers), 1, callersMax},
		{"number of accounts", float64(o.Accounts), 2, accountsMax},
		{"number of keys", float64(len(o.Keys)), 1, keysMax},
		{"fund", float64(o.Fund), fundMin, 1e12},
		{"drain in seconds", o.Drain.Seconds(), 0.1, drainMax.Seconds()},
	} {
		if !(bound.v >= bound.lo && bound.v <= bound.hi) {
			return fmt.Errorf("load: the %s is %g and has to be %g to %g", bound.name, bound.v, bound.lo,
				bound.hi)
		}
	}
	return nil
}

// run is a load in progress.
type run struct {
	o       Options
	base    string
	http    *http.Client
	mix     Mix
	profile Profile
	stages  []stage
	callers []*caller
	tenants []*tenant
	counts  *counts
	began   time.Time // the run
	start   time.Time // its first request
}

func (r *run) say(format string, args ...any) {
	took := r.o.Now().Sub(r.began).Seconds()
	_, _ = fmt.Fprintf(r.o.Progress, "load: %6.1f s  "+format+"\n", append([]any{took}, args...)...)
}

// Run loads the target and returns what it found. An error means that there is no report worth reading; a
// promise that was not kept is in the report.
func Run(ctx context.Context, o Options) (Report, error) {
	r := &run{o: o, began: o.Now()}
	var err error
	if r.mix, err = mixOf(o.Mix); err != nil {
		return Report{}, err
	}
	if r.profile, err = profileOf(o.Profile); err != nil {
		return Report{}, err
	}
	if err := r.o.check(r.profile); err != nil {
		return Report{}, err
	}
	if r.base, err = baseOf(o.URL); err != nil {
		return Report{}, err
	}
	r.stages = stagesOf(r.profile, o.Rate, r.o.Duration)
	r.counts = newCounts(r.o.Duration)
	r.http = newHTTPClient(o.Callers, o.Anywhere)
	defer r.http.CloseIdleConnections()
	if err := r.prepare(ctx); err != nil {
		return Report{}, err
	}
	ended := r.follow(ctx)
	r.send(ctx)
	interrupted := ctx.Err() != nil
	// Who is told to end sends nothing more, and still finds out what became of what was sent.
	ctx = context.WithoutCancel(ctx)
	r.askAgain(ctx)
	r.drain(ctx)
	if err := ended(); err != nil {
		return Report{}, err
	}
	claims, err := r.judge(ctx)
	if err != nil {
		return Report{}, err
	}
	report := r.report(claims)
	report.Interrupted = interrupted
	return report, nil
}

// send sends all requests, each at its time, and returns when they are answered.
func (r *run) send(ctx context.Context) {
	s := newSchedule(r.o, r.stages, r.mix, r.sizes())
	r.say("%s, %s: %g/s for %s, %d callers, %d keys of %d tenants", r.mix.Name, r.profile.Name, r.o.Rate,
		r.o.Duration, r.o.Callers, len(r.callers), len(r.tenants))
	r.start = r.o.Now()
	var group sync.WaitGroup
	for range r.o.Callers {
		group.Go(func() { r.call(ctx, s) })
	}
	stop := r.progress(ctx)
	group.Wait()
	stop()
}

// call takes one arrival after the other, waits for its time and sends it. That all callers wait for answers
// makes requests late, and never unsent: their latency counts from when they were due.
func (r *run) call(ctx context.Context, s *schedule) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		a, ok := s.next()
		if !ok {
			return
		}
		due := r.start.Add(a.due)
		timer.Reset(due.Sub(r.o.Now()))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		r.counts.offer(a, r.o.Now().Sub(due))
		request, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestMax)
		r.perform(request, a, due)
		cancel()
	}
}

// sizes is what the schedule chooses from.
func (r *run) sizes() sizes {
	s := sizes{callers: make([][]int, len(r.tenants)), accounts: r.o.Accounts}
	for i, c := range r.callers {
		place := slices.Index(r.tenants, c.tenant)
		s.callers[place] = append(s.callers[place], i)
	}
	if r.mix.orders() {
		s.skus = skuCount
	}
	return s
}

// machine names where the load generator ran.
func machine() string {
	return fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH,
		runtime.Version())
}

var errFeed = errors.New("the feed of events ended")
