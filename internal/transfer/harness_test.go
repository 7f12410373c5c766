package transfer_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

// world is a bundle whose jobs the test works by itself, one after the other, so that it says what
// happens when. A retry waits for longer than jitter would let it, so that it does not come by itself.
type world struct {
	*transfertest.Bundle
}

func newWorld(t *testing.T) world {
	t.Helper()
	w := world{transfertest.New(t)}
	w.Transfers.SetRandom(func() float64 { return 4 })
	return w
}

// jobsMax stops a test whose jobs wake each other for ever.
const jobsMax = 1_000

// run works every job that is due, also those that come meanwhile, and says how many there were.
func (w world) run(ctx context.Context, t *testing.T) int {
	t.Helper()
	for n := range jobsMax {
		if !w.runOne(ctx, t) {
			return n
		}
	}
	t.Fatalf("more than %d jobs", jobsMax)
	return 0
}

//nolint:contextcheck // the context is the one that breaks; the test itself goes on
func (w world) runOne(ctx context.Context, t *testing.T) bool {
	t.Helper()
	rows, err := w.Pool.Query(ctx, `
UPDATE river_job SET state = 'running', attempt = attempt + 1, attempted_at = now(), attempted_by = '{test}'
 WHERE id = (SELECT id FROM river_job WHERE state = 'available' AND scheduled_at <= clock_timestamp()
              ORDER BY scheduled_at, id LIMIT 1)
RETURNING id, kind, attempt, args`)
	require.NoError(t, err)
	type job struct {
		ID      int64
		Kind    string
		Attempt int
		Args    []byte
	}
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[job])
	require.NoError(t, err)
	for _, j := range jobs {
		state := "completed"
		if err := w.Transfers.RunJob(ctx, j.Kind, j.ID, j.Attempt, j.Args); err != nil {
			state = "cancelled"
		}
		w.finish(t, j.ID, state)
	}
	return len(jobs) > 0
}

func (w world) finish(t *testing.T, id int64, state string) {
	t.Helper()
	w.Exec(t, `UPDATE river_job SET state = $2::text::river_job_state, finalized_at = clock_timestamp()
	            WHERE id = $1`, id, state)
}

// wakeNow brings every wake-up that is set for later forward, with its job.
func (w world) wakeNow(t *testing.T) {
	t.Helper()
	w.Exec(t, `UPDATE transfers SET wake_at = clock_timestamp() WHERE wake_at > clock_timestamp()`)
	w.Exec(t, `UPDATE river_job SET scheduled_at = clock_timestamp()
	            WHERE state = 'available' AND scheduled_at > clock_timestamp()`)
}

// runAll works until nothing is left to do, and does not wait for the time of a retry.
//
//nolint:contextcheck // as above
func (w world) runAll(ctx context.Context, t *testing.T) {
	t.Helper()
	for range jobsMax {
		w.wakeNow(t)
		if w.run(ctx, t) == 0 {
			return
		}
	}
	t.Fatalf("more than %d rounds", jobsMax)
}

// sweep lets everything that is open look as if it had been due for a while, and sweeps.
func (w world) sweep(t *testing.T) int {
	t.Helper()
	w.Exec(t, `UPDATE transfers SET wake_at = clock_timestamp() - interval '1 minute'
	            WHERE wake_at IS NOT NULL AND state <> 'in_review'`)
	n, err := w.Transfers.Sweep(t.Context())
	require.NoError(t, err)
	return n
}

// endPromise lets the promise of every open transfer have passed.
func (w world) endPromise(t *testing.T) {
	t.Helper()
	w.Exec(t, `UPDATE transfers SET promise_at = clock_timestamp() - interval '1 second'
	            WHERE state IN ('accepted', 'in_review', 'approved', 'settling')`)
}

// createPayout accepts a transfer to the world outside.
func (w world) createPayout(t *testing.T, key string, amount int64) uuid.UUID {
	t.Helper()
	item := w.Item(amount)
	item.ToAccount = w.External
	return transfertest.Read(t, w.create(t, key, item)).ID
}

func (w world) screenKey(id uuid.UUID) string { return id.String() + "/screen" }
func (w world) notifyKey(id uuid.UUID) string { return id.String() + "/notify" }

func (w world) ref(id uuid.UUID) transfer.Ref { return transfer.Ref{TenantID: w.Tenant, ID: id} }

// settled is a transfer with the key k1 that has settled, with nothing left to do.
func (w world) settled(t *testing.T, amount int64) uuid.UUID {
	t.Helper()
	id := w.Create(t, "k1", amount)
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.Settled, w.Get(t, id).State)
	return id
}

// inReview is a transfer that waits for an operator.
func (w world) inReview(t *testing.T, key string, amount int64) uuid.UUID {
	t.Helper()
	w.Risk.Answer(risk.OutcomeReview, "large")
	id := w.Create(t, key, amount)
	w.run(t.Context(), t)
	require.Equal(t, transfer.InReview, w.Get(t, id).State)
	w.Risk.Answer(risk.OutcomeApprove, "")
	return id
}

// create asks for items and returns the response.
func (w world) create(t *testing.T, key string, items ...transfer.New) idempotency.Response {
	t.Helper()
	response, err := w.Transfers.Create(t.Context(), w.Request(key, items...))
	require.NoError(t, err)
	return response
}

// refused asks for one item that has to be refused, and returns the code.
func (w world) refused(t *testing.T, key string, item transfer.New) problem.Code {
	t.Helper()
	answer := transfertest.Read(t, w.create(t, key, item))
	require.NotEmpty(t, answer.Code)
	require.Equal(t, uuid.Nil, answer.ID)
	return answer.Code
}

// act does an action and returns the answer.
func (w world) act(
	t *testing.T, key string, id uuid.UUID, e transfer.Event, reason string,
) transfertest.Answer {
	t.Helper()
	response, err := w.Transfers.Act(t.Context(), w.Action(key, id, e, reason))
	require.NoError(t, err)
	return transfertest.Read(t, response)
}

// reverse asks for a reversal and returns the response.
func (w world) reverse(t *testing.T, key string, id uuid.UUID, amount int64) idempotency.Response {
	t.Helper()
	response, err := w.Transfers.Reverse(t.Context(), w.Reversal(key, id, amount))
	require.NoError(t, err)
	return response
}

// tables counts the rows of every table.
func (w world) tables(t *testing.T) map[string]int64 {
	t.Helper()
	counts := map[string]int64{}
	for _, table := range []string{
		"accounts", "balances", "holds", "entries", "postings", "idempotency_keys", "events", "transfers",
		"river_job",
	} {
		counts[table] = w.Count(t, "SELECT count(*) FROM "+table)
	}
	counts["held"] = w.Count(t, "SELECT sum(held) FROM balances")
	counts["versions"] = w.Count(t, "SELECT sum(version) FROM balances")
	return counts
}

func open(t *testing.T, cfg *pgxpool.Config) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// hasty is a service that waits for no lock for long. Like the world's, it does not jitter.
func (w world) hasty(t *testing.T) *transfer.Service {
	t.Helper()
	cfg := w.Config(t, "hasty")
	pool := cfg.Pool.Config()
	pool.ConnConfig.RuntimeParams["lock_timeout"] = "20ms"
	cfg.Pool = open(t, pool)
	hasty := transfer.NewService(cfg)
	hasty.SetRandom(func() float64 { return 0.999 })
	hasty.Start(t.Context())
	t.Cleanup(hasty.Stop)
	return hasty
}
