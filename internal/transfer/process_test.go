package transfer_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound/notify"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

// gate is the advisory lock at which the calls of a worker process wait while the test holds it.
const gate = 7

// workerURL names the database of a worker process, and with it that the process is one.
const workerURL = "HOLDFAST_TEST_WORKER_URL"

// outside are both dependencies with their journal in the test's database, where it outlives a process.
type outside struct {
	pool *pgxpool.Pool
	// gated calls wait at the gate before they act.
	gated bool
}

const outsideTables = `
CREATE TABLE outside_calls (effect_key text NOT NULL, pid integer NOT NULL, returned boolean NOT NULL);
CREATE TABLE outside_effects (effect_key text PRIMARY KEY)`

func (o outside) act(ctx context.Context, key string) error {
	return pgx.BeginFunc(ctx, o.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO outside_effects VALUES ($1) ON CONFLICT DO NOTHING", key)
		if err == nil {
			_, err = tx.Exec(ctx, "INSERT INTO outside_calls VALUES ($1, $2, true)", key, os.Getpid())
		}
		return err
	})
}

func (o outside) call(ctx context.Context, key string) error {
	_, err := o.pool.Exec(ctx, "INSERT INTO outside_calls VALUES ($1, $2, false)", key, os.Getpid())
	if err != nil {
		return err
	}
	if o.gated { // a lock of the statement's own transaction, so it is not kept
		if _, err := o.pool.Exec(ctx, "SELECT pg_advisory_xact_lock_shared($1)", gate); err != nil {
			return err
		}
	}
	return o.act(ctx, key)
}

func (o outside) found(ctx context.Context, key string) (bool, error) {
	var found bool
	const find = "SELECT EXISTS (SELECT FROM outside_effects WHERE effect_key = $1)"
	err := o.pool.QueryRow(ctx, find, key).Scan(&found)
	return found, err
}

func (o outside) Screen(ctx context.Context, r risk.Request) (risk.Decision, error) {
	return risk.Decision{Outcome: risk.OutcomeApprove}, o.call(ctx, r.EffectKey)
}

func (o outside) Find(ctx context.Context, key string) (risk.Decision, bool, error) {
	found, err := o.found(ctx, key)
	return risk.Decision{Outcome: risk.OutcomeApprove}, found, err
}

func (o outside) Send(ctx context.Context, m notify.Message) error { return o.call(ctx, m.EffectKey) }

func (o outside) Sent(ctx context.Context, key string) (bool, error) { return o.found(ctx, key) }

// TestWorkerProcess is no test: it is the worker that the tests below run as a process of its own. It
// lives until its input ends, that is, not longer than the test.
func TestWorkerProcess(t *testing.T) {
	t.Parallel()
	url := os.Getenv(workerURL) //nolint:forbidigo // how the test tells its second process what it is
	if url == "" {
		t.Skip("runs only as the second process of another test")
	}
	pool := transfertest.OpenPool(t, url)
	cfg := (&transfertest.Bundle{}).Config(t, fmt.Sprint("child-", os.Getpid()))
	cfg.Risk, cfg.Notify = outside{pool, true}, outside{pool, true}
	require.NoError(t, transfertest.NewWorker(t, url, cfg).Start(t.Context()))
	_, err := io.Copy(io.Discard, os.Stdin)
	require.NoError(t, err)
}

// twoProcesses is a world with a worker in another process, whose calls wait at the gate.
type twoProcesses struct {
	world
	child  *exec.Cmd
	gate   pgx.Tx
	parent transfer.Config
}

func newTwoProcesses(t *testing.T) twoProcesses {
	t.Helper()
	w := twoProcesses{world: newWorld(t)}
	w.Exec(t, outsideTables)
	pool := transfertest.OpenPool(t, w.DB.URL)
	w.parent = w.Config(t, "parent")
	w.parent.Risk, w.parent.Notify = outside{pool, false}, outside{pool, false}

	var err error
	w.gate, err = w.DB.Pool.Begin(t.Context()) //nolint:forbidigo // a lock that is held for the whole test
	require.NoError(t, err)
	_, err = w.gate.Exec(t.Context(), "SELECT pg_advisory_xact_lock($1)", gate)
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.gate.Rollback(context.WithoutCancel(t.Context())) })

	w.child = exec.Command(os.Args[0], "-test.run=^TestWorkerProcess$", "-test.timeout=2m")
	w.child.Env = append(os.Environ(), workerURL+"="+w.DB.URL)
	w.child.Stderr = os.Stderr
	stdin, err := w.child.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, w.child.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = w.child.Process.Kill()
		_ = w.child.Wait()
	})
	return w
}

func (w twoProcesses) childID() string { return fmt.Sprint("child-", w.child.Process.Pid) }

// backlog makes bulks of transfers and waits until the child has some of them in hand.
func (w twoProcesses) backlog(t *testing.T, bulks int) {
	t.Helper()
	items := make([]transfer.New, transfer.BulkMaxItems)
	for i := range items {
		items[i] = w.Item(1)
	}
	for i := range bulks {
		w.create(t, fmt.Sprint("bulk", i), items...)
	}
	transfertest.Eventually(t, "the child has work in hand", func() bool {
		return w.inHand(t) >= min(transfertest.InHand, int64(bulks)) &&
			w.Count(t, "SELECT count(*) FROM outside_calls") > 0
	})
}

// inHand counts the jobs that the child has claimed.
func (w twoProcesses) inHand(t *testing.T) int64 {
	t.Helper()
	return w.Count(t, `SELECT count(*) FROM river_job
	                    WHERE state = 'running' AND $1 = ANY (attempted_by)`, w.childID())
}

func (w twoProcesses) signal(t *testing.T, s syscall.Signal) time.Time {
	t.Helper()
	var now time.Time
	require.NoError(t, w.Pool.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&now))
	require.NoError(t, w.child.Process.Signal(s))
	return now
}

// startParent starts the worker of this process.
func (w twoProcesses) startParent(t *testing.T) *transfertest.Worker {
	t.Helper()
	worker := transfertest.NewWorker(t, w.DB.URL, w.parent)
	require.NoError(t, worker.Start(t.Context()))
	t.Cleanup(func() { _ = worker.Stop(context.WithoutCancel(t.Context())) })
	return worker
}

// requireTakenOver says that what was open at a time ended within the promise of five seconds, measured,
// and generously asserted.
func (w twoProcesses) requireTakenOver(t *testing.T, since time.Time) {
	t.Helper()
	rows, err := w.Pool.Query(t.Context(),
		"SELECT updated_at FROM transfers WHERE updated_at > $1 ORDER BY updated_at", since)
	require.NoError(t, err)
	ended, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	require.NoError(t, err)
	require.NotEmpty(t, ended, "nothing was left to take over")
	p99, last := ended[len(ended)*99/100].Sub(since), slices.MaxFunc(ended, time.Time.Compare).Sub(since)
	t.Logf("%d transfers taken over: p99 %.3f s, max %.3f s", len(ended), p99.Seconds(), last.Seconds())
	require.Less(t, last, 15*time.Second)
}

func (w twoProcesses) requireOneEffectEach(t *testing.T) {
	t.Helper()
	transfers := w.Count(t, "SELECT count(*) FROM transfers")
	require.Equal(t, transfers, w.Count(t, "SELECT count(*) FROM transfers WHERE state = 'settled'"))
	require.Equal(t, transfers, w.Count(t, "SELECT count(*) FROM transfers WHERE notification = 'sent'"))
	require.Equal(t, 2*transfers, w.Count(t, "SELECT count(*) FROM outside_effects"))
	posted, held := w.Balance(t, w.To)
	require.Equal(t, []int64{transfertest.Funds + transfers, 0}, []int64{posted, held})
	w.CheckInvariants(t)
}

func TestTheWorkOfAKilledProcessGoesOnInAnother(t *testing.T) {
	t.Parallel()
	w := newTwoProcesses(t)
	const bulks = 4
	w.backlog(t, bulks)
	w.startParent(t)
	transfertest.Eventually(t, "only what the child has in hand is open", func() bool {
		return w.Count(t, `SELECT count(*) FROM river_job j WHERE state IN ('available', 'running')
		                      AND NOT $1 = ANY (coalesce(attempted_by, '{}'))`, w.childID()) == 0
	})
	require.Positive(t, w.inHand(t))
	require.Positive(t, w.Count(t, "SELECT count(*) FROM transfers WHERE state = 'accepted'"))

	killed := w.signal(t, syscall.SIGKILL)
	w.WaitQuiet(t)
	w.requireTakenOver(t, killed)
	require.NoError(t, w.gate.Rollback(t.Context()))
	w.requireOneEffectEach(t)
	require.EqualValues(t, bulks*transfer.BulkMaxItems, w.Count(t, "SELECT count(*) FROM transfers"))
}

func TestAStoppedProcessWakesUpToWorkThatIsDone(t *testing.T) {
	t.Parallel()
	w := newTwoProcesses(t)
	w.backlog(t, 1)
	stopped := w.signal(t, syscall.SIGSTOP)
	parent := w.startParent(t)
	w.WaitQuiet(t)
	w.requireTakenOver(t, stopped)
	pid := w.child.Process.Pid
	calls := w.Count(t, "SELECT count(*) FROM outside_calls WHERE pid = $1 AND NOT returned", pid)
	require.Positive(t, calls, "the child was stopped in the middle of a call")
	require.NoError(t, parent.Stop(t.Context()))

	require.NoError(t, w.gate.Rollback(t.Context()))
	w.signal(t, syscall.SIGCONT)
	transfertest.Eventually(t, "the child's calls came back", func() bool {
		return w.Count(t, "SELECT count(*) FROM outside_calls WHERE pid = $1 AND returned", pid) >= calls
	})
	var fresh []uuid.UUID
	for i := range 3 {
		fresh = append(fresh, w.Create(t, fmt.Sprint("after", i), 1))
	}
	for _, id := range fresh {
		w.WaitTerminal(t, id) // by the child, which works again
	}
	w.WaitQuiet(t)
	w.requireOneEffectEach(t)
}
