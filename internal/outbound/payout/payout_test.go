package payout_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/payout"
)

func newClient(t *testing.T, handler http.HandlerFunc) *payout.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	door, err := outbound.New(outbound.Config{
		Name: "payout_rail", BaseURL: server.URL, Limit: 1, Timeout: 10 * time.Second,
		InTx: func(context.Context) bool { return false },
		Now:  func() time.Time { return time.Unix(0, 0) },
	})
	require.NoError(t, err)
	t.Cleanup(door.CloseIdle)
	return payout.New(door)
}

func reply(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func TestSubmitSendsTheTransferAndReadsTheReceipt(t *testing.T) {
	t.Parallel()
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got := r.Method + " " + r.URL.Path + " " + r.Header.Get("Idempotency-Key") + " " + string(body)
		want := `POST /v1/payouts t1/payout/1 {"transfer_id":"t1","tenant_id":"n1",` +
			`"from_account":"a1","to_account":"a2","amount_value":125,"currency":"EUR"}`
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		_, _ = io.WriteString(w, `{"status":"pending","reason":"slow","rail_reference":"r1","added_later":1}`)
	})
	receipt, err := client.Submit(t.Context(), payout.Request{
		Reference: "t1/payout/1", TransferID: "t1", TenantID: "n1",
		From: "a1", To: "a2", AmountValue: 125, Currency: "EUR",
	})
	require.NoError(t, err)
	require.Equal(t, payout.Receipt{
		Status: payout.StatusPending, Reason: "slow", RailReference: "r1",
	}, receipt)
}

func TestAReplyThatIsNoReceiptIsBad(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"status":"perhaps"}`, `{"status":"PAID"}`, `{}`, ``, `{"status":"paid"`,
		`{"status":"paid","status":"refused"}`, `<html>`,
	} {
		client := newClient(t, reply(text))
		submitted, errSubmit := client.Submit(t.Context(), payout.Request{Reference: "k"})
		found, ok, errFind := client.Find(t.Context(), "k")
		withdrawn, errWithdraw := client.Withdraw(t.Context(), "k")
		for _, err := range []error{errSubmit, errFind, errWithdraw} {
			var failure *outbound.Error
			require.ErrorAs(t, err, &failure, text)
			require.Equal(t, outbound.KindBadReply, failure.Kind, text)
			require.True(t, failure.MayHaveHappened(), text)
		}
		require.False(t, ok)
		require.Zero(t, submitted, text)
		require.Zero(t, found, text)
		require.Zero(t, withdrawn, text)
	}
}

func TestFindTellsAReceiptFromNone(t *testing.T) {
	t.Parallel()
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.EscapedPath() {
		case "GET /v1/payouts/t1%2Fpayout%2F1":
			_, _ = io.WriteString(w, `{"status":"refused","reason":"closed","rail_reference":"r1"}`)
		case "GET /v1/payouts/forbidden":
			http.Error(w, "", http.StatusForbidden)
		case "GET /v1/payouts/broken":
			_, _ = io.WriteString(w, `{}`)
		default:
			http.NotFound(w, r)
		}
	})
	receipt, found, err := client.Find(t.Context(), "t1/payout/1")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, payout.Receipt{
		Status: payout.StatusRefused, Reason: "closed", RailReference: "r1",
	}, receipt)

	_, found, err = client.Find(t.Context(), "none")
	require.NoError(t, err)
	require.False(t, found)

	_, found, err = client.Find(t.Context(), "forbidden")
	require.False(t, found)
	require.EqualError(t, err, "payout_rail.find replied 403 Forbidden")

	_, found, err = client.Find(t.Context(), "broken")
	require.False(t, found)
	require.EqualError(t, err, `payout_rail.find bad reply: unknown status ""`)
}

func TestWithdrawReturnsTheReceiptAsItIs(t *testing.T) {
	t.Parallel()
	for _, status := range []payout.Status{
		payout.StatusWithdrawn, payout.StatusPaid, payout.StatusRefused, payout.StatusPending,
	} {
		client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			got := r.Method + " " + r.URL.EscapedPath() + " " + string(body)
			if want := "POST /v1/payouts/t1%2Fpayout%2F1/withdrawal "; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			_, _ = io.WriteString(w, `{"status":"`+string(status)+`"}`)
		})
		receipt, err := client.Withdraw(t.Context(), "t1/payout/1")
		require.NoError(t, err)
		require.Equal(t, payout.Receipt{Status: status}, receipt)
	}
}

func TestA404IsNoFence(t *testing.T) {
	t.Parallel()
	receipt, err := newClient(t, http.NotFound).Withdraw(t.Context(), "k")
	var failure *outbound.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, http.StatusNotFound, failure.Status)
	require.Zero(t, receipt)
}

func TestARequestThatIsNoTextIsNotSent(t *testing.T) {
	t.Parallel()
	client := newClient(t, func(http.ResponseWriter, *http.Request) { t.Error("sent") })
	_, err := client.Submit(t.Context(), payout.Request{TransferID: "t1", Currency: "\xff"})
	require.ErrorContains(t, err, "payout of transfer t1")
}
