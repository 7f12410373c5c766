package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/jobqueue"
)

// noon is when the looks of these tests begin.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// aged is a queue with the ages of its lanes in seconds.
func aged(seconds ...int) map[string]lanes {
	var ages lanes
	for i, s := range seconds {
		ages[i] = time.Duration(s) * time.Second
	}
	return map[string]lanes{riskAPI: ages}
}

func TestALookIsJudgedByItsLimits(t *testing.T) {
	t.Parallel()
	behind := func(d time.Duration) map[string]time.Duration { return map[string]time.Duration{"it": d} }
	old := []verdict{{condition.QueueOld, riskAPI}}
	for name, c := range map[string]struct {
		seen figures
		want []verdict
	}{
		"drained": {
			seen: figures{ready: aged(0, 0, 0, 0), overdue: map[string]int{"transfer": 0}},
		},
		"nothing seen":               {},
		"a queue in use":             {seen: figures{ready: aged(5, 5, 5, 0)}},
		"an old queue":               {figures{ready: aged(6, 0, 0, 0)}, old},
		"a lane behind":              {figures{ready: aged(0, 0, 6, 0)}, old},
		"work that nobody waits for": {seen: figures{ready: aged(0, 0, 0, 3600)}},
		"late": {
			figures{overdue: map[string]int{"transfer": 0, "order": 1}},
			[]verdict{{condition.PromisesLate, "order"}},
		},
		"a relay at work":  {seen: figures{outbox: 10 * time.Second}},
		"a stalled outbox": {figures{outbox: 11 * time.Second}, []verdict{{condition.OutboxStalled, ""}}},
		"a sink at work":   {seen: figures{sinks: behind(time.Minute)}},
		"a sink behind": {
			figures{sinks: behind(61 * time.Second)}, []verdict{{condition.SinkBehind, "it"}},
		},
		"an inbox at work": {seen: figures{consumers: behind(10 * time.Second)}},
		"an inbox behind": {
			figures{consumers: behind(11 * time.Second)}, []verdict{{condition.InboxBehind, "it"}},
		},
		"endpoints": {
			figures{endpoints: map[string]int{"failing": 0, "disabled": 2}},
			[]verdict{{condition.WebhooksFailing, "disabled"}},
		},
		"given up": {
			figures{givenUp: map[string]time.Time{
				"job": noon.Add(-59 * time.Minute), "order": noon.Add(-time.Hour),
			}},
			[]verdict{{condition.DeadLetters, "job"}},
		},
		"all at once": {
			figures{ready: aged(9), overdue: map[string]int{"transfer": 1}, outbox: time.Hour},
			[]verdict{
				{condition.OutboxStalled, ""},
				{condition.PromisesLate, "transfer"},
				{condition.QueueOld, riskAPI},
			},
		},
	} {
		require.Equal(t, c.want, conditionsOf(c.seen, noon), name)
	}
	require.Less(t, standardLanes, jobqueue.Lanes, "the last lane is for what nobody waits for")
}

// watched lets a judge see one look a second, and says in which of them the old queue was active.
func watched(j *judge, looks ...figures) []bool {
	var active []bool
	for i, seen := range looks {
		j.see(seen, noon.Add(time.Duration(i)*time.Second))
		active = append(active, len(j.active()) > 0)
	}
	return active
}

func TestAConditionBeginsAndEndsAfterLooksInARow(t *testing.T) {
	t.Parallel()
	looks := make([]figures, 16)
	for i, looked := range "-oo-ooo--o------" { // o is a look at an old queue
		if looked == 'o' {
			looks[i].ready = aged(9)
		}
	}
	j := newJudge(noon)
	got := watched(j, looks...)
	want := make([]bool, 16)
	for i := 6; i < 14; i++ { // from the third in a row on, until the fifth in a row without
		want[i] = true
	}
	require.Equal(t, want, got)
	require.Empty(t, j.standing, "what is over is forgotten")
}

func TestAConditionHoldsSinceItsFirstLook(t *testing.T) {
	t.Parallel()
	old := figures{ready: aged(9)}
	j := newJudge(noon)
	watched(j, old, figures{}, old, old, old, figures{}, old)
	require.Equal(t, []condition.Active{{
		Condition: condition.QueueOld, Subject: riskAPI, Since: noon.Add(2 * time.Second),
	}}, j.active())
}

func TestSubjectsAreJudgedApart(t *testing.T) {
	t.Parallel()
	both := figures{overdue: map[string]int{"transfer": 1, "order": 1}}
	one := figures{overdue: map[string]int{"order": 1}}
	j := newJudge(noon)
	watched(j, both, both, both, one, one, one, one, one)
	active := j.active()
	require.Len(t, active, 1)
	require.Equal(t, "order", active[0].Subject)
	require.Equal(t, noon, active[0].Since)
}

func TestWhatCannotBeSeenDoesNotLookWell(t *testing.T) {
	t.Parallel()
	old := figures{ready: aged(9)}
	j := newJudge(noon)
	watched(j, old, old, old)
	seen := noon.Add(2 * time.Second)
	j.blind(seen.Add(silentAfter - time.Second))
	require.Len(t, j.active(), 1)
	j.blind(seen.Add(silentAfter))
	require.Equal(t, []condition.Active{
		{Condition: condition.DatabaseSilent, Since: seen},
		{Condition: condition.QueueOld, Subject: riskAPI, Since: noon},
	}, j.active())
	j.see(old, seen.Add(time.Minute))
	require.Len(t, j.active(), 1, "it is seen again")
}
