package mode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/mode/internal/modedb"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

const (
	// Channel is where a change of the mode is announced, after the schema and a dot.
	Channel = "holdfast_mode"
	// ForMin is the shortest that an override lasts.
	ForMin = time.Minute
	// ForMax is the longest. It is well below the day for which notifications are tried, which a mode defers.
	ForMax = 12 * time.Hour
	// HistoryMaxRows is how many changes History returns at most.
	HistoryMaxRows = 200

	actorMaxBytes  = 200
	reasonMaxBytes = 500
)

// The causes of a change, as the history has them.
const (
	byController = "controller"
	byOperator   = "operator"
	byExpiry     = "expiry"
	byPolicy     = "policy"
)

// Override is what an operator says against the controller.
type Override struct {
	// Control is Pinned, to Mode; Advise; or Auto, which ends an override.
	Control Control
	Mode    Mode
	// Actor says who asks for it, Reason why.
	Actor, Reason string
	// For is how long it lasts. It is left out for Auto.
	For time.Duration
}

// Validate says what is wrong with an override.
func (o Override) Validate() error {
	switch {
	case !slices.Contains([]Control{Auto, Pinned, Advise}, o.Control):
		return problem.Invalid("/control", "has to be auto, pinned or advise")
	case o.Control == Pinned && !slices.Contains(Modes(), o.Mode):
		return problem.Invalid("/mode", "has to be one of %v", Modes())
	case o.Control != Pinned && o.Mode != "":
		return problem.Invalid("/mode", "is for pinned only")
	case o.Control == Auto && o.For != 0:
		return problem.Invalid("/expires_in_seconds", "is for overrides only")
	case o.Control != Auto && (o.For < ForMin || o.For > ForMax):
		return problem.Invalid("/expires_in_seconds", "has to be %d to %d", int(ForMin.Seconds()),
			int(ForMax.Seconds()))
	}
	return errors.Join(problem.CheckNote("/actor", o.Actor, actorMaxBytes),
		problem.CheckNote("/reason", o.Reason, reasonMaxBytes))
}

// Set puts an override in force, or ends one, in a transaction of the caller's. Every process follows.
func Set(ctx context.Context, tx pgx.Tx, p *Policy, o Override) (State, error) {
	if err := o.Validate(); err != nil {
		return State{}, err
	}
	locked, err := modedb.New().SystemLockMode(ctx, tx)
	if err != nil {
		return State{}, fmt.Errorf("lock mode: %w", err)
	}
	r := rowOf(locked.ServiceMode, locked.Now)
	r.Actor, r.Reason = o.Actor, o.Reason
	control := o.Control
	if control == Auto {
		control = p.Control
	}
	var until time.Time
	if o.Control != Auto {
		until = r.now.Add(o.For)
	}
	r.decide(control, o.Mode, until)
	by := told{cause: byOperator, actor: o.Actor, reason: o.Reason, signals: make(Values)}
	if _, err := r.change(ctx, tx, by); err != nil {
		return State{}, err
	}
	return r.state(), nil
}

// Read reads what is in force.
func Read(ctx context.Context, db modedb.DBTX) (State, error) {
	read, err := modedb.New().SystemReadMode(ctx, db)
	if err != nil {
		return State{}, fmt.Errorf("read mode: %w", err)
	}
	return rowOf(read.ServiceMode, read.Now).state(), nil
}

// row is service_mode under the lock of a transaction.
type row struct {
	modedb.ServiceMode

	now time.Time
	// was is the mode before this change.
	was string
}

func rowOf(m modedb.ServiceMode, now time.Time) *row {
	return &row{ServiceMode: m, now: now, was: m.Mode}
}

func (r *row) state() State {
	return State{
		Version: r.Version, Mode: Mode(r.Mode), Before: Mode(r.Before), Since: r.Since,
		Level: Mode(r.Level), LevelSince: r.LevelSince, Control: Control(r.Control), Actor: r.Actor,
		Reason: r.Reason, ExpiresAt: pgtx.OrZero(r.ExpiresAt), Policy: r.Policy, Now: r.now,
		judgedAt: r.JudgedAt,
	}
}

// expired says whether an override has run out.
func (r *row) expired() bool { return r.state().overdue() }

// decide says who decides from now on, and what follows for the mode. A zero until is for ever.
func (r *row) decide(control Control, pinned Mode, until time.Time) {
	r.Control, r.ExpiresAt = string(control), pgtx.OrNull(until)
	if next := inForce(control, Mode(r.Level), pinned); next != Mode(r.Mode) {
		r.Before, r.Mode, r.Since = r.Mode, string(next), r.now
	}
}

// told is what the history says of a change beside what it led to.
type told struct {
	cause, actor, reason string
	signals              Values
}

// change writes a new version of the row, tells all processes, and keeps it in the history.
func (r *row) change(ctx context.Context, tx pgx.Tx, by told) (Changed, error) {
	r.Version++
	if err := r.save(ctx, tx); err != nil {
		return Changed{}, err
	}
	seen, err := json.Marshal(by.signals)
	if err != nil {
		return Changed{}, fmt.Errorf("encode signals: %w", err)
	}
	q := modedb.New()
	h := modedb.ServiceModeHistory{
		Version: r.Version, At: r.now, Mode: r.Mode, Before: r.was, Level: r.Level, Control: r.Control,
		Cause: by.cause, Actor: by.actor, Reason: by.reason, ExpiresAt: r.ExpiresAt, Signals: seen,
		Policy: r.Policy,
	}
	if err := q.SystemAppendChange(ctx, tx, modedb.SystemAppendChangeParams(h)); err != nil {
		return Changed{}, fmt.Errorf("append change %d of the mode: %w", r.Version, err)
	}
	if err := q.SystemAnnounceMode(ctx, tx, Channel); err != nil {
		return Changed{}, fmt.Errorf("announce mode: %w", err)
	}
	r.was = r.Mode
	return changedOf(h)
}

func (r *row) save(ctx context.Context, tx pgx.Tx) error {
	err := modedb.New().SystemSaveMode(ctx, tx, modedb.SystemSaveModeParams{
		Version: r.Version, Mode: r.Mode, Before: r.Before, Since: r.Since, Level: r.Level,
		LevelSince: r.LevelSince, Control: r.Control, Actor: r.Actor, Reason: r.Reason,
		ExpiresAt: r.ExpiresAt, Above: r.Above, Below: r.Below, JudgedAt: r.JudgedAt, JudgedBy: r.JudgedBy,
		Policy: r.Policy,
	})
	if err != nil {
		return fmt.Errorf("save mode: %w", err)
	}
	return nil
}

// Changed is one change of the mode, as the history has it.
type Changed struct {
	Version       int64
	At            time.Time
	Mode, Before  Mode
	Level         Mode
	Control       Control
	Cause         string
	Actor, Reason string
	ExpiresAt     time.Time
	Signals       Values
	Policy        string
}

// History reads the latest changes before a version, the latest first; zero is all versions.
func History(ctx context.Context, db modedb.DBTX, before int64, limit int) ([]Changed, error) {
	if before == 0 {
		before = 1<<63 - 1
	}
	found, err := modedb.New().SystemListChanges(ctx, db, modedb.SystemListChangesParams{
		BeforeVersion: before, PageSize: int32(min(limit, HistoryMaxRows)), //nolint:gosec // bounded
	})
	if err != nil {
		return nil, fmt.Errorf("list changes of the mode: %w", err)
	}
	out := make([]Changed, len(found))
	for i, h := range found {
		if out[i], err = changedOf(h); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func changedOf(h modedb.ServiceModeHistory) (Changed, error) {
	c := Changed{
		Version: h.Version, At: h.At, Mode: Mode(h.Mode), Before: Mode(h.Before), Level: Mode(h.Level),
		Control: Control(h.Control), Cause: h.Cause, Actor: h.Actor, Reason: h.Reason,
		ExpiresAt: pgtx.OrZero(h.ExpiresAt), Policy: h.Policy,
	}
	if err := json.Unmarshal(h.Signals, &c.Signals); err != nil {
		return Changed{}, fmt.Errorf("read signals of change %d: %w", h.Version, err)
	}
	return c, nil
}

const (
	// SamplesKept is how long samples are kept, and samplesBatchRows how many old ones one statement removes.
	SamplesKept      = 7 * 24 * time.Hour
	samplesBatchRows = 5_000
	// samplesPage is how many are read at a time.
	samplesPage = 5_000
	// reportsMax bounds the processes that are looked at, reportsKept how long a silent one is remembered.
	reportsMax  = 1_000
	reportsKept = time.Minute
)

// Samples reads what was seen in the time before now, in order.
func Samples(ctx context.Context, db modedb.DBTX, back time.Duration) ([]Sample, error) {
	q := modedb.New()
	after, err := q.SystemSampleTime(ctx, db, pgtx.Interval(min(back, SamplesKept)))
	if err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	var all []Sample
	for {
		page, err := q.SystemListSamples(ctx, db, modedb.SystemListSamplesParams{
			After: after, PageSize: samplesPage,
		})
		if err != nil {
			return nil, fmt.Errorf("read samples: %w", err)
		}
		for _, s := range page {
			sample, err := sampleOf(s)
			if err != nil {
				return nil, err
			}
			all, after = append(all, sample), s.At
		}
		if len(page) < samplesPage {
			return all, nil
		}
	}
}

func sampleOf(s modedb.ModeSamples) (Sample, error) {
	sample := Sample{At: s.At, Level: Mode(s.Level), Mode: Mode(s.Mode)}
	if err := json.Unmarshal(s.Signals, &sample.Values); err != nil {
		return Sample{}, fmt.Errorf("read sample of %s: %w", s.At.Format(time.RFC3339), err)
	}
	return sample, nil
}

// CleanUp removes a batch of samples and reports that are too old.
func CleanUp(ctx context.Context, pool *pgxpool.Pool) error {
	q := modedb.New()
	_, err := q.SystemDeleteSamples(ctx, pool, modedb.SystemDeleteSamplesParams{
		Keep: pgtx.Interval(SamplesKept), BatchSize: samplesBatchRows,
	})
	if err != nil {
		return fmt.Errorf("delete samples of the mode: %w", err)
	}
	_, err = q.SystemDeleteReports(ctx, pool, modedb.SystemDeleteReportsParams{
		Keep: pgtx.Interval(reportsKept), BatchSize: reportsMax,
	})
	if err != nil {
		return fmt.Errorf("delete reports of the mode: %w", err)
	}
	return nil
}

// Follower is a process, as it has reported last.
type Follower struct {
	Instance string
	// Follows is the version that it follows, and Policy the hash of its policy.
	Follows int64
	Policy  string
	// Age is how long ago it has reported.
	Age    time.Duration
	Report Report
}

// Followers lists the processes that have reported lately, in order of their names.
func Followers(ctx context.Context, db modedb.DBTX) ([]Follower, error) {
	found, err := modedb.New().SystemListReports(ctx, db, reportsMax)
	if err != nil {
		return nil, fmt.Errorf("read reports of the mode: %w", err)
	}
	var all []Follower
	for _, r := range found {
		f := Follower{
			Instance: r.Instance, Follows: r.Follows, Policy: r.Policy,
			Age: time.Duration(r.AgeSeconds * float64(time.Second)),
		}
		if f.Age > reportsKept {
			continue
		}
		if err := json.Unmarshal(r.Report, &f.Report); err != nil {
			return nil, fmt.Errorf("read report of %s: %w", r.Instance, err)
		}
		all = append(all, f)
	}
	return all, nil
}
