package app

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/pgtx"
)

const (
	// sampledWithin is how old the latest sample may be that is shown as what is so now.
	sampledWithin = time.Minute
	// followedWithin is how long after a change a process may report that it follows the one before.
	followedWithin = 3 * time.Second
)

// Modes is what operators see of the mode and say about it, on the admin listener and by the command.
type Modes struct {
	pool   *pgxpool.Pool
	policy *mode.Policy
}

// NewModes makes what speaks of the mode by a policy.
func NewModes(pool *pgxpool.Pool, policy *mode.Policy) *Modes {
	return &Modes{pool: pool, policy: policy}
}

// Now reads what is in force, what was seen last, and who follows.
func (m *Modes) Now(ctx context.Context) (httpapi.ModeNow, error) {
	state, err := mode.Read(ctx, m.pool)
	if err != nil {
		return httpapi.ModeNow{}, err
	}
	samples, err := mode.Samples(ctx, m.pool, sampledWithin)
	if err != nil {
		return httpapi.ModeNow{}, err
	}
	followers, err := mode.Followers(ctx, m.pool)
	if err != nil {
		return httpapi.ModeNow{}, err
	}
	latest, err := mode.History(ctx, m.pool, state.Version+1, 1)
	if err != nil {
		return httpapi.ModeNow{}, err
	}
	now := httpapi.ModeNow{State: state, Policy: m.policy}
	for _, change := range latest {
		now.ChangedAt = change.At
	}
	for _, f := range followers {
		now.Followers = append(now.Followers, followerOf(f, now))
	}
	if len(samples) > 0 {
		now.Latest = &samples[len(samples)-1]
	}
	return now, nil
}

// followerOf judges a report. One that was made before a change says nothing of it.
func followerOf(f mode.Follower, now httpapi.ModeNow) httpapi.ModeFollower {
	reported := now.Now.Add(-f.Age)
	return httpapi.ModeFollower{
		Follower: f,
		Behind:   f.Follows < now.Version && reported.Sub(now.ChangedAt) > followedWithin,
		// as long as nobody has judged, there is nothing to differ from
		OtherPolicy: now.State.Policy != "" && f.Policy != now.State.Policy,
	}
}

// History reads the latest changes before a version, the latest first; zero is all versions.
func (m *Modes) History(ctx context.Context, before int64, limit int) ([]mode.Changed, error) {
	return mode.History(ctx, m.pool, before, limit)
}

// Simulate says which modes the time before now would have had under the policy.
func (m *Modes) Simulate(ctx context.Context, back time.Duration) (mode.Simulation, error) {
	samples, err := mode.Samples(ctx, m.pool, back)
	if err != nil {
		return mode.Simulation{}, err
	}
	return m.policy.Compare(samples), nil
}

// Override puts an override in force, or ends one.
func (m *Modes) Override(ctx context.Context, o mode.Override) (mode.State, error) {
	var set mode.State
	err := pgtx.Run(ctx, m.pool, "override mode", func(ctx context.Context, tx pgx.Tx) error {
		var err error
		set, err = mode.Set(ctx, tx, m.policy, o)
		return err
	})
	return set, err
}

// OverrideOnce does so once per key.
func (m *Modes) OverrideOnce(
	ctx context.Context, key idempotency.Keyed, o mode.Override, render func(mode.State) idempotency.Response,
) (idempotency.Response, error) {
	return idempotency.Run(ctx, m.pool, "override mode", key,
		func(ctx context.Context, tx pgx.Tx, _ time.Time) (idempotency.Response, error) {
			set, err := mode.Set(ctx, tx, m.policy, o)
			if err != nil {
				return idempotency.Response{}, err
			}
			return render(set), nil
		})
}
