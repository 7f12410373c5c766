package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/telemetry"
)

// saying is a source of what it holds.
type saying []condition.Active

func (s saying) active() []condition.Active { return s }

func since(c condition.Condition, subject string, ago time.Duration) condition.Active {
	return condition.Active{Condition: c, Subject: subject, Since: noon.Add(-ago)}
}

func TestTheBoardShowsEachConditionOnceTheWorstFirst(t *testing.T) {
	t.Parallel()
	var b board
	require.Empty(t, b.active())
	b.add(saying{since(condition.QueueOld, riskAPI, time.Minute)}.active)
	b.add(saying{
		since(condition.QueueOld, riskAPI, time.Hour), since(condition.QueueOld, payoutRail, time.Second),
		since(condition.BreakerOpen, riskAPI, time.Second),
	}.active)
	require.Equal(t, []condition.Active{
		since(condition.BreakerOpen, riskAPI, time.Second), since(condition.QueueOld, riskAPI, time.Hour),
		since(condition.QueueOld, payoutRail, time.Second),
	}, b.active())
}

// entry is a line of the log.
type entry struct {
	Level     string `json:"level"`
	Message   string `json:"msg"`
	Condition string `json:"condition"`
	Subject   string `json:"subject"`
	Runbook   string `json:"runbook"`
	Lasted    int64  `json:"lasted"`
}

// logged takes what was logged.
func logged(t *testing.T, log *bytes.Buffer) []entry {
	t.Helper()
	var entries []entry
	for decoder := json.NewDecoder(log); decoder.More(); {
		var e entry
		require.NoError(t, decoder.Decode(&e))
		entries = append(entries, e)
	}
	return entries
}

func TestEveryChangeOfAConditionIsLoggedOnce(t *testing.T) {
	t.Parallel()
	var (
		b   board
		out bytes.Buffer
		now saying
	)
	log := slog.New(slog.NewJSONHandler(&out, nil))
	b.add(func() []condition.Active { return now })
	tell := func() []entry {
		b.tell(t.Context(), log, noon)
		return logged(t, &out)
	}
	require.Empty(t, tell())
	now = saying{since(condition.BreakerOpen, riskAPI, time.Minute)}
	require.Equal(t, []entry{{
		Level: "ERROR", Message: "condition began", Condition: "breaker_open", Subject: riskAPI,
		Runbook: "docs/runbooks/breaker-open.md",
	}}, tell())
	require.Empty(t, tell(), "it is known")
	now = append(now, since(condition.QueueOld, riskAPI, time.Second))
	require.Equal(t, "WARN", tell()[0].Level)
	now = now[1:]
	require.Equal(t, []entry{{
		Level: "INFO", Message: "condition ended", Condition: "breaker_open", Subject: riskAPI,
		Runbook: "docs/runbooks/breaker-open.md", Lasted: time.Minute.Nanoseconds(),
	}}, tell())
	now = nil
	require.Len(t, tell(), 1)
	require.Empty(t, tell())
}

func TestAWatchmanPutsWhatItSeesOnTheBoardOfItsProcess(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	at, b := noon, &board{}
	env := Env{
		Log: slog.New(slog.NewJSONHandler(&out, nil)), Now: func() time.Time { return at }, board: b,
		Metrics: telemetry.New(),
	}
	env.Metrics.WatchConditions(b.active)
	var fails error
	w := newWatchman(env, func(context.Context) (map[string]time.Time, error) {
		return map[string]time.Time{"job": noon}, fails
	})
	for range beginLooks {
		w.judge(t.Context(), &look{})
	}
	require.Equal(t, condition.DeadLetters, b.active()[0].Condition)
	require.Len(t, logged(t, &out), 1)
	families, err := env.Metrics.Registry().Gather()
	require.NoError(t, err)
	gathered := 0
	for _, f := range families {
		if f.GetName() == "holdfast_condition_active" {
			gathered += len(f.GetMetric())
		}
	}
	require.Equal(t, 1, gathered)

	at = at.Add(silentAfter)
	w.judge(t.Context(), nil)
	require.Equal(t, condition.DatabaseSilent, b.active()[0].Condition)
	require.Equal(t, "database_silent", logged(t, &out)[0].Condition)
	require.Equal(t, selfOf(env).Conditions(), b.active())
	w.judge(t.Context(), &look{})
	require.Equal(t, "condition ended", logged(t, &out)[0].Message)
	fails, at = errors.New("no answer"), at.Add(silentAfter)
	w.judge(t.Context(), &look{})
	require.Equal(t, condition.DatabaseSilent, b.active()[0].Condition, "half a look is none")
}

func TestASamplerTellsOfEveryLook(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := newSampler(pool, Env{
		Log: slog.New(slog.DiscardHandler), Now: time.Now, sampled: &atomic.Bool{}, Metrics: telemetry.New(),
	})
	looks := make(chan *look)
	s.then = func(ctx context.Context, seen *look) {
		select {
		case looks <- seen:
		case <-ctx.Done():
		}
	}
	s.start(t.Context())
	require.NotNil(t, <-looks)
	pool.Close()
	require.Eventually(t, func() bool { return <-looks == nil }, 10*time.Second, time.Millisecond)
	s.stop(t.Context())
	select {
	case <-looks:
		t.Fatal("it looks on")
	default:
	}
}

// TestALookSeesTheWorkOfTheDatabase goes through every figure that is read.
func TestALookSeesTheWorkOfTheDatabase(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	o := &Operations{
		pool: pool, doors: &doors{}, transfers: graveyard{}, orders: orderGraveyard{},
		webhooks: hookGraveyard{},
	}
	wrong, err := o.Wrong(t.Context(), time.Now())
	require.NoError(t, err)
	require.Empty(t, wrong, "an empty system is well")
	_, err = pool.Exec(t.Context(), `
INSERT INTO river_job (args, kind, max_attempts, queue, state, scheduled_at, priority)
VALUES ('{}', 'ping', 3, 'risk_api', 'available', now() - interval '1 minute', 2),
       ('{}', 'ping', 3, 'db', 'retryable', now() + interval '1 hour', 1),
       ('{}', 'ping', 3, 'notification_api', 'available', now() - interval '1 hour', 4)`)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `
INSERT INTO river_job (args, kind, max_attempts, queue, state, attempt, finalized_at)
VALUES ('{}', 'transfer_screen', 3, 'risk_api', 'discarded', 3, now() - interval '1 minute')`)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `
INSERT INTO deliveries (consumer, tenant_id, aggregate_id, seq, type, reference, wake_at, created_at)
VALUES ('order', gen_random_uuid(), gen_random_uuid(), 3, 'transfer.settled', 'order:1',
        now() - interval '1 minute', now() - interval '1 minute')`)
	require.NoError(t, err)
	wrong, err = o.Wrong(t.Context(), time.Now())
	require.NoError(t, err)
	require.Equal(t, []condition.Active{
		{Condition: condition.InboxBehind, Subject: "order"},
		{Condition: condition.DeadLetters, Subject: "job"},
		{Condition: condition.QueueOld, Subject: riskAPI},
	}, wrong)

	_, err = pool.Exec(t.Context(), "ALTER TABLE deliveries RENAME TO elsewhere")
	require.NoError(t, err)
	_, err = o.Wrong(t.Context(), time.Now())
	require.Error(t, err)
	_, err = pool.Exec(t.Context(), "ALTER TABLE elsewhere RENAME TO deliveries")
	require.NoError(t, err)
	o.transfers = graveyard{err: errors.New("no answer")}
	_, err = o.Wrong(t.Context(), time.Now())
	require.Error(t, err, "a part that cannot be seen is not taken for well")
}
