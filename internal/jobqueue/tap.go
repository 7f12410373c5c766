package jobqueue

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
)

// Tap lets a worker have more or fewer jobs of one queue in hand while it works. Jobs in hand are never cut
// off: what is not fetched any more waits in the queue, and loses nothing. Only one goroutine may turn it.
//
// River's own way to pause a queue is for all processes, by a notification that may be lost.
type Tap struct {
	client *river.Client[pgx.Tx]
	queue  string
	most   int
	now    int
	// closing says that the queue was to be left, and jobs of it were still in hand.
	closing bool
}

// NewTap makes the tap of a queue that a client has so many jobs of in hand.
func NewTap(client *river.Client[pgx.Tx], queue string, most int) *Tap {
	return &Tap{client: client, queue: queue, most: most, now: most}
}

// Set leaves a share of the jobs, at least one; 0 is none. It waits for jobs in hand, within the context:
// if that ends, nothing more is fetched, and Set has to be called again.
func (t *Tap) Set(ctx context.Context, share float64) error {
	want := min(t.most, int(math.Ceil(share*float64(t.most))))
	if want == t.now && !t.closing {
		return nil
	}
	if t.now > 0 || t.closing {
		t.closing = true
		if err := t.client.Queues().Remove(ctx, t.queue); err != nil {
			return fmt.Errorf("leave queue %s: %w", t.queue, err)
		}
		t.now, t.closing = 0, false
	}
	if want == 0 {
		return nil
	}
	if err := t.client.Queues().Add(t.queue, configOf(t.queue, want)); err != nil {
		return fmt.Errorf("take up queue %s: %w", t.queue, err)
	}
	t.now = want
	return nil
}
