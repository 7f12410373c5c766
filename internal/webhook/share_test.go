package webhook_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/webhook"
)

// valve is a share that a test turns, and how often it was asked for.
type valve struct {
	open  atomic.Bool
	asked atomic.Int64
}

func (v *valve) share() float64 {
	v.asked.Add(1)
	if v.open.Load() {
		return 1
	}
	return 0
}

// looked waits until it was asked for some times more.
func (v *valve) looked(t *testing.T) {
	t.Helper()
	const looks = 5
	from := v.asked.Load()
	require.Eventually(t, func() bool { return v.asked.Load() >= from+looks }, patience, time.Millisecond)
}

func TestWhatIsDeferredIsSentLaterInItsOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(200))
	b.create(t, webhook.New{URL: r.url})
	v := &valve{}
	b.deliver(t, func(d *webhook.Deliverer) { d.Share = v.share })
	events := b.series(20)
	b.happen(t, events...)
	v.looked(t)
	require.Empty(t, r.delivered())
	v.open.Store(true)
	r.requireOnce(t, events)
}

func TestAnEndpointInHandIsLetGoWhenWebhooksAreDeferred(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v := &valve{}
	v.open.Store(true)
	var first sync.Once
	r := receive(t, func(got) int {
		first.Do(func() { v.open.Store(false) })
		return 200
	})
	b.create(t, webhook.New{URL: r.url})
	b.deliver(t, func(d *webhook.Deliverer) { d.Share = v.share })
	events := b.series(1_000)
	b.happen(t, events...)
	require.Eventually(t, func() bool { return len(r.delivered()) > 0 }, patience, time.Millisecond)
	v.looked(t)
	v.looked(t)
	require.Less(t, len(r.delivered()), len(events), "what was begun ends, and no more")
	v.open.Store(true)
	r.requireOnce(t, events)
}
