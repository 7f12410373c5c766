package bench

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

//nolint:forbidigo // a load runs by the wall clock
func planFor(callers int, rate float64, duration time.Duration) plan {
	return plan{callers: callers, rate: rate, duration: duration, now: time.Now}
}

func TestAClosedLoopCountsEveryAnswer(t *testing.T) {
	t.Parallel()
	var served atomic.Uint64
	addr := serverWith(t, func(w http.ResponseWriter, _ *http.Request) {
		switch served.Add(1) % 3 {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 1:
			w.WriteHeader(http.StatusAccepted)
		default:
			w.WriteHeader(http.StatusTeapot)
		}
	})
	got, err := load(t.Context(), trafficTo(addr, 10), planFor(4, 0, 100*time.Millisecond))
	require.NoError(t, err)
	require.Positive(t, got.accepted.Count())
	require.Equal(t, served.Load(), got.sent)
	require.Equal(t, got.sent, got.all+got.refused.Count()+got.statuses[http.StatusTeapot])
	require.Zero(t, got.failed)
}

func TestTheRampIsNotCounted(t *testing.T) {
	t.Parallel()
	addr := serverWith(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	p := planFor(2, 200, 100*time.Millisecond)
	p.ramp = 100 * time.Millisecond
	got, err := load(t.Context(), trafficTo(addr, 10), p)
	require.NoError(t, err)
	require.EqualValues(t, 40, got.all)
	require.InDelta(t, 20, got.accepted.Count(), 1)
}

// TestAStallIsNotOverlooked is the open loop's reason: one caller is held for a while, and the requests
// that should have been sent meanwhile count their wait.
func TestAStallIsNotOverlooked(t *testing.T) {
	t.Parallel()
	const stall = 200 * time.Millisecond
	var served atomic.Uint64
	addr := serverWith(t, func(w http.ResponseWriter, _ *http.Request) {
		if served.Add(1) == 1 {
			<-time.After(stall)
		}
		w.WriteHeader(http.StatusAccepted)
	})
	got, err := load(t.Context(), trafficTo(addr, 10), planFor(1, 100, 2*stall))
	require.NoError(t, err)
	require.EqualValues(t, 40, got.sent, "every request was sent in the end")
	require.Greater(t, got.accepted.Quantile(0.75), stall/4, "a half of them waited")
}

func TestARefusedCallerWaitsAsItWasTold(t *testing.T) {
	t.Parallel()
	addr := serverWith(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	p := planFor(3, 0, 50*time.Millisecond)
	got, err := load(t.Context(), trafficTo(addr, 10), p)
	require.NoError(t, err)
	require.EqualValues(t, 3, got.refused.Count())
	p.impatient = true
	got, err = load(t.Context(), trafficTo(addr, 10), p)
	require.NoError(t, err)
	require.Greater(t, got.refused.Count(), uint64(3))
}

func TestAClosedConnectionIsOpenedAgain(t *testing.T) {
	t.Parallel()
	addr := serverWith(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusAccepted)
	})
	got, err := load(t.Context(), trafficTo(addr, 10), planFor(1, 0, 50*time.Millisecond))
	require.NoError(t, err)
	require.Greater(t, got.all, uint64(1))
	require.Zero(t, got.failed)
}

func TestALoadThatGetsNoAnswersEnds(t *testing.T) {
	t.Parallel()
	addr := answering(t, "")
	got, err := load(t.Context(), trafficTo(addr, 10), planFor(1, 0, waitMax))
	require.Error(t, err)
	require.EqualValues(t, failuresMax+1, got.failed)
}

func TestALoadNeedsAServer(t *testing.T) {
	t.Parallel()
	_, err := load(t.Context(), trafficTo("127.0.0.1:1", 10), planFor(2, 0, waitMax))
	require.Error(t, err)
}
