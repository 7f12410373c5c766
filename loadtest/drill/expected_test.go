package drill

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/loadtest/scenario"
)

// phasesAt are a calm minute and a minute of fault after it.
func phasesAt(from time.Time) map[string]*phase {
	lasting := func(name string, from time.Time) *phase {
		return &phase{name: name, from: from, to: from.Add(time.Minute), tallies: map[string]*tally{}}
	}
	return map[string]*phase{
		scenario.CalmPhase:  lasting(scenario.CalmPhase, from),
		scenario.FaultPhase: lasting(scenario.FaultPhase, from.Add(time.Minute)),
	}
}

func holding(claims []Claim) []bool {
	var all []bool
	for _, c := range claims {
		all = append(all, c.Holds)
	}
	return all
}

func TestAConditionThatDoesNotHoldWhenItShouldFails(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	phases := phasesAt(from)
	e := scenario.Expectation{Condition: &scenario.Condition{
		Name: "degraded", In: scenario.FaultPhase, NotIn: scenario.CalmPhase,
	}}
	calm, fault := from.Add(time.Second), from.Add(61*time.Second)
	require.Equal(t, []bool{true, true}, holding(watchedClaim(e, []sample{{calm, 0}, {fault, 1}}, phases)))
	require.Equal(t, []bool{false, true}, holding(watchedClaim(e, []sample{{calm, 0}, {fault, 0}}, phases)))
	require.Equal(t, []bool{true, false}, holding(watchedClaim(e, []sample{{calm, 1}, {fault, 1}}, phases)))
	require.Equal(t, []bool{false, false}, holding(watchedClaim(e, nil, phases)), "nobody looked")
}

func TestAMetricBeyondItsBoundFails(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	phases, bound := phasesAt(from), 3.0
	fault := phases[scenario.FaultPhase].from
	seen := []sample{{from.Add(time.Second), 9}, {fault.Add(time.Second), 2}, {fault.Add(2 * time.Second), 3}}
	holds := func(m scenario.Metric, seen []sample) bool {
		m.Name, m.In = "x", scenario.FaultPhase
		return watchedClaim(scenario.Expectation{Metric: &m}, seen, phases)[0].Holds
	}
	require.True(t, holds(scenario.Metric{AtLeast: &bound}, seen))
	require.True(t, holds(scenario.Metric{AtMost: &bound}, seen), "what was before does not count")
	bound = 2.5
	require.False(t, holds(scenario.Metric{AtMost: &bound}, seen))
	bound = 4
	require.False(t, holds(scenario.Metric{AtLeast: &bound}, seen))
	require.False(t, holds(scenario.Metric{AtMost: &bound}, nil), "nobody looked")
}

func TestAVerdictThatDoesNotBiteFails(t *testing.T) {
	t.Parallel()
	o := Outcome{Claims: []Claim{
		{Name: "money in calm", Holds: true},
		{Name: "money in fault", Measured: "7"},
		{Name: "stock", Holds: true},
	}}
	o.bites([]string{"money", "stock", "glory"})
	require.Equal(t, []bool{true, false, false}, holding(o.Claims))
	require.Equal(t, []Figure{{"failed: money in fault", "7"}}, o.Figures)
	require.False(t, o.holds())
}

func TestAChangeHasToFitOnce(t *testing.T) {
	t.Parallel()
	c := scenario.Change{File: "broken_test.txt", From: "two", To: "2"}
	_, err := changed("testdata/nowhere.go", c)
	require.Error(t, err)
	c.From = "var errChange"
	text, err := changed("broken.go", c)
	require.NoError(t, err)
	require.Contains(t, string(text), "\n2 = errors.New")
	c.From = "errChange"
	_, err = changed("broken.go", c)
	require.ErrorIs(t, err, errChange)
	c.From = "no such text"
	_, err = changed("broken.go", c)
	require.ErrorIs(t, err, errChange)
}

func TestWhoIsRefusedFirstIsHeldToTheOrder(t *testing.T) {
	t.Parallel()
	holds := func(refused ...uint64) bool {
		s := &stage{run: &run{o: options(t, 1)}, outcome: &Outcome{}}
		p := &playing{stage: s, phases: phasesAt(time.Time{})}
		for n, name := range []string{"critical", "standard"} {
			one := p.phases[scenario.FaultPhase].of(name)
			one.refused = refused[n]
			for range 100 - refused[n] {
				one.taken.Add(time.Millisecond)
			}
		}
		p.refusedInOrder(&scenario.RefusedFirst{
			Streams: []string{"critical", "standard"}, In: scenario.FaultPhase,
		})
		return p.outcome.Claims[0].Holds
	}
	require.True(t, holds(10, 60))
	require.False(t, holds(60, 10))
	require.False(t, holds(0, 0), "nobody was refused")
}

// eventTenant is whose events these are.
var eventTenant = uuid.New()

// insertEvent puts an event of a transfer where no service would leave one like it.
func insertEvent(t *testing.T, pool *pgxpool.Pool, of uuid.UUID, kind string, at time.Time) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `
		INSERT INTO events (tenant_id, aggregate_id, seq, type, to_state, at, actor)
		SELECT $1, $2, count(*) + 1, $3, 'any', $4, 'test' FROM events WHERE aggregate_id = $2`,
		eventTenant, of, kind, at)
	require.NoError(t, err)
}

func TestRecoveryIsTheLastEndOfWhatWasAcceptedBefore(t *testing.T) {
	t.Parallel()
	s, pool := looking(t)
	from := time.Now().Add(s.referee.Skew).Truncate(time.Millisecond) //nolint:forbidigo // the stage's clock
	p := &phase{from: from.Add(-s.referee.Skew)}
	require.Zero(t, s.recoveredAfter(t.Context(), p), "nothing was open")
	ends := func(accepted, ended time.Duration, more ...string) {
		id := uuid.New()
		insertEvent(t, pool, id, "transfer.accepted", from.Add(accepted))
		for _, kind := range more {
			insertEvent(t, pool, id, kind, from.Add(accepted))
		}
		insertEvent(t, pool, id, "transfer.settled", from.Add(ended))
	}
	ends(-time.Second, 3*time.Second)
	ends(-2*time.Second, -time.Second)
	ends(time.Second, 9*time.Second)                        // accepted later
	ends(-time.Second, 9*time.Second, "transfer.in_review") // a person took so long
	require.InDelta(t, 3, s.recoveredAfter(t.Context(), p).Seconds(), 0.05)
	insertEvent(t, pool, uuid.New(), "transfer.accepted", from.Add(-time.Second))
	require.Equal(t, never, s.recoveredAfter(t.Context(), p), "one has not ended")
	require.NoError(t, s.err)
}

func TestWhatEndedLateOrWasGivenUpIsNotKept(t *testing.T) {
	t.Parallel()
	s, pool := looking(t)
	require.Zero(t, s.keptPart(t.Context()))
	early, late := time.Unix(0, 0), time.Unix(1<<33, 0)
	insertEvent(t, pool, insertTransfer(t, pool, eventTenant, "settled", ""), "transfer.settled", early)
	insertEvent(t, pool, insertTransfer(t, pool, eventTenant, "settled", ""), "transfer.settled", late)
	insertEvent(t, pool, insertTransfer(t, pool, eventTenant, "expired", "deadline_exhausted"),
		"transfer.expired", early)
	stock := "stock"
	insertEvent(t, pool, insertOrder(t, pool, eventTenant, "canceled", &stock), "order.canceled", early)
	require.InDelta(t, 0.5, s.keptPart(t.Context()), 1e-9)
	require.NoError(t, s.err)
}

func TestAFileIsPlayedToItsEnd(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a PostgreSQL and four processes")
	}
	r, err := Run(t.Context(), options(t, 0.1), Choice{Names: []string{"duplicate-keys"}})
	require.NoError(t, err)
	require.Len(t, r.Outcomes, 1)
	require.Empty(t, r.Outcomes[0].Error)
	require.True(t, r.Holds(), "%+v", r.Outcomes[0].Claims)
	require.Positive(t, r.Outcomes[0].Points)
}
