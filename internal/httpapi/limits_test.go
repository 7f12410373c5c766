package httpapi

import (
	"context"
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

	"example.com/holdfast/internal/groupcommit"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy"
)

func TestAdmissionIsAskedBeforeTheBodyIsReadAndOnlyForCreatingRoutes(t *testing.T) {
	t.Parallel()
	var asked []Admission
	metrics := &fakeMetrics{}
	b := setup(t, func(c *Config) {
		c.Metrics = metrics
		c.Admit = func(a Admission) error {
			asked = append(asked, a)
			if a.Class == string(tenancy.Sheddable) {
				p := problem.New(problem.Overloaded, "Shed.")
				p.RetryAfter = 1500 * time.Millisecond
				return p
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
	require.Equal(t, []string{"admission"}, metrics.shed)

	require.Equal(t, http.StatusAccepted, b.do(t, creating(goodTransfer)).Code)
	require.Equal(t, []Admission{
		{acme, "sheddable", CreatesTransfer}, {acme, "standard", CreatesTransfer},
	}, asked)
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
	failed   int
}

func (m *fakeMetrics) Failed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed++
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

func TestWhatWasAnsweredBeforePassesThoughNewWorkIsRefused(t *testing.T) {
	t.Parallel()
	metrics := &fakeMetrics{}
	full := false
	var asked []string
	b := setup(t, func(c *Config) {
		c.Metrics = metrics
		c.Admit = func(Admission) error {
			if full {
				return problem.New(problem.Overloaded, "Shed.")
			}
			return nil
		}
		c.Known = func(_ context.Context, tenant uuid.UUID, key string) bool {
			asked = append(asked, key)
			return tenant == acme && key == "first"
		}
	})
	named := func(e exchange, name string) exchange { e.name = name; return e }
	first := named(creating(goodTransfer), "first")
	require.Equal(t, http.StatusAccepted, b.do(t, first).Code)
	require.Empty(t, asked, "nobody is asked while nothing is refused")
	full = true
	a := b.do(t, first)
	require.Equal(t, http.StatusAccepted, a.Code)
	require.Equal(t, "true", a.Header().Get("Idempotent-Replayed"))
	other := named(creating(strings.Replace(goodTransfer, "125", "126", 1)), "first")
	b.requireProblem(t, other, problem.KeyReused)
	quoted := named(first, `"first"`)
	require.Equal(t, http.StatusAccepted, b.do(t, quoted).Code)
	b.requireProblem(t, named(first, "second"), problem.Overloaded)
	theirs := first
	theirs.key = "globex"
	b.requireProblem(t, theirs, problem.Overloaded)
	require.Equal(t, []string{"first", "first", "first", "second", "first"}, asked)
	for _, name := range []string{"-", "a b"} {
		b.requireProblem(t, named(first, name), problem.Overloaded)
	}
	require.Len(t, asked, 5, "what is no key is not asked for")
	require.Equal(t, []string{"admission", "admission", "admission", "admission"}, metrics.shed)
}

func TestARequestThatWouldWaitTooLongIsCountedAsRefused(t *testing.T) {
	t.Parallel()
	metrics := &fakeMetrics{}
	b := setup(t, func(c *Config) { c.Metrics = metrics })
	b.fake.err = groupcommit.ErrLate
	b.requireProblem(t, creating(goodTransfer), problem.Overloaded)
	require.Equal(t, []string{"waiting"}, metrics.shed)
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
	require.Contains(t, []string{"1", "2"}, a.Header().Get("Retry-After"))
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
	for name, body := range map[string]io.Reader{
		"with its length": strings.NewReader(huge),
		"in chunks":       io.MultiReader(strings.NewReader(huge)),
	} {
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
