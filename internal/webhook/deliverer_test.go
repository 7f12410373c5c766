package webhook_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/webhook"
)

func TestAnEventIsPostedSignedToThoseWhoWantIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	all, some := receive(t, always(204)), receive(t, always(200))
	e := b.create(t, webhook.New{URL: all.url})
	b.create(t, webhook.New{URL: some.url, Types: []string{"other.*", "thing.ended"}})
	lags := make(chan time.Duration, 10)
	b.deliver(t, func(d *webhook.Deliverer) {
		d.Observer.Delivered = func(lag time.Duration) { lags <- lag }
	})
	events := b.series(3)
	events[1].Type, events[2].Type = "thing.ended", "other.thing"
	b.happen(t, events...)
	all.requireOnce(t, events)
	require.Eventually(t, func() bool { return len(some.delivered()) == 2 }, patience, time.Millisecond)

	secrets, err := b.service.Secret(t.Context(), e.Ref)
	require.NoError(t, err)
	for n, g := range all.delivered() {
		requireSigned(t, secrets.Current, g)
		require.Equal(t, cloudevent.ID(events[n].AggregateID, events[n].Seq), g.id)
		require.Equal(t, message{b.tenant, events[n].AggregateID, events[n].Seq, events[n].Type}, g.message)
		require.Equal(t, cloudevent.ContentType, g.header.Get("Content-Type"))
		require.Equal(t, "Holdfast-Webhooks", g.header.Get("User-Agent"))
		require.Empty(t, g.header.Get("Idempotency-Key"))
	}
	for _, g := range some.delivered() {
		require.Contains(t, []string{"thing.ended", "other.thing"}, g.Type)
	}
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 3 })
	attempts := b.attempts(t, e.ID)
	require.Len(t, attempts, 3)
	for n, a := range attempts {
		event := events[2-n]
		require.WithinDuration(t, now(), a.At, time.Minute)
		require.Positive(t, a.Duration)
		require.Equal(t, webhook.Attempt{
			ID: a.ID, EventID: cloudevent.ID(event.AggregateID, event.Seq), EventType: event.Type,
			Kind: "event", At: a.At, Outcome: "delivered", Status: 204, Duration: a.Duration, Attempt: 1,
		}, a)
	}
	for range 5 {
		require.Positive(t, <-lags)
	}
}

func TestWhatHappenedBeforeAnEndpointWasMadeIsNotSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(200))
	b.happen(t, b.series(3)...)
	b.create(t, webhook.New{URL: r.url})
	b.deliver(t, nil)
	after := b.series(2)
	b.happen(t, after...)
	r.requireOnce(t, after)
}

func TestBothSecretsSignWhileTheyOverlap(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(200))
	e := b.create(t, webhook.New{URL: r.url})
	_, err := b.service.RotateSecret(t.Context(), b.fresh(), e.ID, time.Hour, rendered)
	require.NoError(t, err)
	secrets, err := b.service.Secret(t.Context(), e.Ref)
	require.NoError(t, err)
	b.deliver(t, nil)
	first := b.series(1)
	b.happen(t, first...)
	r.requireOnce(t, first)
	requireSigned(t, secrets.Current, r.delivered()[0])
	requireSigned(t, secrets.Previous, r.delivered()[0])

	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 1 })
	b.pass(t, time.Hour)
	second := b.series(1)
	b.happen(t, second...)
	r.requireAll(t, second)
	requireSigned(t, secrets.Current, r.delivered()[1])
	verifier, err := standardwebhooks.NewWebhook(secrets.Previous)
	require.NoError(t, err)
	g := r.delivered()[1]
	require.Error(t, verifier.Verify(g.body, g.header), "its time is over")
}

func TestNobodyGetsAnothersEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := b.another(t)
	mine, theirs := receive(t, always(200)), receive(t, always(200))
	b.create(t, webhook.New{URL: mine.url})
	other.create(t, webhook.New{URL: theirs.url})
	b.deliver(t, nil)
	var ours, others []outbox.Event
	for range 20 {
		ours, others = append(ours, b.series(2)...), append(others, other.series(2)...)
	}
	b.happen(t, append(slices.Clip(ours), others...)...)
	mine.requireOnce(t, ours)
	theirs.requireOnce(t, others)
}

func TestNoMoreThanEightAreOnTheirWayToAnEndpoint(t *testing.T) {
	t.Parallel()
	b := setup(t)
	eight := make(chan struct{})
	var arrived atomic.Int64
	r := receive(t, func(got) int {
		if arrived.Add(1) == 8 {
			close(eight)
		}
		<-eight
		return 200
	})
	b.create(t, webhook.New{URL: r.url})
	var events []outbox.Event
	for range 100 {
		events = append(events, b.series(1)...)
	}
	b.happen(t, events...)
	b.deliver(t, nil)
	b.deliver(t, nil)
	r.requireOnce(t, events)
	require.Equal(t, 8, r.most)
}

// TestEachAggregateArrivesInItsOrderWhateverFails lets four in ten requests fail, while one of three
// processes stops, one is replaced without knowing, and events go on happening.
func TestEachAggregateArrivesInItsOrderWhateverFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, 2))
	r := receive(t, func(got) int {
		mu.Lock()
		defer mu.Unlock()
		switch n := random.IntN(10); {
		case n < 2:
			return 500
		case n < 4:
			return 400
		}
		return 200
	})
	e := b.create(t, webhook.New{URL: r.url})
	b.deliver(t, nil)
	b.deliver(t, nil)
	stopped := b.deliverer(t, nil)
	require.NoError(t, stopped.Start(t.Context()))
	aggregates := make([]uuid.UUID, 30)
	for n := range aggregates {
		aggregates[n] = uuid.New()
	}
	var events []outbox.Event
	for round := range int32(6) {
		var some []outbox.Event
		for _, aggregate := range aggregates {
			some = append(some, b.event(aggregate, 2*round+1), b.event(aggregate, 2*round+2))
		}
		b.happen(t, some...)
		events = append(events, some...)
		b.hurry(t)
		// Whoever holds it is replaced, and learns of it when it writes.
		b.exec(t, "UPDATE webhook_endpoints SET held_until = now() - interval '1 second'")
		if round == 3 {
			stopped.Stop()
		}
	}
	require.Eventually(t, func() bool {
		b.hurry(t)
		return b.endpoint(t, e.ID).Place == int64(len(events)) &&
			b.count(t, "SELECT count(*) FROM webhook_backlog") == 0
	}, patience, 10*time.Millisecond)
	r.requireAll(t, events)
}

func TestAnEndpointThatIsPausedGetsEverythingLater(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(200))
	e := b.create(t, webhook.New{URL: r.url})
	other := receive(t, always(200))
	b.create(t, webhook.New{URL: other.url})
	b.setStatus(t, e.ID, webhook.Paused)
	b.deliver(t, nil)
	events := append(b.series(3), b.series(3)...)
	b.happen(t, events...)
	other.requireOnce(t, events)
	require.Empty(t, r.requests())
	require.Zero(t, b.endpoint(t, e.ID).Place)
	b.setStatus(t, e.ID, webhook.Active)
	r.requireOnce(t, events)
}

func TestWhoIsGoneIsDisabledUntilItIsResumed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(http.StatusGone))
	e := b.create(t, webhook.New{URL: r.url})
	disabled := make(chan struct{}, 1)
	b.deliver(t, func(d *webhook.Deliverer) {
		d.Observer.Disabled = func() { disabled <- struct{}{} }
	})
	events := b.series(3)
	b.happen(t, events...)
	<-disabled
	gone := b.endpoint(t, e.ID)
	require.Equal(t, webhook.Disabled, gone.Status)
	require.Equal(t, "It replied 410 Gone.", gone.StatusReason)
	require.Equal(t, "replied 410", gone.LastError)
	require.Len(t, r.requests(), 1)
	r.replies(always(200))
	b.setStatus(t, e.ID, webhook.Active)
	r.requireOnce(t, events)
	well := b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 3 })
	require.Zero(t, well.Failures)
	require.Empty(t, well.StatusReason)
}

func TestARedirectIsAFailureAndIsNotFollowed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	elsewhere := receive(t, always(200))
	server := receive(t, always(http.StatusFound))
	e := b.create(t, webhook.New{URL: server.url})
	b.deliver(t, nil)
	b.happen(t, b.series(1)...)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Failures == 1 })
	require.Empty(t, elsewhere.requests())
	attempt := b.attempts(t, e.ID)[0]
	require.Equal(t, []any{"unexpected", 302, "replied 302"},
		[]any{attempt.Outcome, attempt.Status, attempt.Error})
}

// TestACrashBetweenSendAndCommitRepeatsTheSameMessage takes the endpoint away while its receiver replies.
func TestACrashBetweenSendAndCommitRepeatsTheSameMessage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var once sync.Once
	r := receive(t, func(got) int {
		once.Do(func() { b.exec(t, "UPDATE webhook_endpoints SET claims = claims + 1, held_until = now()") })
		return 200
	})
	e := b.create(t, webhook.New{URL: r.url})
	b.deliver(t, nil)
	events := b.series(2)
	b.happen(t, events...)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 2 })
	taken := r.requireAll(t, events)
	ids := map[string]int{}
	for _, g := range taken {
		ids[g.id]++
	}
	require.Len(t, ids, 2)
	require.Equal(t, 2, ids[cloudevent.ID(events[0].AggregateID, 1)], "%v", ids)
	require.Len(t, b.attempts(t, e.ID), 2, "what was not written down is not in the log")
}

func TestAnEndpointThatHangsHarmsNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	var once sync.Once
	free := func() { once.Do(func() { close(release) }) }
	t.Cleanup(free)
	hanging := receive(t, func(got) int {
		<-release
		return 200
	})
	quick, theirs := receive(t, always(200)), receive(t, always(200))
	other := b.another(t)
	e := b.create(t, webhook.New{URL: hanging.url})
	b.create(t, webhook.New{URL: quick.url})
	other.create(t, webhook.New{URL: theirs.url})
	b.deliver(t, nil)
	var events, others []outbox.Event
	for range 10 {
		some, more := b.series(5), other.series(5)
		b.happen(t, append(some, more...)...)
		events, others = append(events, some...), append(others, more...)
	}
	quick.requireOnce(t, events)
	theirs.requireOnce(t, others)
	require.Zero(t, b.endpoint(t, e.ID).Place)
	free()
	hanging.requireAll(t, events)
}

func TestAPingIsSentAlsoToOneThatFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(500))
	e := b.create(t, webhook.New{URL: r.url})
	b.deliver(t, nil)
	b.happen(t, append(b.series(1), b.series(1)...)...)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Failures >= 2 })
	ping := func(key string) webhook.Attempt {
		before := len(b.attempts(t, e.ID))
		_, err := b.service.Ping(t.Context(), b.keyed(key), e.ID, rendered)
		require.NoError(t, err)
		var ping webhook.Attempt
		require.Eventually(t, func() bool {
			attempts := b.attempts(t, e.ID)
			for _, a := range attempts[:len(attempts)-before] {
				if a.Kind == "ping" {
					ping = a
					return true
				}
			}
			return false
		}, patience, time.Millisecond)
		return ping
	}
	first := ping("1")
	require.Equal(t, []any{"webhook.ping", "failed", 500},
		[]any{first.EventType, first.Outcome, first.Status})
	r.replies(always(200))
	second := ping("2")
	require.Equal(t, "delivered", second.Outcome)
	require.NotEqual(t, first.EventID, second.EventID)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 2 && e.FailingSince.IsZero() })
	require.Zero(t, b.count(t, "SELECT count(*) FROM webhook_tasks"))
	for _, g := range r.delivered() {
		if g.id == second.EventID {
			secrets, err := b.service.Secret(t.Context(), e.Ref)
			require.NoError(t, err)
			requireSigned(t, secrets.Current, g)
			require.Contains(t, string(g.body), `"type":"webhook.ping"`)
			require.Contains(t, string(g.body), fmt.Sprintf(`"endpoint":"%s"`, e.ID))
		}
	}
}

func TestWhatIsAskedForGoesAgainUnderItsId(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(200))
	e := b.create(t, webhook.New{URL: r.url, Types: []string{"thing.moved"}})
	b.deliver(t, nil)
	var events []outbox.Event
	for range 15 {
		events = append(events, b.series(3)...)
	}
	unwanted := b.series(1)
	unwanted[0].Type = "thing.ended"
	b.happen(t, append(unwanted, events...)...)
	r.requireOnce(t, events)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 46 })

	id := cloudevent.ID(events[1].AggregateID, 2)
	_, err := b.service.Resend(t.Context(), b.fresh(), e.ID, webhook.Span{EventID: id}, events64)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(r.delivered()) == 46 }, patience, time.Millisecond)
	require.Equal(t, id, r.delivered()[45].id)

	span := webhook.Span{From: now().Add(-time.Hour), To: now()}
	response, err := b.service.Resend(t.Context(), b.fresh(), e.ID, span, events64)
	require.NoError(t, err)
	require.Equal(t, "46", string(response.Body), "those that are not wanted count, and are not sent")
	require.Eventually(t, func() bool { return len(r.delivered()) == 46+45 }, patience, time.Millisecond)
	require.Eventually(t, func() bool { return b.count(t, "SELECT count(*) FROM webhook_tasks") == 0 },
		patience, time.Millisecond)
	again := map[string]int{}
	for _, g := range r.delivered() {
		again[g.id]++
	}
	require.Len(t, again, 45)
	require.Equal(t, 3, again[id])
	require.Equal(t, 46, b.count(t, "SELECT count(*) FROM webhook_attempts WHERE kind = 'resend'"))
}

func TestAResendPassesOverWhatIsRefusedAgainAndAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(200))
	e := b.create(t, webhook.New{URL: r.url})
	b.deliver(t, nil)
	events := append(b.series(1), b.series(1)...)
	b.happen(t, events...)
	r.requireOnce(t, events)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.Place == 2 })
	bad := b.attempts(t, e.ID)[1].EventID // the first one of the log
	r.replies(func(g got) int {
		if g.id == bad {
			return 422
		}
		return 200
	})
	span := webhook.Span{From: now().Add(-time.Hour), To: now()}
	_, err := b.service.Resend(t.Context(), b.fresh(), e.ID, span, events64)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		b.hurry(t)
		return b.count(t, "SELECT count(*) FROM webhook_tasks") == 0
	}, patience, 10*time.Millisecond)
	require.Equal(t, 5, b.count(t, "SELECT count(*) FROM webhook_attempts WHERE outcome = 'refused'"))
	require.Zero(t, b.count(t, "SELECT count(*) FROM webhook_backlog"))
	require.Equal(t, webhook.Active, b.endpoint(t, e.ID).Status)
}
