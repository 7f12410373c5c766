package outbound_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/breaker"
	"example.com/holdfast/internal/outbound"
)

// calm returns a client whose dependency has answered so often that the failures of a test open no breaker;
// it has saved up all the repeats that it may.
func calm(t *testing.T) (*bundle, *scripted) {
	t.Helper()
	b, s := script(t, reply(200), nil)
	for range 100 {
		require.Equal(t, outbound.KindOK, b.kind(t.Context()))
	}
	s.requests.Store(0)
	return b, s
}

func TestRepeatsThatFailAreBoundedByFirstTries(t *testing.T) {
	t.Parallel()
	b, s := calm(t)
	fails, works := reply(500), reply(200)
	s.answer = fails
	for range 20 {
		require.Equal(t, outbound.KindStatus5xx, b.kind(repeating(t.Context())), "what was saved up")
	}
	_, err := b.Do(repeating(t.Context()), screening())
	failure := failureOf(t, err)
	require.EqualError(t, err, "risk_api.screen refused: retry budget used up")
	require.Equal(t, outbound.KindRetryBudget, failure.Kind)
	require.Equal(t, time.Second, failure.RetryAfter)
	require.EqualValues(t, 20, s.requests.Load())

	s.answer = works
	for range 10 {
		require.Equal(t, outbound.KindRetryBudget, b.kind(repeating(t.Context())))
		require.Equal(t, outbound.KindOK, b.kind(t.Context()), "a first try never pays")
	}
	require.InDelta(t, 1, b.Health().RetryTokens, 1e-9)
	b.pass(time.Nanosecond)
	s.answer = fails
	require.Equal(t, outbound.KindStatus5xx, b.kind(repeating(t.Context())), "ten first tries earn a repeat")
	require.Equal(t, outbound.KindRetryBudget, b.kind(repeating(t.Context())))
}

func TestRepeatsThatSucceedCostNothing(t *testing.T) {
	t.Parallel()
	b, s := calm(t)
	for _, answers := range []answer{reply(200), reply(404), reply(422)} {
		s.answer = answers
		for range 100 {
			require.NotEqual(t, outbound.KindRetryBudget, b.kind(repeating(t.Context())), "an answer is one")
		}
	}
	require.InDelta(t, 20, b.Health().RetryTokens, 1e-9)
}

func TestAQuietDependencyCanStillBeAskedAgain(t *testing.T) {
	t.Parallel()
	b, s := calm(t)
	fails, works := reply(500), reply(200)
	s.answer = fails
	for range 20 {
		b.kind(repeating(t.Context()))
	}
	b.pass(400 * time.Millisecond)
	_, err := b.Do(repeating(t.Context()), screening())
	require.Equal(t, 600*time.Millisecond, failureOf(t, err).RetryAfter)
	b.pass(600 * time.Millisecond)
	require.Equal(t, outbound.KindStatus5xx, b.kind(repeating(t.Context())))
	b.pass(time.Hour)
	require.InDelta(t, 1, b.Health().RetryTokens, 1e-9, "time alone saves nothing up")
	s.answer = works
	for range 15 {
		b.kind(t.Context())
	}
	b.pass(time.Hour)
	require.InDelta(t, 2.5, b.Health().RetryTokens, 1e-9, "nor does it take anything away")
	for range 500 {
		b.kind(t.Context())
	}
	require.InDelta(t, 20, b.Health().RetryTokens, 1e-9, "what is saved up is bounded")
}

// TestARepeatWithoutATokenTakesNoProbe spends all repeats, opens the breaker, and lets repeats come first.
func TestARepeatWithoutATokenTakesNoProbe(t *testing.T) {
	t.Parallel()
	b, s := script(t, reply(500), nil)
	for range 20 {
		require.Equal(t, outbound.KindStatus5xx, b.kind(repeating(t.Context())))
	}
	b.pass(5 * time.Second) // half open, and time has brought one token
	s.answer = reply(500)
	require.Equal(t, outbound.KindStatus5xx, b.kind(repeating(t.Context())), "a probe, which fails")
	b.pass(500 * time.Millisecond)
	requests := s.requests.Load()
	for range 10 {
		require.Contains(t, []outbound.Kind{outbound.KindRetryBudget, outbound.KindOpen},
			b.kind(repeating(t.Context())))
	}
	require.Equal(t, requests, s.requests.Load())
	b.pass(5 * time.Second)
	s.answer = reply(200)
	for range 3 {
		require.Equal(t, outbound.KindOK, b.kind(t.Context()))
	}
	require.Equal(t, breaker.Closed, b.Health().Breaker)
}

func TestARepeatThatWasNotMadeDoesNotPay(t *testing.T) {
	t.Parallel()
	b, _ := script(t, reply(422), noPlace)
	for range 50 {
		require.Equal(t, outbound.KindFull, b.kind(repeating(t.Context())))
	}
	require.InDelta(t, 20, b.Health().RetryTokens, 1e-9)
}
