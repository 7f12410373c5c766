package load

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// The claims, by what they are about.
const (
	claimAnswers = "every answer is a success, or a refusal for a moment"
	claimSame    = "the same key gets the same answer"
	claimCleared = "what got no answer is answered under its key"
	claimEnded   = "everything that was accepted has ended"
	claimOnce    = "it ended once"
	claimInTime  = "it ended within its promise"
	claimMoney   = "every balance is what settled transfers make of it"
)

func TestASystemThatKeepsItsPromisesIsToldSo(t *testing.T) {
	t.Parallel()
	_, o := serve(t)
	o.Mix = "duplicates"
	r := loaded(t, o)
	require.True(t, r.Holds(), "%+v", r.Claims)
	require.EqualValues(t, 60, r.Whole.Sent)
	require.EqualValues(t, 60, r.Whole.Good)
	require.Equal(t, r.Whole.Accepted, r.Whole.Succeeded)
	require.Len(t, r.Kinds, 3, "transfers, repeats and conflicts")
	require.InDelta(t, 5, r.Whole.Completed.P99, 0.1, "by Postgres's clock, whatever ours says")
	require.InDelta(t, float64(r.Whole.Succeeded)/0.3, r.Whole.GoodputPerSecond, 0.1)
}

func TestEveryClaimCanFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mix    string
		breaks func(*fake)
		fails  []string
	}{
		"one is accepted and lost": {
			"transfers", func(f *fake) { f.lose = 7 },
			[]string{claimEnded},
		},
		"one is accepted and never heard of": {
			"transfers", func(f *fake) { f.forget = 7 },
			[]string{claimEnded},
		},
		"one ends twice": {
			"transfers", func(f *fake) { f.twice = 7 },
			[]string{claimOnce},
		},
		"one is late": {
			"transfers", func(f *fake) { f.late = 7 },
			[]string{claimInTime},
		},
		"a cent comes from nowhere": {
			"transfers", func(f *fake) { f.leak = 7 },
			[]string{claimMoney},
		},
		"a repeat gets another body": {
			"duplicates", func(f *fake) { f.otherBody = true },
			[]string{claimSame},
		},
		"a failure is an answer, and no loss": {"transfers", failing(1), []string{claimAnswers}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, o := serve(t)
			o.Mix = c.mix
			c.breaks(f)
			if f.lose+f.forget > 0 {
				o.Drain = 2 * time.Second // in vain
			}
			r := loaded(t, o)
			require.Equal(t, c.fails, broken(r), "%+v", r.Claims)
		})
	}
}

// failing answers a first transfer, and those that repeat it, with 500 for some times.
func failing(times int64) func(*fake) {
	return func(f *fake) {
		var failed atomic.Int64
		f.answer = func(_ int, w http.ResponseWriter) bool {
			if failed.Add(1) > times {
				return false
			}
			refuse(w, http.StatusInternalServerError, "internal")
			return true
		}
	}
}

func TestWhatNeverGotAnAnswerIsSaid(t *testing.T) {
	t.Parallel()
	e := &entry{}
	r := &run{tenants: []*tenant{{book: newBook()}}}
	r.tenants[0].book.add(e)
	require.True(t, r.cleared().Holds())
	taken, changed := e.first(answer{err: context.DeadlineExceeded}, uuid.Nil, time.Time{})
	require.False(t, taken || changed)
	require.Equal(t, none(claimCleared, 1, []string{"key " + e.key(r.name())}), r.cleared())
	taken, _ = e.first(answer{status: http.StatusAccepted, body: []byte("x")}, uuid.New(), time.Time{})
	require.True(t, taken, "asked again it was accepted")
	require.True(t, r.cleared().Holds())
	_, changed = e.first(answer{status: http.StatusServiceUnavailable, code: "overloaded"}, uuid.Nil,
		time.Time{})
	require.False(t, changed, "a refusal for a moment says nothing of what there is")
	_, changed = e.first(answer{status: http.StatusAccepted, body: []byte("y")}, uuid.New(), time.Time{})
	require.True(t, changed)
}

func TestRefusalsAreReportedByClassAndCode(t *testing.T) {
	t.Parallel()
	f, o := serve(t)
	o.Keys = append(o.Keys, Key{Class: "sheddable", Secret: fakeKey})
	f.answer = func(n int, w http.ResponseWriter) bool {
		if n%3 != 0 {
			return false
		}
		refuse(w, http.StatusServiceUnavailable, "overloaded")
		return true
	}
	r := loaded(t, o)
	require.True(t, r.Holds(), "a refusal breaks nothing: %+v", r.Claims)
	require.EqualValues(t, 20, r.Whole.Refused)
	require.Equal(t, 1, r.Tenants, "two keys of one tenant")
	require.Len(t, r.Classes, 2)
	sum := uint64(0)
	for _, c := range r.Classes {
		sum += c.Codes["overloaded"]
		require.Equal(t, c.Refused, c.Told)
		require.InDelta(t, 2, c.RetryAfterMean, 0)
		require.Positive(t, c.Refusal.P99)
	}
	require.EqualValues(t, 20, sum)
	require.Equal(t, 40, r.Whole.Accepted)
}

// TestAStallShowsInTheLatency is the open loop's reason: a server that answers nothing for a while is met by
// all the requests that are due meanwhile, though only the callers that are stuck in it see it.
func TestAStallShowsInTheLatency(t *testing.T) {
	t.Parallel()
	const stall = 300 * time.Millisecond
	f, o := serve(t)
	o.Callers, o.Duration = 1, time.Second // one caller: a closed loop would see one slow request
	stuck := make(chan struct{})
	f.answer = func(n int, _ http.ResponseWriter) bool {
		if n == 20 {
			time.AfterFunc(stall, func() { close(stuck) })
			<-stuck
		}
		return false
	}
	r := loaded(t, o)
	require.True(t, r.Holds())
	require.EqualValues(t, 200, r.Whole.Sent, "what is late is sent all the same")
	require.GreaterOrEqual(t, r.Whole.Answer.Max, ms(stall))
	require.GreaterOrEqual(t, r.Whole.Answer.P90, ms(stall)/4,
		"60 of 200 requests were due in the stall: the tail is not one request")
	require.GreaterOrEqual(t, r.Late.Max, ms(stall)/2,
		"and the report says that the generator could not send")
}

func TestALoadThatIsInterruptedStillSaysWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	f, o := serve(t)
	o.Duration = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	f.answer = func(n int, _ http.ResponseWriter) bool {
		if n == 10 {
			cancel()
		}
		return false
	}
	r, err := Run(ctx, o)
	require.NoError(t, err)
	require.True(t, r.Interrupted)
	require.True(t, r.Holds())
	require.GreaterOrEqual(t, r.Whole.Accepted, 9)
}
