package slots

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/slots/internal/slotsdb"
)

const (
	// PlacesMax is the largest limit; each place is a row.
	PlacesMax = 1_000
	// HistoryMaxRows is how many versions History returns at most.
	HistoryMaxRows = 200
	// dependencyMaxBytes, actorMaxBytes and reasonMaxBytes bound the texts of a change.
	dependencyMaxBytes = 100
	actorMaxBytes      = 200
	reasonMaxBytes     = 500
)

// Who writes the first limit of a dependency, and why.
const (
	defaultActor  = "default"
	defaultReason = "configured limit of the first process"
)

// Change is a new limit for a dependency.
type Change struct {
	Dependency string
	Places     int
	// Actor says who asks for it.
	Actor  string
	Reason string
}

// validate refuses what no history should hold.
func (c Change) validate() error {
	if c.Places < 1 || c.Places > PlacesMax {
		return problem.Invalid("/places", "has to be 1 to %d", PlacesMax)
	}
	return errors.Join(problem.CheckNote("/actor", c.Actor, actorMaxBytes),
		problem.CheckNote("/reason", c.Reason, reasonMaxBytes))
}

// Limit is one version of a dependency's limit. The highest version is in force.
type Limit struct {
	Dependency string
	Version    int
	Places     int
	Actor      string
	Reason     string
	// SetAt is by Postgres's clock.
	SetAt time.Time
	// Holdings are the processes that share the places now, in order of their names; only Limits tells them.
	Holdings []Holding
}

// Holding is what one process holds. Slots may be more than its share while calls are in flight.
type Holding struct {
	Holder string
	Slots  int
}

// SetLimit appends a version, which every process follows within a tick. Lowering ends no call.
func SetLimit(ctx context.Context, pool *pgxpool.Pool, c Change) (Limit, error) {
	var limit Limit
	err := pgtx.Run(ctx, pool, "set limit", func(ctx context.Context, tx pgx.Tx) error {
		var err error
		limit, err = AppendLimit(ctx, tx, c)
		return err
	})
	if err != nil {
		return Limit{}, err
	}
	return limit, nil
}

// AppendLimit is SetLimit in a transaction of the caller's.
func AppendLimit(ctx context.Context, tx pgx.Tx, c Change) (Limit, error) {
	if err := c.validate(); err != nil {
		return Limit{}, err
	}
	if !possible(c.Dependency) {
		return Limit{}, unknown()
	}
	q := slotsdb.New()
	_, err := q.SystemLockLimit(ctx, tx, c.Dependency)
	if errors.Is(err, pgx.ErrNoRows) {
		return Limit{}, unknown()
	}
	if err != nil {
		return Limit{}, fmt.Errorf("lock limit of %s: %w", c.Dependency, err)
	}
	row, err := q.SystemSetLimit(ctx, tx, slotsdb.SystemSetLimitParams{
		Dependency: c.Dependency, Places: int32(c.Places), //nolint:gosec // at most PlacesMax
		Actor: c.Actor, Reason: c.Reason,
	})
	if err != nil {
		return Limit{}, fmt.Errorf("set limit of %s to %d: %w", c.Dependency, c.Places, err)
	}
	return Limit{
		Dependency: c.Dependency, Version: int(row.Version), Places: c.Places, Actor: c.Actor,
		Reason: c.Reason, SetAt: row.SetAt,
	}, nil
}

func unknown() error { return problem.New(problem.NotFound, "There is no dependency of this name.") }

// possible says whether a name could be that of a dependency: others do not even get to Postgres, which
// refuses some texts.
func possible(dependency string) bool {
	return problem.InvalidText(dependency, dependencyMaxBytes) == ""
}

// Limits reads the limit in force of every dependency, and who holds its slots, in order of their names.
func Limits(ctx context.Context, pool *pgxpool.Pool) ([]Limit, error) {
	q := slotsdb.New()
	rows, err := q.SystemLimits(ctx, pool)
	if err != nil {
		return nil, fmt.Errorf("read limits: %w", err)
	}
	limits := make([]Limit, len(rows))
	for i, row := range rows {
		limits[i] = toLimit(row)
		holdings, err := q.SystemHoldings(ctx, pool, row.Dependency)
		if err != nil {
			return nil, fmt.Errorf("read holders of %s: %w", row.Dependency, err)
		}
		for _, h := range holdings {
			limits[i].Holdings = append(limits[i].Holdings, Holding{Holder: h.Holder, Slots: int(h.Slots)})
		}
	}
	return limits, nil
}

// History reads up to limit versions of a dependency's limit, newest first, at most HistoryMaxRows.
func History(ctx context.Context, pool *pgxpool.Pool, dependency string, limit int) ([]Limit, error) {
	if !possible(dependency) {
		return nil, unknown()
	}
	rows, err := slotsdb.New().SystemLimitHistory(ctx, pool, slotsdb.SystemLimitHistoryParams{
		Dependency: dependency, MaxRows: int32(min(max(limit, 1), HistoryMaxRows)),
	})
	if err != nil {
		return nil, fmt.Errorf("read history of the limit of %s: %w", dependency, err)
	}
	if len(rows) == 0 {
		return nil, unknown()
	}
	history := make([]Limit, len(rows))
	for i, row := range rows {
		history[i] = toLimit(row)
	}
	return history, nil
}

func toLimit(row slotsdb.DependencyLimits) Limit {
	return Limit{
		Dependency: row.Dependency, Version: int(row.Version), Places: int(row.Places),
		Actor: row.Actor, Reason: row.Reason, SetAt: row.SetAt,
	}
}
