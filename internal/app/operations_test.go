package app

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/breaker"
	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/slots"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/webhook"
)

// graveyard is a transfer domain that has given up what a test says.
type graveyard struct {
	dead  []transfer.Transfer
	tried map[transfer.Ref]transfer.Tried
	err   error
}

func (g graveyard) DeadLetters(_ context.Context, limit int) ([]transfer.Transfer, error) {
	return g.dead[:min(limit, len(g.dead))], g.err
}

// orderGraveyard is an order domain that has given up what a test says.
type orderGraveyard []order.Order

func (g orderGraveyard) DeadLetters(context.Context, int) ([]order.Order, error) { return g, nil }

// hookGraveyard is what the webhooks have given up.
type hookGraveyard []webhook.DeadOf

func (g hookGraveyard) DeadAll(context.Context, int) ([]webhook.DeadOf, error) { return g, nil }

func (g graveyard) Tried(_ context.Context, _ []transfer.Ref) (map[transfer.Ref]transfer.Tried, error) {
	return g.tried, nil
}

// lease lets a holder have the places of a dependency.
func lease(t *testing.T, pool *pgxpool.Pool, dependency string, places int) {
	t.Helper()
	l := &slots.Lease{
		Dependency: dependency, Holder: "worker-1", Default: places, CallTimeout: time.Second, Pool: pool,
		Log: slog.New(slog.DiscardHandler), Now: time.Now, InUse: func() int { return 0 },
		Apply: func(int, time.Time) {},
	}
	require.NoError(t, l.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, l.Stop(context.WithoutCancel(t.Context()))) })
}

func TestADependencyIsShownWithItsLimitItsHoldersAndItsDoor(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	o := NewOperations(pool, nil, nil)
	none, err := o.Dependencies(t.Context())
	require.NoError(t, err)
	require.Empty(t, none)

	lease(t, pool, riskAPI, 8)
	since := time.Now()
	o.doors.add(func() outbound.Health {
		return outbound.Health{
			Dependency: riskAPI, Breaker: breaker.Open, BreakerSince: since, InFlight: 1, Waiting: 3,
			Limit: 2, Cap: 8, P95: time.Second,
		}
	})
	o.doors.add(func() outbound.Health {
		return outbound.Health{Dependency: notificationAPI, Breaker: breaker.Closed}
	})
	found, err := o.Dependencies(t.Context())
	require.NoError(t, err)
	require.Len(t, found, 2)
	closed := httpapi.Dependency{Name: notificationAPI, Door: &httpapi.Door{Breaker: "closed"}}
	require.Equal(t, closed, found[0])
	require.Equal(t, 8, found[1].Limit.Places)
	require.Equal(t, 1, found[1].Limit.Version)
	require.Equal(t, []httpapi.Holder{{Name: "worker-1", Places: 8}}, found[1].Holders)
	require.Equal(t, httpapi.Door{
		Breaker: "open", BreakerSince: since, InFlight: 1, Waiting: 3, Limit: 2, Places: 8, P95: time.Second,
	}, *found[1].Door)
	require.Equal(t, []condition.Active{{
		Condition: condition.BreakerOpen, Subject: riskAPI, Since: since,
	}}, found[1].Conditions)
}

func TestALimitIsSetOncePerKeyWithItsActor(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	o := NewOperations(pool, nil, nil)
	lease(t, pool, riskAPI, 8)
	set := func(key string, c httpapi.LimitChange) (httpapi.Limit, bool, error) {
		var got httpapi.Limit
		r, err := o.SetLimit(t.Context(), idempotency.Keyed{Key: idempotency.Key{Key: key}}, c,
			func(l httpapi.Limit) idempotency.Response {
				got = l
				return idempotency.Response{Status: 200}
			})
		return got, r.Replayed, err
	}
	change := httpapi.LimitChange{Dependency: riskAPI, Places: 3, Actor: "operator:kim", Reason: "moved"}
	got, replayed, err := set("one", change)
	require.NoError(t, err)
	require.False(t, replayed)
	require.False(t, got.SetAt.IsZero())
	got.SetAt = time.Time{}
	require.Equal(t, httpapi.Limit{Places: 3, Version: 2, Actor: "operator:kim", Reason: "moved"}, got)
	_, replayed, err = set("one", change)
	require.NoError(t, err)
	require.True(t, replayed)

	change.Places = 0
	_, _, err = set("two", change)
	require.True(t, problem.Is(err, problem.ValidationFailed))
	change.Places, change.Dependency = 3, "nobody"
	_, _, err = set("two", change)
	require.True(t, problem.Is(err, problem.NotFound))
	history, err := slots.History(t.Context(), pool, riskAPI, 10)
	require.NoError(t, err)
	require.Len(t, history, 2)
}

func TestEveryQueueIsShownWithTheAgesOfItsLanes(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, err := pool.Exec(t.Context(), `
INSERT INTO river_job (args, kind, max_attempts, queue, state, scheduled_at, priority)
VALUES ('{}', 'ping', 3, 'risk_api', 'available', now() - interval '1 minute', 2)`)
	require.NoError(t, err)
	queues, err := NewOperations(pool, nil, nil).Queues(t.Context())
	require.NoError(t, err)
	names := make([]string, len(queues))
	for i, q := range queues {
		names[i] = q.Name
		require.Len(t, q.Ages, jobqueue.Lanes)
		require.Zero(t, q.Ages[0])
		require.Equal(t, q.Name == riskAPI, q.Ages[1] >= time.Minute)
	}
	require.Equal(t, []string{riskAPI, payoutRail, notificationAPI, jobqueue.QueueDB}, names)
}

func TestDeadLettersOfAllKindsComeTheLatestFirst(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, err := pool.Exec(t.Context(), `
INSERT INTO river_job (id, args, kind, max_attempts, queue, state, attempt, errors, finalized_at)
VALUES (7, '{}', 'transfer_screen', 3, 'risk_api', 'discarded', 3,
        ARRAY['{"error":"first"}', '{"error":"last"}']::jsonb[], now() - interval '1 minute')`)
	require.NoError(t, err)
	now := time.Now()
	early := transfer.Transfer{
		Ref: transfer.Ref{TenantID: uuid.New(), ID: uuid.New()}, State: transfer.Failed,
		Reason: transfer.ReasonAttempts, UpdatedAt: now.Add(-time.Hour),
	}
	late := early
	late.ID, late.UpdatedAt = uuid.New(), now
	stuck := order.Order{
		Ref: order.Ref{TenantID: uuid.New(), ID: uuid.New()}, State: order.Reserved, Failures: 5, Attempts: 6,
		UpdatedAt: now.Add(-2 * time.Hour),
	}
	_, err = pool.Exec(t.Context(), `
INSERT INTO deliveries (consumer, tenant_id, aggregate_id, seq, type, reference, wake_at, created_at,
                        attempts, failures)
VALUES ('orders', $1, $2, 3, 'transfer.settled', 'order:1', now(), now() - interval '3 hours', 8, 5)`,
		stuck.TenantID, stuck.ID)
	require.NoError(t, err)
	refused := webhook.DeadOf{Endpoint: webhook.Ref{TenantID: uuid.New(), ID: uuid.New()}, Dead: webhook.Dead{
		EventID: "x-3", EventType: "order.pending", Attempts: 151, LastError: "status 500",
		DeadAt: now.Add(-4 * time.Hour),
	}}
	o := &Operations{pool: pool, doors: &doors{}, orders: orderGraveyard{stuck}, webhooks: hookGraveyard{
		refused,
	}, transfers: graveyard{
		dead: []transfer.Transfer{late, early},
		tried: map[transfer.Ref]transfer.Tried{late.Ref: {
			Times: 12, Last: transfer.Attempt{Step: "screen", Kind: "timeout", Detail: "no answer"},
		}},
	}}
	dead, err := o.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, dead, 6)
	require.Equal(t, httpapi.DeadLetter{
		Kind: httpapi.DeadTransfer, TenantID: late.TenantID, ID: late.ID.String(), Status: "failed",
		Reason: "attempts_exhausted", Attempts: 12, LastError: "screen: timeout: no answer", At: now,
	}, dead[0])
	dead[1].At = time.Time{}
	require.Equal(t, httpapi.DeadLetter{
		Kind: httpapi.DeadJob, ID: "7", Job: "transfer_screen", Queue: "risk_api",
		Reason: "attempts_exhausted", Attempts: 3, LastError: "last",
	}, dead[1])
	require.Equal(t, early.ID.String(), dead[2].ID)
	require.Equal(t, httpapi.DeadLetter{
		Kind: httpapi.DeadOrder, TenantID: stuck.TenantID, ID: stuck.ID.String(), Status: "reserved",
		Reason: "poison", Attempts: 6, At: stuck.UpdatedAt,
	}, dead[3])
	dead[4].At = time.Time{}
	require.Equal(t, httpapi.DeadLetter{
		Kind: httpapi.DeadDelivery, TenantID: stuck.TenantID, ID: stuck.ID.String() + "/3",
		Event: "transfer.settled", Consumer: "orders", Reason: "poison", Attempts: 8,
	}, dead[4])

	require.Equal(t, httpapi.DeadLetter{
		Kind: httpapi.DeadWebhook, TenantID: refused.Endpoint.TenantID, ID: "x-3", Event: "order.pending",
		Consumer: refused.Endpoint.ID.String(), Reason: "not_taken", Attempts: 151, LastError: "status 500",
		At: refused.DeadAt,
	}, dead[5])

	few, err := o.DeadLetters(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, dead[:1], few)
	broken := errors.New("broken")
	o.transfers = graveyard{err: broken}
	_, err = o.DeadLetters(t.Context(), 1)
	require.ErrorIs(t, err, broken)
}

func TestADeadTransferSaysWhyAndWhen(t *testing.T) {
	t.Parallel()
	moved := time.Now()
	last := transfer.Tried{Times: 5, Last: transfer.Attempt{At: moved.Add(time.Minute)}}
	for _, c := range []struct {
		name   string
		t      transfer.Transfer
		reason string
		later  bool
	}{
		{"ended out of attempts", transfer.Transfer{
			State: transfer.Failed, Reason: transfer.ReasonAttempts,
		}, transfer.ReasonAttempts, false},
		{"ended as poison, and told nobody", transfer.Transfer{
			State: transfer.Failed, Reason: transfer.ReasonPoison, Notification: transfer.NotificationFailed,
		}, transfer.ReasonPoison, false},
		{"settled, and told nobody", transfer.Transfer{
			State: transfer.Settled, Notification: transfer.NotificationFailed,
		}, reasonNotNotified, true},
		{"blocked, and told nobody", transfer.Transfer{
			State: transfer.Blocked, Reason: "fraud", Notification: transfer.NotificationFailed,
		}, reasonNotNotified, true},
		{"parked with the rail", transfer.Transfer{State: transfer.Settling}, transfer.ReasonPoison, true},
	} {
		c.t.UpdatedAt = moved
		got := deadTransfer(c.t, last)
		require.Equal(t, c.reason, got.Reason, c.name)
		require.Equal(t, c.later, got.At.After(moved), c.name)
	}
}
