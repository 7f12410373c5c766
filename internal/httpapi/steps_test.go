package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
)

func TestAReplayHasTheSameStatusLocationAndBytes(t *testing.T) {
	t.Parallel()
	bulk := `{"transfers":[` + goodTransfer + `,` + changed("125", "7") + `]}`
	tests := []exchange{
		creating(goodTransfer),
		{method: post, path: "/v1/transfers/bulk", body: bulk},
		{method: post, path: "/v1/transfers/" + known.String() + "/cancel", body: `{"reason":"twice"}`},
		{method: post, path: "/v1/transfers/" + known.String() + "/reversals", body: `{"value":5}`},
		{method: post, path: "/v1/accounts", body: `{"name":"Cash","kind":"user","currency":"EUR"}`},
		{method: put, path: "/v1/accounts/" + cash.String() + "/status", body: `{"status":"frozen"}`},
		{method: post, path: "/v1/orders", body: goodOrder},
		{method: post, path: "/v1/orders/" + known.String() + "/cancel", body: `{"reason":"twice"}`},
		{method: post, path: "/v1/skus", body: goodSKU},
		{method: post, path: "/v1/skus/" + tea.String() + "/stock", body: goodStock},
		{method: post, path: "/v1/slots", body: goodSlot},
		{method: post, path: "/v1/slots/" + morning.String() + "/close"},
		{method: post, path: hooks, body: goodHook},
		{method: put, path: hookPath, body: goodHook},
		{method: del, path: hookPath},
		{method: post, path: hookPath + "/pause"},
		{method: post, path: hookPath + "/resume"},
		{method: post, path: hookPath + "/secret/rotate"},
		{method: post, path: hookPath + "/ping"},
		{method: post, path: hookPath + "/resend", body: goodResend},
		{method: post, path: hookPath + "/dead-letters/redrive"},
	}
	for _, e := range tests {
		for _, refused := range []bool{false, true} {
			t.Run(fmt.Sprint(e.method, e.path, refused), func(t *testing.T) {
				t.Parallel()
				b, e := setup(t), e // the other subtest has it too
				if refused {
					b.fake.refuse = refusalFor(e.path)
				}
				e.name = "one"
				first, again := b.do(t, e), b.do(t, e)
				require.Equal(t, first.Code, again.Code)
				require.Equal(t, first.text, again.text)
				require.Equal(t, first.Header().Get("Location"), again.Header().Get("Location"))
				require.Equal(t, first.Header().Get("Content-Type"), again.Header().Get("Content-Type"))
				require.Empty(t, first.Header().Values("Idempotent-Replayed"))
				require.Equal(t, []string{"true"}, again.Header().Values("Idempotent-Replayed"))
				require.Equal(t, 1, strings.Count(b.log.String(), `"replayed":true`))
				made := len(b.fake.created) + len(b.fake.placed) + len(b.fake.asked) + b.fake.kept
				require.LessOrEqual(t, made, 1)
			})
		}
	}
}

// refusalFor is a refusal that the route stores, or nil if it stores none.
func refusalFor(path string) *problem.Error {
	code := problem.InsufficientFunds
	switch {
	case strings.HasSuffix(path, "/bulk"), strings.HasSuffix(path, "/close"), path == accounts, path == slots:
		return nil
	case path == hooks, strings.HasSuffix(path, "/ping"), strings.HasSuffix(path, "/resend"):
		code = problem.IllegalTransition
	case strings.HasPrefix(path, hooks):
		return nil
	case strings.HasSuffix(path, "/cancel"):
		code = problem.IllegalTransition
	case strings.HasSuffix(path, "/reversals"):
		code = problem.ReversalTooLarge
	case strings.HasSuffix(path, "/status"):
		code = problem.AccountNotEmpty
	case strings.HasSuffix(path, "/stock"):
		code = problem.InsufficientStock
	case path == orders:
		code = problem.SlotClosed
	case path == skus:
		code = problem.SKUCodeUsed
	}
	return problem.New(code, "No.")
}

func TestAKeyStandsForWhatWasAskedNotForHowItWasWritten(t *testing.T) {
	t.Parallel()
	same := []string{
		goodTransfer,
		" " + strings.ReplaceAll(goodTransfer, ",", " ,\n"),
		changed(cash.String(), strings.ToUpper(cash.String())),
		changed(`"invoice-7"`, `"invoice\u002d7"`),
		`{"metadata":{"order":"7"},"client_reference":"invoice-7","amount":{"currency":"EUR","value":125},` +
			`"to_account":"` + bank.String() + `","from_account":"` + cash.String() + `"}`,
	}
	b := setup(t)
	for _, body := range same {
		e := creating(body)
		e.name = "one"
		require.Equal(t, http.StatusAccepted, b.do(t, e).Code)
	}
	require.Len(t, b.fake.created, 1)
	for _, body := range []string{
		changed("125", "126"), changed("EUR", "USD"), changed("invoice-7", "invoice-8"), changed(`"7"`, `7`),
		changed(`{"order":"7"}`, `{}`), changed(cash.String(), theirs.String()),
	} {
		e := creating(body)
		e.name = `"one"` // the quoted form names the same key
		b.requireProblem(t, e, problem.KeyReused)
	}
	big := creating(changed(`"7"`, "9007199254740993"))
	big.name = "two"
	require.Equal(t, http.StatusAccepted, b.do(t, big).Code)
	big.body = changed(`"7"`, "9007199254740992")
	b.requireProblem(t, big, problem.KeyReused)
}

func TestAKeyStandsForOneRouteAndOneID(t *testing.T) {
	t.Parallel()
	hashOf := func(rt route, id uuid.UUID) hash {
		c := &call{route: &rt, body: []byte(`{}`), key: "one", strict: strictly()}
		var dst struct{}
		h, err := decode(c, id, &dst)
		require.NoError(t, err)
		return h
	}
	cancel := route{method: post, pattern: "/v1/transfers/{id}/cancel", needs: key | body | optional}
	other := cancel
	other.pattern = "/v1/transfers/{id}/reversals"
	first := hashOf(cancel, known)
	require.Equal(t, first, hashOf(cancel, known))
	require.NotEqual(t, first, hashOf(cancel, absent))
	require.NotEqual(t, first, hashOf(other, known))
}

func TestNothingAndAnEmptyObjectAreTheSameRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := exchange{method: post, path: "/v1/transfers/" + known.String() + "/cancel", name: "one"}
	require.Equal(t, http.StatusOK, b.do(t, e).Code)
	e.body = "{}"
	require.Equal(t, "true", b.do(t, e).Header().Get("Idempotent-Replayed"))
}

func TestKeysAreCheckedOnEveryKeyedRoute(t *testing.T) {
	t.Parallel()
	bodies := map[string]string{
		"createTransfer": goodTransfer, "createTransfers": `{"transfers":[` + goodTransfer + `]}`,
		"createAccount":    `{"name":"a","kind":"user","currency":"EUR"}`,
		"setAccountStatus": `{"status":"active"}`, "createOrder": goodOrder, "createSku": goodSKU,
		"changeStock": goodStock, "createSlot": goodSlot,
	}
	maps.Copy(bodies, hookBodies())
	for _, r := range publicRoutes() {
		if !r.has(key) {
			continue
		}
		t.Run(r.operation, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			path := strings.ReplaceAll(r.pattern, "{id}", idOf(r.pattern))
			e := exchange{method: r.method, path: path, body: bodies[r.operation]}
			for name, code := range map[string]problem.Code{
				"-": problem.KeyMissing, `""`: problem.KeyInvalid, "a b": problem.KeyInvalid,
				"é": problem.KeyInvalid, "a\x7fb": problem.KeyInvalid,
				strings.Repeat("a", 256): problem.KeyInvalid,
			} {
				e.name = name
				b.requireProblem(t, e, code)
			}
			e.name, e.header = "-", http.Header{"Idempotency-Key": {"a", "b"}}
			b.requireProblem(t, e, problem.KeyInvalid)
			e.name, e.header = strings.Repeat("a", 255), nil
			require.Less(t, b.do(t, e).Code, 300)
		})
	}
}

// idOf is the id of what acme has one of under a path.
func idOf(path string) string {
	switch {
	case strings.HasPrefix(path, accounts):
		return cash.String()
	case strings.HasPrefix(path, skus):
		return tea.String()
	case strings.HasPrefix(path, slots):
		return morning.String()
	}
	return known.String()
}

func TestEveryRouteNeedsItsScopeOrRole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	fill := strings.NewReplacer("{id}", known.String(), "{code}", "internal", "{type}", "order.pending")
	for _, r := range publicRoutes() {
		e := exchange{method: r.method, path: fill.Replace(r.pattern)}
		if r.access == open && r.has(body) {
			continue // it is the body that says who sends it
		}
		if r.access == open {
			e.key = "-"
			require.Equal(t, http.StatusOK, b.do(t, e).Code)
			continue
		}
		for _, key := range []string{"-", "nobody"} {
			e.key = key
			b.requireProblem(t, e, problem.Unauthenticated)
		}
		e.key, e.header = "-", http.Header{"Authorization": {"Basic acme"}}
		b.requireProblem(t, e, problem.Unauthenticated)
		e.key, e.header = "reader", nil
		if strings.HasSuffix(string(r.access), ":write") {
			p := b.requireProblem(t, e, problem.Forbidden)
			require.Contains(t, p.Detail, string(r.access))
		}
	}
}

func TestSignInComesBeforeTheBodyAndTheBodyBeforeTheKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := exchange{method: post, path: "/v1/transfers", body: "{", key: "-", name: "-"}
	e.header = http.Header{"Request-Timeout": {"x"}, "Content-Type": {"text/plain"}}
	order := []problem.Code{
		problem.Unauthenticated, problem.UnsupportedMediaType, problem.MalformedRequest, problem.KeyMissing,
		problem.ValidationFailed,
	}
	mend := []func(){
		func() { e.key = "acme" },
		func() { e.header.Set("Content-Type", typeJSON) },
		func() { e.body = "{}" },
		func() { e.name = "one" },
		func() {},
	}
	for i, code := range order {
		b.requireProblem(t, e, code)
		mend[i]()
	}
}

func TestBulkAndPreviewAnswerEveryItem(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/transfers/bulk", "/v1/transfers/preview"} {
		for body, want := range map[string][]int{
			goodTransfer: {202},
			goodTransfer + "," + changed("125", "0") + "," + goodTransfer: {202, 422, 202},
			changed("125", "0"): {422},
		} {
			t.Run(path+fmt.Sprint(want), func(t *testing.T) {
				t.Parallel()
				w := httptest.NewRecorder()
				b := setup(t)
				r := exchange{method: post, path: path, body: `{"transfers":[` + body + `]}`}.request()
				b.handler.ServeHTTP(w, r)
				b.spec.response(t, r, w.Code, w.Header(), w.Body.Bytes())
				require.Equal(t, http.StatusOK, w.Code, w.Body)
				var out struct {
					Results []publicapi.TransferResult `json:"results"`
				}
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
				require.Len(t, out.Results, len(want))
				for i, status := range want {
					require.Equal(t, status, int(out.Results[i].Status))
					if status == 422 {
						require.Equal(t, "/amount", out.Results[i].Problem.Errors[0].Pointer)
					}
				}
			})
		}
	}
}

func TestTheDomainIsToldWhoAsksAndThroughWhat(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.do(t, creating(goodTransfer))
	c := b.fake.created[0]
	require.Equal(t, "api:acme", c.Actor)
	require.Equal(t, "request:"+a.Header().Get("X-Request-Id"), c.Cause)
	require.Equal(t, acme, c.Key.TenantID)
	require.JSONEq(t, `{"order":"7"}`, string(c.Items[0].Metadata))

	path := "/v1/transfers/" + known.String() + "/cancel"
	cancel := exchange{method: post, path: path, body: `{"reason":"twice"}`}
	require.Equal(t, http.StatusOK, b.do(t, cancel).Code)
	require.Equal(t, transfer.Cancel, b.fake.acted[0].Event)
	require.Equal(t, "twice", b.fake.acted[0].Reason)
}

func TestEveryRequestLeavesOneWideLine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.do(t, creating(changed("125", "0")))
	require.Equal(t, 1, strings.Count(b.log.String(), "\n"))
	var line map[string]any
	require.NoError(t, json.Unmarshal(b.log.Bytes(), &line))
	delete(line, "time")
	require.Positive(t, line["duration_us"])
	delete(line, "duration_us")
	require.Equal(t, map[string]any{
		"level": "INFO", "msg": "request", "method": "POST", "route": "/v1/transfers", "status": 422.0,
		"request_id": a.Header().Get("X-Request-Id"), "key_id": "acme", "tenant_id": acme.String(),
		"problem": "validation_failed",
	}, line)
}

func TestEveryAnswerHasTheSecurityHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, e := range []exchange{creating(goodTransfer), creating("{"), {method: get, path: "/nowhere"}} {
		h := b.do(t, e).Header()
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		require.Equal(t, "no-store", h.Get("Cache-Control"))
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'")
		require.NotEmpty(t, h.Get("X-Request-Id"))
	}
}

func TestACallerThatLeavesIsNotAnInternalError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.block = make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, creating(goodTransfer).request().WithContext(ctx))
	require.Equal(t, http.StatusGatewayTimeout, w.Code)
	require.NotContains(t, b.log.String(), "ERROR")
}
