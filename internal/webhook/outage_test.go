package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/webhook"
)

// TestAnEndpointThatIsDownForAnHourCostsNextToNothingAndMissesNothing has two healthy neighbours, one of them
// of the same tenant.
func TestAnEndpointThatIsDownForAnHourCostsNextToNothingAndMissesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := b.another(t)
	dead, neighbour, stranger := receive(t, always(503)), receive(t, always(200)), receive(t, always(200))
	e := b.create(t, webhook.New{URL: dead.url})
	b.create(t, webhook.New{URL: neighbour.url})
	other.create(t, webhook.New{URL: stranger.url})
	b.deliver(t, nil)
	b.deliver(t, nil)

	const steps = 12
	aggregates := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	var events, others []outbox.Event
	for step := range int32(steps) {
		var some []outbox.Event
		for _, aggregate := range aggregates {
			some = append(some, b.event(aggregate, 2*step+1), b.event(aggregate, 2*step+2))
		}
		more := other.series(5)
		b.happen(t, append(slices.Clip(some), more...)...)
		events, others = append(events, some...), append(others, more...)
		neighbour.requireOnce(t, events)
		stranger.requireOnce(t, others)
		before := b.endpoint(t, e.ID).Failures
		b.pass(t, 5*time.Minute)
		b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Failures > before })
	}
	failing := b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return !e.FailingSince.IsZero() })
	require.Equal(t, "replied 503", failing.LastError)
	require.Greater(t, now().Sub(failing.FailingSince), 50*time.Minute)
	require.LessOrEqual(t, failing.Place, int64(5), "its events wait in the log; before them may be others'")
	require.Zero(t, b.count(t, "SELECT count(*) FROM webhook_backlog"))
	// The first round has flights for each aggregate. Early pauses may end by themselves.
	require.LessOrEqual(t, len(dead.requests()), len(aggregates)+4*(steps+6))
	all, err := b.service.Failing(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{e.ID}, []uuid.UUID{all[0].ID})

	dead.replies(always(200))
	require.Eventually(t, func() bool {
		b.hurry(t)
		return b.endpoint(t, e.ID).FailingSince.IsZero()
	}, patience, 20*time.Millisecond)
	dead.requireOnce(t, events)
	well := b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place > 0 && e.Failures == 0 })
	require.Zero(t, well.FailingSince)
}

func TestAnEndpointThatFailsForFiveDaysIsDisabledAndGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(500))
	e := b.create(t, webhook.New{URL: r.url})
	b.deliver(t, nil)
	events := append(b.series(2), b.series(2)...)
	b.happen(t, events...)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return !e.FailingSince.IsZero() })
	b.pass(t, 4*24*time.Hour)
	before := b.endpoint(t, e.ID).Failures
	b.pass(t, 10*time.Minute)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Failures > before })
	require.Equal(t, webhook.Active, b.endpoint(t, e.ID).Status)
	b.pass(t, 24*time.Hour)
	b.hurry(t)
	disabled := b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Status == webhook.Disabled })
	require.Equal(t, "Nothing got through for five days.", disabled.StatusReason)
	r.replies(always(200))
	b.setStatus(t, e.ID, webhook.Active)
	r.requireOnce(t, events)
}

// TestAnEventThatIsAlwaysRefusedIsDeadAfterADayAndParksItsAggregate goes through a day in steps.
func TestAnEventThatIsAlwaysRefusedIsDeadAfterADayAndParksItsAggregate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	poison := b.series(3)
	bad := cloudevent.ID(poison[0].AggregateID, 1)
	refuse := func(g got) int {
		if g.id == bad {
			return 422
		}
		return 200
	}
	r := receive(t, refuse)
	e := b.create(t, webhook.New{URL: r.url})
	var died atomic.Int64
	b.deliver(t, func(d *webhook.Deliverer) { d.Observer.Died = func(n int) { died.Add(int64(n)) } })
	b.happen(t, append(b.series(1), poison[:2]...)...)
	dead := func() []webhook.Dead {
		all, err := b.service.DeadLetters(t.Context(), e.Ref, 0, 10)
		require.NoError(t, err)
		return all
	}
	tried := func(n int) func() bool {
		return func() bool {
			return b.count(t, "SELECT coalesce(max(attempts), 0) FROM webhook_backlog") == n
		}
	}
	require.Eventually(t, tried(1), patience, time.Millisecond)
	for n := range 3 {
		fine := b.series(1)
		b.happen(t, fine...)
		r.requireAll(t, fine)
		b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == int64(4+n) })
		b.pass(t, 7*time.Hour)
		require.Eventually(t, tried(2+n), patience, time.Millisecond)
		require.Empty(t, dead())
	}
	b.pass(t, 4*time.Hour)
	require.Eventually(t, func() bool { return len(dead()) == 1 }, patience, time.Millisecond)
	b.happen(t, poison[2])
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 7 })
	d := dead()[0]
	require.Equal(t, webhook.Dead{
		Place: d.Place, EventID: bad, EventType: "thing.moved", Attempts: 5, LastStatus: 422,
		LastError: "replied 422", FirstFailedAt: d.FirstFailedAt, DeadAt: d.DeadAt, Behind: 2,
	}, d)
	require.Equal(t, 1, int(died.Load()))
	all, err := b.service.DeadAll(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, []webhook.DeadOf{{Endpoint: e.Ref, URL: r.url, Dead: d}}, all)
	next, err := b.service.DeadLetters(t.Context(), e.Ref, d.Place, 10)
	require.NoError(t, err)
	require.Empty(t, next)
	stats, err := webhook.ReadStats(t.Context(), b.pool)
	require.NoError(t, err)
	require.Equal(t, webhook.Stats{Dead: 1}, stats)
	for _, g := range r.delivered() {
		require.NotEqual(t, poison[0].AggregateID, g.Aggregate, "its aggregate is parked")
	}

	r.replies(always(200))
	response, err := b.service.Redrive(t.Context(), b.fresh(), e.ID, func(n int) idempotency.Response {
		return idempotency.Response{Status: 200, Body: fmt.Append(nil, n)}
	})
	require.NoError(t, err)
	require.Equal(t, "1", string(response.Body))
	r.requireAll(t, poison)
	require.Eventually(t, func() bool { return b.count(t, "SELECT count(*) FROM webhook_backlog") == 0 },
		patience, time.Millisecond)
}

func TestOneEventThatIsRefusedKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	b := setup(t)
	poison := b.series(2)
	r := receive(t, func(g got) int {
		if g.Aggregate == poison[0].AggregateID {
			return 500
		}
		return 200
	})
	e := b.create(t, webhook.New{URL: r.url})
	b.deliver(t, nil)
	b.happen(t, poison...)
	failing := b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 2 })
	require.NotZero(t, failing.FailingSince)
	require.Equal(t, 2, b.count(t, "SELECT count(*) FROM webhook_backlog"), "and what is behind it")
	for range 3 {
		fine := b.series(2)
		b.happen(t, fine...)
		r.requireAll(t, fine)
		b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.FailingSince.IsZero() })
		b.pass(t, time.Minute)
	}
	require.Equal(t, 2, b.count(t, "SELECT count(*) FROM webhook_backlog"))
}

// TestAProbeGetsPastWhatIsAlwaysRefused has an endpoint that refuses nearly everything that waits: the
// beginning of its log, and the beginning of its backlog.
func TestAProbeGetsPastWhatIsAlwaysRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, func(g got) int {
		if g.Type == "thing.bad" {
			return 422
		}
		return 200
	})
	e := b.create(t, webhook.New{URL: r.url})
	b.deliver(t, func(d *webhook.Deliverer) { d.Random = func() float64 { return 0.999 } }) // the last of all
	bad := func(n int) []outbox.Event {
		var events []outbox.Event
		for range n {
			one := b.series(1)
			one[0].Type = "thing.bad"
			events = append(events, one...)
		}
		return events
	}
	b.happen(t, bad(20)...)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return !e.FailingSince.IsZero() })
	fine := b.series(1)
	b.happen(t, bad(20)...)
	b.happen(t, fine...)
	require.Eventually(t, func() bool {
		b.hurry(t)
		return len(r.delivered()) > 0
	}, patience, 20*time.Millisecond)
	r.requireOnce(t, fine)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 41 })
	require.Equal(t, 40, b.count(t, "SELECT count(*) FROM webhook_backlog"))
	for range 3 { // nothing is hurried any more
		more := b.series(2)
		b.happen(t, more...)
		fine = append(fine, more...)
		r.requireOnce(t, fine)
	}
}

func TestWhatIsMissingInTheLogIsSaid(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(200))
	e := b.create(t, webhook.New{URL: r.url})
	idle := b.another(t).create(t, webhook.New{URL: r.url})
	b.setStatus(t, e.ID, webhook.Paused)
	lost, kept := b.series(3), b.series(2)
	b.happen(t, lost...)
	b.happen(t, kept...)
	moved, err := webhook.CleanUp(t.Context(), b.pool)
	require.NoError(t, err)
	require.Equal(t, 1, moved)
	require.Equal(t, 5, b.count(t, "SELECT place FROM webhook_endpoints WHERE id = $1", idle.ID),
		"it has nothing behind its place")
	require.Zero(t, b.endpoint(t, e.ID).Place)

	b.exec(t, "DELETE FROM event_log WHERE last <= 3")
	b.exec(t, "UPDATE event_log_head SET forgotten = 3")
	b.deliver(t, nil)
	b.setStatus(t, e.ID, webhook.Active)
	r.requireOnce(t, kept[:0])
	told := b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 5 })
	require.Equal(t, webhook.Active, told.Status)
	require.Equal(t, "Events waited longer than the log keeps them, and were not sent.", told.StatusReason)
	require.Len(t, r.delivered(), 2)
}

func TestOldAttemptsAreForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(200))
	e := b.create(t, webhook.New{URL: r.url})
	b.deliver(t, nil)
	events := b.series(5)
	b.happen(t, events...)
	r.requireOnce(t, events)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 5 })
	b.exec(t, `UPDATE webhook_attempts SET at = at - interval '8 days'
	            WHERE id IN (SELECT id FROM webhook_attempts ORDER BY id LIMIT 2)`)
	n, err := webhook.CleanUp(t.Context(), b.pool)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	left := b.attempts(t, e.ID)
	require.Len(t, left, 3)
	page, err := b.service.Attempts(t.Context(), e.Ref, left[0].ID, 1)
	require.NoError(t, err)
	require.Equal(t, left[1:2], page, "pages go back")
}

func TestAnEventThatCannotBeWrittenFailsAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(200))
	e := b.create(t, webhook.New{URL: r.url})
	bad, fine := b.series(1), b.series(2)
	var broken atomic.Bool
	broken.Store(true)
	b.deliver(t, func(d *webhook.Deliverer) {
		d.Encode = func(ctx context.Context, events []outbox.Logged) ([]cloudevent.Message, error) {
			if broken.Load() && slices.ContainsFunc(events, func(e outbox.Logged) bool {
				return e.AggregateID == bad[0].AggregateID
			}) {
				return nil, errors.New("secret of ours")
			}
			return encode(ctx, events)
		}
	})
	b.happen(t, append(bad, fine...)...)
	r.requireOnce(t, fine)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 3 })
	require.Zero(t, b.endpoint(t, e.ID).FailingSince)
	var unwritten []string
	for _, a := range b.attempts(t, e.ID) {
		if a.Outcome == "unwritten" {
			unwritten = append(unwritten, a.EventID, a.Error)
		}
	}
	text := "the event could not be written as a message"
	require.Equal(t, []string{cloudevent.ID(bad[0].AggregateID, 1), text}, unwritten[:2])
	broken.Store(false)
	b.pass(t, time.Minute)
	r.requireAll(t, bad)
}

func TestAnotherUrlIsUsedFromTheNextRoundOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := receive(t, always(500)), receive(t, always(200))
	e := b.create(t, webhook.New{URL: first.url})
	b.deliver(t, nil)
	events := append(b.series(1), b.series(1)...)
	b.happen(t, events...)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Failures > 0 })
	_, err := b.service.Change(t.Context(), b.fresh(), e.ID, webhook.Change{URL: second.url}, rendered)
	require.NoError(t, err)
	b.hurry(t)
	second.requireOnce(t, events)
}

func TestWithoutAKeyNothingIsDelivered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := b.deliverer(t, func(d *webhook.Deliverer) { d.Key = nil })
	require.ErrorContains(t, d.Start(t.Context()), "no key")
}

func TestWhatWaitsGoesAtOnceWhenItsEndpointIsWellAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := b.series(2), b.series(1)
	r := receive(t, always(500))
	e := b.create(t, webhook.New{URL: r.url})
	b.deliver(t, nil)
	b.happen(t, first...)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 2 })
	b.exec(t, "UPDATE webhook_backlog SET due_at = due_at + interval '1 hour' WHERE due_at IS NOT NULL")
	b.exec(t, "UPDATE webhook_backlog SET first_failed_at = now() - interval '3 days' WHERE attempts > 0")
	r.replies(always(200))
	b.happen(t, second...)
	r.requireOnce(t, append(first, second...))

	// What has been failing for days gets another chance: it is not dead for one refusal more.
	poison := b.series(1)
	r.replies(func(g got) int {
		if g.Aggregate == poison[0].AggregateID {
			return 500
		}
		return 200
	})
	b.happen(t, poison...)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 4 && !e.FailingSince.IsZero() })
	b.exec(t, "UPDATE webhook_backlog SET due_at = due_at + interval '1 hour'")
	b.exec(t, "UPDATE webhook_backlog SET first_failed_at = now() - interval '3 days'")
	b.happen(t, b.series(1)...)
	require.Eventually(t, func() bool {
		return b.count(t, "SELECT count(*) FROM webhook_backlog WHERE attempts = 2 AND dead_at IS NULL") == 1
	}, patience, time.Millisecond)
}
