package webhook_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/webhook"
)

func TestAnEndpointOfTheDeadIsReleased(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(204))
	e, other := b.create(t, webhook.New{URL: r.url}), b.create(t, webhook.New{URL: r.url})
	b.exec(t, "UPDATE webhook_endpoints SET holder = 'dead', held_until = now() + interval '1 hour'")
	b.exec(t, "UPDATE webhook_endpoints SET holder = 'well' WHERE id = $1", other.ID)
	require.NoError(t, webhook.Release(t.Context(), b.pool, []string{"dead", "long dead"}))
	const released = "SELECT count(*) FROM webhook_endpoints WHERE held_until <= now() AND id = $1"
	require.Equal(t, 1, b.count(t, released, e.ID))
	require.Equal(t, 1, b.count(t, "SELECT count(*) FROM webhook_endpoints WHERE held_until > now()"))
	events := b.series(2)
	b.happen(t, events...)
	b.deliver(t, nil)
	r.requireOnce(t, events)
}
