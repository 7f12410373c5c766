package webhook_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
