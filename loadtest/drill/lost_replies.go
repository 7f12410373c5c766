package drill

import (
	"context"
	"fmt"
	"time"

	"example.com/holdfast/loadtest/simdep"
)

const (
	// lostReplyTimes is how many answers are lost where every other one is. Where all are, the breaker lets
	// only some out, and fewPayouts are enough to ask for.
	lostReplyTimes = 10_000
	fewPayouts     = 2_000
	// lostRate is how many payouts a second are asked for.
	lostRate = 250
	// lateMillis is when a submission arrives whose caller has left, which lateShare of them do.
	lateMillis = 500
	lateShare  = 0.2
)

func lostReplies() piece {
	settings := []string{
		"HOLDFAST_PAYOUT_TIMEOUT=200ms", "HOLDFAST_PAYOUT_LIMIT=64", "HOLDFAST_RISK_LIMIT=16",
	}
	return piece{
		name: "lost-replies", most: 5 * time.Minute,
		about: "the payout rail pays and its answer is lost, 10,000 times; each transfer is paid once",
		variants: []variant{
			{
				name: "paid, then no answer", settings: settings,
				play: func(ctx context.Context, s *stage) {
					s.losesReplies(ctx, fewPayouts, simdep.Knobs{TimeoutAfterSuccessRate: 1})
				},
			},
			{
				name: "every other answer lost", settings: settings,
				play: func(ctx context.Context, s *stage) {
					s.losesReplies(ctx, 2*lostReplyTimes, simdep.Knobs{TimeoutAfterSuccessRate: 0.5})
					s.claim(atLeast("answers that the rail lost, of those meant",
						float64(s.rail.Journal().RepliesLost)/float64(s.times(lostReplyTimes)), 0.9))
				},
			},
			{
				name: "keys ignored, late arrivals", settings: settings,
				play: func(ctx context.Context, s *stage) {
					s.losesReplies(ctx, fewPayouts, simdep.Knobs{
						IgnoreKeys: true, ArriveLate: lateMillis, HangRate: lateShare,
						TimeoutAfterSuccessRate: 1 - lateShare,
					})
				},
			},
		},
	}
}

// losesReplies pays out while the rail loses answers, lets it answer again, and claims that what was
// paid is settled, each once.
func (s *stage) losesReplies(ctx context.Context, payouts int, rail simdep.Knobs) {
	s.startWorkers(ctx, 2)
	t := s.caller(0)
	s.do(func() error {
		rail.Latency = calm().Latency
		return s.rail.SetKnobs(rail)
	})
	wanted := s.times(payouts)
	s.begin(ctx, t.sendsPayouts(lostRate))
	s.phase("answers are lost")
	s.until(ctx, fmt.Sprintf("%d payouts", wanted), 5*time.Minute, func() (bool, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		return len(t.transfers) >= wanted, nil
	})
	s.heal(s.rail)
	s.phase("the rail answers again")
	s.settle(ctx)
	s.paidOnce(ctx)
}
