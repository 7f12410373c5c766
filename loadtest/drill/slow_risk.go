package drill

import (
	"context"
	"time"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/loadtest/simdep"
)

// What a fault may do to others.
const (
	// besideFactor is how much slower a 99th percentile may get that has nothing to do with the fault.
	besideFactor = 1.5
	// noiseFloor is the 99th percentile below which a machine's noise is larger than what is measured.
	noiseFloor = 20 * time.Millisecond
	// riskLimit is the limit of the risk service, over all workers.
	riskLimit = 8
)

// The rates, per second, of a mixed load that a small machine carries easily.
const (
	transfersRate = 60
	ordersRate    = 20
	cancelsRate   = 20
	payoutsRate   = 20
	readsRate     = 60
)

func slowRisk() scenario {
	return scenario{
		name: "slow-risk", most: 3 * time.Minute,
		about: "the risk service takes 2 s for 30 s; orders, cancels, reads and payouts do not feel it",
		variants: []variant{{
			settings: []string{"HOLDFAST_RISK_TIMEOUT=3s"},
			play: func(ctx context.Context, s *stage) {
				s.startWorkers(ctx, 2)
				t := s.caller(0)
				calmFor, slowFor := s.long(20*time.Second), s.long(30*time.Second)
				seconds := int((2*calmFor + slowFor).Seconds()) + 2
				s.prepareReviews(ctx, t, cancelsRate*seconds, payoutsRate*seconds)
				ages := s.queueAge(ctx, jobqueue.QueueRisk)
				s.begin(ctx, t.sendsTransfers(transfersRate), t.placesOrders(ordersRate),
					t.cancelsReviews(cancelsRate), t.approvesPayouts(payoutsRate),
					t.readsTransfers(readsRate))
				s.during(ctx, "warm", time.Second)
				calm := s.during(ctx, "calm", calmFor)
				s.set(s.risk, func(k *simdep.Knobs) { k.Latency.P50 = 2_000 })
				fault := s.during(ctx, "the risk service takes 2 s", slowFor)
				s.heal(s.risk)
				s.during(ctx, "healed", calmFor)
				s.settle(ctx)
				s.effectsAll()
				seen := s.end(ages)
				s.besideTheFault(ctx, calm, fault)
				s.atTheFault(seen, fault)
			},
		}},
	}
}

// besideTheFault claims that what does not need the risk service is as fast as before.
func (s *stage) besideTheFault(ctx context.Context, calm, fault *phase) {
	for _, stream := range []string{orders, cancels, reads} {
		s.claim(notSlower("request of "+stream, calm.of(stream).spread(), fault.of(stream).spread(),
			besideFactor))
	}
	for _, way := range []struct{ name, first, second string }{
		{"order from pending to reserved", "order.pending", "order.reserved"},
		{"payout from settling to settled", "transfer.settling", "transfer.settled"},
	} {
		s.claim(notSlower(way.name, s.between(ctx, calm, way.first, way.second),
			s.between(ctx, fault, way.first, way.second), besideFactor))
	}
	for _, p := range []*phase{calm, fault} {
		s.figure("refused for a moment: "+p.name, "transfers %d of %d, orders %d of %d",
			p.of(transfers).refused, p.of(transfers).asked(), p.of(orders).refused, p.of(orders).asked())
	}
}

// atTheFault claims that the fault is seen where it is, and that nobody makes it worse.
func (s *stage) atTheFault(ages []sample, fault *phase) {
	age, looks := largest(ages, fault)
	s.claim(shown("the age of the risk queue shows the fault", looks > 0 && age > 0,
		short(time.Duration(age*float64(time.Second)))))
	j := s.risk.Journal()
	s.claim(
		atMost("calls at once at the risk service", j.MaxConcurrent, riskLimit),
		amplified("amplification at the risk service", j.Calls+j.Lookups, j.Keys, amplificationMax),
	)
}
