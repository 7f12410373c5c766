package webhook_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/webhook"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

var good = webhook.New{URL: "https://example.com/hook?a=b", Description: "mine", Types: []string{"thing.*"}}

func TestAnEndpointIsMadeOncePerKeyAndBeginsAtTheHeadOfTheLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.happen(t, b.series(3)...)
	first, err := b.service.Create(t.Context(), b.keyed("k"), good, rendered)
	require.NoError(t, err)
	second, err := b.service.Create(t.Context(), b.keyed("k"), good, rendered)
	require.NoError(t, err)
	require.Equal(t, first.Body, second.Body)
	require.True(t, second.Replayed)

	all, err := b.service.Endpoints(t.Context(), b.tenant, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, all, 1)
	e := all[0]
	require.WithinDuration(t, now(), e.CreatedAt, time.Minute)
	require.Equal(t, e.CreatedAt, e.UpdatedAt)
	require.Equal(t, webhook.Endpoint{
		Ref: webhook.Ref{TenantID: b.tenant, ID: uuid.MustParse(string(first.Body))},
		URL: good.URL, Description: "mine", Types: []string{"thing.*"}, Status: webhook.Active, Place: 3,
		SecretVersion: 1, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt,
	}, e)
	require.Equal(t, e, b.endpoint(t, e.ID))
}

func TestAnEndpointThatNoneMayBeIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	o := options()
	o.Development, o.KnownTypes = false, []string{"thing.moved", "thing.ended", "transfer.settled"}
	s := webhook.NewService(b.pool, o)
	for pointer, changes := range map[string][]webhook.New{
		"/url": {
			{URL: ""},
			{URL: "http://example.com"},
			{URL: "ftp://example.com"},
			{URL: "https:example.com"},
			{URL: "https:///path"},
			{URL: "//example.com"},
			{URL: "https://me@example.com"},
			{URL: "https://me:secret@example.com"},
			{URL: "https://example.com/#here"},
			{URL: "https://example.com/#"},
			{URL: "https://example.com:0/"},
			{URL: "https://example.com:65536/"},
			{URL: "https://example.com:x/"},
			{URL: "https://exämple.com/"},
			{URL: "https://example.com/a b"},
			{URL: "https://example.com/\x00"},
			{URL: "https://exa mple.com/"},
			{URL: "https://ex%41mple.com/"},
			{URL: "https://-/"},
			{URL: "https://localhost/"},
			{URL: "https://LOCALHOST./"},
			{URL: "https://a.localhost:8443/"},
			{URL: "https://127.0.0.1/"},
			{URL: "https://169.254.169.254/latest/meta-data"},
			{URL: "https://10.1.2.3/"},
			{URL: "https://[::1]/"},
			{URL: "https://[fe80::1%25eth0]/"},
			{URL: "https://[::ffff:8.8.8.8]/"},
			{URL: "https://example.com/" + strings.Repeat("a", 2048)},
		},
		"/description": {
			{URL: good.URL, Description: "a\nb"},
			{URL: good.URL, Description: "\xff"},
			{URL: good.URL, Description: strings.Repeat("a", 501)},
		},
		"/types": {{URL: good.URL, Types: make([]string, 51)}},
		"/types/0": {
			{URL: good.URL, Types: []string{""}},
			{URL: good.URL, Types: []string{"*"}},
			{URL: good.URL, Types: []string{"thing"}},
			{URL: good.URL, Types: []string{"order.*"}},
			{URL: good.URL, Types: []string{"thing.lost"}},
		},
		"/types/1": {{URL: good.URL, Types: []string{"thing.*", "thing.*"}}},
	} {
		for _, n := range changes {
			_, err := s.Create(t.Context(), b.fresh(), n, rendered)
			require.Error(t, err, "%q", n)
			requireProblem(t, problem.ValidationFailed, pointer, err)
			_, err = s.Change(t.Context(), b.fresh(), uuid.New(), n, rendered)
			requireProblem(t, problem.ValidationFailed, pointer, err)
		}
	}
	require.Zero(t, b.count(t, "SELECT count(*) FROM webhook_endpoints"))
	for _, n := range []webhook.New{
		{URL: "https://8.8.8.8/hook"},
		{URL: "https://[2606:4700::1111]:8443/hook"},
		{URL: "https://xn--exmple-cua.com"},
		{URL: "HTTPS://Example.com./a/?b=%20", Types: []string{"thing.moved", "transfer.*"}},
	} {
		_, err := s.Create(t.Context(), b.fresh(), n, rendered)
		require.NoError(t, err, "%q", n)
	}
}

func TestATenantHasSoManyEndpointsAtMost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var group sync.WaitGroup
	var mu sync.Mutex
	answers := map[int]int{}
	for range webhook.EndpointsMax + 4 {
		group.Go(func() {
			response, err := b.service.Create(t.Context(), b.fresh(), good, rendered)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			answers[response.Status]++
		})
	}
	group.Wait()
	require.Equal(t, map[int]int{200: webhook.EndpointsMax, 409: 4}, answers)
	b.another(t).create(t, good)

	var seen []uuid.UUID
	for after := uuid.Nil; ; {
		page, err := b.service.Endpoints(t.Context(), b.tenant, after, 7)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			seen = append(seen, e.ID)
		}
		after = page[len(page)-1].ID
	}
	require.Len(t, seen, webhook.EndpointsMax)
}

func TestAnEndpointIsChangedPausedAndDeleted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.create(t, good)
	other := webhook.Change{URL: "https://example.org"}
	_, err := b.service.Change(t.Context(), b.fresh(), e.ID, other, rendered)
	require.NoError(t, err)
	changed := b.endpoint(t, e.ID)
	require.Equal(t, "https://example.org", changed.URL)
	require.Empty(t, changed.Description)
	require.Empty(t, changed.Types)
	require.True(t, changed.UpdatedAt.After(e.UpdatedAt))

	b.setStatus(t, e.ID, webhook.Paused)
	require.Equal(t, webhook.Paused, b.endpoint(t, e.ID).Status)
	b.exec(t, `UPDATE webhook_endpoints SET status = 'disabled', status_reason = 'gone', failures = 3,
	           probes = 2, failing_since = now(), last_error = 'no'`)
	b.setStatus(t, e.ID, webhook.Active)
	resumed := b.endpoint(t, e.ID)
	require.Equal(t, webhook.Active, resumed.Status)
	require.Empty(t, resumed.StatusReason+resumed.LastError)
	require.Zero(t, resumed.Failures)
	require.Zero(t, resumed.FailingSince)
	for _, status := range []webhook.Status{webhook.Disabled, "", "asleep"} {
		_, err := b.service.SetStatus(t.Context(), b.fresh(), e.ID, status, rendered)
		requireProblem(t, problem.ValidationFailed, "/status", err)
	}

	gone := func() idempotency.Response { return idempotency.Response{Status: 204} }
	response, err := b.service.Delete(t.Context(), b.keyed("delete"), e.ID, gone)
	require.NoError(t, err)
	require.Equal(t, 204, response.Status)
	response, err = b.service.Delete(t.Context(), b.keyed("delete"), e.ID, gone)
	require.NoError(t, err)
	require.Equal(t, 204, response.Status, "the same key gets the same answer")
	_, err = b.service.Delete(t.Context(), b.fresh(), e.ID, gone)
	requireProblem(t, problem.NotFound, "", err)
}

// TestNobodyTouchesAnothersEndpoint asks for everything with another tenant's key.
func TestNobodyTouchesAnothersEndpoint(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.create(t, good)
	other := b.another(t)
	ref := webhook.Ref{TenantID: other.tenant, ID: e.ID}
	s, ctx := b.service, t.Context()
	count := func(int) idempotency.Response { return idempotency.Response{Status: 200} }
	span := webhook.Span{From: now().Add(-time.Hour), To: now()}
	for name, ask := range map[string]func() error{
		"read":     func() error { _, err := s.Endpoint(ctx, ref); return err },
		"secret":   func() error { _, err := s.Secret(ctx, ref); return err },
		"attempts": func() error { _, err := s.Attempts(ctx, ref, 0, 1); return err },
		"dead":     func() error { _, err := s.DeadLetters(ctx, ref, 0, 1); return err },
		"change":   func() error { _, err := s.Change(ctx, other.fresh(), e.ID, good, rendered); return err },
		"rotate": func() error {
			_, err := s.RotateSecret(ctx, other.fresh(), e.ID, 0, rendered)
			return err
		},
		"ping":    func() error { _, err := s.Ping(ctx, other.fresh(), e.ID, rendered); return err },
		"resend":  func() error { _, err := s.Resend(ctx, other.fresh(), e.ID, span, events64); return err },
		"redrive": func() error { _, err := s.Redrive(ctx, other.fresh(), e.ID, count); return err },
		"pause": func() error {
			_, err := s.SetStatus(ctx, other.fresh(), e.ID, webhook.Paused, rendered)
			return err
		},
		"delete": func() error {
			_, err := s.Delete(ctx, other.fresh(), e.ID, func() idempotency.Response { return rendered(e) })
			return err
		},
	} {
		requireProblem(t, problem.NotFound, "", ask())
		require.Equal(t, e, b.endpoint(t, e.ID), name)
	}
	none, err := s.Endpoints(ctx, other.tenant, uuid.Nil, 10)
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestSecretsAreMadeOfTheMasterKeyAndOverlap(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, other := b.create(t, good), b.create(t, good)
	secret := func(e webhook.Endpoint) webhook.Secrets {
		secrets, err := b.service.Secret(t.Context(), e.Ref)
		require.NoError(t, err)
		return secrets
	}
	first := secret(e)
	require.Regexp(t, `^whsec_[A-Za-z0-9+/]{43}=$`, first.Current)
	require.Empty(t, first.Previous)
	require.Equal(t, first, secret(e), "it is the same each time")
	require.NotEqual(t, first.Current, secret(other).Current)

	response, err := b.service.RotateSecret(t.Context(), b.fresh(), e.ID, time.Hour, rendered)
	require.NoError(t, err)
	require.Equal(t, 200, response.Status)
	second := secret(e)
	require.Equal(t, first.Current, second.Previous)
	require.NotEqual(t, first.Current, second.Current)
	require.WithinDuration(t, now().Add(time.Hour), second.PreviousUntil, time.Minute)
	b.exec(t, "UPDATE webhook_endpoints SET previous_until = now() - interval '1 second'")
	require.Equal(t, webhook.Secrets{Current: second.Current}, secret(e))

	for _, overlap := range []time.Duration{-1, webhook.OverlapMax + 1} {
		_, err := b.service.RotateSecret(t.Context(), b.fresh(), e.ID, overlap, rendered)
		requireProblem(t, problem.ValidationFailed, "/overlap", err)
	}
	rotated := webhook.NewService(b.pool, webhook.Options{Key: []byte("another"), Now: now})
	third, err := rotated.Secret(t.Context(), e.Ref)
	require.NoError(t, err)
	require.NotEqual(t, second.Current, third.Current)
}

func TestWithoutAMasterKeyThereAreNoEndpoints(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.create(t, good)
	s := webhook.NewService(b.pool, webhook.Options{Now: now})
	_, err := s.Create(t.Context(), b.fresh(), good, rendered)
	requireProblem(t, problem.WebhooksUnavailable, "", err)
	_, err = s.Secret(t.Context(), e.Ref)
	requireProblem(t, problem.WebhooksUnavailable, "", err)
	_, err = s.RotateSecret(t.Context(), b.fresh(), e.ID, 0, rendered)
	requireProblem(t, problem.WebhooksUnavailable, "", err)
	require.False(t, problem.MeaningOf(problem.WebhooksUnavailable).Stored, "it may be asked for again")
	_, err = s.Endpoint(t.Context(), e.Ref)
	require.NoError(t, err)
}

func TestAPingIsForActiveEndpointsAndBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.create(t, good)
	ping := func(key string) idempotency.Response {
		response, err := b.service.Ping(t.Context(), b.keyed(key), e.ID, rendered)
		require.NoError(t, err)
		return response
	}
	require.Equal(t, 200, ping("1").Status)
	require.Equal(t, 200, ping("1").Status)
	require.Equal(t, 1, b.count(t, "SELECT count(*) FROM webhook_tasks"), "one for each key")
	ping("2")
	ping("3")
	require.Equal(t, string(problem.IllegalTransition), string(ping("4").Body))
	b.exec(t, "DELETE FROM webhook_tasks")
	b.setStatus(t, e.ID, webhook.Paused)
	require.Equal(t, string(problem.IllegalTransition), string(ping("5").Body))
	require.Zero(t, b.count(t, "SELECT count(*) FROM webhook_tasks"))
}

func TestWhatGoesAgainIsWhatTheEndpointIsPast(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.happen(t, b.series(3)...)
	began := now()
	second := b.series(4)
	b.happen(t, second...)
	b.happen(t, b.another(t).series(5)...)
	e := b.create(t, good)
	ended := now()
	third := b.series(2)
	b.happen(t, third...)
	resend := func(s webhook.Span) string {
		response, err := b.service.Resend(t.Context(), b.fresh(), e.ID, s, events64)
		require.NoError(t, err)
		return string(response.Body)
	}
	tasks := func() [][2]int64 {
		rows, err := b.pool.Query(t.Context(), "DELETE FROM webhook_tasks RETURNING done, last")
		require.NoError(t, err)
		defer rows.Close()
		var all [][2]int64
		for rows.Next() {
			var one [2]int64
			require.NoError(t, rows.Scan(&one[0], &one[1]))
			all = append(all, one)
		}
		require.NoError(t, rows.Err())
		return all
	}
	refused := string(problem.IllegalTransition)
	require.Equal(t, "4", resend(webhook.Span{From: began, To: ended}))
	require.Equal(t, "7", resend(webhook.Span{From: began.Add(-time.Hour), To: ended.Add(time.Hour)}))
	require.Equal(t, [][2]int64{{3, 12}, {0, 12}}, tasks(), "up to where the endpoint is")
	require.Equal(t, "0", resend(webhook.Span{From: ended, To: ended.Add(time.Hour)}))
	require.Equal(t, "0", resend(webhook.Span{From: began.Add(-2 * time.Hour), To: began.Add(-time.Hour)}))
	require.Empty(t, tasks())

	id := func(n int) string { return cloudevent.ID(second[n].AggregateID, second[n].Seq) }
	require.Equal(t, "1", resend(webhook.Span{EventID: id(2)}))
	require.Equal(t, [][2]int64{{5, 6}}, tasks())
	notYet := cloudevent.ID(third[0].AggregateID, 1)
	require.Equal(t, refused, resend(webhook.Span{EventID: notYet}))
	for range 10 {
		resend(webhook.Span{EventID: id(0)})
	}
	require.Equal(t, refused, resend(webhook.Span{EventID: id(0)}), "so many at most")
	b.exec(t, "DELETE FROM event_log WHERE last <= 7")
	b.exec(t, "UPDATE event_log_head SET forgotten = 7")
	b.exec(t, "DELETE FROM webhook_tasks")
	require.Equal(t, refused, resend(webhook.Span{EventID: id(0)}), "it is forgotten")
	require.Equal(t, "0", resend(webhook.Span{From: began, To: ended}))
}

func TestASpanIsOneEventOrATime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.create(t, good)
	at := now()
	for pointer, spans := range map[string][]webhook.Span{
		"/event_id": {{}, {EventID: "x", From: at, To: at.Add(1)}, {EventID: "x", To: at}},
		"/from":     {{From: at}, {To: at}, {From: at, To: at}, {From: at, To: at.Add(-1)}},
	} {
		for _, span := range spans {
			_, err := b.service.Resend(t.Context(), b.fresh(), e.ID, span, events64)
			requireProblem(t, problem.ValidationFailed, pointer, err)
		}
	}
	theirs := b.another(t).series(1)
	b.another(t).happen(t, theirs...)
	for _, id := range []string{
		"x", "-", "-1", uuid.NewString(), uuid.NewString() + "-0", uuid.NewString() + "-1",
		uuid.NewString() + "-99999999999", strings.ToUpper(uuid.NewString()) + "-1",
		cloudevent.ID(theirs[0].AggregateID, 1),
	} {
		_, err := b.service.Resend(t.Context(), b.fresh(), e.ID, webhook.Span{EventID: id}, events64)
		requireProblem(t, problem.NotFound, "", err)
	}
}

func TestStatsCountWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := setup(t)
	pool := b.pool
	e, failing := b.create(t, good), b.create(t, good)
	b.exec(t, "UPDATE webhook_endpoints SET status = 'disabled' WHERE id = $1", e.ID)
	b.exec(t, "UPDATE webhook_endpoints SET failing_since = now() WHERE id = $1", failing.ID)
	stats, err := webhook.ReadStats(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, webhook.Stats{Failing: 1, Disabled: 1}, stats)
	all, err := b.service.Failing(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, all, 2, "what is disabled is shown, too, though nothing failed before")
	require.Equal(t, []uuid.UUID{e.ID, failing.ID}, []uuid.UUID{all[0].ID, all[1].ID}, "the longest first")
	stats, err = webhook.ReadStats(t.Context(), pgtest.New(t))
	require.NoError(t, err)
	require.Zero(t, stats)
}
