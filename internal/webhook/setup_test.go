package webhook_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/webhook"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience bounds every wait for a condition, on a busy machine too.
const patience = 30 * time.Second

// master is the key that tests make secrets of.
const master = "0123456789abcdef0123456789abcdef"

// bundle is a database with one tenant.
type bundle struct {
	pool    *pgxpool.Pool
	service *webhook.Service
	tenant  uuid.UUID
}

func now() time.Time { return time.Now() } //nolint:forbidigo // signatures are verified by the wall clock

func options() webhook.Options {
	return webhook.Options{Key: []byte(master), Development: true, Now: now}
}

func setup(t *testing.T) bundle {
	t.Helper()
	b := bundle{pool: pgtest.New(t)}
	b.service = webhook.NewService(b.pool, options())
	return b.another(t)
}

// another is the same database for a further tenant.
func (b bundle) another(t *testing.T) bundle {
	t.Helper()
	b.tenant = uuid.New()
	b.exec(t, "INSERT INTO tenants (id, name) VALUES ($1, $2)", b.tenant, b.tenant.String())
	return b
}

func (b bundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := b.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func (b bundle) count(t *testing.T, sql string, args ...any) int {
	t.Helper()
	var n int
	require.NoError(t, b.pool.QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

func (b bundle) keyed(key string) idempotency.Keyed {
	return idempotency.Keyed{
		Key: idempotency.Key{
			TenantID: b.tenant, Key: key, Hash: idempotency.Hash("POST", "/test", "1", []byte(key)),
		},
		Refuse: func(p *problem.Error) idempotency.Response {
			return idempotency.Response{Status: problem.MeaningOf(p.Code).Status, Body: []byte(p.Code)}
		},
	}
}

// fresh is a key that nothing else has.
func (b bundle) fresh() idempotency.Keyed { return b.keyed(uuid.NewString()) }

func rendered(e webhook.Endpoint) idempotency.Response {
	return idempotency.Response{Status: 200, Body: []byte(e.ID.String())}
}

// create makes an endpoint and returns it.
func (b bundle) create(t *testing.T, n webhook.New) webhook.Endpoint {
	t.Helper()
	response, err := b.service.Create(t.Context(), b.fresh(), n, rendered)
	require.NoError(t, err)
	id, err := uuid.ParseBytes(response.Body)
	require.NoError(t, err, "%s", response.Body)
	return b.endpoint(t, id)
}

func (b bundle) endpoint(t *testing.T, id uuid.UUID) webhook.Endpoint {
	t.Helper()
	e, err := b.service.Endpoint(t.Context(), webhook.Ref{TenantID: b.tenant, ID: id})
	require.NoError(t, err)
	return e
}

func (b bundle) setStatus(t *testing.T, id uuid.UUID, status webhook.Status) {
	t.Helper()
	response, err := b.service.SetStatus(t.Context(), b.fresh(), id, status, rendered)
	require.NoError(t, err)
	require.Equal(t, id.String(), string(response.Body))
}

// event is an event of an aggregate of the bundle's tenant.
func (b bundle) event(aggregate uuid.UUID, seq int32) outbox.Event {
	return outbox.Event{
		TenantID: b.tenant, AggregateID: aggregate, Seq: seq, Type: "thing.moved", To: "somewhere",
		Actor: "test",
	}
}

// happen writes events, and gives them their places in the log.
func (b bundle) happen(t *testing.T, events ...outbox.Event) {
	t.Helper()
	at := now()
	require.NoError(t, pgtx.Pipeline(t.Context(), b.pool, "test", func(*pgx.Batch) {},
		func(write *pgx.Batch) error { return outbox.Append(t.Context(), write, at, events) }))
	relay := &outbox.Relay{Pool: b.pool, Log: discard()}
	relay.Start(t.Context())
	defer relay.Stop()
	require.Eventually(t, func() bool { return b.count(t, "SELECT count(*) FROM outbox") == 0 },
		patience, time.Millisecond)
}

// series are the events first to last of a new aggregate.
func (b bundle) series(last int32) []outbox.Event {
	aggregate := uuid.New()
	var events []outbox.Event
	for seq := range last {
		events = append(events, b.event(aggregate, seq+1))
	}
	return events
}

func requireProblem(t *testing.T, code problem.Code, pointer string, err error) {
	t.Helper()
	require.True(t, problem.Is(err, code), "%v", err)
	if pointer != "" {
		require.Equal(t, pointer, problem.Of(err).Fields[0].Pointer)
	}
}

func events64(n int64) idempotency.Response {
	return idempotency.Response{Status: 200, Body: fmt.Append(nil, n)}
}
