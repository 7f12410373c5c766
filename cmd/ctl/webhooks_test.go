package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/internal/webhook"
)

// withEndpoint is a desk with a tenant, acme, that has an endpoint.
func withEndpoint(t *testing.T) (desk, *bytes.Buffer, webhook.Ref) {
	t.Helper()
	d, out := setup(t)
	tenantID, err := tenancy.NewService(d.pool, time.Now).CreateTenant(t.Context(), "acme")
	require.NoError(t, err)
	s := webhook.NewService(d.pool, webhook.Options{Key: []byte("0123456789abcdef"), Now: time.Now})
	var made webhook.Endpoint
	key := idempotency.Keyed{Key: idempotency.Key{TenantID: tenantID, Key: "one"}}
	n := webhook.New{URL: "https://shop.example.com/hooks", Types: []string{"transfer.*"}}
	_, err = s.Create(t.Context(), key, n, func(e webhook.Endpoint) idempotency.Response {
		made = e
		return idempotency.Response{Status: done}
	})
	require.NoError(t, err)
	return d, out, made.Ref
}

func TestAnEndpointIsPausedAndResumedAtTheDesk(t *testing.T) {
	t.Parallel()
	d, out, ref := withEndpoint(t)
	named := endpoint{output{JSON: true}, "acme", ref.ID}
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return (&pauseWebhookCmd{named}).do(t.Context(), d) }, "paused"},
		{func() error { return (&showWebhookCmd{named}).do(t.Context(), d) }, "paused"},
		{func() error { return (&resumeWebhookCmd{named}).do(t.Context(), d) }, "active"},
		{func() error { return (&pauseWebhookCmd{named}).do(t.Context(), d) }, "paused"},
		{func() error {
			return (&listWebhooksCmd{output{JSON: true}, ref.TenantID.String()}).do(t.Context(), d)
		}, "paused"},
	} {
		require.NoError(t, step.do())
		require.Equal(t, []webhookLine{{
			TenantID: ref.TenantID, ID: ref.ID, URL: "https://shop.example.com/hooks",
			Types: []string{"transfer.*"}, Status: step.want,
		}}, decoded[webhookLine](t, out))
	}
	named.JSON = false
	require.NoError(t, (&showWebhookCmd{named}).do(t.Context(), d))
	require.Equal(t, []string{
		ref.TenantID.String(), ref.ID.String(), "https://shop.example.com/hooks", "paused", "0", "-", "-",
	}, fields(out)[1])
	require.Equal(t, 7, strings.Count(webhookHeader, "\t")+1)

	named.ID = uuid.New()
	require.ErrorContains(t, (&pauseWebhookCmd{named}).do(t.Context(), d), "not_found")
	require.ErrorContains(t, (&showWebhookCmd{named}).do(t.Context(), d), "not_found")
	named.Tenant, named.ID = "initech", ref.ID
	require.True(t, problem.Is((&resumeWebhookCmd{named}).do(t.Context(), d), problem.NotFound))
	require.Empty(t, out.String())
}

func TestWhatFailsIsListedWithoutATenant(t *testing.T) {
	t.Parallel()
	d, out, ref := withEndpoint(t)
	list := listWebhooksCmd{output: output{JSON: true}}
	require.NoError(t, list.do(t.Context(), d))
	require.Equal(t, "[]\n", out.String())
	out.Reset()
	_, err := d.pool.Exec(t.Context(), `
UPDATE webhook_endpoints
   SET status = 'disabled', status_reason = 'gone', failures = 31, last_error = 'status 410',
       failing_since = now() - interval '5 days'`)
	require.NoError(t, err)
	require.NoError(t, list.do(t.Context(), d))
	lines := decoded[webhookLine](t, out)
	require.Len(t, lines, 1)
	require.Equal(t, ref.ID, lines[0].ID)
	require.WithinDuration(t, time.Now().Add(-5*24*time.Hour), lines[0].FailingSince, time.Minute)
	list.JSON = false
	require.NoError(t, list.do(t.Context(), d))
	require.Contains(t, out.String(), "disabled: gone")
	require.Contains(t, out.String(), "status 410")
}

func TestAttemptsArePrintedAndWhatWasGivenUpGoesAgain(t *testing.T) {
	t.Parallel()
	d, out, ref := withEndpoint(t)
	_, err := d.pool.Exec(t.Context(), `
INSERT INTO webhook_attempts (tenant_id, endpoint_id, event_id, event_type, kind, attempt, at, outcome,
                              status, took_us, error)
SELECT $1, $2, 'x-' || n, 'transfer.settled', 'event', n, now(), 'status_5xx', 503, 38000, 'status 503'
  FROM generate_series(1, 3) n`, ref.TenantID, ref.ID)
	require.NoError(t, err)
	_, err = d.pool.Exec(t.Context(), `
INSERT INTO webhook_backlog (endpoint_id, tenant_id, aggregate_id, seq, type, place, attempts,
                             first_failed_at, last_status, last_error, dead_at)
SELECT $2, $1, gen_random_uuid(), 1, 'transfer.settled', n, 5, now(), 503, 'status 503', now()
  FROM generate_series(1, 2) n`, ref.TenantID, ref.ID)
	require.NoError(t, err)
	named := endpoint{output{JSON: true}, "acme", ref.ID}
	attempts := webhookAttemptsCmd{named, 2}
	require.NoError(t, attempts.do(t.Context(), d))
	lines := decoded[attemptLine](t, out)
	require.Len(t, lines, 2)
	lines[0].At = time.Time{}
	require.Equal(t, attemptLine{
		Kind: "event", EventID: "x-3", EventType: "transfer.settled", Attempt: 3, Outcome: "status_5xx",
		Status: 503, DurationMS: 38, Error: "status 503",
	}, lines[0])
	attempts.JSON = false
	require.NoError(t, attempts.do(t.Context(), d))
	require.Equal(t, []string{"event", "transfer.settled", "x-3", "3", "status_5xx", "38", "status", "503"},
		fields(out)[1][1:])
	require.Equal(t, 8, strings.Count(attemptHeader, "\t")+1)
	attempts.Limit = 201
	require.EqualError(t, attempts.do(t.Context(), d), "--limit has to be 1 to 200")

	require.NoError(t, (&redriveWebhookCmd{named}).do(t.Context(), d))
	require.Equal(t, []redrivenLine{{ref.ID, 2}}, decoded[redrivenLine](t, out))
	named.JSON = false
	require.NoError(t, (&redriveWebhookCmd{named}).do(t.Context(), d))
	require.Equal(t, []string{ref.ID.String(), "0"}, fields(out)[1])
	named.ID = uuid.New()
	require.ErrorContains(t, (&redriveWebhookCmd{named}).do(t.Context(), d), "not_found")
}
