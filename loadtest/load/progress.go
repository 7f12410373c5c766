package load

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// progressEvery is how often a line tells how the load goes.
const progressEvery = 2 * time.Second

// progress tells how the load goes until the function that it returns is called.
func (r *run) progress(ctx context.Context) func() {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		last, ended := newTally(), r.ended()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			now, nowEnded := r.counts.sum(everything), r.ended()
			r.say("%s", line(now, last, nowEnded-ended, r.tookLately()))
			last, ended = now, nowEnded
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

func everything(group) bool { return true }

// line says what came in the time between two looks.
func line(now, last *tally, ended int, p99 time.Duration) string {
	rate := func(n uint64) float64 { return float64(n) / progressEvery.Seconds() }
	text := fmt.Sprintf("answered %.0f/s, good %.0f/s, refused %.0f/s, ended %.0f/s, p99 %s",
		rate(now.sent-last.sent), rate(now.good-last.good), rate(now.refused-last.refused),
		float64(ended)/progressEvery.Seconds(), short(p99))
	if bad := now.wrong + now.failed; bad > 0 {
		text += fmt.Sprintf(", %d wrong or without an answer so far", bad)
	}
	return text
}

// ended counts what has ended in the feeds.
func (r *run) ended() int {
	n := 0
	for _, t := range r.tenants {
		n += t.feed.count()
	}
	return n
}

// tookLately is the 99th percentile of the last slice of time that is over.
func (r *run) tookLately() time.Duration {
	r.counts.mu.Lock()
	defer r.counts.mu.Unlock()
	at := int(r.o.Now().Sub(r.start)/r.counts.width) - 1
	if at < 0 || at >= len(r.counts.slices) {
		return 0
	}
	return r.counts.slices[at].took.Quantile(0.99)
}
