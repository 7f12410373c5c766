package jobqueue

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
)

// How River's client works for us.
const (
	// fetchCooldown is the least time between two fetches of a queue: River's default of 100 ms would
	// be the floor of every latency.
	fetchCooldown = time.Millisecond
	// pollUrgentEvery finds jobs that became due, and jobs whose wake-up was lost.
	pollUrgentEvery = 100 * time.Millisecond
	// pollNotificationEvery is when jobs of QueueNotification are found: nobody waits for them, so they
	// are not announced, and what gathers between two polls shares its transactions.
	pollNotificationEvery = 50 * time.Millisecond
	// jobTimeout ends a cohort that hangs; each call in it is bounded much tighter.
	jobTimeout = 30 * time.Second
	// keepFinished is how long finished jobs are kept: they prove nothing, the events do.
	keepFinished = 10 * time.Minute
	// keepDiscarded is how long jobs are kept that had their tries: somebody should look at them.
	keepDiscarded = 7 * 24 * time.Hour
	// neverRescued switches River's rescuer off, which compares the start of a job, by Postgres's clock,
	// with the application's: with a database two hours behind it took healthy jobs from their workers.
	// The reaper of Instance does that work, by Postgres's clock alone.
	neverRescued = 100 * 365 * 24 * time.Hour
)

// Config is what a client works with.
type Config struct {
	// Pool has to be the client's own, with plan_cache_mode = force_custom_plan: a fetch plan that was made
	// for an empty table reads all of a full one.
	Pool *pgxpool.Pool
	// ID is the instance's id, under which the client claims jobs.
	ID string
	// InHand is how many jobs of each queue the worker has at most.
	InHand  map[string]int
	Workers *river.Workers
	// Hand is told which jobs are worked; nil is allowed.
	Hand *Hand
	// Log gets a line for each job, and the warnings of River.
	Log *slog.Logger
	// Now is the clock by which a line tells how long its job took.
	Now func() time.Time
}

// NewClient makes River's client for a worker.
func NewClient(cfg Config) (*river.Client[pgx.Tx], error) {
	queues := make(map[string]river.QueueConfig, len(cfg.InHand))
	for queue, limit := range cfg.InHand {
		queues[queue] = configOf(queue, limit)
	}
	last := &backstop{pool: cfg.Pool, log: cfg.Log, lines: lines{cfg.Log, cfg.Now}, hand: cfg.Hand}
	client, err := river.NewClient(riverpgxv5.New(cfg.Pool), &river.Config{
		ID: cfg.ID, Queues: queues, Workers: cfg.Workers, Logger: slog.New(warnings{cfg.Log.Handler()}),
		FetchCooldown: fetchCooldown, FetchPollInterval: pollUrgentEvery, JobTimeout: jobTimeout,
		CompletedJobRetentionPeriod: keepFinished, CancelledJobRetentionPeriod: keepFinished,
		DiscardedJobRetentionPeriod: keepDiscarded, RescueStuckJobsAfter: neverRescued,
		ErrorHandler: last, Plugins: []rivertype.Plugin{&traced{}, last},
	})
	if err != nil {
		return nil, fmt.Errorf("make job client: %w", err)
	}
	return client, nil
}

// configOf is how a queue is fetched.
func configOf(queue string, limit int) river.QueueConfig {
	poll := pollUrgentEvery
	if queue == QueueNotification {
		poll = pollNotificationEvery
	}
	return river.QueueConfig{MaxWorkers: limit, FetchPollInterval: poll}
}
