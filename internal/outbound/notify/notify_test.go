package notify_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/notify"
)

func newClient(t *testing.T, handler http.HandlerFunc) *notify.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	door, err := outbound.New(outbound.Config{
		Name: "notification_api", BaseURL: server.URL, Limit: 1, Timeout: 10 * time.Second,
		InTx: func(context.Context) bool { return false },
		Now:  func() time.Time { return time.Unix(0, 0) },
	})
	require.NoError(t, err)
	t.Cleanup(door.CloseIdle)
	return notify.New(door)
}

func TestSendHandsTheMessageOver(t *testing.T) {
	t.Parallel()
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got := r.Method + " " + r.URL.Path + " " + r.Header.Get("Idempotency-Key") + " " + string(body)
		want := `POST /v1/notifications t1:notify {"transfer_id":"t1","tenant_id":"n1",` +
			`"event":"transfer.settled","state":"settled"}`
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		w.WriteHeader(http.StatusAccepted)
	})
	require.NoError(t, client.Send(t.Context(), notify.Message{
		EffectKey: "t1:notify", TransferID: "t1", TenantID: "n1",
		Event: "transfer.settled", State: "settled",
	}))
}

func TestSendFailsUnlessTheServiceTookTheMessage(t *testing.T) {
	t.Parallel()
	client := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
	})
	err := client.Send(t.Context(), notify.Message{EffectKey: "k"})
	require.EqualError(t, err, "notification_api.send replied 409 Conflict")

	err = client.Send(t.Context(), notify.Message{TransferID: "t1", Reason: "\xff"})
	require.ErrorContains(t, err, "notification of transfer t1")
}

func TestSentTellsTakenFromUnknown(t *testing.T) {
	t.Parallel()
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/effects/taken":
		case "/v1/effects/down":
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			http.NotFound(w, r)
		}
	})
	sent, err := client.Sent(t.Context(), "taken")
	require.NoError(t, err)
	require.True(t, sent)
	sent, err = client.Sent(t.Context(), "none")
	require.NoError(t, err)
	require.False(t, sent)
	_, err = client.Sent(t.Context(), "down")
	require.Error(t, err, "not knowing is not the same as not sent")
}
