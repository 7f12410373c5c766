package drill

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnswersAreCountedByWhatTheyMean(t *testing.T) {
	t.Parallel()
	p := &phase{tallies: map[string]*tally{}}
	p.count("x", answer{status: http.StatusAccepted}, nil, 10*time.Millisecond)
	p.count("x", answer{status: http.StatusOK}, nil, 30*time.Millisecond)
	p.count("x", answer{status: http.StatusServiceUnavailable, code: "overloaded"}, nil, time.Hour)
	p.count("x", answer{status: http.StatusTooManyRequests}, nil, time.Hour)
	p.count("x", answer{status: http.StatusConflict, code: "idempotency_in_progress"}, nil, time.Hour)
	got := p.of("x")
	require.Equal(t, 2, got.spread().n)
	require.Equal(t, 30*time.Millisecond, got.spread().max, "refusals have no latency that counts")
	require.EqualValues(t, 3, got.refused)
	require.EqualValues(t, 3, got.refusals.Count(), "which is counted by itself")
	require.EqualValues(t, 5, got.asked())
	require.Empty(t, got.unexpected("x"))

	p.count("x", answer{status: http.StatusConflict, code: "invalid_state"}, nil, 0)
	p.count("x", answer{}, errors.New("connection refused"), 0)
	require.Len(t, got.unexpected("x"), 2)
	require.Contains(t, strings.Join(got.unexpected("x"), ", "), "1 times 409 invalid_state")
}

func TestAStreamHasACallerForEachRequestThatMayBeUnderWay(t *testing.T) {
	t.Parallel()
	require.Equal(t, callersMin, stream{rate: 1}.callers())
	require.Equal(t, 20, stream{rate: 10}.callers())
	require.Equal(t, callersMax, stream{rate: 10_000}.callers())
	require.Equal(t, 3_000, stream{rate: 100, most: 30 * time.Second}.callers(), "it may wait for so long")
	require.Equal(t, requestMax, stream{}.patience())
	require.Equal(t, time.Minute, stream{most: time.Minute}.patience())
}

// TestAStallIsNotOverlooked is the open loop's reason: while one answer takes its time, the requests that are
// due meanwhile are sent all the same, and those that find no caller count from when they were due.
func TestAStallIsNotOverlooked(t *testing.T) {
	t.Parallel()
	var sent atomic.Int64
	stalled, over := make(chan struct{}), make(chan struct{})
	load := startLoad(t.Context(), time.Now, []stream{{ //nolint:forbidigo // a load runs by the wall clock
		name: "x", rate: 400,
		send: func(_ context.Context, n int) (answer, error) {
			if n < callersMax { // all callers are in it
				if sent.Add(1) == 1 {
					close(stalled)
				}
				<-over
			}
			return answer{status: http.StatusOK}, nil
		},
	}})
	p := load.next("stall")
	<-stalled
	require.Eventually(t, func() bool { return sent.Load() >= 100 }, 10*time.Second, time.Millisecond)
	close(over)
	load.end()
	total := 0
	for _, one := range load.phases {
		total += one.of("x").spread().n
	}
	require.GreaterOrEqual(t, total, 100, "who is told to end gets the answers to what was sent")
	require.GreaterOrEqual(t, p.of("x").spread().max, 100*time.Millisecond)
}

func TestARequestCountsInThePhaseInWhichItWasDue(t *testing.T) {
	t.Parallel()
	first, second := make(chan struct{}), make(chan struct{})
	load := startLoad(t.Context(), time.Now, []stream{{ //nolint:forbidigo // a load runs by the wall clock
		name: "x", rate: 0.001, // one request at once, and no second one
		send: func(context.Context, int) (answer, error) {
			close(first)
			<-second
			return answer{status: http.StatusOK}, nil
		},
	}})
	<-first
	later := load.next("later")
	close(second)
	load.end()
	require.Equal(t, 1, load.phases[0].of("x").spread().n)
	require.Zero(t, later.of("x").spread().n)
	require.Equal(t, load.phases[0].to, later.from)
	require.False(t, later.to.IsZero())
}

func TestAStreamWithNothingToSendCountsNothing(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	load := startLoad(t.Context(), time.Now, []stream{{ //nolint:forbidigo // a load runs by the wall clock
		name: "x", rate: 1000,
		send: func(context.Context, int) (answer, error) { asked.Add(1); return answer{}, nil },
	}})
	require.Eventually(t, func() bool { return asked.Load() > 3 }, 10*time.Second, time.Millisecond)
	load.end()
	require.Zero(t, load.phases[0].of("x").asked())
}

func TestAMetricIsTheSumOfItsSeriesWithTheLabel(t *testing.T) {
	t.Parallel()
	const text = `# HELP holdfast_open Open.
# TYPE holdfast_open gauge
holdfast_open{dependency="risk_api"} 1
holdfast_open{dependency="rail",more="x"} 4
holdfast_open_total 9
holdfast_bad{dependency="risk_api"} nothing
`
	for _, c := range []struct {
		name, label string
		want        float64
		found       bool
	}{
		{"holdfast_open", `dependency="risk_api"`, 1, true},
		{"holdfast_open", "", 5, true},
		{"holdfast_open_total", "", 9, true},
		{"holdfast_open", `dependency="notify"`, 0, false},
		{"holdfast_bad", "", 0, false},
		{"holdfast_ope", "", 0, false},
	} {
		got, found := readMetric(strings.NewReader(text), c.name, c.label)
		require.Equal(t, c.found, found, c)
		require.InDelta(t, c.want, got, 0, c)
	}
}

func TestTheLargestSampleIsThatOfThePhase(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := &phase{from: from, to: from.Add(time.Second)}
	most, n := largest([]sample{{from.Add(-1), 9}, {from, 1}, {from.Add(1), 3}, {p.to, 8}}, p)
	require.InDelta(t, 3, most, 0)
	require.Equal(t, 2, n)
}
