package httpapi

import (
	"context"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
)

// woken is what a callback was about.
type woken struct {
	transfer.Ref

	reference string
}

func (f *fakeService) Wake(ctx context.Context, ref transfer.Ref, reference string) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	f.woken = append(f.woken, woken{ref, reference})
	return nil
}

func (f *fakeService) Attempts(ctx context.Context, ref transfer.Ref) ([]transfer.Attempt, error) {
	if _, err := f.Get(ctx, ref); err != nil {
		return nil, err
	}
	return []transfer.Attempt{{
		Step: "screen", Kind: "timeout", Detail: "risk_api screen timed out", At: noon,
	}}, nil
}

func (f *fakeService) Postures(
	ctx context.Context, tenantID uuid.UUID, limit int,
) ([]transfer.Posture, error) {
	if err := f.enter(ctx); err != nil || tenantID != acme {
		return nil, err
	}
	return f.postures[:min(limit, len(f.postures))], nil
}

func (f *fakeService) ChangePosture(
	ctx context.Context, key idempotency.Keyed, p transfer.Posture,
	render func(transfer.Posture) idempotency.Response,
) (idempotency.Response, error) {
	if err := f.enter(ctx); err != nil {
		return idempotency.Response{}, err
	}
	if p.TenantID != acme {
		return idempotency.Response{}, problem.New(problem.NotFound, "Tenant %s does not exist.", p.TenantID)
	}
	return f.once(key, func() (idempotency.Response, error) {
		p.Version, p.SetAt = int32(len(f.postures))+1, noon
		f.postures = append([]transfer.Posture{p}, f.postures...)
		return render(p), nil
	})
}

// fakeOperations stands for the rest of what operators look at: one dependency with a door, one without
// anything, and a dead letter of each kind.
type fakeOperations struct{ *fakeService }

func (f fakeOperations) Dependencies(ctx context.Context) ([]Dependency, error) {
	if err := f.enter(ctx); err != nil {
		return nil, err
	}
	return []Dependency{{Name: "notification_api"}, {
		Name:    "risk_api",
		Limit:   &Limit{Places: 8, Version: 2, Actor: "operator:kim", Reason: "moved", SetAt: noon},
		Holders: []Holder{{"worker-1", 5}, {"worker-2", 3}},
		Door: &Door{
			Breaker: "open", BreakerSince: noon, InFlight: 1, Waiting: 3, Limit: 2, Places: 5,
			P95: 830 * time.Millisecond,
		},
		Conditions: []condition.Active{{Subject: "risk_api", Since: noon, Condition: condition.Condition{
			Name: "breaker_open", Title: "It fails", Text: "Look at it.", Severity: condition.Critical,
		}}},
	}}, nil
}

func (f fakeOperations) SetLimit(
	ctx context.Context, key idempotency.Keyed, c LimitChange, render func(Limit) idempotency.Response,
) (idempotency.Response, error) {
	if err := f.enter(ctx); err != nil {
		return idempotency.Response{}, err
	}
	switch {
	case c.Places < 1:
		return idempotency.Response{}, problem.Invalid("/places", "has to be 1 to 1000")
	case c.Dependency != "risk_api" && c.Dependency != "notification_api":
		return idempotency.Response{}, problem.New(problem.NotFound, "There is no dependency of this name.")
	}
	return f.once(key, func() (idempotency.Response, error) {
		f.limits = append(f.limits, c)
		return render(Limit{Places: c.Places, Version: 3, Actor: c.Actor, Reason: c.Reason, SetAt: noon}), nil
	})
}

func (f fakeOperations) Queues(ctx context.Context) ([]Queue, error) {
	if err := f.enter(ctx); err != nil {
		return nil, err
	}
	ages := []time.Duration{12 * time.Millisecond, 3500 * time.Millisecond, 0, 0}
	return []Queue{{Name: "risk_api", Ages: ages}}, nil
}

func (f fakeOperations) Busiest(ctx context.Context) ([]BusyTenant, error) {
	return []BusyTenant{{acme, 412, 3}}, f.enter(ctx)
}

func (f fakeOperations) Outbox(ctx context.Context) (outbox.Lag, error) {
	return outbox.Lag{
		Outbox: 21 * time.Millisecond, Last: 4711,
		Sinks:     []outbox.SinkLag{{Name: "broker", Events: 12, Age: 400 * time.Millisecond}},
		Consumers: []outbox.ConsumerLag{{Name: "orders", Age: 3 * time.Second}},
		Unhandled: []outbox.Unhandled{{Consumer: "orders", Type: "transfer.settled", Events: 2}},
	}, f.enter(ctx)
}

func (f fakeOperations) DeadLetters(ctx context.Context, limit int) ([]DeadLetter, error) {
	if err := f.enter(ctx); err != nil {
		return nil, err
	}
	dead := []DeadLetter{
		{
			Kind: DeadTransfer, TenantID: acme, ID: known.String(), Status: "failed",
			Reason: "attempts_exhausted", Attempts: 12, LastError: "timed out", At: noon,
		},
		{Kind: DeadOrder, TenantID: acme, ID: known.String(), Status: "canceled", Reason: "poison", At: noon},
		{
			Kind: DeadDelivery, TenantID: acme, ID: known.String() + "/3", Event: "transfer.settled",
			Consumer: "orders", Reason: "poison", At: noon,
		},
		{
			Kind: DeadWebhook, TenantID: acme, ID: known.String() + "-3", Event: "transfer.settled",
			Consumer: known.String(), Reason: "not_taken", Attempts: 151, LastError: "status 500", At: noon,
		},
		{Kind: DeadJob, ID: "4711", Job: "transfer_screen", Queue: "risk_api", Reason: "poison", At: noon},
	}
	return dead[:min(limit, len(dead))], nil
}
