package httpapi

import (
	"context"
	"net/http"
	"time"

	"example.com/holdfast/internal/httpapi/internal/adminapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/problem"
)

const (
	// simulatedDefault is how far back a simulation goes when nobody says, simulatedMax how far it may: what
	// it reads grows with that.
	simulatedDefault = time.Hour
	simulatedMax     = 24 * time.Hour
)

// ModeNow is the mode as operators see it.
type ModeNow struct {
	mode.State

	// ChangedAt is when its version was made.
	ChangedAt time.Time
	// Policy is that of the process which tells.
	Policy *mode.Policy
	// Latest is the latest sample, or nil if there is none of the last minute.
	Latest *mode.Sample
	// Followers are the processes that have reported lately.
	Followers []ModeFollower
}

// ModeFollower is a process that follows the mode.
type ModeFollower struct {
	mode.Follower

	// Behind says that it has reported of an earlier version although it should have seen this one.
	Behind bool
	// OtherPolicy says that its policy is not the one by which was judged last.
	OtherPolicy bool
}

// ModeReader tells of the mode.
type ModeReader interface {
	Now(ctx context.Context) (ModeNow, error)
	// History reads the latest changes before a version; zero is all versions.
	History(ctx context.Context, before int64, limit int) ([]mode.Changed, error)
	// Simulate tries the policy of the process on the time before now.
	Simulate(ctx context.Context, back time.Duration) (mode.Simulation, error)
}

// Modes tells of the mode, and lets it be overridden.
type Modes interface {
	ModeReader
	OverrideOnce(
		ctx context.Context, key idempotency.Keyed, o mode.Override,
		render func(mode.State) idempotency.Response,
	) (idempotency.Response, error)
}

// GetMode tells which mode is in force.
func (s *adminServer) GetMode(
	ctx context.Context, _ adminapi.GetModeRequestObject,
) (adminapi.GetModeResponseObject, error) {
	now, err := s.cfg.Modes.Now(ctx)
	if err != nil {
		return nil, err
	}
	return adminapi.GetMode200JSONResponse(renderMode(now)), nil
}

func renderMode(n ModeNow) adminapi.ServiceMode {
	out := adminapi.ServiceMode{
		Mode: adminapi.ModeName(n.Mode), Since: n.Since.UTC(), Level: adminapi.ModeName(n.Level),
		LevelSince: n.LevelSince.UTC(), Control: adminapi.ModeControl(n.Control), Version: n.Version,
		Actor: n.Actor, Reason: n.Reason, ExpiresAt: n.ExpiresAt.UTC(), Policy: n.State.Policy,
		OwnPolicy: n.Policy.Hash(), Now: n.Now.UTC(),
		Followers: make([]adminapi.ModeFollower, len(n.Followers)),
	}
	var seen mode.Values
	if n.Latest != nil {
		out.SampledAt, seen = n.Latest.At.UTC(), n.Latest.Values
	}
	for _, signal := range mode.Signals() {
		rendered := renderSignal(signal, seen)
		rendered.Constrained = renderThreshold(n.Policy, mode.Constrained, signal)
		rendered.Protection = renderThreshold(n.Policy, mode.Protection, signal)
		out.Signals = append(out.Signals, rendered)
	}
	for i, f := range n.Followers {
		out.Followers[i] = adminapi.ModeFollower{
			Instance: f.Instance, Follows: f.Follows, Behind: f.Behind, Policy: f.Policy,
			OtherPolicy: f.OtherPolicy, AgeSeconds: f.Age.Seconds(),
		}
	}
	return out
}

func renderSignal(signal mode.Signal, seen mode.Values) adminapi.ModeSignal {
	out := adminapi.ModeSignal{Signal: adminapi.ModeSignalName(signal)}
	if value, ok := seen[signal]; ok {
		out.Value = &value
	}
	return out
}

func renderThreshold(p *mode.Policy, level mode.Mode, signal mode.Signal) *adminapi.ModeThreshold {
	t, ok := p.Levels[level][signal]
	if !ok {
		return nil
	}
	return &adminapi.ModeThreshold{Enter: t.Enter, Leave: t.Leave}
}

// ListModeChanges lists changes of the mode, the latest first.
func (s *adminServer) ListModeChanges(
	ctx context.Context, in adminapi.ListModeChangesRequestObject,
) (adminapi.ListModeChangesResponseObject, error) {
	limit, err := pageSize(in.Params.Limit)
	if err != nil {
		return nil, err
	}
	var before int64
	if in.Params.Before != nil {
		if before = *in.Params.Before; before < 1 {
			return nil, problem.Invalid("before", "has to be 1 or more")
		}
	}
	found, err := s.cfg.Modes.History(ctx, before, limit)
	if err != nil {
		return nil, err
	}
	out := adminapi.ListModeChanges200JSONResponse{Changes: make([]adminapi.ModeChange, len(found))}
	for i, c := range found {
		out.Changes[i] = renderChange(c)
	}
	return out, nil
}

func renderChange(c mode.Changed) adminapi.ModeChange {
	out := adminapi.ModeChange{
		Version: c.Version, At: c.At.UTC(), Before: adminapi.ModeName(c.Before),
		Mode: adminapi.ModeName(c.Mode), Level: adminapi.ModeName(c.Level),
		Control: adminapi.ModeControl(c.Control), ExpiresAt: c.ExpiresAt.UTC(),
		Cause: adminapi.ModeChangeCause(c.Cause), Actor: c.Actor,
		Reason: c.Reason, Signals: []adminapi.ModeSignal{}, Policy: c.Policy,
	}
	for _, signal := range mode.Signals() {
		if _, ok := c.Signals[signal]; ok {
			out.Signals = append(out.Signals, renderSignal(signal, c.Signals))
		}
	}
	return out
}

// SimulateMode tries the policy of this process on what was measured.
func (s *adminServer) SimulateMode(
	ctx context.Context, in adminapi.SimulateModeRequestObject,
) (adminapi.SimulateModeResponseObject, error) {
	back := simulatedDefault
	if seconds := in.Params.SinceSeconds; seconds != nil {
		if *seconds < 1 || *seconds > int(simulatedMax.Seconds()) {
			return nil, problem.Invalid("since_seconds", "has to be 1 to %d", int(simulatedMax.Seconds()))
		}
		back = time.Duration(*seconds) * time.Second
	}
	made, err := s.cfg.Modes.Simulate(ctx, back)
	if err != nil {
		return nil, err
	}
	return adminapi.SimulateMode200JSONResponse{
		Policy: made.Policy.Hash(), Control: adminapi.ModeControl(made.Policy.Control), Samples: made.Samples,
		From: made.From.UTC(), To: made.To.UTC(), Would: renderCourse(made.Would),
		Was: renderCourse(made.Was),
	}, nil
}

func renderCourse(c mode.Course) adminapi.ModeCourse {
	out := adminapi.ModeCourse{
		Switches: make([]adminapi.ModeSwitch, len(c.Switches)),
		Seconds: adminapi.ModeSeconds{
			Normal:      c.Lasted[mode.Normal].Seconds(),
			Constrained: c.Lasted[mode.Constrained].Seconds(),
			Protection:  c.Lasted[mode.Protection].Seconds(),
			Frozen:      c.Lasted[mode.Frozen].Seconds(),
		},
	}
	for i, made := range c.Switches {
		out.Switches[i] = adminapi.ModeSwitch{
			At: made.At.UTC(), From: adminapi.ModeName(made.From), To: adminapi.ModeName(made.To),
		}
		for _, cause := range made.Causes {
			out.Switches[i].Causes = append(out.Switches[i].Causes, adminapi.ModeCause{
				Signal: adminapi.ModeSignalName(cause.Signal), Value: cause.Value, Threshold: cause.Threshold,
			})
		}
	}
	return out
}

// SetModeOverride overrides the mode, or ends an override. It belongs to no tenant, and neither does its key.
func (s *adminServer) SetModeOverride(
	ctx context.Context, _ adminapi.SetModeOverrideRequestObject,
) (adminapi.SetModeOverrideResponseObject, error) {
	c := callOf(ctx)
	var request adminapi.NewModeOverride
	hash, err := decodeNamed(c, "mode", &request)
	if err != nil {
		return nil, err
	}
	fields := checkReason(request.Reason)
	if seconds := request.ExpiresInSeconds; seconds < 0 || seconds > int(mode.ForMax.Seconds()) {
		fields = append(fields, problem.Field{
			Pointer: "/expires_in_seconds", Detail: "is longer than an override may last",
		})
	}
	if err := invalid(fields); err != nil {
		return nil, err
	}
	response, err := s.cfg.Modes.OverrideOnce(ctx, s.keyed(c, hash), mode.Override{
		Control: mode.Control(request.Control), Mode: mode.Mode(request.Mode), Actor: c.actor,
		Reason: request.Reason, For: time.Duration(request.ExpiresInSeconds) * time.Second,
	}, func(set mode.State) idempotency.Response {
		return idempotency.Response{Status: http.StatusOK, Body: marshal(renderOverride(set))}
	})
	return stored{response, c}, err
}

func renderOverride(s mode.State) adminapi.ModeOverride {
	return adminapi.ModeOverride{
		Mode: adminapi.ModeName(s.Mode), Control: adminapi.ModeControl(s.Control),
		ExpiresAt: s.ExpiresAt.UTC(), Version: s.Version, Actor: s.Actor, Reason: s.Reason,
	}
}
