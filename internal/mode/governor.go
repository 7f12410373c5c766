package mode

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/mode/internal/modedb"
	"example.com/holdfast/internal/pgtx"
)

const (
	// pollEvery is how often a process reads the mode without being rung for, roundMax how long that may
	// take.
	pollEvery = 500 * time.Millisecond
	roundMax  = 2 * time.Second
	// warnEvery is how many rounds in a row that fail there are to a warning.
	warnEvery = 20
	// reportStale is how many sample times old a report may be that counts in a sample.
	reportStale = 2
)

// Governor makes a process follow the mode, and takes its part in judging it, between Start and Stop.
type Governor struct {
	// Instance names the process.
	Instance string
	Pool     *pgxpool.Pool
	Current  *Current
	Log      *slog.Logger
	Now      func() time.Time
	// Measure is what this process has measured since it was asked last.
	Measure func() Report
	// Ages are the signals that stand in the database, or false where nobody knows them.
	Ages func() (Values, bool)
	// Rung is closed when the mode has changed; on Channel. Nil is never.
	Rung func() <-chan struct{}
	// Told is told of each change that this process follows. It may be nil.
	Told func(from, to State)

	reportedAt time.Time
	failures   int
	cancel     context.CancelFunc
	group      sync.WaitGroup
}

// Start reads the mode and begins to follow. A database that is away keeps nobody from starting: who can read
// nothing keeps the mode that he has.
func (g *Governor) Start(ctx context.Context) {
	ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	g.reportedAt = g.Now()
	g.round(ctx)
	g.group.Go(func() { g.run(ctx) })
}

// Stop follows no more, and takes the process off the list.
func (g *Governor) Stop(ctx context.Context) {
	g.cancel()
	g.group.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), roundMax)
	defer cancel()
	if err := modedb.New().SystemDeleteReport(ctx, g.Pool, g.Instance); err != nil {
		g.Log.InfoContext(ctx, "report of the mode was left behind", slog.Any("error", err))
	}
}

func (g *Governor) run(ctx context.Context) {
	for {
		var rung <-chan struct{}
		if g.Rung != nil {
			rung = g.Rung()
		}
		timer := time.NewTimer(min(pollEvery, g.Current.policy.SampleEvery))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-rung:
			timer.Stop()
		}
		g.round(ctx)
	}
}

// round reads, reports and judges, as far as each of them is due. What fails is tried again in the next one.
func (g *Governor) round(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, roundMax)
	defer cancel()
	err := g.follow(limited)
	if err == nil {
		err = g.report(limited)
	}
	if err == nil && g.due(g.Current.State()) {
		err = g.judge(limited)
	}
	switch {
	case err == nil:
		g.failures = 0
	case ctx.Err() == nil:
		if g.failures%warnEvery == 0 {
			g.Log.WarnContext(ctx, "the mode is kept as it is",
				slog.String("mode", string(g.Current.State().Mode)), slog.Any("error", err))
		}
		g.failures++
	}
}

func (g *Governor) follow(ctx context.Context) error {
	at := g.Now()
	now, err := Read(ctx, g.Pool)
	if err != nil {
		return err
	}
	before := g.Current.follow(now, at)
	if before.Version != now.Version {
		g.tell(ctx, before, now)
	}
	if before.judgedAt.Equal(now.judgedAt) {
		return nil
	}
	return g.Current.see(ctx, g.Pool)
}

// tell says that another version is followed now.
func (g *Governor) tell(ctx context.Context, before, now State) {
	g.Log.InfoContext(ctx, "the mode is followed", slog.String("mode", string(now.Mode)),
		slog.String("judged", string(now.Level)), slog.String("control", string(now.Control)),
		slog.Int64("version", now.Version), slog.String("actor", now.Actor),
		slog.String("reason", now.Reason))
	if g.Told != nil {
		g.Told(before, now)
	}
}

// report tells the others what was measured here.
func (g *Governor) report(ctx context.Context) error {
	if g.Now().Sub(g.reportedAt) < g.Current.policy.SampleEvery {
		return nil
	}
	g.reportedAt = g.Now()
	encoded, err := json.Marshal(g.Measure())
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	err = modedb.New().SystemPutReport(ctx, g.Pool, modedb.SystemPutReportParams{
		Instance: g.Instance, Follows: g.Current.State().Version, Policy: g.Current.policy.hash,
		Report: encoded,
	})
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// due says whether there is something to decide: a sample, the end of an override, another control by the
// policy.
func (g *Governor) due(s State) bool {
	p := g.Current.policy
	return s.Now.Sub(s.judgedAt) >= p.SampleEvery || s.overdue() || !s.Overridden() && s.Control != p.Control
}

// judge takes the turn to judge, unless another process has it.
func (g *Governor) judge(ctx context.Context) error {
	var made *turn
	err := pgtx.Run(ctx, g.Pool, "judge mode", func(ctx context.Context, tx pgx.Tx) error {
		made = nil
		found, err := modedb.New().SystemTryMode(ctx, tx)
		if err != nil || len(found) == 0 {
			return asJudge(err)
		}
		made = &turn{g: g, p: g.Current.policy, r: rowOf(found[0].ServiceMode, found[0].Now)}
		return made.take(ctx, tx)
	})
	if err != nil || made == nil {
		return err
	}
	for _, c := range made.changes {
		g.Log.WarnContext(ctx, "the mode was switched", slog.String("cause", c.Cause),
			slog.String("from", string(c.Before)), slog.String("to", string(c.Mode)),
			slog.String("judged", string(c.Level)), slog.String("reason", c.Reason),
			slog.String("signals", c.Signals.String()))
	}
	if len(made.changes) > 0 {
		return g.follow(ctx)
	}
	return nil
}

func asJudge(err error) error {
	if err != nil {
		return fmt.Errorf("judge mode: %w", err)
	}
	return nil
}

// turn is one process's turn to judge, under the lock.
type turn struct {
	g       *Governor
	p       *Policy
	r       *row
	changes []Changed
}

func (t *turn) take(ctx context.Context, tx pgx.Tx) error {
	r := t.r
	switch {
	case r.expired():
		reason := fmt.Sprintf("the override of %s has ended", r.Actor)
		r.decide(t.p.Control, "", time.Time{})
		if err := t.change(ctx, tx, byExpiry, reason, make(Values)); err != nil {
			return err
		}
	case !r.state().Overridden() && Control(r.Control) != t.p.Control:
		r.decide(t.p.Control, "", time.Time{})
		reason := fmt.Sprintf("the policy of %s says %s", t.g.Instance, t.p.Control)
		if err := t.change(ctx, tx, byPolicy, reason, make(Values)); err != nil {
			return err
		}
	}
	if r.now.Sub(r.JudgedAt) < t.p.SampleEvery {
		return nil
	}
	return t.sample(ctx, tx)
}

// change writes a change that no person made. Who has overridden the mode stays named in it.
func (t *turn) change(ctx context.Context, tx pgx.Tx, cause, reason string, v Values) error {
	r := t.r
	if r.ExpiresAt == nil {
		r.Actor, r.Reason = Controller, reason
	}
	c, err := r.change(ctx, tx, told{cause: cause, actor: Controller, reason: reason, signals: v})
	if err != nil {
		return err
	}
	t.changes = append(t.changes, c)
	return nil
}

// sample judges what is known now.
func (t *turn) sample(ctx context.Context, tx pgx.Tx) error {
	ages, ok := t.g.Ages()
	if !ok {
		return nil // another process may know more
	}
	v, err := t.values(ctx, tx)
	if err != nil {
		return err
	}
	maps.Copy(v, ages)
	r := t.r
	j, why := t.p.Judge(Judgement{
		Level: Mode(r.Level), Since: r.LevelSince, Above: int(r.Above), Below: int(r.Below), At: r.JudgedAt,
	}, v, r.now)
	r.Level, r.LevelSince, r.JudgedAt, r.JudgedBy = string(j.Level), j.Since, j.At, t.g.Instance
	r.Above, r.Below, r.Policy = int32(j.Above), int32(j.Below), t.p.hash //nolint:gosec // at most samplesMax
	if why == nil {
		err = r.save(ctx, tx)
	} else {
		if Control(r.Control) == Auto {
			r.decide(Auto, "", time.Time{})
		}
		err = t.change(ctx, tx, byController, reasonOf(why), v)
	}
	if err != nil {
		return err
	}
	return keep(ctx, tx, Sample{At: r.now, Level: Mode(r.Level), Mode: Mode(r.Mode), Values: v})
}

// values puts together what the living processes have reported lately.
func (t *turn) values(ctx context.Context, tx pgx.Tx) (Values, error) {
	followers, err := Followers(ctx, tx)
	if err != nil {
		return nil, err
	}
	var fresh []Report
	for _, f := range followers {
		if f.Age <= reportStale*t.p.SampleEvery {
			fresh = append(fresh, f.Report)
		}
	}
	return measured(fresh), nil
}

// keep writes a sample down.
func keep(ctx context.Context, tx pgx.Tx, s Sample) error {
	encoded, err := json.Marshal(s.Values)
	if err != nil {
		return fmt.Errorf("encode signals: %w", err)
	}
	err = modedb.New().SystemInsertSample(ctx, tx, modedb.SystemInsertSampleParams{
		At: s.At, Level: string(s.Level), Mode: string(s.Mode), Signals: encoded,
	})
	if err != nil {
		return fmt.Errorf("keep sample: %w", err)
	}
	return nil
}
