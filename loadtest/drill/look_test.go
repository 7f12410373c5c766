package drill

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/loadtest/rig"
	"example.com/holdfast/loadtest/simdep"
)

// looking is a stage that has a database and nothing else.
func looking(t *testing.T) (*stage, *pgxpool.Pool) {
	t.Helper()
	db := pgtest.DB(t)
	s := &stage{run: &run{o: options(t, 1)}, outcome: &Outcome{Scenario: "test"}, url: db.URL}
	var err error
	s.referee, err = rig.NewReferee(t.Context(), db.URL, s.run.o.Now)
	require.NoError(t, err)
	t.Cleanup(func() { s.referee.Close(t.Context()) })
	return s, db.Pool
}

// insertTransfer puts a row where no service would leave one like it.
func insertTransfer(t *testing.T, pool *pgxpool.Pool, tenant uuid.UUID, state, reason string) uuid.UUID {
	t.Helper()
	id := uuid.New()
	_, err := pool.Exec(t.Context(), `
		INSERT INTO transfers (tenant_id, id, from_account, to_account, amount, currency, state, version,
		                       reason, notification, wake_at, promise_at, created_at, updated_at)
		SELECT $1, $2, gen_random_uuid(), gen_random_uuid(), 5, 'EUR', $3, 1, nullif($4, ''),
		       CASE WHEN $3 = 'accepted' THEN 'none' ELSE 'sent' END,
		       CASE WHEN $3 = 'accepted' THEN now() - interval '1 second' END, now(), now(), now()`,
		tenant, id, state, reason)
	require.NoError(t, err)
	return id
}

func TestWhatWasAcceptedAndDidNotEndIsFound(t *testing.T) {
	t.Parallel()
	s, pool := looking(t)
	tenant := uuid.New()
	caller := &traffic{tenant: rig.Tenant{ID: tenant}}
	s.callers = []*traffic{caller}
	caller.transfers = []uuid.UUID{insertTransfer(t, pool, tenant, "settled", "")}
	require.Empty(t, s.unended(t.Context()))
	open := insertTransfer(t, pool, tenant, "accepted", "")
	caller.transfers = append(caller.transfers, open, uuid.New())
	caller.orders = []uuid.UUID{uuid.New()}
	found := s.unended(t.Context())
	require.Len(t, found, 3)
	require.Contains(t, found, "transfer "+open.String()+": accepted")
	require.Contains(t, found, "transfer "+caller.transfers[2].String()+": lost")
	require.Contains(t, found, "order "+caller.orders[0].String()+": lost")
	require.NoError(t, s.err)
}

func TestAnEndThatNoScenarioCausesIsFound(t *testing.T) {
	t.Parallel()
	s, pool := looking(t)
	tenant := uuid.New()
	insertTransfer(t, pool, tenant, "settled", "")
	insertTransfer(t, pool, tenant, "expired", "deadline_exhausted")
	require.Empty(t, s.badEnds(t.Context()))
	poison := insertTransfer(t, pool, tenant, "failed", "poison")
	require.Equal(t, []string{"transfer " + poison.String() + ": failed, poison"}, s.badEnds(t.Context()))
	require.NoError(t, s.err)
}

func TestWhatNeverCameToItsSecondEventTookForEver(t *testing.T) {
	t.Parallel()
	s, pool := looking(t)
	begin := s.run.o.Now()
	tenant := uuid.New()
	event := func(aggregate uuid.UUID, seq int, kind string, after time.Duration) {
		_, err := pool.Exec(t.Context(), `
			INSERT INTO events (tenant_id, aggregate_id, seq, type, to_state, actor, at)
			VALUES ($1, $2, $3, $4, 'x', 'test', $5)`, tenant, aggregate, seq, kind, begin.Add(after))
		require.NoError(t, err)
	}
	ended, hangs, before := uuid.New(), uuid.New(), uuid.New()
	event(ended, 1, "transfer.accepted", 0)
	event(ended, 2, "transfer.settled", 2*time.Second)
	event(hangs, 1, "transfer.accepted", time.Second)
	event(before, 1, "transfer.accepted", -time.Minute)
	p := &phase{from: begin.Add(-time.Second), to: begin.Add(10 * time.Second)}
	got := s.between(t.Context(), p, "transfer.accepted", "transfer.settled")
	require.Equal(t, 2, got.n)
	require.InDelta(t, 2, got.p50.Seconds(), 0.01)
	require.Equal(t, never, got.max)
	of := func(tenant uuid.UUID) spread {
		return s.betweenOf(t.Context(), p, "transfer.accepted", "transfer.settled", []uuid.UUID{tenant})
	}
	require.Equal(t, got, of(tenant))
	require.Zero(t, of(uuid.New()).n)
	require.NoError(t, s.err)
}

// TestWorkIsTakenUpWhenItsRowMovesOrAnotherHasIt shows both ways, and that the dead worker's own job is none.
func TestWorkIsTakenUpWhenItsRowMovesOrAnotherHasIt(t *testing.T) {
	t.Parallel()
	s, pool := looking(t)
	ctx := t.Context()
	tenant := uuid.New()
	first := insertTransfer(t, pool, tenant, "accepted", "")
	second := insertTransfer(t, pool, tenant, "accepted", "")
	running := func(instance string, ids ...uuid.UUID) {
		_, err := pool.Exec(ctx, `
			INSERT INTO river_job (args, kind, max_attempts, queue, state, scheduled_at, attempt,
			                       attempted_at, attempted_by)
			VALUES (jsonb_build_object('transfers', jsonb_build_object($1::text, $2::uuid[])),
			        'transfer_screen', 3, 'risk_api', 'running', now(), 1, now(), ARRAY['earlier', $3])`,
			tenant.String(), ids, instance)
		require.NoError(t, err)
	}
	running("victim", first, second)
	had, err := s.inHand(ctx, "victim")
	require.NoError(t, err)
	require.Len(t, had.items, 2)
	left, now, err := s.stillHeld(ctx, had)
	require.NoError(t, err)
	require.ElementsMatch(t, []uuid.UUID{first, second}, left)
	require.False(t, now.Before(had.at))

	_, err = pool.Exec(ctx, "UPDATE transfers SET attempts = attempts + 1 WHERE id = $1", first)
	require.NoError(t, err)
	left, _, err = s.stillHeld(ctx, had)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{second}, left)

	running("other", second)
	left, _, err = s.stillHeld(ctx, had)
	require.NoError(t, err)
	require.Empty(t, left)
	idle, err := s.inHand(ctx, "nobody")
	require.NoError(t, err)
	require.Empty(t, idle.items)
}

func TestADependencyThatActsTwiceFailsTheClaim(t *testing.T) {
	t.Parallel()
	s, _ := looking(t)
	for _, d := range []**simdep.Server{&s.risk, &s.notify, &s.rail} {
		var err error
		*d, err = simdep.Start(t.Context(), simdep.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, (*d).Close()) })
	}
	verdicts := func() map[string]bool {
		s.outcome.Claims = nil
		s.effectsOnce()
		s.effectsAll()
		all := map[string]bool{}
		for _, c := range s.outcome.Claims {
			all[c.Name] = c.Holds
		}
		require.Len(t, all, 5)
		return all
	}
	const doubled = "effects beyond the first under a key at the risk service"
	const risk = "effects at the risk service, one for each key"
	const rail = "transfers that were paid twice by the rail"
	send(t, s.risk, "/v1/screenings", "a/screen", `{"amount_value":5}`)
	send(t, s.rail, "/v1/payouts", "a/payout/1", `{"transfer_id":"a","amount_value":5}`)
	require.True(t, verdicts()[doubled] && verdicts()[risk] && verdicts()[rail])

	require.NoError(t, s.risk.SetKnobs(simdep.Knobs{IgnoreKeys: true}))
	send(t, s.risk, "/v1/screenings", "a/screen", `{"amount_value":5}`)
	send(t, s.rail, "/v1/payouts", "a/payout/2", `{"transfer_id":"a","amount_value":5}`)
	require.False(t, verdicts()[risk])
	require.False(t, verdicts()[doubled])
	require.False(t, verdicts()[rail])
}

// send asks a dependency for an effect.
func send(t *testing.T, d *simdep.Server, path, key, body string) {
	t.Helper()
	caller := &traffic{client: newHTTPClient()}
	a, err := caller.do(t.Context(), request{"POST", d.URL() + path, "", key, jsonText(body)})
	require.NoError(t, err)
	require.Equal(t, 200, a.status)
}

// jsonText is a body that is JSON already.
type jsonText string

func (j jsonText) MarshalJSON() ([]byte, error) { return []byte(j), nil }
