// Package app wires the processes together; only commands and load tests import it.
//
// It refuses business rules: every decision stands in a domain or a mechanism, and app says which
// pool, which limit and which dependency each of them gets.
//
// Invariant: a service that was started is stopped, in the opposite order, within the drain bound.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/lmittmann/tint"

	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/tracing"
)

// Env is what a process is: who it is, where it logs, what it counts, which clock it waits by.
type Env struct {
	// Instance names the process in heartbeats, job claims and events.
	Instance string
	Host     string
	Version  string
	Log      *slog.Logger
	Metrics  *telemetry.Metrics
	Now      func() time.Time
	// doors are the ways out of this process, and board is where it says what is wrong.
	doors *doors
	board *board
	// sampled says that a part of this process looks at what waits in the database.
	sampled *atomic.Bool
	// mode is what the process acts by, and tally what it has measured for those who judge it.
	mode  *mode.Current
	tally *tally
}

// NewEnv describes this process; logs go to stderr.
func NewEnv(cfg config.Config, version string) (Env, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		return Env{}, fmt.Errorf("HOLDFAST_LOG_LEVEL: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return Env{}, fmt.Errorf("read host name: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Env{}, fmt.Errorf("make instance id: %w", err)
	}
	policy, err := mode.Load(cfg.PolicyFile)
	if err != nil {
		return Env{}, fmt.Errorf("HOLDFAST_POLICY_FILE: %w", err)
	}
	metrics, wrong := telemetry.New(), &board{}
	metrics.Build(version, runtime.Version())
	metrics.WatchConditions(wrong.active)
	current := mode.NewCurrent(policy, time.Now)
	metrics.WatchMode(func() telemetry.Mode { return modeShown(current) })
	wrong.add(func() []condition.Active { return modeConditions(current.State()) })
	return Env{
		Instance: host + "-" + id.String(), Host: host, Version: version, Metrics: metrics, Now: time.Now,
		doors: &doors{}, board: wrong, sampled: &atomic.Bool{},
		mode: current, tally: &tally{},
		Log: slog.New(handler(cfg.LogFormat, level)),
	}, nil
}

// OpenTraces opens the traces of this process, which is a service to those who look at them.
func (e Env) OpenTraces(ctx context.Context, service string, environ []string) (*tracing.Traces, error) {
	return tracing.Open(ctx, tracing.Process{
		Service: service, Version: e.Version, Instance: e.Instance, Log: e.Log,
	}, environ)
}

func handler(format string, level slog.Level) slog.Handler {
	if format == "text" {
		return tracing.Logged(tint.NewTextHandler(os.Stderr, &tint.Options{
			Level: level, TimeFormat: time.TimeOnly,
		}))
	}
	return tracing.Logged(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}
