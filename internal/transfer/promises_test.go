package transfer_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/payout"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

// promises looks at the open ones.
func (w world) promises(t *testing.T) transfer.Promises {
	t.Helper()
	p, err := transfer.ReadPromises(t.Context(), w.Pool)
	require.NoError(t, err)
	return p
}

// acceptedBefore lets a transfer have been accepted a while ago, by Postgres's clock.
func (w world) acceptedBefore(t *testing.T, id uuid.UUID, by time.Duration) {
	t.Helper()
	w.Exec(t, `
UPDATE transfers SET created_at = created_at - $2::interval, promise_at = promise_at - $2::interval
 WHERE id = $1`, id, by)
}

func requireAge(t *testing.T, want, got time.Duration) {
	t.Helper()
	require.GreaterOrEqual(t, got, want)
	require.Less(t, got, want+10*time.Second)
}

func TestThePromiseAgeIsThatOfTheMostUrgentOpenTransfer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, transfer.Promises{Open: map[uuid.UUID]int{}}, w.promises(t), "drained")
	first, second := w.Create(t, "k1", 1), w.Create(t, "k2", 1)
	w.acceptedBefore(t, first, 20*time.Second)
	w.acceptedBefore(t, second, 40*time.Second)
	p := w.promises(t)
	requireAge(t, 40*time.Second, p.Age)
	require.Zero(t, p.Overdue)
	require.Equal(t, map[uuid.UUID]int{w.Tenant: 2}, p.Open)

	w.act(t, "c2", second, transfer.Cancel, "not wanted")
	requireAge(t, 20*time.Second, w.promises(t).Age)
	w.acceptedBefore(t, first, time.Minute)
	p = w.promises(t)
	requireAge(t, 80*time.Second, p.Age)
	require.Equal(t, 1, p.Overdue, "still open past its promise counts as bad now")
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.Promises{Open: map[uuid.UUID]int{}}, w.promises(t), "drained")
}

func TestAPayoutIsOpenUntilTheRailAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Rail.Answer(payout.Receipt{Status: payout.StatusPending})
	id := w.createPayout(t, "k1", 1)
	w.run(t.Context(), t)
	require.Equal(t, transfer.Settling, w.Get(t, id).State)
	w.acceptedBefore(t, id, time.Hour)
	p := w.promises(t)
	requireAge(t, time.Hour, p.Age)
	require.Equal(t, 1, p.Overdue)
	require.Equal(t, map[uuid.UUID]int{w.Tenant: 1}, p.Open)
}

// TestAReviewIsNeverTheMostUrgent, however late it is: it waits for a person. When it goes on, its promise
// begins anew.
func TestAReviewIsNeverTheMostUrgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.inReview(t, "k1", 1)
	require.Equal(t, transfer.Promises{Open: map[uuid.UUID]int{}}, w.promises(t))
	w.acceptedBefore(t, id, 23*time.Hour)
	require.Zero(t, w.promises(t).Overdue)
	w.acceptedBefore(t, id, 2*time.Hour)
	p := w.promises(t)
	require.Zero(t, p.Age)
	require.Equal(t, 1, p.Overdue, "but it is late by its own promise")

	w.Exec(t, `UPDATE transfers SET promise_at = clock_timestamp() + interval '1 hour' WHERE id = $1`, id)
	w.Exec(t, "DELETE FROM river_job")
	w.act(t, "a1", id, transfer.Approve, "fine")
	approved := w.Get(t, id)
	require.Equal(t, transfer.Approved, approved.State)
	p = w.promises(t)
	require.Less(t, p.Age, 10*time.Second, "the operator's day does not count")
	require.Equal(t, map[uuid.UUID]int{w.Tenant: 1}, p.Open)
}

func TestOverdueOnesAreCountedUpToABoundAndTenantsByTheirMostUrgentOnes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.Other(t)
	fill := func(b *transfertest.Bundle, n int, state string) {
		b.Exec(t, `
INSERT INTO transfers (tenant_id, id, from_account, to_account, amount, currency, state, version, payout,
                       wake_at, promise_at, created_at, updated_at)
SELECT $1, gen_random_uuid(), $2, $3, 1, 'EUR', $4, 1, true, now(), now() - interval '1 minute', now(), now()
  FROM generate_series(1, $5)`, b.Tenant, b.From, b.External, state, n)
	}
	fill(w.Bundle, 700, "accepted")
	fill(other, 100, "settling")
	p := w.promises(t)
	require.Equal(t, 800, p.Overdue)
	require.Equal(t, map[uuid.UUID]int{w.Tenant: 500, other.Tenant: 100}, p.Open, "500 of each state")
	fill(w.Bundle, 700, "in_review")
	require.Equal(t, transfer.OverdueMax, w.promises(t).Overdue)
}

func TestALookThatPostgresDoesNotAnswerIsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := transfer.ReadPromises(gone, w.Pool)
	require.ErrorIs(t, err, context.Canceled)
}

func TestALookReadsNothingThatHasEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Exec(t, `
INSERT INTO transfers (tenant_id, id, from_account, to_account, amount, currency, state, version, promise_at,
                       created_at, updated_at)
SELECT $1, gen_random_uuid(), $2, $3, 1, 'EUR', 'settled', 3, now() - n * interval '1 second', now(), now()
  FROM generate_series(1, 20000) n`, w.Tenant, w.From, w.To)
	w.Create(t, "k1", 1)
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			w.Exec(t, "ANALYZE transfers")
		}
		for _, sql := range []string{transfer.PromisesSQL, transfer.OpenByTenantSQL} {
			args := []any{time.Minute, 1_000}
			if sql == transfer.OpenByTenantSQL {
				args = []any{500, 100}
			}
			rows, err := w.Pool.Query(t.Context(), "EXPLAIN "+sql, args...)
			require.NoError(t, err)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			plan := strings.Join(lines, "\n")
			require.Contains(t, plan, "using transfers_promise on transfers")
			require.NotContains(t, plan, "Seq Scan on transfers")
			require.NotContains(t, plan, "Bitmap", "it would read all that is late")
		}
	}
}

// counted is a world whose metrics the test reads.
type counted struct {
	world
	metrics *telemetry.Metrics
}

func newCounted(t *testing.T) counted {
	t.Helper()
	b := transfertest.New(t)
	cfg := b.Config(t, "counted")
	w := counted{world{b}, cfg.Metrics}
	b.Transfers = transfer.NewService(cfg)
	b.Transfers.SetRandom(func() float64 { return 4 })
	b.Transfers.Start(t.Context())
	t.Cleanup(b.Transfers.Stop)
	return w
}

// kept and failed are what the metrics have counted so far.
func (w counted) promisesKept(t *testing.T) map[string]float64 {
	t.Helper()
	return w.counts(t, "holdfast_promises_total", func(labels map[string]string) string {
		if labels["kind"] != telemetry.KindTransfer {
			return ""
		}
		return labels["kept"]
	})
}

func (w counted) failures(t *testing.T) map[string]float64 {
	t.Helper()
	return w.counts(t, "holdfast_terminal_failures_total", func(labels map[string]string) string {
		return labels["dependency"] + " " + labels["reason"]
	})
}

// counts sums a counter up by what a function makes of its labels; what was never counted is left out.
func (w counted) counts(t *testing.T, name string, by func(map[string]string) string) map[string]float64 {
	t.Helper()
	families, err := w.metrics.Registry().Gather()
	require.NoError(t, err)
	sums := map[string]float64{}
	for _, f := range families {
		for _, series := range f.GetMetric() {
			if f.GetName() == name && series.GetCounter().GetValue() > 0 {
				sums[by(labelsOf(series))] += series.GetCounter().GetValue()
			}
		}
	}
	return sums
}

func labelsOf(series *dto.Metric) map[string]string {
	labels := map[string]string{}
	for _, l := range series.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	return labels
}

func TestARefusalByARuleKeepsThePromise(t *testing.T) {
	t.Parallel()
	w := newCounted(t)
	w.settled(t, 1)
	w.act(t, "c2", w.Create(t, "k2", 1), transfer.Cancel, transfer.ReasonDeadline) // anybody may write that
	w.Risk.Answer(risk.OutcomeBlock, transfer.ReasonPoison)
	w.Create(t, "k3", 1)
	w.runAll(t.Context(), t)
	require.Equal(t, map[string]float64{"true": 3}, w.promisesKept(t))
	require.Empty(t, w.failures(t))
}

func TestARefusedPayoutKeepsThePromiseAndIsTheRails(t *testing.T) {
	t.Parallel()
	w := newCounted(t)
	w.Rail.Answer(payout.Receipt{Status: payout.StatusRefused, Reason: "no such bank"})
	w.createPayout(t, "k1", 1)
	w.runAll(t.Context(), t)
	require.Equal(t, map[string]float64{"true": 1}, w.promisesKept(t))
	require.Equal(t, map[string]float64{"payout_rail payout_refused": 1}, w.failures(t))
}

func TestAnExpiredTransferIsTheFaultOfWhoseStepItWasIn(t *testing.T) {
	t.Parallel()
	w := newCounted(t)
	w.Risk.Always(transfertest.Fault{Kind: outbound.KindTimeout})
	w.Create(t, "k1", 1)
	w.run(t.Context(), t)
	w.endPromise(t)
	w.runAll(t.Context(), t)
	require.Equal(t, map[string]float64{"false": 1}, w.promisesKept(t))
	require.Equal(t, map[string]float64{"risk_api deadline_exhausted": 1}, w.failures(t))

	w.Risk.Always(transfertest.Fault{})
	w.inReview(t, "k2", 1)
	w.endPromise(t)
	w.runAll(t.Context(), t)
	require.Equal(t, map[string]float64{
		"risk_api deadline_exhausted": 1, "operator deadline_exhausted": 1,
	}, w.failures(t), "nobody has decided")
	require.Equal(t, map[string]float64{"false": 2}, w.promisesKept(t))
}

func TestATransferThatSettlesTooLateDidNotKeepItsPromise(t *testing.T) {
	t.Parallel()
	w := newCounted(t)
	w.Rail.Answer(payout.Receipt{Status: payout.StatusPending})
	id := w.createPayout(t, "k1", 1)
	w.run(t.Context(), t)
	w.endPromise(t)
	w.Rail.Finish(id.String()+"/payout/1", payout.Receipt{Status: payout.StatusPaid})
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.Settled, w.Get(t, id).State)
	require.Equal(t, map[string]float64{"false": 1}, w.promisesKept(t))
	require.Empty(t, w.failures(t), "it is paid all the same")
}

func TestPoisonIsCountedOnceWithTheStepThatBreaks(t *testing.T) {
	t.Parallel()
	w := newCounted(t)
	w.Risk.Always(transfertest.Fault{Panics: true})
	id := w.Create(t, "k1", 1)
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.ReasonPoison, w.Get(t, id).Reason)
	require.Equal(t, map[string]float64{"risk_api poison": 1}, w.failures(t))
	require.Equal(t, map[string]float64{"false": 1}, w.promisesKept(t))
}

func TestANotificationThatIsGivenUpIsCountedOnce(t *testing.T) {
	t.Parallel()
	w := newCounted(t)
	w.Notify.Always(transfertest.Fault{Panics: true})
	w.settled(t, 1)
	require.Equal(t, map[string]float64{"notification_api poison": 1}, w.failures(t))

	w.Notify.Always(transfertest.Fault{Kind: outbound.KindTimeout})
	id := w.Create(t, "k2", 1)
	w.run(t.Context(), t)
	w.Exec(t, "UPDATE transfers SET updated_at = updated_at - interval '25 hours' WHERE id = $1", id)
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.NotificationFailed, w.Get(t, id).Notification)
	require.Equal(t, map[string]float64{
		"notification_api poison": 1, "notification_api deadline_exhausted": 1,
	}, w.failures(t))
	require.Equal(t, map[string]float64{"true": 2}, w.promisesKept(t), "the transfers ended in time")
}

func TestAMoveThatCameTooLateCountsNothing(t *testing.T) {
	t.Parallel()
	w := newCounted(t)
	id := w.Create(t, "k1", 1)
	w.act(t, "c1", id, transfer.Cancel, "not wanted")
	w.act(t, "c1", id, transfer.Cancel, "not wanted") // the same key, so the same answer
	w.runAll(t.Context(), t)
	require.Equal(t, map[string]float64{"true": 1}, w.promisesKept(t))
}
