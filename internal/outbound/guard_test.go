package outbound_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/breaker"
	"example.com/holdfast/internal/bulkhead"
	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/outbound"
)

// answer is a status, or the error of the connection.
type answer func(*http.Request) (int, error)

// scripted is a transport that answers as it is told, and counts.
type scripted struct {
	requests atomic.Int64
	answer   answer
}

func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	s.requests.Add(1)
	status, err := s.answer(r)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Body: http.NoBody, Request: r}, nil
}

func reply(status int) answer { return func(*http.Request) (int, error) { return status, nil } }

func silence(r *http.Request) (int, error) {
	<-r.Context().Done()
	return 0, r.Context().Err()
}

// script returns a client of a dependency that answers as the script says. Jitter is drawn as zero.
func script(t *testing.T, first answer, change func(*outbound.Config)) (*bundle, *scripted) {
	t.Helper()
	s := &scripted{answer: first}
	return setup(t, "http://risk.invalid", func(c *outbound.Config) {
		c.Transport, c.Random = s, func() float64 { return 0 }
		if change != nil {
			change(c)
		}
	}), s
}

func (b *bundle) pass(d time.Duration) { b.elapsed.Add(int64(d)) }

// kind makes a call and returns how it ended.
func (b *bundle) kind(ctx context.Context) outbound.Kind {
	_, err := b.Do(ctx, screening())
	if failure, ok := errors.AsType[*outbound.Error](err); ok {
		return failure.Kind
	}
	return outbound.KindOK
}

func repeating(ctx context.Context) context.Context {
	return outbound.As(ctx, outbound.Caller{Repeat: true})
}

func TestADependencyThatFailsIsNotAskedUntilProbesSucceed(t *testing.T) {
	t.Parallel()
	b, s := script(t, reply(500), nil)
	for range 20 {
		require.Equal(t, outbound.KindStatus5xx, b.kind(t.Context()))
	}
	b.pass(time.Second)
	_, err := b.Do(t.Context(), screening())
	failure := failureOf(t, err)
	require.EqualError(t, err, "risk_api.screen refused: circuit breaker open")
	require.Equal(t, outbound.KindOpen, failure.Kind)
	require.Equal(t, 4*time.Second, failure.RetryAfter)
	require.True(t, failure.Deferred())
	require.False(t, failure.Sent)
	require.EqualValues(t, 20, s.requests.Load())
	require.Equal(t, []condition.Active{
		{Condition: condition.BreakerOpen, Subject: "risk_api", Since: epoch()},
	}, b.Conditions())

	b.pass(4 * time.Second)
	require.Equal(t, breaker.HalfOpen, b.Health().Breaker)
	s.answer = reply(200)
	for range 3 {
		require.Equal(t, outbound.KindOK, b.kind(t.Context()))
	}
	require.Equal(t, breaker.Closed, b.Health().Breaker)
	require.Empty(t, b.Conditions())
}

func TestWhatOpensTheBreaker(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	fails := func(*http.Request) (int, error) { return 0, errors.New("broken") }
	tests := []struct {
		name   string
		ctx    context.Context
		answer answer
		change func(*outbound.Config)
		kind   outbound.Kind
		opens  bool
	}{
		{"no reply in time", t.Context(), silence, shortTimeout, outbound.KindTimeout, true},
		{"connection lost", t.Context(), fails, nil, outbound.KindAmbiguous, true},
		{"failed", t.Context(), reply(500), nil, outbound.KindStatus5xx, true},
		{"busy", t.Context(), reply(429), nil, outbound.KindStatus4xx, true},
		{"not understood", t.Context(), reply(302), nil, outbound.KindBadReply, true},
		{"refused", t.Context(), reply(422), nil, outbound.KindStatus4xx, false},
		{"no place", t.Context(), reply(500), noPlace, outbound.KindFull, false},
		{"no time", within(t, time.Millisecond), reply(500), nil, outbound.KindNoBudget, false},
		{"caller has left", canceled, reply(500), nil, outbound.KindCanceled, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, _ := script(t, tt.answer, tt.change)
			for range 20 {
				require.Equal(t, tt.kind, b.kind(tt.ctx))
			}
			require.Equal(t, tt.opens, b.Health().Breaker == breaker.Open)
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		b := setup(t, "http://127.0.0.1:1", nil)
		for range 20 {
			require.Equal(t, outbound.KindUnreachable, b.kind(t.Context()))
		}
		require.Equal(t, breaker.Open, b.Health().Breaker)
	})
}

func shortTimeout(c *outbound.Config) { c.Timeout = time.Millisecond }
func noPlace(c *outbound.Config)      { c.Limit = 0 }

// TestAnAttemptWithoutEnoughTimeSaysNothing gives attempts less time than the dependency usually needs.
func TestAnAttemptWithoutEnoughTimeSaysNothing(t *testing.T) {
	t.Parallel()
	var b *bundle
	slow := func(r *http.Request) (int, error) {
		b.pass(200 * time.Millisecond)
		return reply(200)(r)
	}
	b, s := script(t, slow, nil)
	require.Equal(t, outbound.KindOK, b.kind(t.Context()))
	s.answer = silence
	hurried := func() context.Context {
		ctx, cancel := context.WithDeadline(t.Context(), b.now().Add(22*time.Millisecond))
		t.Cleanup(cancel)
		return ctx
	}
	for range 40 {
		require.Equal(t, outbound.KindTimeout, b.kind(hurried()))
	}
	require.Equal(t, breaker.Closed, b.Health().Breaker)
}

func TestFailuresSayHowLongTheDependencyUsuallyTakes(t *testing.T) {
	t.Parallel()
	var b *bundle
	var took time.Duration
	b, s := script(t, func(r *http.Request) (int, error) {
		b.pass(took)
		return reply(200)(r)
	}, nil)
	_, err := b.Do(within(t, time.Millisecond), screening())
	require.Zero(t, failureOf(t, err).P95)
	for i := range 300 { // the last 128 took 173 ms to 300 ms
		took = time.Duration(i+1) * time.Millisecond
		require.Equal(t, outbound.KindOK, b.kind(t.Context()))
	}
	require.InDelta(t, 294*time.Millisecond, b.Health().P95, float64(8*time.Millisecond))
	took = time.Second
	for range 20 {
		require.Equal(t, outbound.KindOK, b.kind(t.Context()))
	}
	require.Equal(t, time.Second, b.Health().P95, "it follows")
	s.answer = reply(503)
	_, err = b.Do(t.Context(), screening())
	require.Equal(t, b.Health().P95, failureOf(t, err).P95)
	_, err = b.Do(within(t, time.Millisecond), screening())
	require.Equal(t, b.Health().P95, failureOf(t, err).P95, "refusals say it too")
}

func TestDeferredIsWhatWasNotTriedForWantOfRoom(t *testing.T) {
	t.Parallel()
	deferred := map[outbound.Kind]bool{
		outbound.KindOK: false, outbound.KindInTransaction: false, outbound.KindOpen: true,
		outbound.KindRetryBudget: true, outbound.KindFull: true, outbound.KindNoBudget: true,
		outbound.KindWithheld: false,
		outbound.KindCanceled: false, outbound.KindTimeout: false, outbound.KindUnreachable: false,
		outbound.KindAmbiguous: false, outbound.KindStatus5xx: false, outbound.KindStatus4xx: false,
		outbound.KindBadReply: false,
	}
	for kind, want := range deferred {
		failure := &outbound.Error{Kind: kind, Sent: true}
		require.Equal(t, want, failure.Deferred(), kind)
		if want {
			require.True(t, failure.Retryable(), kind)
			require.False(t, failure.MayHaveHappened(), kind)
		}
	}
}

func TestACallerMayKeepACallBackWhenItHasItsPlace(t *testing.T) {
	t.Parallel()
	b, s := script(t, reply(200), nil)
	mine := errors.New("somebody else has it")
	var inFlight int
	ctx := outbound.As(t.Context(), outbound.Caller{Before: func(context.Context) error {
		inFlight = b.Bulkhead().Stats().InFlight
		return mine
	}})
	_, err := b.Do(ctx, screening())
	require.ErrorIs(t, err, mine)
	failure := failureOf(t, err)
	require.Equal(t, outbound.KindWithheld, failure.Kind)
	require.False(t, failure.Deferred() || failure.Retryable() || failure.MayHaveHappened())
	require.Equal(t, 1, inFlight, "it is asked when nothing else is in the way")
	require.Zero(t, s.requests.Load())
	require.Zero(t, b.Bulkhead().Stats().InFlight)

	b.Bulkhead().SetLimit(0, time.Time{})
	inFlight = 0
	_, err = b.Do(ctx, screening())
	require.Equal(t, outbound.KindFull, failureOf(t, err).Kind)
	require.Zero(t, inFlight, "and not where there is no place")
}

func TestTheTimeThatTheCallerTakesBeforeIsNotTheAttempts(t *testing.T) {
	t.Parallel()
	var allowed string
	b, _ := script(t, func(r *http.Request) (int, error) {
		allowed = r.Header.Get(outbound.BudgetHeader)
		return reply(200)(r)
	}, nil)
	ctx := outbound.As(within(t, time.Second), outbound.Caller{Before: func(context.Context) error {
		b.pass(300 * time.Millisecond)
		return nil
	}})
	_, err := b.Do(ctx, screening())
	require.NoError(t, err)
	require.Equal(t, "680", allowed)
}

// TestACallWhosePlaceEndedMeanwhileIsNotSent lets the caller take until after the time that its place was
// lent for: others may have the place by the time that the attempt ends.
func TestACallWhosePlaceEndedMeanwhileIsNotSent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		took time.Duration
		sent int64
	}{{"just in time", time.Second - 1, 1}, {"at the end", time.Second, 0}, {"after it", time.Hour, 0}} {
		b, s := script(t, reply(200), nil)
		b.Bulkhead().SetLimit(1, b.now().Add(time.Second))
		ctx := outbound.As(t.Context(), outbound.Caller{Before: func(context.Context) error {
			b.pass(c.took)
			// What is lent anew says nothing of this place: others may have had it in between.
			b.Bulkhead().SetLimit(1, b.now().Add(time.Second))
			return nil
		}})
		_, err := b.Do(ctx, screening())
		require.Equal(t, c.sent, s.requests.Load(), c.name)
		require.Zero(t, b.Bulkhead().Stats().InFlight, c.name)
		if c.sent == 1 {
			require.NoError(t, err, c.name)
			continue
		}
		failure := failureOf(t, err)
		require.Equal(t, outbound.KindNoBudget, failure.Kind, c.name)
		require.False(t, failure.Sent || failure.MayHaveHappened(), c.name)
	}
}

func TestOnlyAFinalRefusalIsOne(t *testing.T) {
	t.Parallel()
	final := map[int]bool{400: true, 404: true, 422: true, 408: false, 409: false, 429: false}
	for status, want := range final {
		failure := &outbound.Error{Kind: outbound.KindStatus4xx, Status: status}
		require.Equal(t, want, failure.Refused(), status)
	}
	require.False(t, (&outbound.Error{Kind: outbound.KindStatus5xx, Status: 500}).Refused())
}

func TestTheCallersLaneDecidesWhoGoesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var order []string // of the effect keys; only one is in flight
		b, _ := script(t, func(r *http.Request) (int, error) {
			order = append(order, r.Header.Get(outbound.EffectKeyHeader))
			return reply(200)(r)
		}, func(c *outbound.Config) { c.Limit, c.WaitMax, c.Observer = 0, time.Hour, nil })
		for _, lane := range []int{3, 1, 0, 2} {
			go func() {
				call := screening()
				call.EffectKey = strconv.Itoa(lane)
				_, _ = b.Do(outbound.As(t.Context(), outbound.Caller{Lane: lane}), call)
			}()
			synctest.Wait()
		}
		b.Bulkhead().SetLimit(1, time.Time{})
		synctest.Wait()
		require.Equal(t, []string{"1", "0", "2", "3"}, order)
	})
}

func TestObserversHearWhoCalled(t *testing.T) {
	t.Parallel()
	b, _ := script(t, reply(200), nil)
	b.kind(outbound.As(t.Context(), outbound.Caller{Lane: bulkhead.Lanes, Repeat: true}))
	require.Equal(t, outbound.Observation{
		Dependency: "risk_api", Operation: "screen", Kind: outbound.KindOK, Status: 200,
		Attempted: true, Repeat: true, Lane: 4,
	}, b.seen[0])
}

// TestABrokenDecoderLosesNoProbe lets callers' code panic in all probes.
func TestABrokenDecoderLosesNoProbe(t *testing.T) {
	t.Parallel()
	b, s := script(t, reply(500), nil)
	for range 20 {
		b.kind(t.Context())
	}
	b.pass(time.Minute)
	s.answer = reply(200)
	broken := screening()
	broken.Decode = func([]byte) error { panic("broken") }
	for range 10 {
		require.Panics(t, func() { _, _ = b.Do(t.Context(), broken) })
	}
	require.Zero(t, b.Health().InFlight)
	require.Equal(t, outbound.KindOK, b.kind(t.Context()))
}

func TestSaturationIsAConditionAfterHalfAMinute(t *testing.T) {
	t.Parallel()
	entered, finish := make(chan struct{}), make(chan struct{})
	b, _ := script(t, func(r *http.Request) (int, error) {
		close(entered)
		<-finish
		return reply(200)(r)
	}, nil)
	done := make(chan outbound.Kind, 1)
	go func() { done <- b.kind(t.Context()) }()
	<-entered
	b.pass(30*time.Second - 1)
	require.Empty(t, b.Conditions())
	b.pass(1)
	require.Equal(t, []condition.Active{
		{Condition: condition.DependencySaturated, Subject: "risk_api", Since: epoch()},
	}, b.Conditions())
	health := b.Health()
	require.Equal(t, epoch(), health.SaturatedSince)
	require.Equal(t, []int{1, 1, 1, 0}, []int{health.InFlight, health.Limit, health.Cap, health.Adaptive})
	close(finish)
	require.Equal(t, outbound.KindOK, <-done)
	b.pass(2 * time.Second)
	require.Empty(t, b.Conditions())
}

func TestRefusedWaitsAreInTheHealth(t *testing.T) {
	t.Parallel()
	b, _ := script(t, reply(200), noPlace)
	b.kind(t.Context())
	b.kind(t.Context())
	require.EqualValues(t, 2, b.Health().WaitsRefused)
	require.Equal(t, "risk_api", b.Health().Dependency)
	require.Equal(t, breaker.Closed, b.Health().Breaker)
}
