package httpapi

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/problem"
)

const events = "/v1/events"

// page reads a page of the feed and says which events are on it, by their sequence.
func (b bundle) page(t *testing.T, query string, key ...string) ([]int, string) {
	t.Helper()
	e := exchange{method: get, path: events + query}
	if len(key) > 0 {
		e.key = key[0]
	}
	return seqsOf(t, b.do(t, e))
}

func seqsOf(t *testing.T, a answer) ([]int, string) {
	t.Helper()
	require.Equal(t, http.StatusOK, a.Code, a.text)
	page := decoded[publicapi.CloudEventPage](t, a)
	require.NotEmpty(t, page.NextCursor)
	seqs := []int{}
	for _, e := range page.Events {
		n, err := strconv.Atoi(e.Sequence)
		require.NoError(t, err)
		seqs = append(seqs, n)
	}
	return seqs, page.NextCursor
}

// behind is the cursor behind a place.
func behind(place int64) string { return numberCursor(ofEvents, place) }

func TestAFollowerMissesNothingAndSeesNothingTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var want, got []int
	for i := range 7 {
		b.fake.feed.grow(acme, "transfer.settled")
		b.fake.feed.grow(globex, "order.pending")
		want = append(want, 2*i+1)
	}
	query := "?limit=3"
	for range 3 {
		seqs, next := b.page(t, query)
		got, query = append(got, seqs...), "?limit=3&cursor="+next
	}
	require.Equal(t, want, got)
	empty, next := b.page(t, query)
	require.Empty(t, empty)
	b.fake.feed.grow(acme, "transfer.settled")
	more, _ := b.page(t, "?cursor="+next)
	require.Equal(t, []int{15}, more)

	theirs, _ := b.page(t, "", "globex")
	require.Len(t, theirs, 7)
	require.NotContains(t, theirs, 1)
}

func TestAnEventIsWrittenAsItLeavesElsewhere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.feed.grow(acme, "transfer.settled", "transfer.settled")
	a := b.do(t, exchange{method: get, path: events})
	log := b.fake.feed.log
	want := `{"events":[` + string(bodyOf(log[0], "")) + "," + string(bodyOf(log[1], "")) +
		`],"next_cursor":"` + behind(2) + `"}`
	require.Equal(t, want, a.text)
	require.Empty(t, a.Header().Get("Link"), "it would never end")
}

func TestWhoBeginsWithoutACursorBeginsAtTheOldestOrNow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 4 {
		b.fake.feed.grow(acme, "transfer.settled")
	}
	b.fake.feed.forget(2)
	all, _ := b.page(t, "")
	require.Equal(t, []int{3, 4}, all)
	none, next := b.page(t, "?from=now")
	require.Empty(t, none)
	b.fake.feed.grow(acme, "transfer.settled")
	fresh, _ := b.page(t, "?cursor="+next)
	require.Equal(t, []int{5}, fresh)
}

func TestACursorThatTheLogHasForgottenIsExpired(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 4 {
		b.fake.feed.grow(acme, "transfer.settled")
	}
	b.fake.feed.forget(2)
	for cursor, gone := range map[string]bool{
		behind(1): true, behind(2): false, behind(4): false,
		behind(5): true, // the log of another database
	} {
		e := exchange{method: get, path: events + "?cursor=" + cursor}
		if gone {
			p := b.requireProblem(t, e, problem.CursorExpired)
			require.Equal(t, int32(http.StatusGone), p.Status)
			continue
		}
		require.Equal(t, http.StatusOK, b.do(t, e).Code)
	}
}

func TestWhatIsForgottenDuringTheReadingIsNoticed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 4 {
		b.fake.feed.grow(acme, "transfer.settled")
	}
	b.fake.feed.during = func() { b.fake.feed.forgotten = 3 }
	e := exchange{method: get, path: events + "?cursor=" + behind(2)}
	b.requireProblem(t, e, problem.CursorExpired)
	b.fake.feed.forgotten = 0
	seqs, _ := b.page(t, "")
	require.NotEmpty(t, seqs, "who asks for the oldest asks for what is there")
}

func TestACursorMovesOverWhatOthersDo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.feed.grow(acme, "transfer.settled")
	_, next := b.page(t, "")
	for range 5 {
		b.fake.feed.grow(globex, "transfer.settled")
	}
	none, next := b.page(t, "?cursor="+next)
	require.Empty(t, none)
	b.fake.feed.forget(4)
	none, _ = b.page(t, "?cursor="+next)
	require.Empty(t, none, "nothing of this tenant was forgotten")
}

// An event may get its place between the reading and the look at the end of the log.
func TestACursorNeverMovesOverWhatWasNotRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.feed.grow(globex, "transfer.settled")
	b.fake.feed.during = func() {
		b.fake.feed.during = nil
		b.fake.feed.mu.Unlock()
		b.fake.feed.grow(acme, "transfer.settled")
		b.fake.feed.mu.Lock()
	}
	none, next := b.page(t, "")
	require.Empty(t, none)
	one, _ := b.page(t, "?cursor="+next)
	require.Equal(t, []int{2}, one)
}

func TestAFilterMovesOverTheRestWithinABound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.feed.grow(acme, slices.Repeat([]string{"order.pending"}, feedRowsMax+10)...)
	b.fake.feed.grow(acme, "transfer.accepted", "transfer.settled", "order.pending", "transfer.settled")
	none, next := b.page(t, "?type=transfer.settled")
	require.Empty(t, none)
	require.Equal(t, behind(feedRowsMax), next)
	require.Equal(t, feedRowsMax, b.fake.feed.read)
	require.Zero(t, b.fake.feed.encoded, "what is not wanted is not encoded")

	last := int64(feedRowsMax + 14)
	for query, want := range map[string]struct {
		seqs []int64
		next int64
	}{
		"type=transfer.settled":         {[]int64{last - 2, last}, last},
		"type=transfer.settled&limit=1": {[]int64{last - 2}, last - 2},
		"type=transfer.*":               {[]int64{last - 3, last - 2, last}, last},
		"type=transfer.accepted":        {[]int64{last - 3}, last},
		"type=order.*&limit=11":         {nil, last - 1},
	} {
		seqs, after := b.page(t, "?cursor="+next+"&"+query)
		require.Equal(t, behind(want.next), after, query)
		for i, seq := range want.seqs {
			require.Equal(t, int(seq), seqs[i], query)
		}
	}
}

func TestWhatIsWrongWithAFollowersQuestionIsNamed(t *testing.T) {
	t.Parallel()
	for query, pointer := range map[string]string{
		"cursor=x":                "cursor",
		"cursor=" + behind(0)[:5]: "cursor",
		"cursor=" + cursor(ofTransfers, known[:]): "cursor",
		"cursor=" + numberCursor(ofPostings, 1):   "cursor",
		"limit=0":                                 "limit",
		"limit=201":                               "limit",
		"wait=31":                                 "wait",
		"wait=-1":                                 "wait",
		"wait=1.5":                                "wait",
		"wait=soon":                               "wait",
		"from=then":                               "from",
		"from=now&cursor=" + behind(0):            "from",
		"type=transfer":                           "type",
		"type=transfer.":                          "type",
		"type=transfer.lost":                      "type",
		"type=trans*":                             "type",
		"type=*":                                  "type",
		"type=transfer.*.*":                       "type",
		"type=transfer.settled&type=order.*":      "type",
		"type=" + strings.Repeat("a", 65):         "type",
		"after=1":                                 "after",
	} {
		b := setup(t)
		p := b.requireProblem(t, exchange{method: get, path: events + "?" + query}, problem.ValidationFailed)
		require.Equal(t, pointer, p.Errors[0].Pointer, query)
	}
}

func TestWithoutALogEventsAreUnavailable(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Feed = nil })
	b.requireProblem(t, exchange{method: get, path: events}, problem.Unavailable)
	b = setup(t)
	b.fake.feed.fail(errors.New("secret"))
	b.requireProblem(t, exchange{method: get, path: events}, problem.Internal)
}

// asking asks in another goroutine and waits until the log was looked at.
func (b bundle) asking(t *testing.T, query string) <-chan answer {
	t.Helper()
	done := make(chan answer, 1)
	e := exchange{method: get, path: events + query}
	go func() {
		w := httptest.NewRecorder()
		b.handler.ServeHTTP(w, e.request())
		done <- answer{w, w.Body.String()}
	}()
	<-b.fake.feed.looked
	return done
}

// heard lets the log be looked at until the answer is there: a look may see what comes while it is told of.
func (b bundle) heard(done <-chan answer) answer {
	for {
		select {
		case <-b.fake.feed.looked:
		case a := <-done:
			return a
		}
	}
}

func TestALongPollEndsWithTheFirstEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.feed.looked = make(chan struct{})
	done := b.asking(t, "?wait=30&type=transfer.*")
	b.fake.feed.grow(globex, "transfer.settled")
	b.fake.feed.grow(acme, "order.pending") // which is none that is wanted
	select {
	case <-b.fake.feed.looked:
	case a := <-done:
		require.Fail(t, "it did not wait", a.text)
	}
	b.fake.feed.grow(acme, "transfer.settled")
	seqs, next := seqsOf(t, b.heard(done))
	require.Equal(t, []int{3}, seqs)
	require.Equal(t, behind(3), next)
}

func TestALongPollDoesNotWaitForWhatIsThere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.feed.grow(acme, "transfer.settled")
	seqs, _ := b.page(t, "?wait=30")
	require.Equal(t, []int{1}, seqs)
	// A page that ends since enough was looked at may have more behind it.
	b.fake.feed.grow(acme, slices.Repeat([]string{"order.pending"}, feedRowsMax+1)...)
	none, _ := b.page(t, "?wait=30&type=transfer.settled&cursor="+behind(1))
	require.Empty(t, none)
}

func TestALongPollEndsEmptyWhenItsTimeIsUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	started := wallTime()
	e := exchange{method: get, path: events + "?wait=30", header: http.Header{"Request-Timeout": {"400"}}}
	seqs, next := seqsOf(t, b.do(t, e))
	require.Empty(t, seqs)
	require.Equal(t, behind(0), next)
	took := wallTime().Sub(started)
	require.Greater(t, took, 100*time.Millisecond, "it waited")
	require.Less(t, took, 10*time.Second)
	require.Zero(t, b.handler.(*front).waiting.n.Load())
}

func TestALongPollEndsEmptyWhenTheInstanceStops(t *testing.T) {
	t.Parallel()
	ending := make(chan struct{})
	b := setup(t, func(c *Config) { c.Ending = ending })
	b.fake.feed.looked = make(chan struct{})
	done := b.asking(t, "?wait=30")
	close(ending)
	seqs, next := seqsOf(t, <-done)
	require.Empty(t, seqs)
	require.Equal(t, behind(0), next)
}

func TestWhenTooManyWaitAnEmptyPageComesAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.WaitersMax = 1 })
	b.fake.feed.looked = make(chan struct{})
	first := b.asking(t, "?wait=30")
	second := b.asking(t, "?wait=30")
	seqs, _ := seqsOf(t, b.heard(second))
	require.Empty(t, seqs)
	b.fake.feed.grow(acme, "transfer.settled")
	seqs, _ = seqsOf(t, b.heard(first))
	require.Equal(t, []int{1}, seqs)
}

func TestEveryTypeOfEventsHasItsSchema(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := decoded[publicapi.EventTypeList](t, b.do(t, exchange{method: get, path: eventTypes, key: "-"}))
	require.Len(t, list.EventTypes, len(cloudevent.Types()))
	for _, e := range list.EventTypes {
		a := b.do(t, exchange{method: get, path: e.Schema, key: "-"})
		require.Equal(t, http.StatusOK, a.Code)
		want, ok := cloudevent.SchemaOf(e.Type)
		require.True(t, ok)
		require.Equal(t, string(want), a.text)
		require.Contains(t, a.text, `"$id": "`+e.Schema+`"`, "it names itself by its address")
		require.NotEmpty(t, e.Description)
	}
	for _, none := range []string{"transfer.lost", "transfer", "%00"} {
		e := exchange{method: get, path: eventTypes + "/" + none + "/schema", key: "-"}
		b.requireProblem(t, e, problem.NotFound)
	}
}
