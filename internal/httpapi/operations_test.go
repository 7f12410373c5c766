package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/httpapi/internal/adminapi"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
)

const (
	goodLimit   = `{"places":8,"reason":"moved"}`
	goodPosture = `{"open_up_to":5000,"reason":"it is down"}`
	limitPath   = "/admin/v1/dependencies/risk_api/limit"
	tenantPath  = "/admin/v1/tenants/018f2b6e-0000-7000-8000-0000000000e1"
	posturePath = tenantPath + "/risk-postures/EUR"
)

func asOperator(path, body string) exchange {
	return exchange{method: put, path: path, body: body, key: "operator"}
}

func TestOperatorsSeeHowTheDependenciesAre(t *testing.T) {
	t.Parallel()
	b := setupAdmin(t)
	a := b.do(t, exchange{method: get, path: "/admin/v1/dependencies", key: "viewer"})
	require.Equal(t, http.StatusOK, a.Code, a.text)
	require.JSONEq(t, `{"dependencies":[
		{"dependency":"notification_api","holders":[],"conditions":[]},
		{"dependency":"risk_api",
		 "limit":{"places":8,"version":2,"actor":"operator:kim","reason":"moved",
		          "set_at":"2026-11-22T12:00:00Z"},
		 "holders":[{"holder":"worker-1","places":5},{"holder":"worker-2","places":3}],
		 "door":{"breaker":"open","breaker_since":"2026-11-22T12:00:00Z","in_flight":1,"waiting":3,"limit":2,
		         "places":5,"p95_ms":830},
		 "conditions":[{"name":"breaker_open","subject":"risk_api","severity":"critical","title":"It fails",
		                "text":"Look at it.","runbook":"docs/runbooks/breaker-open.md",
		                "since":"2026-11-22T12:00:00Z"}]}]}`, a.text)
}

func TestOperatorsSeeWhatWaitsAndWhatWasGivenUp(t *testing.T) {
	t.Parallel()
	b := setupAdmin(t)
	queues := b.do(t, exchange{method: get, path: "/admin/v1/queues", key: "viewer"})
	require.JSONEq(t, `{"queues":[{"queue":"risk_api","lanes":[{"lane":1,"age_seconds":0.012},
		{"lane":2,"age_seconds":3.5},{"lane":3,"age_seconds":0},{"lane":4,"age_seconds":0}]}],
		"busiest":[{"tenant_id":"`+acme.String()+`","transfers":412,"orders":3}]}`, queues.text)

	dead := decoded[adminapi.DeadLetterList](t, b.do(t, exchange{
		method: get, path: "/admin/v1/dead-letters", key: "viewer",
	}))
	require.Len(t, dead.DeadLetters, 5)
	require.Equal(t, "timed out", dead.DeadLetters[0].LastError)
	require.Equal(t, "transfer.settled", dead.DeadLetters[2].Event)
	require.Equal(t, "orders", dead.DeadLetters[2].Consumer)
	require.Equal(t, adminapi.DeadLetterKindWebhook, dead.DeadLetters[3].Kind)
	require.Equal(t, known.String(), dead.DeadLetters[3].Consumer)
	few := decoded[adminapi.DeadLetterList](t, b.do(t, exchange{
		method: get, path: "/admin/v1/dead-letters?limit=1", key: "viewer",
	}))
	require.Len(t, few.DeadLetters, 1)
	b.requireProblem(t, exchange{
		method: get, path: "/admin/v1/dead-letters?limit=0", key: "viewer",
	}, problem.ValidationFailed)

	attempts := b.do(t, exchange{
		method: get, path: tenantPath + "/transfers/" + known.String() + "/attempts", key: "viewer",
	})
	require.JSONEq(t, `{"attempts":[{"step":"screen","kind":"timeout","detail":"risk_api screen timed out",
		"at":"2026-11-22T12:00:00Z"}]}`, attempts.text)
	b.requireProblem(t, exchange{
		method: get, path: tenantPath + "/transfers/" + absent.String() + "/attempts", key: "viewer",
	}, problem.NotFound)
}

func TestAnOperatorSetsALimitOncePerKeyAndDependency(t *testing.T) {
	t.Parallel()
	b := setupAdmin(t)
	e := asOperator(limitPath, goodLimit)
	e.name = "one"
	first, again := b.do(t, e), b.do(t, e)
	require.Equal(t, http.StatusOK, first.Code, first.text)
	require.JSONEq(t, `{"places":8,"version":3,"actor":"operator:kim","reason":"moved",
		"set_at":"2026-11-22T12:00:00Z"}`, first.text)
	require.Equal(t, first.text, again.text)
	require.Equal(t, "true", again.Header().Get("Idempotent-Replayed"))
	require.Equal(t, []LimitChange{{
		Dependency: "risk_api", Places: 8, Actor: "operator:kim", Reason: "moved",
	}}, b.fake.limits)

	e.path = strings.Replace(limitPath, "risk_api", "notification_api", 1)
	b.requireProblem(t, e, problem.KeyReused)
	e.path, e.body = limitPath, strings.Replace(goodLimit, "8", "9", 1)
	b.requireProblem(t, e, problem.KeyReused)
	e.name = ""
	e.path = "/admin/v1/dependencies/nobody/limit"
	b.requireProblem(t, e, problem.NotFound)
	require.Len(t, b.fake.limits, 1)
}

func TestAnOperatorSetsAPostureOncePerKeyTenantAndCurrency(t *testing.T) {
	t.Parallel()
	b := setupAdmin(t)
	e := asOperator(posturePath, goodPosture)
	e.name = "one"
	first, again := b.do(t, e), b.do(t, e)
	require.Equal(t, http.StatusOK, first.Code, first.text)
	require.Equal(t, first.text, again.text)
	require.Equal(t, "true", again.Header().Get("Idempotent-Replayed"))
	require.Equal(t, []transfer.Posture{{
		TenantID: acme, Currency: "EUR", Version: 1, OpenUpTo: 5000, Actor: "operator:kim",
		Reason: "it is down", SetAt: noon,
	}}, b.fake.postures)

	e.path = tenantPath + "/risk-postures/USD"
	b.requireProblem(t, e, problem.KeyReused)
	e.name = ""
	e.path = strings.Replace(posturePath, acme.String(), globex.String(), 1)
	b.requireProblem(t, e, problem.NotFound)

	closing := asOperator(posturePath, `{"open_up_to":0,"reason":"it is back"}`)
	require.Equal(t, http.StatusOK, b.do(t, closing).Code)
	list := decoded[adminapi.RiskPostureList](t, b.do(t, exchange{
		method: get, path: tenantPath + "/risk-postures", key: "viewer",
	}))
	require.Len(t, list.Postures, 2)
	require.Zero(t, list.Postures[0].OpenUpTo)
	other := strings.Replace(tenantPath, acme.String(), globex.String(), 1)
	none := b.do(t, exchange{method: get, path: other + "/risk-postures", key: "viewer"})
	require.JSONEq(t, `{"postures":[]}`, none.text)
}

func TestWhatIsWrongWithAChangeIsNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ path, body, pointer string }{
		{limitPath, `{"places":8}`, "/reason"},
		{limitPath, `{"places":8,"reason":"  "}`, "/reason"},
		{limitPath, `{"places":8,"reason":"a\u0007b"}`, "/reason"},
		{limitPath, `{"places":8,"reason":"` + strings.Repeat("a", 501) + `"}`, "/reason"},
		{limitPath, `{"reason":"moved"}`, "/places"},
		{limitPath, `{"places":8.5,"reason":"moved"}`, "/places"},
		{limitPath, `{"places":8,"reason":"moved","actor":"somebody else"}`, "/actor"},
		{posturePath, `{"open_up_to":5000}`, "/reason"},
		{posturePath, `{"open_up_to":5000,"reason":" "}`, "/reason"},
		{posturePath, `{"reason":"it is down"}`, "/open_up_to"},
		{tenantPath + "/risk-postures/EURO", goodPosture, "currency"},
		{tenantPath + "/risk-postures/eur", goodPosture, "currency"},
	} {
		b := setupAdmin(t)
		p := b.requireProblem(t, asOperator(c.path, c.body), problem.ValidationFailed)
		require.Equal(t, c.pointer, p.Errors[0].Pointer, c.body)
		require.Empty(t, b.fake.limits)
		require.Empty(t, b.fake.postures)
	}
}

func TestEveryAdminRouteNeedsItsRoleAndEveryChangeAKey(t *testing.T) {
	t.Parallel()
	fill := strings.NewReplacer("{tenant_id}", acme.String(), "{id}", known.String(),
		"{dependency}", "risk_api", "{currency}", "EUR")
	bodies := map[string]string{
		"decideReview": `{"decision":"approve","reason":"fine"}`, "setDependencyLimit": goodLimit,
		"setRiskPosture": goodPosture, "setModeOverride": goodOverride,
	}
	for _, r := range adminRoutes() {
		if r.access == open {
			continue
		}
		b := setupAdmin(t)
		e := exchange{method: r.method, path: fill.Replace(r.pattern), body: bodies[r.operation]}
		for _, key := range []string{"-", "acme"} {
			e.key = key
			b.requireProblem(t, e, problem.Unauthenticated)
		}
		e.key = "operator"
		if r.has(key) {
			e.name = "-"
			b.requireProblem(t, e, problem.KeyMissing)
			e.name, e.key = "", "viewer"
			b.requireProblem(t, e, problem.Forbidden)
			e.key = "approver"
		}
		require.Less(t, b.do(t, e).Code, 300, r.operation)
		b.fake.err = http.ErrServerClosed
		if r.operation != "getStatus" { // which is known without asking
			b.requireProblem(t, e, problem.Internal)
		}
	}
}
