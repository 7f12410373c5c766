package jobqueue

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/jobqueue/internal/jobqueuedb"
	"example.com/holdfast/internal/pgtx"
)

// How a dead worker is found: it beats every beatEvery, and one that was silent for silenceMax has
// lost its jobs to the others. With the reaper's tick and a fetch this resumes work in under five
// seconds.
const (
	beatEvery  = 500 * time.Millisecond
	silenceMax = 2500 * time.Millisecond
	// beatTimeout bounds one heartbeat and one round of the reaper.
	beatTimeout = 2 * time.Second
	// calmRounds is how many rounds the reaper leaves out after a heartbeat of its own failed: then the
	// database was away, nobody could beat, and silence says nothing yet.
	calmRounds = int32(silenceMax / beatEvery)
	// runMax is how long a job may count as running although its worker lives: past its timeout the
	// worker does not have it, since the reply to its fetch was lost or its end could not be recorded.
	// What is left over would hide every younger row of its queue from the sweeper. A process that knows what
	// it has in hand finds its own such jobs sooner, after lostAfter.
	runMax = jobTimeout + 15*time.Second
)

// Instance is one worker process: it beats, and it reaps the jobs of those that do not.
type Instance struct {
	ID      string
	Host    string
	Version string
	Pool    *pgxpool.Pool
	Log     *slog.Logger
	// Reaped is told how many jobs of dead workers were woken again; nil is allowed.
	Reaped func(jobs int64)
	// Silent is told, in every round that finds some, which instances do not beat any more, so that what they
	// hold besides jobs is taken over; nil is allowed. One that only slept finds out when it wakes.
	Silent func(ctx context.Context, ids []string) error
	// Hand is what the process has in hand; nil: nobody knows, and what it lost is found after runMax.
	Hand *Hand

	cancel context.CancelFunc
	group  sync.WaitGroup
	// blind is how many rounds the reaper still leaves out.
	blind atomic.Int32
}

// Start writes the first heartbeat, so that the instance is known before it claims a job, and begins
// to beat and reap.
func (i *Instance) Start(ctx context.Context) error {
	if err := i.beat(ctx); err != nil {
		return err
	}
	ctx, i.cancel = context.WithCancel(context.WithoutCancel(ctx))
	i.group.Go(func() { i.every(ctx, "beat", i.beat) })
	i.group.Go(func() { i.every(ctx, "reap", i.reap) })
	return nil
}

// Stop ends the heartbeat and takes the instance off the list. It follows a Start that succeeded, and
// the stop of the worker's client: jobs that are still running are taken over at once.
func (i *Instance) Stop(ctx context.Context) error {
	i.cancel()
	i.group.Wait()
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	if err := jobqueuedb.New().SystemLeave(ctx, i.Pool, i.ID); err != nil {
		return fmt.Errorf("take instance %s off the list: %w", i.ID, err)
	}
	return nil
}

func (i *Instance) every(ctx context.Context, what string, do func(context.Context) error) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := do(ctx); err != nil && ctx.Err() == nil {
			i.Log.WarnContext(ctx, "instance round failed", slog.String("what", what), slog.Any("error", err))
		}
	}
}

func (i *Instance) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	err := jobqueuedb.New().SystemBeat(ctx, i.Pool, jobqueuedb.SystemBeatParams{
		ID: i.ID, Hostname: i.Host, Version: i.Version,
	})
	if err != nil {
		i.blind.Store(calmRounds)
		return fmt.Errorf("write heartbeat of %s: %w", i.ID, err)
	}
	return nil
}

// takeOver ends the running jobs whose worker does not beat, or does not have them any more, and inserts
// them again: with the count of attempts, so that their worker knows that a call may have been sent before,
// in their lane, and as old as they were. Of itself the instance knows what it has in hand, $6; of others, or
// if $6 is null, that no job takes so long as $4. A worker that was only asleep completes nothing when it
// wakes: River completes a job only while it is running, and every effect is guarded by the rows.
//
// An instance whose own heartbeat is old takes nothing over: it was asleep itself, or nobody could beat.
const takeOver = `
WITH lost AS (
    UPDATE river_job j
       SET state = 'cancelled', finalized_at = clock_timestamp()
     WHERE j.state = 'running'
       AND EXISTS (SELECT FROM instances me
                    WHERE me.id = $3 AND me.heartbeat_at >= clock_timestamp() - $1::interval)
       AND (j.attempted_at < clock_timestamp() - $4::interval
            OR j.attempted_by[cardinality(j.attempted_by)] = $3
               AND j.attempted_at < clock_timestamp() - $5::interval AND j.id <> ALL ($6::bigint[])
            OR NOT EXISTS (SELECT FROM instances i
                            WHERE i.id = j.attempted_by[cardinality(j.attempted_by)]
                              AND i.heartbeat_at >= clock_timestamp() - $1::interval))
    RETURNING j.args, j.attempt, j.kind, j.max_attempts, j.metadata, j.priority, j.queue, j.scheduled_at
), added AS (
    INSERT INTO river_job (args, attempt, kind, max_attempts, metadata, priority, queue, scheduled_at, state)
    SELECT args, attempt, kind, max_attempts, metadata, priority, queue, scheduled_at, 'available' FROM lost
    RETURNING queue
), woken AS (
    SELECT pg_notify(current_schema() || '.' || $2, json_build_object('queue', queue)::text)
      FROM (SELECT DISTINCT queue FROM added) q
)
SELECT (SELECT count(*) FROM added), (SELECT count(*) FROM woken)`

// tellSilent says who does not beat. It is asked after takeOver, which finds out whether we do ourselves.
func (i *Instance) tellSilent(ctx context.Context) error {
	if i.Silent == nil {
		return nil
	}
	ids, err := jobqueuedb.New().SystemSilent(ctx, i.Pool, pgtx.Interval(silenceMax))
	if err != nil {
		return fmt.Errorf("list silent instances: %w", err)
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return id == i.ID })
	if len(ids) == 0 {
		return nil
	}
	return i.Silent(ctx, ids)
}

func (i *Instance) reap(ctx context.Context) error {
	if i.blind.Load() > 0 {
		i.blind.Add(-1)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	var jobs, queues int64
	err := i.Pool.QueryRow(ctx, takeOver, pgtx.Interval(silenceMax), notifyChannel, i.ID,
		pgtx.Interval(runMax), pgtx.Interval(lostAfter), i.Hand.held()).Scan(&jobs, &queues)
	if err != nil {
		return fmt.Errorf("take over jobs of dead workers: %w", err)
	}
	if jobs > 0 {
		i.Log.WarnContext(ctx, "took over jobs that nobody has in hand", slog.Int64("jobs", jobs))
		if i.Reaped != nil {
			i.Reaped(jobs)
		}
	}
	if err := i.tellSilent(ctx); err != nil {
		return err
	}
	if _, err = jobqueuedb.New().SystemForgetDead(ctx, i.Pool, pgtx.Interval(10*silenceMax)); err != nil {
		return fmt.Errorf("forget dead instances: %w", err)
	}
	return nil
}
