package transfer_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fairshare"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

func (w world) posture(t *testing.T, openUpTo int64) transfer.Posture {
	t.Helper()
	set, err := w.Transfers.SetPosture(t.Context(), transfer.Posture{
		TenantID: w.Tenant, Currency: transfertest.Currency, OpenUpTo: openUpTo, Actor: "operator:test",
		Reason: "because",
	})
	require.NoError(t, err)
	return set
}

func TestAPostureDecidesOnlyWhereTheRiskServiceCannot(t *testing.T) {
	t.Parallel()
	broken := transfertest.Fault{Kind: outbound.KindStatus5xx}
	refused := transfertest.Fault{Kind: outbound.KindStatus4xx, Status: 422}
	busy := transfertest.Fault{Kind: outbound.KindStatus4xx}
	nonsense := transfertest.Fault{Kind: outbound.KindBadReply}
	for _, c := range []struct {
		name  string
		fault transfertest.Fault
		late  bool
		want  transfer.State
	}{
		{"it answers", transfertest.Fault{}, false, transfer.Blocked},
		{"it failed others", transfertest.Fault{Kind: outbound.KindOpen}, false, transfer.Settled},
		{"it fails, and there is time", broken, false, transfer.Accepted},
		{"it fails, and no attempt fits", broken, true, transfer.Settled},
		{"it refuses the question, and no other fits", refused, true, transfer.Expired},
		{"it answers what nobody understands, and no attempt fits", nonsense, true, transfer.Expired},
		{"it is busy, and no attempt fits", busy, true, transfer.Settled},
		{"we have no room", transfertest.Fault{Kind: outbound.KindRetryBudget}, false, transfer.Accepted},
	} {
		w := newWorld(t)
		w.posture(t, 100)
		w.Risk.Answer(risk.OutcomeBlock, "no")
		w.Risk.Next(c.fault)
		id := w.Create(t, "k1", 100)
		if c.late {
			w.Exec(t, "UPDATE transfers SET promise_at = clock_timestamp() + interval '700 milliseconds'")
		}
		w.run(t.Context(), t)
		require.Equal(t, c.want, w.Get(t, id).State, c.name)
		w.CheckInvariants(t)
	}
}

func TestTheNewestPostureOfTheTenantAndCurrencyHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Risk.Always(transfertest.Fault{Kind: outbound.KindOpen})
	other := w.NewTenant(t, "other")
	for _, p := range []transfer.Posture{
		{TenantID: other, Currency: transfertest.Currency, OpenUpTo: 1_000},
		{TenantID: w.Tenant, Currency: "USD", OpenUpTo: 1_000},
	} {
		p.Actor, p.Reason = "operator:test", "elsewhere"
		_, err := w.Transfers.SetPosture(t.Context(), p)
		require.NoError(t, err)
	}
	id := w.Create(t, "k1", 100)
	w.run(t.Context(), t)
	require.Equal(t, transfer.Accepted, w.Get(t, id).State, "without a posture nothing passes")

	require.EqualValues(t, 1, w.posture(t, 100).Version)
	require.EqualValues(t, 2, w.posture(t, 99).Version)
	w.wakeNow(t)
	w.run(t.Context(), t)
	require.Equal(t, transfer.Accepted, w.Get(t, id).State)
	require.EqualValues(t, 3, w.posture(t, 100).Version)
	w.wakeNow(t)
	w.run(t.Context(), t)
	got := w.Get(t, id)
	require.Equal(t, transfer.Settled, got.State)
	require.Equal(t, transfer.ReasonRiskUnavailable, got.Reason)
	events, err := w.Transfers.Events(t.Context(), got.Ref, 1)
	require.NoError(t, err)
	require.Equal(t, "posture:3", events[0].Actor)

	postures, err := w.Transfers.Postures(t.Context(), w.Tenant, 10)
	require.NoError(t, err)
	require.Len(t, postures, 4)
	require.EqualValues(t, 100, postures[0].OpenUpTo)
	_, err = w.Pool.Exec(t.Context(), "UPDATE risk_postures SET open_up_to = 0")
	require.ErrorContains(t, err, "append-only")
}

func TestAPostureHasItsReasonAndBounds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		pointer string
		posture transfer.Posture
	}{
		{"/currency", transfer.Posture{TenantID: w.Tenant, Currency: "EURO", Reason: "r"}},
		{"/open_up_to", transfer.Posture{TenantID: w.Tenant, Currency: "EUR", OpenUpTo: -1, Reason: "r"}},
		{"/open_up_to", transfer.Posture{
			TenantID: w.Tenant, Currency: "EUR", OpenUpTo: money.MaxValue + 1, Reason: "r",
		}},
		{"/reason", transfer.Posture{TenantID: w.Tenant, Currency: "EUR"}},
		{"/reason", transfer.Posture{TenantID: w.Tenant, Currency: "EUR", Reason: "  "}},
	} {
		_, err := w.Transfers.SetPosture(t.Context(), c.posture)
		require.True(t, problem.Is(err, problem.ValidationFailed), c.posture)
		require.Equal(t, c.pointer, problem.Of(err).Fields[0].Pointer)
	}
	_, err := w.Transfers.SetPosture(t.Context(), transfer.Posture{
		TenantID: uuid.New(), Currency: "EUR", Reason: "r",
	})
	require.True(t, problem.Is(err, problem.NotFound))
	together(8, func(int) error { w.posture(t, 5); return nil })
	require.EqualValues(t, 8, w.Count(t, "SELECT max(version) FROM risk_postures"))
}

func TestAPostureIsChangedOncePerKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	change := func(key string, p transfer.Posture) (idempotency.Response, error) {
		return w.Transfers.ChangePosture(t.Context(), w.Keyed(key, p.Reason), p,
			func(set transfer.Posture) idempotency.Response {
				require.False(t, set.SetAt.IsZero())
				return idempotency.Response{Status: 200, Body: fmt.Appendf(nil, "version %d", set.Version)}
			})
	}
	p := transfer.Posture{
		TenantID: w.Tenant, Currency: transfertest.Currency, OpenUpTo: 5, Actor: "operator:kim",
		Reason: "down",
	}
	for _, c := range []struct {
		key      string
		version  string
		replayed bool
	}{{"k1", "version 1", false}, {"k1", "version 1", true}, {"k2", "version 2", false}} {
		r, err := change(c.key, p)
		require.NoError(t, err)
		require.Equal(t, c.version, string(r.Body))
		require.Equal(t, c.replayed, r.Replayed)
	}
	p.Reason = "another"
	_, err := change("k1", p)
	require.True(t, problem.Is(err, problem.KeyReused))
	p.Reason = ""
	_, err = change("k3", p)
	require.True(t, problem.Is(err, problem.ValidationFailed))
	p.TenantID, p.Reason = uuid.New(), "down"
	_, err = change("k4", p)
	require.True(t, problem.Is(err, problem.NotFound))
	require.EqualValues(t, 2, w.Count(t, "SELECT count(*) FROM risk_postures"))
	require.EqualValues(t, 2, w.Count(t, "SELECT count(*) FROM idempotency_keys"), "a refusal uses no key up")

	last := p
	last.TenantID = w.Tenant
	together(2, func(int) error { _, err := change("both", last); return err })
	require.EqualValues(t, 3, w.Count(t, "SELECT max(version) FROM risk_postures"))
}

func TestTheWorkOfAFloodGoesBehindThatOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	flood := make([]transfer.New, transfer.BulkMaxItems)
	for i := range flood {
		flood[i] = w.Item(1)
	}
	calm := w.Other(t)
	w.create(t, "k0", flood...)
	require.Zero(t, w.Count(t, "SELECT count(*) FROM transfers WHERE lane <> 1"), "alone nobody floods")
	calm.Create(t, "k1", 1)
	for i := range 3 {
		w.create(t, "f"+string(rune('a'+i)), flood...)
	}
	require.Greater(t, w.Transfers.Lane(w.Tenant), fairshare.First)
	require.Equal(t, fairshare.First, w.Transfers.Lane(calm.Tenant))
	last := calm.Create(t, "k2", 1)
	require.EqualValues(t, fairshare.First, calm.Get(t, last).Lane)
	require.Positive(t, w.Count(t, "SELECT count(*) FROM transfers WHERE lane > 1"))
	require.Zero(t, w.Count(t, `
SELECT count(*) FROM river_job j, jsonb_each(j.args -> 'transfers') AS e (tenant, ids),
       jsonb_array_elements_text(e.ids) AS named (id)
  JOIN transfers t ON t.id = named.id::uuid
 WHERE t.lane <> j.priority`), "a job goes in the lane of all its transfers")
	w.runAll(t.Context(), t)
	w.CheckInvariants(t)
}
