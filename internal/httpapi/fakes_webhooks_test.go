package httpapi

import (
	"context"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/webhook"
)

// The real service is what the handlers call.
var _ Webhooks = (*webhook.Service)(nil)

const (
	goodHook   = `{"url":"https://shop.example.com/hooks","description":"the shop","types":["transfer.*"]}`
	goodResend = `{"from":"2026-11-22T11:00:00Z","to":"2026-11-22T12:00:00Z"}`
	hookPath   = hooks + "/018f2b6e-0000-7000-8000-0000000000f1"
)

// asked is a change of an endpoint as the service was asked for it.
type asked struct {
	new     webhook.New
	status  webhook.Status
	overlap time.Duration
	span    webhook.Span
	deleted bool
}

// fakeHooks is the webhook side of the world: it knows one endpoint of acme.
type fakeHooks struct{ *fakeService }

func someHook() webhook.Endpoint {
	return webhook.Endpoint{
		Ref: webhook.Ref{TenantID: acme, ID: known}, URL: "https://shop.example.com/hooks",
		Status: webhook.Active, Place: 4711, SecretVersion: 1, CreatedAt: noon, UpdatedAt: noon,
	}
}

// real validates as the service does, which looks at nothing outside before it has found a request valid.
func (fakeHooks) real() *webhook.Service {
	return webhook.NewService(nowhere(), webhook.Options{KnownTypes: []string{"transfer.settled"}})
}

// valid says what is wrong with a request that real has refused.
func valid(err error) error {
	if problem.Is(err, problem.ValidationFailed) {
		return err
	}
	return nil
}

// keyed does one keyed change of the endpoint, and remembers what was asked for.
func (f fakeHooks) keyed(
	ctx context.Context, k idempotency.Keyed, id uuid.UUID, a asked, render func() idempotency.Response,
) (idempotency.Response, error) {
	if _, err := f.Endpoint(ctx, webhook.Ref{TenantID: k.TenantID, ID: id}); err != nil {
		return idempotency.Response{}, err
	}
	return f.once(k, func() (idempotency.Response, error) {
		if p := f.refuse; p != nil {
			return k.Refuse(p), nil
		}
		f.asked = append(f.asked, a)
		return render(), nil
	})
}

func (f fakeHooks) Create(
	ctx context.Context, k idempotency.Keyed, n webhook.New,
	render func(webhook.Endpoint) idempotency.Response,
) (idempotency.Response, error) {
	if err := f.enter(ctx); err != nil {
		return idempotency.Response{}, err
	}
	if _, err := f.real().Create(ctx, k, n, nil); valid(err) != nil {
		return idempotency.Response{}, err
	}
	return f.once(k, func() (idempotency.Response, error) {
		if p := f.refuse; p != nil {
			return k.Refuse(p), nil
		}
		f.asked = append(f.asked, asked{new: n})
		e := someHook()
		e.URL, e.Description, e.Types = n.URL, n.Description, n.Types
		return render(e), nil
	})
}

func (f fakeHooks) Change(
	ctx context.Context, k idempotency.Keyed, id uuid.UUID, n webhook.Change,
	render func(webhook.Endpoint) idempotency.Response,
) (idempotency.Response, error) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := f.real().Change(ended, k, id, n, nil); valid(err) != nil {
		return idempotency.Response{}, err
	}
	return f.keyed(ctx, k, id, asked{new: n}, func() idempotency.Response {
		e := someHook()
		e.URL, e.Description, e.Types = n.URL, n.Description, n.Types
		return render(e)
	})
}

func (f fakeHooks) Delete(
	ctx context.Context, k idempotency.Keyed, id uuid.UUID, render func() idempotency.Response,
) (idempotency.Response, error) {
	return f.keyed(ctx, k, id, asked{deleted: true}, render)
}

func (f fakeHooks) SetStatus(
	ctx context.Context, k idempotency.Keyed, id uuid.UUID, status webhook.Status,
	render func(webhook.Endpoint) idempotency.Response,
) (idempotency.Response, error) {
	return f.keyed(ctx, k, id, asked{status: status}, func() idempotency.Response {
		e := someHook()
		e.Status = status
		return render(e)
	})
}

func (f fakeHooks) RotateSecret(
	ctx context.Context, k idempotency.Keyed, id uuid.UUID, overlap time.Duration,
	render func(webhook.Endpoint) idempotency.Response,
) (idempotency.Response, error) {
	return f.keyed(ctx, k, id, asked{overlap: overlap}, func() idempotency.Response {
		e := someHook()
		e.SecretVersion = 2
		return render(e)
	})
}

func (f fakeHooks) Secret(ctx context.Context, ref webhook.Ref) (webhook.Secrets, error) {
	if _, err := f.Endpoint(ctx, ref); err != nil {
		return webhook.Secrets{}, err
	}
	return webhook.Secrets{Current: "whsec_new", Previous: "whsec_old", PreviousUntil: noon}, nil
}

func (f fakeHooks) Ping(
	ctx context.Context, k idempotency.Keyed, id uuid.UUID,
	render func(webhook.Endpoint) idempotency.Response,
) (idempotency.Response, error) {
	return f.keyed(ctx, k, id, asked{}, func() idempotency.Response { return render(someHook()) })
}

func (f fakeHooks) Resend(
	ctx context.Context, k idempotency.Keyed, id uuid.UUID, span webhook.Span,
	render func(int64) idempotency.Response,
) (idempotency.Response, error) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := f.real().Resend(ended, k, id, span, nil); valid(err) != nil {
		return idempotency.Response{}, err
	}
	return f.keyed(ctx, k, id, asked{span: span}, func() idempotency.Response { return render(12) })
}

func (f fakeHooks) Redrive(
	ctx context.Context, k idempotency.Keyed, id uuid.UUID, render func(int) idempotency.Response,
) (idempotency.Response, error) {
	return f.keyed(ctx, k, id, asked{}, func() idempotency.Response { return render(3) })
}

func (f fakeHooks) Endpoint(ctx context.Context, ref webhook.Ref) (webhook.Endpoint, error) {
	if err := f.enter(ctx); err != nil {
		return webhook.Endpoint{}, err
	}
	if (ref != webhook.Ref{TenantID: acme, ID: known}) {
		return webhook.Endpoint{}, problem.New(problem.NotFound, "Endpoint %s does not exist.", ref.ID)
	}
	return someHook(), nil
}

func (f fakeHooks) Endpoints(
	_ context.Context, tenantID, after uuid.UUID, limit int,
) ([]webhook.Endpoint, error) {
	if tenantID != acme || after == absent {
		return nil, nil
	}
	first, second := someHook(), someHook()
	second.ID = absent
	all := []webhook.Endpoint{first, second}
	if after == known {
		all = all[1:]
	}
	return all[:min(limit, len(all))], nil
}

func (f fakeHooks) Failing(ctx context.Context, limit int) ([]webhook.Endpoint, error) {
	if err := f.enter(ctx); err != nil || limit < 1 {
		return nil, err
	}
	e := someHook()
	e.Status, e.StatusReason, e.Failures, e.FailingSince = webhook.Disabled, "gone", 31, noon
	e.LastError = "status 410"
	return []webhook.Endpoint{e}, nil
}

func (f fakeHooks) Attempts(
	ctx context.Context, ref webhook.Ref, before int64, limit int,
) ([]webhook.Attempt, error) {
	if _, err := f.Endpoint(ctx, ref); err != nil {
		return nil, err
	}
	if before == 0 {
		before = 4
	}
	var out []webhook.Attempt
	for id := before - 1; id > 0 && len(out) < limit; id-- {
		out = append(out, webhook.Attempt{
			ID: id, EventID: known.String() + "-3", EventType: "transfer.settled", Kind: webhook.KindEvent,
			At: noon, Outcome: "status_5xx", Status: 503, Duration: 38 * time.Millisecond,
			Error: "status 503", Attempt: int(id),
		})
	}
	return out, nil
}

func (f fakeHooks) DeadLetters(
	ctx context.Context, ref webhook.Ref, after int64, limit int,
) ([]webhook.Dead, error) {
	if _, err := f.Endpoint(ctx, ref); err != nil {
		return nil, err
	}
	var out []webhook.Dead
	for place := after + 1; place <= 3 && len(out) < limit; place++ {
		out = append(out, webhook.Dead{
			Place: place, EventID: known.String() + "-3", EventType: "transfer.settled", Attempts: 151,
			LastStatus: 500, LastError: "status 500", FirstFailedAt: noon, DeadAt: noon, Behind: 2,
		})
	}
	return out, nil
}
