package drill

import (
	"context"
	"time"

	"example.com/holdfast/loadtest/simdep"
)

const (
	// dueMax is how soon after its acceptance a transfer's first call ends where nothing is wrong.
	dueMax = time.Second
	// nowAndThen is the part of the calls that fails: less than the budget of retries bears.
	nowAndThen = 0.03
	// retriedMax is how soon a transfer settles whose calls fail now and then.
	retriedMax = 10 * time.Second
)

func clockSkew() piece {
	return piece{
		name: "clock-skew", most: 2 * time.Minute,
		about: "the database's clock is 2 h off; jobs start in time, none is taken from the living",
		variants: []variant{
			{name: "database 2 h behind", clock: "-2h", play: skewed},
			{name: "database 2 h ahead", clock: "+2h", play: skewed},
		},
	}
}

func skewed(ctx context.Context, s *stage) {
	s.figure("the database's clock minus ours", "%s", s.referee.Skew.Round(time.Second))
	s.startWorkers(ctx, 3)
	t := s.caller(0)
	s.begin(ctx, t.sendsTransfers(30), t.placesOrders(5), t.sendsPayouts(5))
	s.during(ctx, "warm", time.Second)
	calm := s.during(ctx, "nothing is wrong", s.long(20*time.Second))
	s.set(s.risk, func(k *simdep.Knobs) { k.ErrorRate = nowAndThen })
	failing := s.during(ctx, "the risk service fails now and then", s.long(20*time.Second))
	s.set(s.risk, func(k *simdep.Knobs) { k.Latency.P50 = inHandMillis })
	s.during(ctx, "calls in hand", s.long(10*time.Second))
	taken := s.total(ctx, "holdfast_reaper_jobs_total", "")
	s.phase("a worker is killed")
	took := s.killOne(ctx)
	s.heal(s.risk)
	s.settle(ctx)
	const accepted, settled = "transfer.accepted", "transfer.settled"
	s.claim(
		atMost("jobs taken from living workers", taken, 0),
		within("accepted until settled, nothing wrong",
			s.between(ctx, calm, accepted, settled), dueMax, samplesMin),
		within("accepted until settled, calls failing",
			s.between(ctx, failing, accepted, settled), retriedMax, samplesMin),
		within("kill -9 until its work is taken up", spreadOf([]time.Duration{took}), takeOverMax, 1),
	)
}
