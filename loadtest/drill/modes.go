package drill

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/loadtest/rig"
	"example.com/holdfast/loadtest/simdep"
)

const (
	// followMax is how soon a process follows the mode.
	followMax = 2 * time.Second
	// switchMax is how long a scenario waits for a switch of the controller.
	switchMax = time.Minute
	// quickRefusal is what a refusal by the mode takes, in the middle.
	quickRefusal = 5 * time.Millisecond
	// catchUpLook is how long the first step of catching up is looked at, and catchUpPlaces how many places
	// at the notification service its workers have together in it: a tenth of ten each.
	catchUpLook   = 2 * time.Second
	catchUpPlaces = 2
	// The rates, per second, by class.
	transfersRate = 60
	sheddableRate = 20
	criticalRate  = 10
	// The names of their streams.
	sheddable = "sheddable transfers"
	critical  = "critical transfers"
)

// hasty is the default policy at a pace for a drill.
func hasty() ([]byte, error) {
	text := string(mode.DefaultText)
	for _, change := range [][2]string{
		{"sample_every: 5s", "sample_every: 1s"},
		{"leave_after: 12", "leave_after: 5"},
		{"dwell: 60s", "dwell: 8s"},
		{"within: 60s", "within: 12s"},
		{"transfer_age_seconds: {enter: 5, leave: 2}", "transfer_age_seconds: {enter: 3, leave: 1}"},
		{"transfer_age_seconds: {enter: 20, leave: 8}", "transfer_age_seconds: {enter: 6, leave: 3}"},
	} {
		if !strings.Contains(text, change[0]) {
			return nil, fmt.Errorf("the default policy has no %q", change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return []byte(text), nil
}

// modes lets a slow dependency lead through the modes and back.
func modes() piece {
	return piece{
		name: "modes", most: 5 * time.Minute,
		about: "a slow dependency: normal, constrained, protection and back, nothing lost, no flapping",
		variants: []variant{{
			// Nobody refuses but the mode.
			settings: []string{
				"HOLDFAST_RISK_TIMEOUT=3s", "HOLDFAST_QUEUE_AGE_MAX=1h", "HOLDFAST_ACCEPT_WAIT_MAX=0s",
			},
			policy: hasty,
			play: func(ctx context.Context, s *stage) {
				s.startWorkers(ctx, 2)
				s.begin(ctx, s.caller(0).sendsTransfers(transfersRate),
					s.ofClass(tenancy.Sheddable).named(sheddable, sheddableRate),
					s.ofClass(tenancy.Critical).named(critical, criticalRate))
				told := s.inFlight(ctx, s.notify)
				s.during(ctx, "normal", s.long(10*time.Second))
				s.set(s.risk, func(k *simdep.Knobs) { k.Latency.P50 = 2_000 })
				s.phase("the risk service takes 2 s")
				s.awaitMode(ctx, mode.Constrained)
				s.awaitMode(ctx, mode.Protection)
				s.during(ctx, "protection, followed", followMax)
				before := s.notify.Journal().Calls
				protected := s.during(ctx, "protection", s.long(10*time.Second))
				deferred := s.notify.Journal().Calls - before
				s.heal(s.risk)
				s.phase("healed")
				s.awaitMode(ctx, mode.Normal)
				back := s.run.o.Now()
				s.during(ctx, "normal again", s.long(15*time.Second))
				s.settle(ctx)
				s.effectsAll()
				s.inProtection(protected, deferred)
				s.switchedInOrder(ctx)
				s.caughtUpSlowly(s.end(told), back)
				s.followsSoon(ctx)
			},
		}},
	}
}

// ofClass is a caller with the key of a class.
func (s *stage) ofClass(class tenancy.Class) *traffic {
	t := s.caller(0)
	t.tenant.Key, t.prefix = t.tenant.Keys[string(class)], string(class)+"-"
	return t
}

// named is a stream of transfers under another name.
func (t *traffic) named(name string, rate float64) stream {
	all := t.sendsTransfers(rate)
	all.name = name
	return all
}

// modeNow reads the mode that is in force.
func (s *stage) modeNow(ctx context.Context) (mode.State, error) {
	return mode.Read(ctx, s.referee.Conn)
}

// awaitMode waits until the controller has switched to a mode.
func (s *stage) awaitMode(ctx context.Context, want mode.Mode) {
	s.until(ctx, "the mode "+string(want), switchMax, func() (bool, error) {
		now, err := s.modeNow(ctx)
		return now.Mode == want, err
	})
	s.phase(string(want))
}

// inProtection claims what a mode refuses and defers, and that all else passes.
func (s *stage) inProtection(p *phase, deferred uint64) {
	if s.err != nil {
		return
	}
	shed, passed, plain := p.of(sheddable), p.of(critical), p.of(transfers)
	waits := shed.refusalSpread()
	s.claim(
		equal("sheddable transfers that were refused, of all", shed.refused, shed.asked()),
		shown("a refusal at the client in the middle", waits.p50 <= quickRefusal, short(waits.p50)),
		within("a refusal at the client", waits, refusalMax, samplesMin),
		atMost("critical transfers that were refused", passed.refused, 0),
		atMost("standard transfers that were refused", plain.refused, 0),
		atMost("notifications that were sent in protection", deferred, 0),
	)
}

// switchedInOrder claims that there was no switch but the four, each with the signals that led to it.
func (s *stage) switchedInOrder(ctx context.Context) {
	s.do(func() error {
		changes, err := mode.History(ctx, s.referee.Conn, 0, mode.HistoryMaxRows)
		if err != nil {
			return err
		}
		slices.Reverse(changes)
		var way, unexplained []string
		for _, c := range changes {
			way = append(way, string(c.Mode))
			if c.Cause == mode.Controller && (len(c.Signals) == 0 || c.Reason == "") {
				unexplained = append(unexplained, fmt.Sprintf("version %d", c.Version))
			}
			s.figure(fmt.Sprintf("switch %d", c.Version), "to %s: %s", c.Mode, c.Reason)
		}
		all, want := strings.Join(way, ", "), "normal, constrained, protection, constrained, normal"
		s.claim(
			Claim{"the modes, in their order", want, all, all == want},
			none("switches without their signals", unexplained),
		)
		return nil
	})
}

// caughtUpSlowly claims that what was deferred does not come back in a storm.
func (s *stage) caughtUpSlowly(calls []sample, since time.Time) {
	most, looks := largest(calls, &phase{from: since, to: since.Add(catchUpLook)})
	s.claim(shown("the first step of catching up was looked at", looks > 0, strconv.Itoa(looks)),
		atMost("notifications at once in the first step of catching up", uint64(most), catchUpPlaces))
}

// followsSoon claims that a switch is in force at the door of the API, and known to all processes, soon.
func (s *stage) followsSoon(ctx context.Context) {
	t := s.ofClass(tenancy.Sheddable)
	s.do(func() error { return s.pin(ctx, mode.Protection) })
	began := s.run.o.Now()
	s.until(ctx, "the refusal by the mode", switchMax, func() (bool, error) {
		a, err := t.do(ctx, request{method: "GET", url: t.base + "/v1/accounts", bearer: t.tenant.Key})
		return a.code == "refused_by_mode", err
	})
	s.claim(atMost("seconds until the API follows", s.run.o.Now().Sub(began).Seconds(), followMax.Seconds()))
	s.until(ctx, "all processes to follow", switchMax, func() (bool, error) {
		now, err := s.modeNow(ctx)
		if err != nil {
			return false, err
		}
		all, err := mode.Followers(ctx, s.referee.Conn)
		behind := func(f mode.Follower) bool { return f.Follows != now.Version }
		return len(all) == len(s.workers)+1 && !slices.ContainsFunc(all, behind), err
	})
	took := s.run.o.Now().Sub(began)
	// Each says so with its next report, which is a second after that at the latest.
	s.claim(atMost("seconds until all processes have reported that they follow", took.Seconds(),
		(followMax + time.Second).Seconds()))
}

// pin puts a mode in force, whatever the signals say.
func (s *stage) pin(ctx context.Context, m mode.Mode) error {
	pool, err := pgxpool.New(ctx, s.url)
	if err != nil {
		return err
	}
	defer pool.Close()
	return rig.PinMode(ctx, pool, m)
}
