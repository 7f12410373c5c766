package outbound_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/holdfast/internal/outbound"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// epoch lies far ahead, so that a deadline near it never ends a context by the machine's clock.
func epoch() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) }

type bundle struct {
	*outbound.Client

	elapsed atomic.Int64 // moves the client's clock
	seen    []outbound.Observation
}

func (b *bundle) now() time.Time { return epoch().Add(time.Duration(b.elapsed.Load())) }

// setup returns a client of the server with room for one call; change may alter its configuration.
func setup(t *testing.T, baseURL string, change func(*outbound.Config)) *bundle {
	t.Helper()
	b := &bundle{}
	config := outbound.Config{
		Name: "risk_api", BaseURL: baseURL, Limit: 1, Timeout: 10 * time.Second,
		InTx:     func(context.Context) bool { return false },
		Now:      b.now,
		Observer: func(o outbound.Observation) { b.seen = append(b.seen, o) },
	}
	if change != nil {
		change(&config)
	}
	client, err := outbound.New(config)
	require.NoError(t, err)
	t.Cleanup(client.CloseIdle)
	b.Client = client
	return b
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithDeadline(t.Context(), epoch().Add(d))
	t.Cleanup(cancel)
	return ctx
}

func screening() outbound.Call {
	return outbound.Call{
		Operation: "screen", Method: http.MethodPost, Path: "/v1/screenings",
		EffectKey: "t1:screen", Body: []byte(`{"a":1}`),
	}
}

func failureOf(t *testing.T, err error) *outbound.Error {
	t.Helper()
	var failure *outbound.Error
	require.ErrorAs(t, err, &failure)
	return failure
}

func TestTheCallCarriesKeyBodyAndRemainingBudget(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var gotBody []byte
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, gotBody = r, nil
		gotBody, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, `{"ok":true}`)
	})
	b := setup(t, url+"/base/", nil)

	response, err := b.Do(within(t, 1200*time.Millisecond), screening())
	require.NoError(t, err)
	require.Equal(t, outbound.Response{Status: 200, Body: []byte(`{"ok":true}`)}, response)
	require.Equal(t, "/base/v1/screenings", got.URL.Path)
	require.JSONEq(t, `{"a":1}`, string(gotBody))
	require.Equal(t, "t1:screen", got.Header.Get("Idempotency-Key"))
	require.Equal(t, "1180", got.Header.Get("Request-Timeout"), "what is left minus the margin")
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))

	find := outbound.Call{Operation: "find", Method: http.MethodGet, Path: "/v1/effects/a%2Fb"}
	_, err = b.Do(t.Context(), find)
	require.NoError(t, err)
	require.Equal(t, "/base/v1/effects/a/b", got.URL.Path)
	require.Empty(t, gotBody)
	require.Empty(t, got.TransferEncoding)
	require.NotContains(t, got.Header, "Idempotency-Key")
	require.Equal(t, "10000", got.Header.Get("Request-Timeout"), "without a deadline it is the timeout")
	seen := outbound.Observation{
		Dependency: "risk_api", Operation: "screen", Kind: outbound.KindOK, Status: 200,
		Attempted: true, Lane: 1,
	}
	looked := seen
	looked.Operation = "find"
	require.Equal(t, []outbound.Observation{seen, looked}, b.seen)
}

func TestRefusalsReachNobody(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	url := serve(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name      string
		ctx       context.Context
		limit     int
		inTx      bool
		kind      outbound.Kind
		message   string
		retryable bool
	}{
		{
			"inside a transaction", t.Context(), 1, true, outbound.KindInTransaction,
			"risk_api.screen refused: a database transaction is open", false,
		},
		{
			"no place", t.Context(), 0, false, outbound.KindFull,
			"risk_api.screen refused: bulkhead risk_api full after waiting 0s" +
				" (in flight 0, limit 0, waiting 0)", true,
		},
		{
			"only the margin left", within(t, 20*time.Millisecond), 1, false, outbound.KindNoBudget,
			"risk_api.screen refused: 20ms left, 20ms is kept back", true,
		},
		{
			"caller has left", canceled, 1, false, outbound.KindCanceled,
			"risk_api.screen refused: bulkhead risk_api: context canceled", true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, url, func(c *outbound.Config) {
				c.Limit = tt.limit
				c.InTx = func(context.Context) bool { return tt.inTx }
			})
			_, err := b.Do(tt.ctx, screening())
			failure := failureOf(t, err)
			require.Equal(t, tt.kind, failure.Kind)
			require.EqualError(t, err, tt.message)
			require.Equal(t, tt.retryable, failure.Retryable())
			require.False(t, failure.MayHaveHappened())
			require.Equal(t, tt.kind, b.seen[0].Kind)
			require.False(t, b.seen[0].Attempted)
			require.Zero(t, requests.Load())
		})
	}
}

func TestRepliesAreJudged(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name            string
		reply           http.HandlerFunc
		kind            outbound.Kind
		status          int
		retryable       bool
		mayHaveHappened bool
		retryAfter      time.Duration
	}{
		{"failed", status(500, ""), outbound.KindStatus5xx, 500, true, true, 0},
		{"busy", status(503, "7"), outbound.KindStatus5xx, 503, true, true, 7 * time.Second},
		{"asks for too much", status(503, "99999999"), outbound.KindStatus5xx, 503, true, true, time.Hour},
		{"asks for a date", status(503, "Wed, 21 Oct 2026"), outbound.KindStatus5xx, 503, true, true, 0},
		{"throttled", status(429, "1"), outbound.KindStatus4xx, 429, true, false, time.Second},
		{"refused", status(422, ""), outbound.KindStatus4xx, 422, false, false, 0},
		{"redirect", status(302, ""), outbound.KindBadReply, 302, false, true, 0},
		{"not what was agreed", body("{"), outbound.KindBadReply, 200, false, true, 0},
		{"too large", body(strings.Repeat("x", 65)), outbound.KindBadReply, 200, false, true, 0},
		{"too large, in chunks", chunks(strings.Repeat("x", 65)), outbound.KindBadReply, 200, false, true, 0},
		{"broken off", brokenOff, outbound.KindAmbiguous, 0, true, true, 0},
		{"reset", reset, outbound.KindAmbiguous, 0, true, true, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, serve(t, tt.reply), nil)
			call := screening()
			call.MaxResponseBytes = 64
			call.Decode = func(body []byte) error {
				if string(body) != "{}" {
					return errors.New("not an empty object")
				}
				return nil
			}
			_, err := b.Do(t.Context(), call)
			failure := failureOf(t, err)
			require.Equal(t, tt.kind, failure.Kind, "%v", err)
			require.Equal(t, tt.status, failure.Status)
			require.Equal(t, tt.retryable, failure.Retryable())
			require.Equal(t, tt.mayHaveHappened, failure.MayHaveHappened())
			require.Equal(t, tt.retryAfter, failure.RetryAfter)
			require.Equal(t, tt.kind, b.seen[0].Kind)
			require.Zero(t, b.Bulkhead().Stats().InFlight)
		})
	}
}

func status(code int, retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.Header().Set("Retry-After", retryAfter)
		w.WriteHeader(code)
	}
}

func body(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func chunks(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush() //nolint:forcetypeassert // httptest's writer flushes
		_, _ = io.WriteString(w, text)
	}
}

func brokenOff(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "10")
	_, _ = io.WriteString(w, "half")
}

func reset(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestATimeoutNamesItself(t *testing.T) {
	t.Parallel()
	var b *bundle
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		b.elapsed.Add(int64(300 * time.Millisecond))
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	b = setup(t, url, func(c *outbound.Config) { c.Timeout = 300 * time.Millisecond })

	_, err := b.Do(within(t, 1200*time.Millisecond), screening())
	require.EqualError(t, err, "risk_api.screen timed out after 300ms (budget 1.2s, left 900ms)")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	failure := failureOf(t, err)
	require.Equal(t, outbound.KindTimeout, failure.Kind)
	require.True(t, failure.MayHaveHappened())

	_, err = b.Do(t.Context(), screening())
	require.EqualError(t, err, "risk_api.screen timed out after 300ms (no deadline)")
}

func TestTheAttemptEndsBeforeTheCallersTime(t *testing.T) {
	t.Parallel()
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	b := setup(t, url, nil)
	ctx := within(t, 70*time.Millisecond)
	_, err := b.Do(ctx, screening())
	require.EqualError(t, err, "risk_api.screen timed out after 50ms (budget 70ms, left 70ms)")
	require.NoError(t, ctx.Err())
}

func TestACallerWhoLeavesIsNotATimeout(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	})
	_, err := setup(t, url, nil).Do(ctx, screening())
	failure := failureOf(t, err)
	require.Equal(t, outbound.KindCanceled, failure.Kind)
	require.True(t, failure.MayHaveHappened(), "the request was on its way")
}

func TestOnlyAMissingConnectionProvesThatNothingWasSent(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close()) // now nobody listens there

	_, err = setup(t, "http://"+listener.Addr().String(), nil).Do(t.Context(), screening())
	failure := failureOf(t, err)
	require.Equal(t, outbound.KindUnreachable, failure.Kind)
	require.True(t, failure.Retryable())
	require.False(t, failure.MayHaveHappened())

	dialForEver := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	_, err = setup(t, "http://risk.invalid", func(c *outbound.Config) {
		c.Transport, c.Timeout = dialForEver, 5*time.Millisecond
	}).Do(t.Context(), screening())
	failure = failureOf(t, err)
	require.Equal(t, outbound.KindTimeout, failure.Kind)
	require.False(t, failure.MayHaveHappened())

	_, err = setup(t, "http://risk.invalid", func(c *outbound.Config) {
		c.Transport = silentTransport{}
	}).Do(t.Context(), screening())
	failure = failureOf(t, err)
	require.Equal(t, outbound.KindAmbiguous, failure.Kind, "a transport that tells nothing proves nothing")
	require.True(t, failure.MayHaveHappened())
}

type silentTransport struct{}

func (silentTransport) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("broken")
}

func TestTheBulkheadHoldsUntilTheReplyIsRead(t *testing.T) {
	t.Parallel()
	entered, finish := make(chan struct{}), make(chan struct{})
	url := serve(t, func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-finish
	})
	b := setup(t, url, nil)
	done := make(chan error, 1)
	go func() {
		_, err := b.Do(t.Context(), screening())
		done <- err
	}()
	<-entered
	require.Equal(t, 1, b.Bulkhead().Stats().InFlight)
	_, err := b.Do(t.Context(), screening())
	require.Equal(t, outbound.KindFull, failureOf(t, err).Kind)
	close(finish)
	require.NoError(t, <-done)
	require.Zero(t, b.Bulkhead().Stats().InFlight)
}

func TestAllConfigurationProblemsAreToldAtOnce(t *testing.T) {
	t.Parallel()
	_, err := outbound.New(outbound.Config{BaseURL: "ftp://x", Limit: -1, WaitMax: -1})
	problems := []string{"base URL", "name", "limit -1", "longest wait", "timeout 0s", "InTx and Now"}
	for _, problem := range problems {
		require.ErrorContains(t, err, problem)
	}
}
