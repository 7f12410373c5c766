package app

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/bulkhead"
	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/telemetry"
)

// newGovernor makes what follows the mode of the service and takes part in judging it. A process has one,
// beside its sampler, whose looks it judges by.
func newGovernor(pool *pgxpool.Pool, env Env, s *sampler, bell *outbox.Bell) *mode.Governor {
	return &mode.Governor{
		Instance: env.Instance, Pool: pool, Current: env.mode, Log: env.Log, Now: env.Now,
		Measure: func() mode.Report { return env.tally.report(env.doors.look()) },
		Told:    env.countSwitch,
		Ages:    s.signals, Rung: func() <-chan struct{} { return bell.On(mode.Channel) },
	}
}

// countSwitch counts a switch that the process has seen happen: what it finds when it begins is none.
func (e Env) countSwitch(from, to mode.State) {
	if from.Version == 0 || from.Mode == to.Mode {
		return
	}
	by := telemetry.ByOperator
	if to.Actor == mode.Controller {
		by = telemetry.ByController
	}
	e.Metrics.ModeSwitched(string(to.Mode), by)
}

// modeShown is the mode of a process as its metrics show it.
func modeShown(current *mode.Current) telemetry.Mode {
	s, p := current.State(), current.Policy()
	shown := telemetry.Mode{
		Mode: string(s.Mode), Level: string(s.Level), Policy: p.Hash(), Blind: current.Blind().Seconds(),
		Thresholds: make(map[[2]string]float64), Signals: make(map[string]float64),
	}
	for level, thresholds := range p.Levels {
		for signal, t := range thresholds {
			shown.Thresholds[[2]string{string(signal), string(level)}] = t.Enter
		}
	}
	if latest, ok := current.Latest(); ok {
		for signal, value := range latest.Values {
			shown.Signals[string(signal)] = value
		}
	}
	return shown
}

// signals are those that stand in the database, or false if they were not seen lately.
func (s *sampler) signals() (mode.Values, bool) {
	l := s.last.Load()
	if !s.seenOnce.Load() || s.env.Now().Sub(l.at) >= lookStale {
		return nil, false
	}
	v := make(mode.Values)
	v[mode.TransferAge], v[mode.OrderAge] = l.transfers.Age.Seconds(), l.orders.Age.Seconds()
	return v, true
}

const (
	// paceEvery is how often a worker gives what was deferred another share, and tapMax how long it waits for
	// what is in hand when it does.
	paceEvery = 500 * time.Millisecond
	tapMax    = 2 * time.Second
)

// pace is how a worker defers notifications, and lets them catch up: fewer jobs in hand, and fewer places
// to call from.
type pace struct {
	env    Env
	tap    *jobqueue.Tap
	places *bulkhead.Bulkhead
}

// keep follows the mode.
func (p *pace) keep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tapMax)
	defer cancel()
	share := p.env.mode.Share(mode.Notifications)
	if share > 0 { // what is in hand while it is deferred ends as usual
		p.places.SetShare(share)
	}
	return p.tap.Set(ctx, share)
}

// deferrable lets webhooks and the broker be deferred too.
func (d *departures) deferrable(env Env) {
	if d.webhooks != nil {
		d.webhooks.Share = func() float64 { return env.mode.Share(mode.Webhooks) }
	}
	if d.sink != nil {
		d.sink.Deferred = func() bool { return env.mode.Share(mode.Broker) == 0 }
	}
}

// modeConditions says that the service is not in its usual mode, and whether a person has said so.
func modeConditions(s mode.State) []condition.Active {
	var active []condition.Active
	if s.Mode != mode.Normal {
		active = append(active, condition.Active{
			Condition: condition.Degraded, Subject: string(s.Mode), Since: s.Since,
		})
	}
	if s.Overridden() {
		active = append(active, condition.Active{
			Condition: condition.OverrideActive, Subject: "mode", Since: s.Since,
		})
	}
	return active
}
