package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/httpapi/internal/adminapi"
	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/webhook"
)

//nolint:lll // a table reads by lines
func TestBadBodiesOfWebhooksAreRefusedAsTheContractSays(t *testing.T) {
	t.Parallel()
	hook := func(from, to string) string { return strings.Replace(goodHook, from, to, 1) }
	types := func(text string) string { return hook(`["transfer.*"]`, text) }
	resend := func(from, to string) string { return strings.Replace(goodResend, from, to, 1) }
	rotate := hookPath + "/secret/rotate"
	tests := []struct {
		method, path, body, pointer string
		ours                        bool
	}{
		{post, hooks, `{}`, "/url", false},
		{post, hooks, hook(`"https://shop.example.com/hooks"`, `null`), "/url", false},
		{post, hooks, hook(`"https://shop.example.com/hooks"`, `7`), "/url", false},
		{post, hooks, hook(`https://`, ``), "/url", false},
		{post, hooks, hook(`https://`, `ftp://`), "/url", false},
		{post, hooks, hook(`https://`, `http://`), "/url", true},
		{post, hooks, hook(`shop.example.com`, `169.254.169.254`), "/url", true},
		{post, hooks, hook(`shop.example.com`, `[::1]`), "/url", true},
		{post, hooks, hook(`shop.example.com`, `localhost`), "/url", true},
		{post, hooks, hook(`shop.`, `kim:secret@shop.`), "/url", true},
		{post, hooks, hook(`/hooks`, `/hooks#top`), "/url", true},
		{post, hooks, hook(`/hooks`, `/`+strings.Repeat("a", 2_048)), "/url", false},
		{post, hooks, hook(`the shop`, `the\nshop`), "/description", false},
		{post, hooks, hook(`the shop`, strings.Repeat("a", 501)), "/description", false},
		{post, hooks, hook(`the shop`, strings.Repeat("é", 251)), "/description", true},
		{post, hooks, hook(`"the shop"`, `7`), "/description", false},
		{post, hooks, types(`"transfer.*"`), "/types", false},
		{post, hooks, types(`[7]`), "/types/0", false},
		{post, hooks, types(`["*"]`), "/types/0", false},
		{post, hooks, types(`["transfer"]`), "/types/0", false},
		{post, hooks, types(`["transfer.lost"]`), "/types/0", true},
		{post, hooks, types(`["transfer.*","transfer.*"]`), "/types/1", true},
		{post, hooks, types(`["` + strings.Join(slices.Repeat([]string{"transfer.settled"}, 51), `","`) + `"]`), "/types", false},
		{post, hooks, hook(`{"url"`, `{"secret":"whsec_mine","url"`), "/secret", false},
		{post, hooks, hook(`{"url"`, `{"status":"paused","url"`), "/status", false},
		{put, hookPath, `{}`, "/url", false},
		{put, hookPath, hook(`https://`, `http://`), "/url", true},
		{post, hookPath + "/pause", `{"status":"paused"}`, "/status", false},
		{post, hookPath + "/resume", `[]`, "", false},
		{post, hookPath + "/ping", `{"x":1}`, "/x", false},
		{post, hookPath + "/dead-letters/redrive", `{"event_id":"x"}`, "/event_id", false},
		{post, rotate, `{"overlap_seconds":-1}`, "/overlap_seconds", false},
		{post, rotate, `{"overlap_seconds":604801}`, "/overlap_seconds", false},
		{post, rotate, `{"overlap_seconds":9223372036854775807}`, "/overlap_seconds", false},
		{post, rotate, `{"overlap_seconds":1.5}`, "/overlap_seconds", false},
		{post, rotate, `{"overlap":60}`, "/overlap", false},
		{post, hookPath + "/resend", `{}`, "/event_id", true},
		{post, hookPath + "/resend", resend(`{`, `{"event_id":"x",`), "/event_id", true},
		{post, hookPath + "/resend", resend(`11:00`, `12:00`), "/from", true},
		{post, hookPath + "/resend", resend(`"from":"2026-11-22T11:00:00Z",`, ``), "/from", true},
		{post, hookPath + "/resend", resend(`"2026-11-22T11:00:00Z"`, `"yesterday"`), "/from", false},
		{post, hookPath + "/resend", `{"event_id":7}`, "/event_id", false},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprint(i, " ", tt.path), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			e := exchange{method: tt.method, path: tt.path, body: tt.body}
			p := b.requireProblem(t, e, problem.ValidationFailed)
			require.Equal(t, tt.pointer, p.Errors[0].Pointer, p.Errors[0].Detail)
			require.Equal(t, tt.ours, b.spec.request(t, e.request()) == nil, "what the contract says")
			require.Empty(t, b.fake.asked)
		})
	}
}

func TestWhatIsAskedOfAnEndpointReachesTheServiceAsItWasSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	shop := webhook.New{
		URL: "https://shop.example.com/hooks", Description: "the shop", Types: []string{"transfer.*"},
	}
	at := time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)
	const day, rotate, resend = 24 * time.Hour, hookPath + "/secret/rotate", hookPath + "/resend"
	tests := []struct {
		method, path, body string
		status             int
		want               asked
		answer             string
	}{
		{post, hooks, goodHook, 201, asked{new: shop}, `"types":["transfer.*"]`},
		{post, hooks, `{"url":"https://a.example.com"}`, 201, asked{
			new: webhook.New{URL: "https://a.example.com"},
		}, `"types":[]`},
		{put, hookPath, goodHook, 200, asked{new: shop}, `"description":"the shop"`},
		{post, hookPath + "/pause", "", 200, asked{status: webhook.Paused}, `"status":"paused"`},
		{post, hookPath + "/resume", "{}", 200, asked{status: webhook.Active}, `"status":"active"`},
		{post, rotate, "", 200, asked{overlap: day}, `"secret_version":2`},
		{post, rotate, `{"overlap_seconds":null}`, 200, asked{overlap: day}, ""},
		{post, rotate, `{"overlap_seconds":0}`, 200, asked{}, ""},
		{post, rotate, `{"overlap_seconds":604800}`, 200, asked{overlap: 7 * day}, ""},
		{post, hookPath + "/ping", "", 202, asked{}, `"status":"active"`},
		{post, resend, goodResend, 202, asked{
			span: webhook.Span{From: at, To: at.Add(time.Hour)},
		}, `{"events":12}`},
		{post, resend, `{"event_id":"x-1"}`, 202, asked{span: webhook.Span{EventID: "x-1"}}, ""},
		{post, hookPath + "/dead-letters/redrive", "", 202, asked{}, `{"events":3}`},
		{del, hookPath, "", 204, asked{deleted: true}, ""},
	}
	for i, tt := range tests {
		a := b.do(t, exchange{method: tt.method, path: tt.path, body: tt.body})
		require.Equal(t, tt.status, a.Code, a.text)
		require.Len(t, b.fake.asked, i+1)
		require.Equal(t, tt.want, b.fake.asked[i], tt.path)
		require.Contains(t, a.text, tt.answer)
		if tt.status == http.StatusCreated {
			require.Equal(t, hookPath, a.Header().Get("Location"))
		}
		if tt.status == http.StatusNoContent {
			require.Empty(t, a.text)
			require.Empty(t, a.Header().Get("Content-Length"))
		}
	}
}

func TestEndpointsAreReadAsTheContractSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := b.do(t, exchange{method: get, path: hookPath})
	require.JSONEq(t, `{"id":"018f2b6e-0000-7000-8000-0000000000f1","url":"https://shop.example.com/hooks",
		"types":[],"status":"active","failures":0,"secret_version":1,"created_at":"2026-11-22T12:00:00Z",
		"updated_at":"2026-11-22T12:00:00Z"}`, one.text)
	attempts := b.do(t, exchange{method: get, path: hookPath + "/attempts?limit=1"})
	require.JSONEq(t, `{"attempts":[{"event_id":"018f2b6e-0000-7000-8000-0000000000f1-3",
		"event_type":"transfer.settled","kind":"event","attempt":3,"at":"2026-11-22T12:00:00Z",
		"outcome":"status_5xx","status":503,"duration_ms":38,"error":"status 503"}],
		"next_cursor":"`+numberCursor(ofAttempts, 3)+`"}`, attempts.text)
	behindTwo := "?cursor=" + numberCursor(ofDeadHooks, 2)
	dead := b.do(t, exchange{method: get, path: hookPath + "/dead-letters" + behindTwo})
	require.JSONEq(t, `{"dead_letters":[{"event_id":"018f2b6e-0000-7000-8000-0000000000f1-3",
		"event_type":"transfer.settled","attempts":151,"last_status":500,"last_error":"status 500",
		"first_failed_at":"2026-11-22T12:00:00Z","dead_at":"2026-11-22T12:00:00Z","behind":2}]}`, dead.text)
	none := b.do(t, exchange{method: get, path: hooks, key: "globex"})
	require.JSONEq(t, `{"webhook_endpoints":[]}`, none.text)
	ofAnother := "?cursor=" + cursor(ofSKUs, known[:])
	for path, pointer := range map[string]string{
		hooks + ofAnother:                      "cursor",
		hooks + "?limit=0":                     "limit",
		hooks + "?status=active":               "status",
		hookPath + "?verbose=1":                "verbose",
		hookPath + "/attempts" + behindTwo:     "cursor",
		hookPath + "/attempts?limit=201":       "limit",
		hookPath + "/dead-letters" + ofAnother: "cursor",
		hookPath + "/dead-letters?limit=x":     "limit",
		hookPath + "/secret?version=1":         "version",
	} {
		p := b.requireProblem(t, exchange{method: get, path: path}, problem.ValidationFailed)
		require.Equal(t, pointer, p.Errors[0].Pointer, path)
	}
}

func TestASecretIsInOneAnswerAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret := exchange{method: get, path: hookPath + "/secret"}
	a := b.do(t, secret)
	require.JSONEq(t, `{"current":"whsec_new","previous":"whsec_old",
		"previous_until":"2026-11-22T12:00:00Z"}`, a.text)
	require.Equal(t, "no-store", a.Header().Get("Cache-Control"))
	secret.key = "reader"
	p := b.requireProblem(t, secret, problem.Forbidden)
	require.Contains(t, p.Detail, "webhooks:write", "who may not change an endpoint may not sign for it")

	for _, r := range publicRoutes() {
		if !r.has(sender) || r.operation == "getWebhookSecret" {
			continue
		}
		path := strings.Replace(r.pattern, "{id}", known.String(), 1)
		a := b.do(t, exchange{method: r.method, path: path, body: hookBodies()[r.operation]})
		require.Less(t, a.Code, 300, a.text)
		require.NotContains(t, a.text, "whsec_")
	}
	for _, kept := range b.fake.keys {
		require.NotContains(t, string(kept.Body), "whsec_")
	}
	require.NotContains(t, b.log.String(), "whsec_")
}

// hookBodies are those of the operations that need one.
func hookBodies() map[string]string {
	return map[string]string{
		"createWebhookEndpoint": goodHook, "replaceWebhookEndpoint": goodHook,
		"resendWebhookEvents": goodResend,
	}
}

func TestARemovalNeedsAKeyAndIsDoneOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := exchange{method: del, path: hookPath, name: "-"}
	b.requireProblem(t, e, problem.KeyMissing)
	e.name = "one"
	first, again := b.do(t, e), b.do(t, e)
	require.Equal(t, http.StatusNoContent, first.Code)
	require.Equal(t, http.StatusNoContent, again.Code)
	require.Equal(t, "true", again.Header().Get("Idempotent-Replayed"))
	require.Len(t, b.fake.asked, 1)
	e.path, e.name = hooks+"/"+absent.String(), ""
	b.requireProblem(t, e, problem.NotFound)
	a := b.do(t, exchange{method: http.MethodPatch, path: hookPath})
	require.Equal(t, "GET, PUT, DELETE", a.Header().Get("Allow"))
}

func TestWithoutWebhooksAllThatIsAboutThemIsUnavailable(t *testing.T) {
	t.Parallel()
	none := func(c *Config) { c.Webhooks = nil }
	b, a := setup(t, none), setupAdmin(t, none)
	fill := strings.NewReplacer("{id}", known.String(), "{tenant_id}", acme.String())
	asked := 0
	for _, r := range publicRoutes() {
		if r.has(sender) {
			e := exchange{method: r.method, path: fill.Replace(r.pattern), body: hookBodies()[r.operation]}
			b.requireProblem(t, e, problem.Unavailable)
			asked++
		}
	}
	for _, r := range adminRoutes() {
		if r.has(sender) {
			e := exchange{method: r.method, path: fill.Replace(r.pattern), key: "operator"}
			a.requireProblem(t, e, problem.Unavailable)
			asked++
		}
	}
	require.Equal(t, 16, asked)
	b = setup(t)
	b.fake.err = problem.New(problem.WebhooksUnavailable, "There is no key.")
	b.requireProblem(t, exchange{method: post, path: hooks, body: goodHook}, problem.WebhooksUnavailable)
	b.requireProblem(t, exchange{method: get, path: hookPath + "/secret"}, problem.WebhooksUnavailable)
}

func TestOperatorsSeeWhatFailsAndSendItAgain(t *testing.T) {
	t.Parallel()
	b := setupAdmin(t)
	list := decoded[adminapi.FailingWebhookEndpointList](t, b.do(t, exchange{
		method: get, path: "/admin/v1/webhook-endpoints?limit=1", key: "viewer",
	}))
	require.Len(t, list.WebhookEndpoints, 1)
	require.Equal(t, acme, list.WebhookEndpoints[0].TenantID)
	require.Equal(t, publicapi.WebhookStatusDisabled, list.WebhookEndpoints[0].WebhookEndpoint.Status)
	require.Equal(t, noon, list.WebhookEndpoints[0].WebhookEndpoint.FailingSince)
	b.requireProblem(t, exchange{
		method: get, path: "/admin/v1/webhook-endpoints?limit=0", key: "viewer",
	}, problem.ValidationFailed)

	path := tenantPath + "/webhook-endpoints/" + known.String() + "/redrive"
	e := exchange{method: post, path: path, key: "operator", name: "one"}
	first, again := b.do(t, e), b.do(t, e)
	require.Equal(t, http.StatusAccepted, first.Code)
	require.JSONEq(t, `{"events":3}`, first.text)
	require.Equal(t, "true", again.Header().Get("Idempotent-Replayed"))
	require.Len(t, b.fake.asked, 1)
	for _, other := range []uuid.UUID{globex, absent} {
		e.path, e.name = strings.Replace(path, acme.String(), other.String(), 1), ""
		b.requireProblem(t, e, problem.NotFound)
	}
}

func TestOperatorsSeeHowFarTheWayOutIsBehind(t *testing.T) {
	t.Parallel()
	a := setupAdmin(t).do(t, exchange{method: get, path: "/admin/v1/outbox", key: "viewer"})
	require.JSONEq(t, `{"age_seconds":0.021,"last":4711,
		"sinks":[{"sink":"broker","events":12,"age_seconds":0.4}],
		"consumers":[{"consumer":"orders","age_seconds":3}],
		"unhandled":[{"consumer":"orders","type":"transfer.settled","events":2}]}`, a.text)
}
