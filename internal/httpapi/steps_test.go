package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/internal/transfer"
)

func TestAReplayHasTheSameStatusLocationAndBytes(t *testing.T) {
	t.Parallel()
	bulk := `{"transfers":[` + goodTransfer + `,` + changed("125", "7") + `]}`
	tests := []exchange{
		creating(goodTransfer),
		{method: post, path: "/v1/transfers/bulk", body: bulk},
		{method: post, path: "/v1/transfers/" + known.String() + "/cancel", body: `{"reason":"ordered twice"}`},
		{method: post, path: "/v1/transfers/" + known.String() + "/reversals", body: `{"value":5}`},
		{method: post, path: "/v1/accounts", body: `{"name":"Cash","kind":"user","currency":"EUR"}`},
		{method: put, path: "/v1/accounts/" + cash.String() + "/status", body: `{"status":"frozen"}`},
	}
	for _, e := range tests {
		for _, refused := range []bool{false, true} {
			t.Run(fmt.Sprint(e.path, refused), func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				if refused && !strings.HasSuffix(e.path, "bulk") && e.path != "/v1/accounts" {
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
				require.LessOrEqual(t, len(b.fake.created), 1)
			})
		}
	}
}

func refusalFor(path string) *problem.Error {
	switch {
	case strings.HasSuffix(path, "/cancel"):
		return problem.New(problem.IllegalTransition, "No.")
	case strings.HasSuffix(path, "/reversals"):
		return problem.New(problem.ReversalTooLarge, "No.")
	case strings.HasSuffix(path, "/status"):
		return problem.New(problem.AccountNotEmpty, "No.")
	}
	return problem.New(problem.InsufficientFunds, "No.")
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
		c := &call{route: &rt, body: []byte(`{}`), key: "one"}
		var dst struct{}
		h, err := decode(c, id, &dst)
		require.NoError(t, err)
		return h
	}
	cancel := route{method: post, pattern: "/v1/transfers/{id}/cancel", needs: key | body | optional}
	other := cancel
	other.pattern = "/v1/transfers/{id}/reversals"
	require.Equal(t, hashOf(cancel, known), hashOf(cancel, known))
	require.NotEqual(t, hashOf(cancel, known), hashOf(cancel, absent))
	require.NotEqual(t, hashOf(cancel, known), hashOf(other, known))
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
		"createAccount": `{"name":"a","kind":"user","currency":"EUR"}`, "setAccountStatus": `{"status":"active"}`,
	}
	for _, r := range publicRoutes() {
		if !r.has(key) {
			continue
		}
		t.Run(r.operation, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := known.String()
			if strings.HasPrefix(r.pattern, accounts) {
				id = cash.String()
			}
			e := exchange{method: r.method, path: strings.ReplaceAll(r.pattern, "{id}", id), body: bodies[r.operation]}
			for name, code := range map[string]problem.Code{
				"-": problem.KeyMissing, `""`: problem.KeyInvalid, "a b": problem.KeyInvalid, "é": problem.KeyInvalid,
				strings.Repeat("a", 256): problem.KeyInvalid, "a\x7fb": problem.KeyInvalid,
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

func TestEveryRouteNeedsItsScopeOrRole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, r := range publicRoutes() {
		e := exchange{method: r.method, path: strings.NewReplacer("{id}", known.String(), "{code}", "internal").Replace(r.pattern)}
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
		if r.access == movesMoney || r.access == opensAccts {
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

func TestAdmissionIsAskedBeforeTheBodyIsReadAndOnlyForCreatingRoutes(t *testing.T) {
	t.Parallel()
	var asked []string
	b := setup(t, func(c *Config) {
		c.Admit = func(class string) error {
			asked = append(asked, class)
			if class == string(tenancy.Sheddable) {
				return &problem.Error{Code: problem.Overloaded, Detail: "Shed.", RetryAfter: 1500 * time.Millisecond}
			}
			return nil
		}
	})
	r := creating(goodTransfer).request()
	r.Header.Set("Authorization", "Bearer sheddable")
	unread := &readCounter{Reader: r.Body}
	r.Body = io.NopCloser(unread)
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "2", w.Header().Get("Retry-After"))
	require.Zero(t, unread.n)

	require.Equal(t, http.StatusAccepted, b.do(t, creating(goodTransfer)).Code)
	require.Equal(t, []string{"sheddable", "standard"}, asked)
	for _, e := range []exchange{
		{method: get, path: "/v1/transfers", key: "sheddable"},
		{method: post, path: "/v1/transfers/" + known.String() + "/cancel", key: "sheddable"},
	} {
		require.Less(t, b.do(t, e).Code, 300)
	}
	require.Len(t, asked, 2)
}

type readCounter struct {
	io.Reader

	n int
}

func (r *readCounter) Read(p []byte) (int, error) {
	r.n++
	return r.Reader.Read(p)
}

func TestATenantThatSendsTooFastIsSlowedDownAlone(t *testing.T) {
	t.Parallel()
	clock := noon
	metrics := &fakeMetrics{}
	b := setup(t, func(c *Config) {
		c.RatePerSecond, c.Now, c.Metrics = 2, func() time.Time { return clock }, metrics
	})
	list := exchange{method: get, path: "/v1/accounts"}
	for left := 1; left >= 0; left-- {
		a := b.do(t, list)
		require.Equal(t, http.StatusOK, a.Code)
		require.Equal(t, `"tenant";q=2;w=1`, a.Header().Get("RateLimit-Policy"))
		require.Equal(t, `"tenant";r=`+strconv.Itoa(left)+`;t=1`, a.Header().Get("RateLimit"))
	}
	a := b.do(t, list)
	require.Equal(t, string(problem.RateLimited), a.problem(t).Code)
	require.Equal(t, "1", a.Header().Get("Retry-After"))
	require.Equal(t, []string{"rate"}, metrics.shed)
	list.key = "globex"
	require.Equal(t, http.StatusOK, b.do(t, list).Code)
	list.key = "acme"
	clock = clock.Add(500 * time.Millisecond)
	require.Equal(t, http.StatusOK, b.do(t, list).Code)
	require.Equal(t, http.StatusTooManyRequests, b.do(t, list).Code)
}

func TestALimiterForgetsTenantsWithFullBuckets(t *testing.T) {
	t.Parallel()
	l := newLimiter(10)
	for range bucketsMax {
		l.take(uuid.New(), noon)
	}
	require.Len(t, l.buckets, bucketsMax)
	l.take(uuid.New(), noon)
	require.Len(t, l.buckets, 1, "none was full: all are forgotten")
	l.take(uuid.New(), noon.Add(time.Second))
	left, wait := l.take(acme, noon.Add(-time.Hour))
	require.Equal(t, 9, left)
	require.Zero(t, wait)
}

type fakeMetrics struct {
	mu       sync.Mutex
	requests []string
	shed     []string
}

func (m *fakeMetrics) Request(route, status string, _ time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests = append(m.requests, route+" "+status)
}

func (m *fakeMetrics) Shed(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shed = append(m.shed, reason)
}

func TestMoreRequestsThanMayBeInFlightAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	metrics := &fakeMetrics{}
	b := setup(t, func(c *Config) { c.InFlightMax, c.Metrics = 1, metrics })
	b.fake.block = make(chan struct{})
	done := make(chan answer, 1)
	entered := make(chan struct{})
	first := creating(goodTransfer).request()
	first.Body = &signalingBody{Reader: first.Body, first: entered}
	go func() {
		w := httptest.NewRecorder()
		b.handler.ServeHTTP(w, first)
		done <- answer{w, w.Body.String()}
	}()
	<-entered
	a := b.do(t, exchange{method: get, path: "/livez"})
	require.Equal(t, string(problem.Overloaded), a.problem(t).Code)
	require.Equal(t, "1", a.Header().Get("Retry-After"))
	close(b.fake.block)
	require.Equal(t, http.StatusAccepted, (<-done).Code)
	require.Equal(t, http.StatusOK, b.do(t, exchange{method: get, path: "/livez"}).Code)
	require.Equal(t, []string{"in_flight"}, metrics.shed)
	require.Equal(t, []string{"none 503", "POST /v1/transfers 202", "GET /livez 200"}, metrics.requests)
}

// signalingBody tells when it is read first.
type signalingBody struct {
	io.Reader

	once  sync.Once
	first chan struct{}
}

func (s *signalingBody) Read(p []byte) (int, error) {
	s.once.Do(func() { close(s.first) })
	return s.Reader.Read(p)
}

func (s *signalingBody) Close() error { return nil }

func TestADeadlineEndsTheRequest(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Request-Timeout", "X-Envoy-Expected-Rq-Timeout-Ms"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.fake.block = make(chan struct{})
			e := creating(goodTransfer)
			e.header = http.Header{name: {"10"}}
			p := b.requireProblem(t, e, problem.DeadlineExceeded)
			require.True(t, p.Retryable)
			require.False(t, p.SafeNewKey)
		})
	}
}

func TestTheBudgetIsTheClientsUpToTheRoutes(t *testing.T) {
	t.Parallel()
	rt := &route{budget: 10 * time.Second}
	tests := []struct {
		given string
		want  time.Duration
		wrong bool
	}{
		{"", 10 * time.Second, false},
		{"1", time.Millisecond, false},
		{"2500", 2500 * time.Millisecond, false},
		{"86400000", 10 * time.Second, false},
		{"86400001", 10 * time.Second, true},
		{"0", 10 * time.Second, true},
		{"-5", 10 * time.Second, true},
		{"+5", 10 * time.Second, true},
		{"1.5", 10 * time.Second, true},
		{"2s", 10 * time.Second, true},
		{"99999999999999999999", 10 * time.Second, true},
	}
	for _, tt := range tests {
		c := &call{route: rt, header: http.Header{"Request-Timeout": {tt.given}}}
		require.Equal(t, tt.want, c.budget(), tt.given)
		require.Equal(t, tt.wrong, c.late() != nil, tt.given)
	}
	b := setup(t)
	e := exchange{method: get, path: "/v1/accounts", header: http.Header{"Request-Timeout": {"soon"}}}
	require.Equal(t, "Request-Timeout", b.requireProblem(t, e, problem.ValidationFailed).Errors[0].Pointer)
}

func TestPreferWaitWaitsButNeverPastTheDeadline(t *testing.T) {
	t.Parallel()
	path := "/v1/transfers/" + known.String()
	tests := []struct {
		name, prefer, timeout string
		most                  time.Duration
		applied               string
	}{
		{"no wish", "", "", 0, ""},
		{"five seconds", "wait=5", "", 5 * time.Second, "wait=5"},
		{"among others", `respond-async, Wait="7"`, "", 7 * time.Second, "wait=7"},
		{"too long", "wait=31", "", 30 * time.Second, "wait=30"},
		{"far too long", "wait=99999999999", "", 30 * time.Second, "wait=30"},
		{"longer than the deadline", "wait=20", "2000", 2 * time.Second, "wait=2"},
		{"nothing to wait", "wait=0", "", 0, ""},
		{"no number", "wait=long", "", 0, ""},
		{"negative", "wait=-1", "", 0, ""},
		{"another wish", "handling=lenient", "", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			e := exchange{method: get, path: path, header: http.Header{}}
			if tt.prefer != "" {
				e.header.Set("Prefer", tt.prefer)
			}
			if tt.timeout != "" {
				e.header.Set("Request-Timeout", tt.timeout)
			}
			a := b.do(t, e)
			require.Equal(t, http.StatusOK, a.Code)
			require.Equal(t, tt.applied, a.Header().Get("Preference-Applied"))
			if tt.most == 0 {
				require.Empty(t, b.fake.waited)
				return
			}
			require.LessOrEqual(t, b.fake.waited[0], tt.most)
			require.Greater(t, b.fake.waited[0], tt.most/2)
		})
	}
}

func TestWhenTooManyWaitTheAnswerComesAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.WaitersMax = -1 })
	a := b.do(t, exchange{
		method: get, path: "/v1/transfers/" + known.String(), header: http.Header{"Prefer": {"wait=5"}},
	})
	require.Equal(t, http.StatusOK, a.Code)
	require.Empty(t, a.Header().Get("Preference-Applied"))
	require.Empty(t, b.fake.waited)
}

func TestABodyLargerThanTheBoundIsRefusedHoweverItIsSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	server := httptest.NewServer(b.handler)
	t.Cleanup(server.Close)
	huge := strings.Repeat(" ", 1<<20)
	for name, body := range map[string]io.Reader{"with its length": strings.NewReader(huge), "in chunks": io.MultiReader(strings.NewReader(huge))} {
		r, err := http.NewRequestWithContext(t.Context(), post, server.URL+"/v1/transfers", body)
		require.NoError(t, err)
		r.Header = creating(goodTransfer).request().Header
		response, err := server.Client().Do(r)
		require.NoError(t, err, name)
		require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode, name)
		require.True(t, response.Close, name)
		require.NoError(t, response.Body.Close())
	}
	require.Empty(t, b.fake.created)
	exact := creating(goodTransfer + strings.Repeat(" ", bodyMaxBytes-len(goodTransfer)))
	require.Equal(t, http.StatusAccepted, b.do(t, exact).Code)
}

// brokenBody is a connection whose reads end in an error.
type brokenBody struct{ err error }

func (b brokenBody) Read([]byte) (int, error) { return 0, b.err }
func (b brokenBody) Close() error             { return nil }

func TestABodyThatBreaksOffIsMalformed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := creating(goodTransfer).request()
	r.Body = brokenBody{io.ErrUnexpectedEOF}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	require.Contains(t, w.Body.String(), string(problem.MalformedRequest))
	require.Empty(t, b.fake.created)
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
					Results []struct {
						Status  int
						Problem struct{ Errors []struct{ Pointer string } }
					}
				}
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
				require.Len(t, out.Results, len(want))
				for i, status := range want {
					require.Equal(t, status, out.Results[i].Status)
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

	cancel := exchange{method: post, path: "/v1/transfers/" + known.String() + "/cancel", body: `{"reason":"twice"}`}
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
