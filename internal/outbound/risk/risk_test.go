package risk_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/risk"
)

func newClient(t *testing.T, handler http.HandlerFunc) *risk.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	door, err := outbound.New(outbound.Config{
		Name: "risk_api", BaseURL: server.URL, Limit: 1, Timeout: 10 * time.Second,
		InTx: func(context.Context) bool { return false },
		Now:  func() time.Time { return time.Unix(0, 0) },
	})
	require.NoError(t, err)
	t.Cleanup(door.CloseIdle)
	return risk.New(door)
}

func reply(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func TestScreenSendsTheTransferAndReadsTheDecision(t *testing.T) {
	t.Parallel()
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got := r.Method + " " + r.URL.Path + " " + r.Header.Get("Idempotency-Key") + " " + string(body)
		want := `POST /v1/screenings t1:screen {"transfer_id":"t1","tenant_id":"n1",` +
			`"from_account":"a1","to_account":"a2","amount_value":125,"currency":"EUR"}`
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		_, _ = io.WriteString(w, `{"outcome":"review","reason":"large","reference":"r1","added_later":1}`)
	})
	decision, err := client.Screen(t.Context(), risk.Request{
		EffectKey: "t1:screen", TransferID: "t1", TenantID: "n1",
		From: "a1", To: "a2", AmountValue: 125, Currency: "EUR",
	})
	require.NoError(t, err)
	require.Equal(t, risk.Decision{Outcome: risk.OutcomeReview, Reason: "large", Reference: "r1"}, decision)
}

func TestAReplyThatIsNoDecisionIsBad(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"outcome":"perhaps"}`, `{"outcome":"APPROVE"}`, `{}`, ``, `{"outcome":"approve"`,
		`{"outcome":"approve","outcome":"block"}`, `<html>`,
	} {
		decision, err := newClient(t, reply(text)).Screen(t.Context(), risk.Request{EffectKey: "k"})
		var failure *outbound.Error
		require.ErrorAs(t, err, &failure, text)
		require.Equal(t, outbound.KindBadReply, failure.Kind, text)
		require.Zero(t, decision, text)
	}
}

func TestFindTellsADecisionFromNone(t *testing.T) {
	t.Parallel()
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/effects/made":
			_, _ = io.WriteString(w, `{"effect_key":"made","reply":{"outcome":"block","reference":"r1"}}`)
		case "/v1/effects/broken":
			_, _ = io.WriteString(w, `{}`)
		default:
			http.NotFound(w, r)
		}
	})
	decision, found, err := client.Find(t.Context(), "made")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, risk.Decision{Outcome: risk.OutcomeBlock, Reference: "r1"}, decision)

	_, found, err = client.Find(t.Context(), "none")
	require.NoError(t, err)
	require.False(t, found)

	_, _, err = client.Find(t.Context(), "broken")
	require.EqualError(t, err, `risk_api.find bad reply: unknown outcome ""`)
}

func TestARequestThatIsNoTextIsNotSent(t *testing.T) {
	t.Parallel()
	client := newClient(t, func(http.ResponseWriter, *http.Request) { t.Error("sent") })
	_, err := client.Screen(t.Context(), risk.Request{TransferID: "t1", Currency: "\xff"})
	require.ErrorContains(t, err, "screening of transfer t1")
}
