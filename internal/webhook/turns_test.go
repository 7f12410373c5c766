package webhook_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/webhook"
)

func TestAProcessThatStopsLetsOthersGoOnAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r := receive(t, func(got) int {
		once.Do(func() {
			close(arrived)
			<-release
		})
		return 200
	})
	b.create(t, webhook.New{URL: r.url})
	d := b.deliverer(t, nil)
	require.NoError(t, d.Start(t.Context()))
	events := b.series(3)
	b.happen(t, events...)
	<-arrived
	d.Cancel() // as Stop does at first
	close(release)
	d.Stop()
	require.Len(t, r.requests(), 1, "what was on its way is waited for, nothing else is begun")
	require.Equal(t, 1, b.count(t, "SELECT place FROM webhook_endpoints"), "and is written down")
	require.Equal(t, 1, b.count(t, "SELECT count(*) FROM webhook_endpoints WHERE held_until <= now()"))
	b.deliver(t, nil)
	r.requireOnce(t, events)
}

func TestEveryEndpointGetsItsTurnInFewHands(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(200))
	const tenants = 5
	for range tenants {
		b = b.another(t)
		for range webhook.EndpointsMax {
			b.create(t, webhook.New{URL: r.url})
		}
		b.happen(t, b.series(2)...)
	}
	b.deliver(t, nil)
	const all = 2 * tenants * webhook.EndpointsMax
	require.Eventually(t, func() bool { return len(r.delivered()) == all }, patience, time.Millisecond)
}

// TestWhatIsDeletedWhileItIsInHandIsGone deletes an endpoint while its receiver replies.
func TestWhatIsDeletedWhileItIsInHandIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var id atomic.Value
	r := receive(t, func(got) int {
		e, _ := id.Load().(uuid.UUID)
		_, err := b.service.Delete(t.Context(), b.fresh(), e, func() idempotency.Response {
			return idempotency.Response{Status: 204}
		})
		if err != nil {
			t.Error(err)
		}
		return 500
	})
	id.Store(b.create(t, webhook.New{URL: r.url}).ID)
	other := receive(t, always(200))
	b.create(t, webhook.New{URL: other.url})
	b.deliver(t, nil)
	first, second := b.series(1), b.series(1)
	b.happen(t, first...)
	require.Eventually(t, func() bool { return len(r.requests()) == 1 }, patience, time.Millisecond)
	b.happen(t, second...)
	other.requireOnce(t, append(first, second...))
	require.Len(t, r.requests(), 1)
	require.Equal(t, 1, b.count(t, "SELECT count(*) FROM webhook_endpoints"))
	require.Zero(t, b.count(t, "SELECT count(*) FROM webhook_backlog"))
}

func TestAUrlThatMayNotBeCalledAnyMoreIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(200))
	e := b.create(t, webhook.New{URL: r.url}) // of the time when this was a development machine
	b.deliver(t, func(d *webhook.Deliverer) { d.Development = false })
	b.happen(t, b.series(1)...)
	require.Eventually(t, func() bool {
		return b.count(t, `SELECT count(*) FROM webhook_endpoints
		                    WHERE next_at > now() + interval '1 minute'`) == 1
	}, patience, time.Millisecond)
	require.Empty(t, r.requests())
	require.Zero(t, b.endpoint(t, e.ID).Place, "its events wait")
}
