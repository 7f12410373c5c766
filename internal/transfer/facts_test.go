package transfer_test

import (
	"context"
	"encoding/json"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound/payout"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

// happenedTo are events of transfers; Facts looks at no more of them.
func happenedTo(tenant uuid.UUID, ids ...uuid.UUID) []outbox.Logged {
	events := make([]outbox.Logged, len(ids))
	for i, id := range ids {
		events[i] = outbox.Logged{Event: outbox.Event{TenantID: tenant, AggregateID: id}}
	}
	return events
}

func (w world) facts(t *testing.T, id uuid.UUID) string {
	t.Helper()
	found, err := w.Transfers.Facts(t.Context(), happenedTo(w.Tenant, id))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return string(found[id])
}

// told is a transfer that has all that a client can give it.
func (w world) told(t *testing.T, key string, to uuid.UUID) uuid.UUID {
	t.Helper()
	item := w.Item(250)
	item.ToAccount = to
	item.ClientReference = "invoice <" + key + ">"
	item.Metadata = json.RawMessage(`{"z": 1.50, "a":{"<b>":"é"} }`)
	return transfertest.Read(t, w.create(t, key, item)).ID
}

func TestFactsAreWhatTheAPISaysOfATransfer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := func(id uuid.UUID) string { return w.Get(t, id).CreatedAt.UTC().Format(time.RFC3339Nano) }
	told := w.told(t, "k1", w.To)
	require.Equal(t, `{"from_account":"`+w.From.String()+`","to_account":"`+w.To.String()+
		`","amount":{"value":250,"currency":"EUR"},"client_reference":"invoice <k1>",`+
		`"metadata":{"z":1.50,"a":{"<b>":"é"}},"created_at":"`+at(told)+`"}`, w.facts(t, told))

	w.runAll(t.Context(), t)
	back := transfertest.Read(t, w.reverse(t, "r1", told, 100)).ID
	require.Equal(t, `{"from_account":"`+w.To.String()+`","to_account":"`+w.From.String()+
		`","amount":{"value":100,"currency":"EUR"},"reverses":"`+told.String()+
		`","created_at":"`+at(back)+`"}`, w.facts(t, back))
}

// TestFactsOfATransferNeverChange takes transfers through every state, and looks at each step.
func TestFactsOfATransferNeverChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seen := map[string]bool{}
	var id uuid.UUID
	var before string
	look := func() {
		seen[string(w.Get(t, id).State)] = true
		require.Equal(t, before, w.facts(t, id))
	}
	begin := func(key string, to uuid.UUID) {
		id = w.told(t, key, to)
		before = w.facts(t, id)
		look()
	}
	work := func() { // to the end, with a look after each job
		for range jobsMax {
			w.wakeNow(t)
			if !w.runOne(t.Context(), t) {
				return
			}
			look()
		}
	}
	review := func(key string) {
		w.Risk.Answer(risk.OutcomeReview, "large")
		begin(key, w.To)
		w.run(t.Context(), t)
		look()
		w.Risk.Answer(risk.OutcomeApprove, "")
	}

	review("settled")
	w.act(t, "a1", id, transfer.Approve, "looked at it")
	look()
	work()
	w.reverse(t, "r1", id, 100)
	look()
	review("canceled")
	w.act(t, "a2", id, transfer.Cancel, "changed my mind")
	look()
	work()
	w.Risk.Answer(risk.OutcomeBlock, "bad")
	begin("blocked", w.To)
	work()
	w.Risk.Answer(risk.OutcomeApprove, "")
	begin("expired", w.To)
	w.endPromise(t)
	work()
	w.Rail.Answer(payout.Receipt{Status: payout.StatusPaid})
	begin("paid out", w.External)
	work()
	w.Rail.Answer(payout.Receipt{Status: payout.StatusRefused, Reason: "closed"})
	begin("failed", w.External)
	work()

	for _, state := range transfer.Transitions.States() {
		// Approval and what follows it commit together: only an operator's is ever seen alone.
		require.True(t, seen[string(state)] || state == transfer.Approved, "no look at one that is %s", state)
	}
}

// counter counts the statements of a pool.
type counter struct{ statements atomic.Int64 }

func (c *counter) TraceQueryStart(
	ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData,
) context.Context {
	c.statements.Add(1)
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestFactsOfManyTransfersAreOneQuery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := []uuid.UUID{w.Create(t, "k1", 1), w.Create(t, "k2", 2), w.Create(t, "k3", 3)}
	other := world{w.Other(t)}
	theirs := other.Create(t, "k1", 4)
	unknown := uuid.New()
	// The same transfer comes twice, one is unknown, and one is asked for in the name of another tenant.
	events := append(happenedTo(w.Tenant, ids[0], ids[1], ids[0], unknown, ids[2]),
		happenedTo(other.Tenant, theirs, ids[1])...)

	var count counter
	cfg := w.Pool.Config()
	cfg.ConnConfig.Tracer = &count
	s := transfer.NewService(transfer.Config{Pool: open(t, cfg)})
	found, err := s.Facts(t.Context(), events)
	require.NoError(t, err)
	require.EqualValues(t, 1, count.statements.Load())
	require.Len(t, found, 4)
	for i, id := range ids {
		require.Contains(t, string(found[id]), `"amount":{"value":`+strconv.Itoa(i+1)+`,`)
		require.Contains(t, string(found[id]), w.From.String())
	}
	require.Contains(t, string(found[theirs]), other.From.String())

	found, err = s.Facts(t.Context(), happenedTo(other.Tenant, ids...))
	require.NoError(t, err)
	require.Empty(t, found, "no tenant is told of the transfers of another")
}

func TestFactsThatCannotBeReadAreAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Create(t, "k1", 250)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.Transfers.Facts(ctx, happenedTo(w.Tenant, id, id))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "read facts of 1 transfers: ")
}
