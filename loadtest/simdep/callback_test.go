package simdep_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound/payout"
	"example.com/holdfast/loadtest/simdep"
)

const (
	callbackSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	paidTransfer   = "0198c0de-0000-7000-8000-000000000002"
)

// received is one callback as it came in.
type received struct {
	header http.Header
	body   []byte
}

// receiver is a server that is called back and answers with the status.
func receiver(t *testing.T, status int) (string, func() []received) {
	t.Helper()
	var mu sync.Mutex
	var all []received
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, received{r.Header.Clone(), body})
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/callbacks", func() []received {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// calling are knobs under which every payout is pending and called back.
func calling(url string) simdep.Knobs {
	return simdep.Knobs{
		PayoutPendingRate: 1, PayoutSettle: 1,
		CallbackURL: url, CallbackSecret: callbackSecret, CallbackRate: 1,
	}
}

func TestACallbackIsSignedAndDuplicated(t *testing.T) {
	t.Parallel()
	for refuseRate, end := range []payout.Status{payout.StatusPaid, payout.StatusRefused} {
		t.Run(string(end), func(t *testing.T) {
			t.Parallel()
			url, callbacks := receiver(t, http.StatusNoContent)
			knobs := calling(url)
			knobs.CallbackDuplicates, knobs.PayoutRefuseRate = 2, float64(refuseRate)
			server := start(t, simdep.Options{Knobs: knobs})
			submitted(t, door(t, server, nil, aWhile), pay("t1/1", paidTransfer, 5))
			eventually(t, server, func(j simdep.Journal) bool { return j.Callbacks == 3 })

			all := callbacks()
			require.Len(t, all, 3)
			require.Equal(t, all[0], all[1])
			require.Equal(t, all[0], all[2])
			callback, err := payout.ReadCallback(callbackSecret, all[0].header, all[0].body)
			require.NoError(t, err)
			require.Equal(t, payout.Callback{
				TenantID: uuid.MustParse(tenant), TransferID: uuid.MustParse(paidTransfer),
				Reference: "t1/1", Status: end,
			}, callback)
			other := "whsec_" + strings.Repeat("k", 32)
			_, err = payout.ReadCallback(other, all[0].header, all[0].body)
			require.ErrorIs(t, err, payout.ErrBadSignature)

			require.Zero(t, server.Journal().CallbacksFailed)
			entry, ok := server.Entry("t1/1")
			require.True(t, ok)
			require.Equal(t, 3, entry.Callbacks)
		})
	}
}

func TestACallbackComesAfterTheEnd(t *testing.T) {
	t.Parallel()
	var server *simdep.Server
	found := make(chan simdep.PayoutStatus, 1)
	callee := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entry, _ := server.Entry("t1/1")
		found <- entry.Status
	}))
	t.Cleanup(callee.Close)
	server = start(t, simdep.Options{Knobs: calling(callee.URL)})
	submitted(t, door(t, server, nil, aWhile), pay("t1/1", paidTransfer, 5))
	require.Equal(t, simdep.Paid, <-found)
}

func TestACallbackThatIsRefusedIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	url, callbacks := receiver(t, http.StatusInternalServerError)
	server := start(t, simdep.Options{Knobs: calling(url)})
	client := door(t, server, nil, aWhile)
	submitted(t, client, pay("t1/1", paidTransfer, 5))
	eventually(t, server, func(j simdep.Journal) bool { return j.CallbacksFailed == 1 })
	require.NoError(t, server.Close(), "which waits for callbacks")
	require.Len(t, callbacks(), 1)
	require.EqualValues(t, 1, server.Journal().Payments, "nobody needs to hear of it")
}

func TestTheRestHasToBePolled(t *testing.T) {
	t.Parallel()
	url, callbacks := receiver(t, http.StatusNoContent)
	knobs := calling(url)
	knobs.CallbackRate = 0.5
	server := start(t, simdep.Options{Knobs: knobs})
	client := door(t, server, server.RoundTripper(), aWhile)
	const payouts = 100
	for i := range payouts {
		id := "r" + strconv.Itoa(i)
		submitted(t, client, pay(id, id, 5))
	}
	eventually(t, server, func(j simdep.Journal) bool { return j.Payments == payouts })
	eventually(t, server, func(j simdep.Journal) bool { return j.Callbacks >= payouts/4 })
	require.NoError(t, server.Close())
	require.Less(t, len(callbacks()), payouts*3/4)
}

func TestASignatureIsDatedByTheClock(t *testing.T) {
	t.Parallel()
	url, callbacks := receiver(t, http.StatusNoContent)
	long := time.Unix(1_700_000_000, 0)
	server := start(t, simdep.Options{Knobs: calling(url), Now: func() time.Time { return long }})
	submitted(t, door(t, server, nil, aWhile), pay("t1/1", paidTransfer, 5))
	eventually(t, server, func(j simdep.Journal) bool { return j.Callbacks == 1 })
	callback := callbacks()[0]
	require.Equal(t, "1700000000", callback.header.Get("Webhook-Timestamp"))
	_, err := payout.ReadCallback(callbackSecret, callback.header, callback.body)
	require.ErrorIs(t, err, payout.ErrBadSignature, "too old")
}

// TestCloseWaitsForNothingThatPends has a payout that settles in an hour, a submission that arrives in an
// hour, and a receiver that never answers.
func TestCloseWaitsForNothingThatPends(t *testing.T) {
	t.Parallel()
	called := make(chan struct{})
	end := make(chan struct{})
	callee := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		called <- struct{}{}
		<-end
	}))
	defer callee.Close()
	defer close(end)
	server, err := simdep.Start(t.Context(), simdep.Options{Knobs: calling(callee.URL)})
	require.NoError(t, err)
	client := door(t, server, nil, aWhile)
	submitted(t, client, pay("called/1", paidTransfer, 5))
	<-called

	const hour = 3_600_000
	require.NoError(t, server.SetKnobs(simdep.Knobs{PayoutPendingRate: 1, PayoutSettle: hour}))
	submitted(t, client, pay("pending/1", "pending", 5))
	require.NoError(t, server.SetKnobs(simdep.Knobs{HangRate: 1, ArriveLate: hour}))
	s := setting{t: t, server: server, client: client}
	left(s, hangs(1), submitting(s, "late/1", "late"))
	eventually(t, server, func(j simdep.Journal) bool { return j.Concurrent == 0 })

	require.NoError(t, server.Close())
	require.EqualValues(t, 1, server.Journal().Payments, "what pends is not hurried")
	require.EqualValues(t, 1, server.Journal().CallbacksFailed)
}

func TestCallbacksAreLoggedOnRequest(t *testing.T) {
	t.Parallel()
	url, _ := receiver(t, http.StatusTeapot)
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	server := start(t, simdep.Options{Knobs: calling(url), Log: log})
	submitted(t, door(t, server, server.RoundTripper(), aWhile), pay("t1/1", paidTransfer, 5))
	eventually(t, server, func(j simdep.Journal) bool { return j.Callbacks == 1 })
	require.NoError(t, server.Close())
	require.Contains(t, text.String(), `msg=callback reference=t1/1 status=paid error="callback answered 418`)
}
