package app

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/pgtx"
)

// How long the server lets a statement of ours wait for a lock, or a transaction sit idle. How long it lets
// one run is pgtx.StatementMax, or less. They end a statement on the server, before a context deadline
// would cost the connection.
const (
	apiLockMax  = "250ms"
	workLockMax = "500ms"
	idleInTxMax = "2s"
	connectMax  = 5 * time.Second
	// opsConns is the size of the pool for heartbeats, leases of places, looks, health and the admin side.
	// The three leases have a connection each, and looks one: a slow reaper or a person must not make them
	// late, since a worker whose lease ends stops calling.
	opsConns = 7
	// eventsConns is the size of the pool for events on their way out.
	eventsConns = 6
)

// poolSettings are what differs between the pools.
type poolSettings struct {
	name   string
	size   int32
	params map[string]string
	// listens says that connections wait for notifications, which a watcher that cancels on the server
	// would disturb.
	listens bool
}

// openPool makes a pool with a name of its own, so that none starves another.
func openPool(ctx context.Context, url string, set poolSettings) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read database url of pool %s: %w", set.name, err)
	}
	cfg.MaxConns, cfg.MinConns = set.size, min(set.size-1, 2)
	cfg.ConnConfig.ConnectTimeout = connectMax
	cfg.AfterConnect = func(_ context.Context, c *pgx.Conn) error {
		pgtx.RegisterTypes(c.TypeMap())
		return nil
	}
	run := cfg.ConnConfig.RuntimeParams
	run["application_name"] = "holdfast-" + set.name
	run["statement_timeout"] = strconv.FormatInt(pgtx.StatementMax.Milliseconds(), 10)
	run["idle_in_transaction_session_timeout"] = idleInTxMax
	// A server that lost its client frees the client's locks within seconds.
	run["tcp_keepalives_idle"], run["tcp_keepalives_interval"], run["tcp_keepalives_count"] = "5", "2", "3"
	run["tcp_user_timeout"] = "10000"
	maps.Copy(run, set.params)
	if !set.listens {
		pgtx.CancelOnServer(&cfg.ConnConfig.Config)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open pool %s: %w", set.name, err)
	}
	return pool, nil
}

// domainParams are for pools whose statements are all probes of indexes by key. A generic plan that
// was made while a table was empty would read all of it once it is full, so the other ways are off.
func domainParams(lockMax string) map[string]string {
	return map[string]string{
		"lock_timeout": lockMax, "jit": "off",
		"plan_cache_mode": "force_generic_plan",
		"enable_seqscan":  "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
	}
}

// OpenAPIPool opens the pool of an API, for commands that work on the domain without one.
func OpenAPIPool(ctx context.Context, cfg config.Config) (*pgxpool.Pool, error) {
	return openPool(ctx, cfg.DatabaseURL, poolSettings{
		name: "api", size: cfg.APIConns, params: domainParams(apiLockMax),
	})
}

func workerPool(ctx context.Context, cfg config.Config) (*pgxpool.Pool, error) {
	return openPool(ctx, cfg.DatabaseURL, poolSettings{
		name: "worker", size: cfg.WorkerConns, params: domainParams(workLockMax),
	})
}

// riverPool is River's own. Its statements are planned each time: the same trap as above, but River
// also aggregates.
func riverPool(ctx context.Context, cfg config.Config) (*pgxpool.Pool, error) {
	return openPool(ctx, cfg.DatabaseURL, poolSettings{
		name: "river", size: cfg.RiverConns, listens: true, params: map[string]string{
			"plan_cache_mode": "force_custom_plan", "jit": "off",
			"idle_in_transaction_session_timeout": "60s",
		},
	})
}

// opsPool is for heartbeats, leases, looks, health and the admin side: it works while the others are busy.
// What was planned while a table was empty must not read all of it once it is full.
func opsPool(ctx context.Context, cfg config.Config) (*pgxpool.Pool, error) {
	return openPool(ctx, cfg.DatabaseURL, poolSettings{
		name: "ops", size: opsConns,
		params: map[string]string{"lock_timeout": workLockMax, "jit": "off", "enable_seqscan": "off"},
	})
}

// eventsPool is for events on their way out: what they wait for keeps nobody else waiting.
func eventsPool(ctx context.Context, cfg config.Config) (*pgxpool.Pool, error) {
	return openPool(ctx, cfg.DatabaseURL, poolSettings{
		name: "events", size: eventsConns, params: domainParams(workLockMax),
	})
}

// bellPool has the connection on which a process hears that the log of events has grown.
func bellPool(ctx context.Context, cfg config.Config) (*pgxpool.Pool, error) {
	return openPool(ctx, cfg.DatabaseURL, poolSettings{name: "bell", size: 1, listens: true})
}
