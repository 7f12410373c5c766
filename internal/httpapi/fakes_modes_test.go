package httpapi

import (
	"context"
	"time"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/mode"
)

// fakeModes stands for a service that was pinned while its controller judges otherwise.
type fakeModes struct{ *fakeService }

// defaultPolicy is that of a program which is given no other.
func defaultPolicy() *mode.Policy {
	p, err := mode.Load("")
	if err != nil {
		panic(err)
	}
	return p
}

func pinned() mode.State {
	return mode.State{
		Version: 12, Mode: mode.Frozen, Before: mode.Constrained, Since: noon, Level: mode.Constrained,
		LevelSince: noon.Add(-time.Minute), Control: mode.Pinned, Actor: "operator:kim", Reason: "a drill",
		ExpiresAt: noon.Add(time.Hour), Policy: defaultPolicy().Hash(), Now: noon.Add(3 * time.Second),
	}
}

func (f fakeModes) Now(ctx context.Context) (ModeNow, error) {
	values := make(mode.Values)
	values[mode.Saturation], values[mode.FailureRatio] = 1.25, 0
	return ModeNow{
		State: pinned(), ChangedAt: noon, Policy: defaultPolicy(),
		Latest: &mode.Sample{At: noon, Level: mode.Constrained, Mode: mode.Frozen, Values: values},
		Followers: []ModeFollower{
			{
				Follower: mode.Follower{Instance: "api-1", Follows: 11, Policy: "other", Age: time.Second},
				Behind:   true, OtherPolicy: true,
			},
		},
	}, f.enter(ctx)
}

func (f fakeModes) History(ctx context.Context, before int64, limit int) ([]mode.Changed, error) {
	if err := f.enter(ctx); err != nil {
		return nil, err
	}
	seen := make(mode.Values)
	seen[mode.Saturation] = 1.25
	all := []mode.Changed{
		{
			Version: 12, At: noon, Mode: mode.Frozen, Before: mode.Constrained, Level: mode.Constrained,
			Control: mode.Pinned, Cause: "operator", Actor: "operator:kim", Reason: "a drill",
			ExpiresAt: noon.Add(time.Hour), Policy: "hash",
		},
		{
			Version: 11, At: noon.Add(-time.Minute), Mode: mode.Constrained, Before: mode.Normal,
			Level: mode.Constrained, Control: mode.Auto, Cause: "controller", Actor: mode.Controller,
			Reason: "saturation 1.25 >= 0.95", Signals: seen, Policy: "hash",
		},
	}
	if before == 12 {
		all = all[1:]
	}
	return all[:min(limit, len(all))], nil
}

func (f fakeModes) Simulate(ctx context.Context, back time.Duration) (mode.Simulation, error) {
	if err := f.enter(ctx); err != nil {
		return mode.Simulation{}, err
	}
	f.simulated = back
	samples := make([]mode.Sample, 5)
	for i := range samples {
		values := make(mode.Values)
		values[mode.TransferAge] = 6
		samples[i] = mode.Sample{
			At: noon.Add(time.Duration(i) * 5 * time.Second), Level: mode.Normal, Mode: mode.Normal,
			Values: values,
		}
	}
	return defaultPolicy().Compare(samples), nil
}

func (f fakeModes) OverrideOnce(
	ctx context.Context, key idempotency.Keyed, o mode.Override, render func(mode.State) idempotency.Response,
) (idempotency.Response, error) {
	if err := f.enter(ctx); err != nil {
		return idempotency.Response{}, err
	}
	if err := o.Validate(); err != nil {
		return idempotency.Response{}, err
	}
	return f.once(key, func() (idempotency.Response, error) {
		f.overrides = append(f.overrides, o)
		return render(pinned()), nil
	})
}
