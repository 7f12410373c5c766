package simdep_test

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/payout"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/loadtest/simdep"
)

const tenant = "0198c0de-0000-7000-8000-000000000001"

func pay(reference, transfer string, value int64) payout.Request {
	return payout.Request{
		Reference: reference, TransferID: transfer, TenantID: tenant, From: "a", To: "b",
		AmountValue: value, Currency: "EUR",
	}
}

func submitted(t *testing.T, client *outbound.Client, request payout.Request) payout.Receipt {
	t.Helper()
	receipt, err := payout.New(client).Submit(t.Context(), request)
	require.NoError(t, err)
	return receipt
}

// find returns the status of a reference, empty if the rail does not know it.
func find(t *testing.T, client *outbound.Client, reference string) payout.Status {
	t.Helper()
	receipt, found, err := payout.New(client).Find(t.Context(), reference)
	require.NoError(t, err)
	require.Equal(t, found, receipt.Status != "")
	return receipt.Status
}

func withdrawn(t *testing.T, client *outbound.Client, reference string) payout.Status {
	t.Helper()
	receipt, err := payout.New(client).Withdraw(t.Context(), reference)
	require.NoError(t, err)
	return receipt.Status
}

// submitting is a call for left.
func submitting(s setting, reference, transfer string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, err := payout.New(s.client).Submit(ctx, pay(reference, transfer, 5))
		return err
	}
}

func withdrawing(s setting, reference string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, err := payout.New(s.client).Withdraw(ctx, reference)
		return err
	}
}

func TestAReferenceIsPaidOnceAndItsReceiptStands(t *testing.T) {
	t.Parallel()
	both(t, simdep.Knobs{}, aWhile, func(s setting) {
		t, server, client := s.t, s.server, s.client

		first := submitted(t, client, pay("t1/1", "t1", 5))
		require.Equal(t, payout.StatusPaid, first.Status)
		require.True(t, strings.HasPrefix(first.RailReference, "pay_"))
		require.Equal(t, first, submitted(t, client, pay("t1/1", "t1", 5)))
		_, err := payout.New(client).Submit(t.Context(), pay("t1/1", "t1", 6))
		require.Equal(t, outbound.KindStatus4xx, kindOf(t, err), "another request under the reference")
		_, err = risk.New(client).Screen(t.Context(), transfer("t1/1", 5))
		require.Equal(t, outbound.KindStatus4xx, kindOf(t, err), "another kind under the key")
		require.Equal(t, payout.StatusPaid, find(t, client, "t1/1"))
		require.Empty(t, find(t, client, "t1/2"))

		journal := server.Journal()
		require.EqualValues(t, 1, journal.Payments)
		require.EqualValues(t, 1, journal.PaidReferences)
		require.EqualValues(t, 1, journal.PaidTransfers)
		require.EqualValues(t, 1, journal.Duplicates)
		require.EqualValues(t, 2, journal.Conflicts)
		require.EqualValues(t, 2, journal.Lookups)
		require.Zero(t, journal.Doubled)
		require.Zero(t, journal.TransfersPaidTwice)
		entry, ok := server.Entry("t1/1")
		require.True(t, ok)
		require.Equal(t, simdep.Paid, entry.Status)
		require.Equal(t, "t1", entry.TransferID)
		require.Equal(t, 1, entry.Effects)
		require.Contains(t, string(entry.Reply), first.RailReference)
	})
}

func TestATransferPaidUnderTwoReferencesShows(t *testing.T) {
	t.Parallel()
	server := start(t, simdep.Options{})
	client := door(t, server, nil, aWhile)
	for _, reference := range []string{"t1/1", "t1/2", "t1/3", "t2/1"} {
		submitted(t, client, pay(reference, reference[:2], 5))
	}
	journal := server.Journal()
	require.EqualValues(t, 4, journal.PaidReferences)
	require.EqualValues(t, 2, journal.PaidTransfers)
	require.EqualValues(t, 1, journal.TransfersPaidTwice)
	require.Zero(t, journal.Doubled)
}

func TestARailThatIgnoresKeysPaysAgainButHonoursTheFence(t *testing.T) {
	t.Parallel()
	both(t, simdep.Knobs{IgnoreKeys: true}, aWhile, func(s setting) {
		t, server, client := s.t, s.server, s.client

		submitted(t, client, pay("t1/1", "t1", 5))
		submitted(t, client, pay("t1/1", "t1", 5))
		require.EqualValues(t, 1, server.Journal().Doubled)
		require.EqualValues(t, 1, server.Journal().TransfersPaidTwice)

		require.Equal(t, payout.StatusWithdrawn, withdrawn(t, client, "t2/1"))
		require.Equal(t, payout.StatusWithdrawn, submitted(t, client, pay("t2/1", "t2", 5)).Status)
		require.EqualValues(t, 2, server.Journal().Payments)
		require.EqualValues(t, 1, server.Journal().Fenced)
	})
}

func TestALostReplyOfASubmissionHasPaid(t *testing.T) {
	t.Parallel()
	both(t, simdep.Knobs{TimeoutAfterSuccessRate: 1}, aWhile, func(s setting) {
		t, client := s.t, s.client

		left(s, lost(1), submitting(s, "t1/1", "t1"))
		require.Equal(t, payout.StatusPaid, find(t, client, "t1/1"))
		left(s, lost(2), withdrawing(s, "t2/1"))
		require.Equal(t, payout.StatusWithdrawn, find(t, client, "t2/1"), "an unheard fence stands")
	})
}

// TestAFencedSubmissionIsNotPaidWhenItArrives is the reason of the withdrawal: the submission is lost,
// the rail does not know it, it is withdrawn, and then it comes.
func TestAFencedSubmissionIsNotPaidWhenItArrives(t *testing.T) {
	t.Parallel()
	both(t, simdep.Knobs{HangRate: 1, ArriveLate: 1}, aWhile, func(s setting) {
		t, server, client := s.t, s.server, s.client

		ctx, lose := context.WithCancel(t.Context())
		defer lose()
		lost := make(chan error)
		go func() {
			_, err := payout.New(client).Submit(ctx, pay("t1/1", "t1", 5))
			lost <- err
		}()
		eventually(t, server, func(j simdep.Journal) bool { return j.Hangs == 1 })
		require.NoError(t, server.SetKnobs(simdep.Knobs{}))
		require.Empty(t, find(t, client, "t1/1"))
		require.Equal(t, payout.StatusWithdrawn, withdrawn(t, client, "t1/1"))
		require.Equal(t, payout.StatusWithdrawn, withdrawn(t, client, "t1/1"), "it may be repeated")

		lose()
		require.Equal(t, outbound.KindCanceled, kindOf(t, <-lost))
		eventually(t, server, func(j simdep.Journal) bool { return j.Fenced == 1 })
		require.Equal(t, payout.StatusWithdrawn, find(t, client, "t1/1"))
		require.Zero(t, server.Journal().Payments)

		require.Equal(t, payout.StatusPaid, submitted(t, client, pay("t1/2", "t1", 5)).Status)
		journal := server.Journal()
		require.EqualValues(t, 1, journal.PaidTransfers)
		require.Zero(t, journal.TransfersPaidTwice)
		require.EqualValues(t, 1, journal.Withdrawn)
		require.Zero(t, journal.WithdrawalsTooLate)
	})
}

func TestASubmissionWithoutItsCallerArrivesLate(t *testing.T) {
	t.Parallel()
	slow := simdep.Latency{P50: 60_000}
	for name, knobs := range map[string]simdep.Knobs{
		"hung":             {HangRate: 1, ArriveLate: 1},
		"taking its time":  {Latency: slow, ArriveLate: 1},
		"losing its reply": {Latency: slow, ArriveLate: 1, TimeoutAfterSuccessRate: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, knobs, aWhile, func(s setting) {
				t, server, client := s.t, s.server, s.client

				inside := func(j simdep.Journal) bool { return j.Calls == 1 }
				left(s, inside, submitting(s, "t1/1", "t1"))
				eventually(t, server, func(j simdep.Journal) bool { return j.Payments == 1 })
				require.NoError(t, server.SetKnobs(simdep.Knobs{}))
				require.Equal(t, payout.StatusPaid, withdrawn(t, client, "t1/1"))
				require.EqualValues(t, 1, server.Journal().WithdrawalsTooLate)
			})
		})
	}
}

func TestASubmissionOnItsWayIsNotKnownYet(t *testing.T) {
	t.Parallel()
	knobs := simdep.Knobs{Latency: simdep.Latency{P50: 60_000}, ArriveLate: 3_600_000}
	both(t, knobs, aWhile, func(s setting) {
		t, server, client := s.t, s.server, s.client

		inside := func(j simdep.Journal) bool { return j.Calls == 1 }
		left(s, inside, submitting(s, "t1/1", "t1"))
		eventually(t, server, func(j simdep.Journal) bool { return j.Concurrent == 0 })
		require.NoError(t, server.SetKnobs(simdep.Knobs{}))
		require.Empty(t, find(t, client, "t1/1"))
		require.Equal(t, payout.StatusWithdrawn, withdrawn(t, client, "t1/1"))
	})
}

func TestAHungSubmissionHasNoEffectUnlessItArrivesLate(t *testing.T) {
	t.Parallel()
	both(t, simdep.Knobs{HangRate: 1}, aWhile, func(s setting) {
		t, server, client := s.t, s.server, s.client

		left(s, hangs(1), submitting(s, "t1/1", "t1"))
		left(s, hangs(2), withdrawing(s, "t2/1"))
		eventually(t, server, func(j simdep.Journal) bool { return j.Concurrent == 0 })
		require.NoError(t, server.SetKnobs(simdep.Knobs{}))
		require.Empty(t, find(t, client, "t1/1"))
		require.Empty(t, find(t, client, "t2/1"))
	})
}

func TestAPendingPayoutBecomesFinalByItself(t *testing.T) {
	t.Parallel()
	for refuseRate, end := range []payout.Status{payout.StatusPaid, payout.StatusRefused} {
		t.Run(string(end), func(t *testing.T) {
			t.Parallel()
			knobs := simdep.Knobs{
				PayoutPendingRate: 1, PayoutSettle: 20, PayoutRefuseRate: float64(refuseRate),
			}
			server := start(t, simdep.Options{Knobs: knobs})
			client := door(t, server, nil, aWhile)
			require.Equal(t, payout.StatusPending, submitted(t, client, pay("t1/1", "t1", 5)).Status)
			require.Eventually(t,
				func() bool { return find(t, client, "t1/1") == end }, aWhile, time.Millisecond)
			require.Equal(t, end, withdrawn(t, client, "t1/1"), "too late")
			require.EqualValues(t, 1, server.Journal().WithdrawalsTooLate)
			paid := server.Journal().Payments
			require.Equal(t, end == payout.StatusPaid, paid == 1)
			require.Zero(t, server.Journal().Callbacks)
		})
	}
}

func TestAPendingPayoutIsStoppedUnlessItIsTooLate(t *testing.T) {
	t.Parallel()
	hour := simdep.Knobs{PayoutPendingRate: 1, PayoutSettle: 3_600_000}
	both(t, hour, aWhile, func(s setting) {
		t, server, client := s.t, s.server, s.client

		require.Equal(t, payout.StatusPending, submitted(t, client, pay("t1/1", "t1", 5)).Status)
		require.Equal(t, payout.StatusPending, find(t, client, "t1/1"))
		require.Equal(t, payout.StatusWithdrawn, withdrawn(t, client, "t1/1"))
		require.Equal(t, payout.StatusWithdrawn, find(t, client, "t1/1"))
		_, err := risk.New(client).Screen(t.Context(), transfer("t1/1", 5))
		require.Equal(t, outbound.KindStatus4xx, kindOf(t, err), "another kind under the key")

		unstoppable := hour
		unstoppable.PayoutUnstoppableRate = 1
		require.NoError(t, server.SetKnobs(unstoppable))
		require.Equal(t, payout.StatusPending, submitted(t, client, pay("t2/1", "t2", 5)).Status)
		require.Equal(t, payout.StatusPending, withdrawn(t, client, "t2/1"))
		require.EqualValues(t, 1, server.Journal().Withdrawn)
		require.EqualValues(t, 1, server.Journal().WithdrawalsTooLate)
	})
}

func TestTooMuchIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	server := start(t, simdep.Options{Knobs: simdep.Knobs{PayoutRefuseOver: 100, PayoutPendingRate: 1}})
	client := door(t, server, nil, aWhile)
	receipt := submitted(t, client, pay("t1/1", "t1", 101))
	require.Equal(t, payout.StatusRefused, receipt.Status)
	require.Equal(t, "amount_over_limit", receipt.Reason)
	require.Equal(t, payout.StatusPending, submitted(t, client, pay("t2/1", "t2", 100)).Status)
	require.Equal(t, payout.StatusRefused, withdrawn(t, client, "t1/1"))
}

func TestTheRailFailsLikeTheOthers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind  outbound.Kind
		knobs simdep.Knobs
	}{
		{outbound.KindStatus5xx, simdep.Knobs{ErrorRate: 1}},
		{outbound.KindAmbiguous, simdep.Knobs{ResetRate: 1}},
	} {
		t.Run(string(tt.kind), func(t *testing.T) {
			t.Parallel()
			both(t, tt.knobs, aWhile, func(s setting) {
				t, server, client := s.t, s.server, payout.New(s.client)

				_, err := client.Submit(t.Context(), pay("t1/1", "t1", 5))
				require.Equal(t, tt.kind, kindOf(t, err))
				_, _, err = client.Find(t.Context(), "t1/1")
				require.Equal(t, tt.kind, kindOf(t, err))
				_, err = client.Withdraw(t.Context(), "t1/1")
				require.Equal(t, tt.kind, kindOf(t, err))
				journal := server.Journal()
				require.Zero(t, journal.Payments)
				require.Zero(t, journal.Withdrawn)
				fates := journal.Errors + journal.Hangs + journal.Resets
				require.EqualValues(t, 2, fates, "those of questions do not count")
			})
		})
	}
}

func TestTheCourseOfAPayoutDoesNotDependOnOthers(t *testing.T) {
	t.Parallel()
	const references = 200
	outcomes := func(backwards bool) map[string]payout.Status {
		server := start(t, simdep.Options{Knobs: simdep.Knobs{
			PayoutPendingRate: 0.5, PayoutSettle: 3_600_000, Seed: 7,
		}})
		client := door(t, server, server.RoundTripper(), aWhile)
		statuses := map[string]payout.Status{}
		pending := 0
		for i := range references {
			if backwards {
				i = references - 1 - i
			}
			reference := "r" + strconv.Itoa(i)
			statuses[reference] = submitted(t, client, pay(reference, reference, 5)).Status
			if statuses[reference] == payout.StatusPending {
				pending++
			}
		}
		require.InDelta(t, 0.5*references, float64(pending), 30)
		return statuses
	}
	require.Equal(t, outcomes(false), outcomes(true))
}

func TestADuplicatedSubmissionPaysTwiceOnlyWhereKeysAreIgnored(t *testing.T) {
	t.Parallel()
	both(t, simdep.Knobs{DuplicateRate: 1}, aWhile, func(s setting) {
		t, server, client := s.t, s.server, s.client

		submitted(t, client, pay("t1/1", "t1", 5))
		require.EqualValues(t, 1, server.Journal().Payments)
		require.NoError(t, server.SetKnobs(simdep.Knobs{DuplicateRate: 1, IgnoreKeys: true}))
		submitted(t, client, pay("t2/1", "t2", 5))
		require.EqualValues(t, 3, server.Journal().Payments)
		require.EqualValues(t, 1, server.Journal().Doubled)
	})
}

func TestBadPayoutsAreRefusedWithoutEffect(t *testing.T) {
	t.Parallel()
	server := start(t, simdep.Options{})
	const good = `{"transfer_id":"t","amount_value":1}`
	long := strings.Repeat("k", 256)
	tests := []struct {
		name, method, path, key, body string
		status                        int
	}{
		{"no reference", http.MethodPost, "/v1/payouts", "", good, 400},
		{"no JSON", http.MethodPost, "/v1/payouts", "k", `{`, 400},
		{"no amount", http.MethodPost, "/v1/payouts", "k", `{"transfer_id":"t"}`, 400},
		{"no transfer", http.MethodPost, "/v1/payouts", "k", `{"amount_value":1}`, 400},
		{"long reference", http.MethodPost, "/v1/payouts/" + long + "/withdrawal", "", "", 400},
		{"no withdrawal", http.MethodPost, "/v1/payouts/k", "k", good, 404},
		{"a withdrawal of nothing", http.MethodPost, "/v1/payouts//withdrawal", "", "", 404},
		{"no list", http.MethodGet, "/v1/payouts", "", "", 404},
		{"nothing to find", http.MethodGet, "/v1/payouts/", "", "", 404},
		{"wrong method", http.MethodDelete, "/v1/payouts/k", "k", "", 404},
	}
	for _, tt := range tests {
		r, err := http.NewRequestWithContext(
			t.Context(), tt.method, server.URL()+tt.path, strings.NewReader(tt.body))
		require.NoError(t, err)
		r.Header.Set("Idempotency-Key", tt.key)
		reply, err := server.RoundTripper().RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, reply.Body.Close())
		require.Equal(t, tt.status, reply.StatusCode, tt.name)
	}
	require.Zero(t, server.Journal().Payments)
	require.Zero(t, server.Journal().Withdrawn)
}
