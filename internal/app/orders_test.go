package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/pgtest"
)

func TestAnOrderIsConfirmedThroughTheWholeSystem(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	body := fmt.Sprintf(
		`{"customer_account":%q,"merchant_account":%q,"location":%q,"slot":%q,`+
			`"lines":[{"sku":%q,"quantity":2}]}`,
		s.demo.Accounts[0], s.demo.Accounts[1], s.demo.Location, s.demo.Slots[0], s.demo.SKUs[0])
	status, text := s.call(t, http.MethodPost, "/v1/orders", body, "Idempotency-Key", "one")
	require.Equal(t, http.StatusAccepted, status, text)
	var accepted struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &accepted))
	require.Equal(t, "pending", accepted.Status)

	status, text = s.call(t, http.MethodGet, "/v1/orders/"+accepted.ID, "", "Prefer", "wait=10")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, `"status":"confirmed"`)
	var ended struct {
		Total struct {
			Value int64 `json:"value"`
		} `json:"total"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &ended))

	status, text = s.call(t, http.MethodGet, "/v1/skus/"+s.demo.SKUs[0].String()+"/stock", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, `"on_hand":9998`)
	status, text = s.call(t, http.MethodGet, "/v1/accounts/"+s.demo.Accounts[1].String(), "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, strconv.FormatInt(100_000_000+ended.Total.Value, 10))
}

func TestSeedingTwiceKeepsTheCatalogue(t *testing.T) {
	t.Parallel()
	cfg, err := config.Load([]string{"DATABASE_URL=" + pgtest.DB(t).URL})
	require.NoError(t, err)
	pool, err := app.OpenAPIPool(t.Context(), cfg)
	require.NoError(t, err)
	defer pool.Close()
	today := time.Date(2026, 11, 22, 23, 59, 0, 0, time.UTC)
	seed := func(now time.Time) app.Demo {
		d, err := app.Seed(t.Context(), pool, func() time.Time { return now })
		require.NoError(t, err)
		return d
	}
	first, second, tomorrow := seed(today), seed(today), seed(today.Add(time.Hour))
	require.Len(t, first.SKUs, 3)
	require.Len(t, first.Slots, 3)
	require.Equal(t, first.SKUs, second.SKUs)
	require.Equal(t, first.Slots, second.Slots)
	require.Equal(t, first.SKUs, tomorrow.SKUs)
	require.NotEqual(t, first.Slots, tomorrow.Slots, "a new day has new slots")
}

func TestEveryEndOfATransferReachesOrders(t *testing.T) {
	t.Parallel()
	subscriptions := app.Subscriptions()
	require.Len(t, subscriptions, 1)
	require.ElementsMatch(t, []string{
		"transfer.settled", "transfer.blocked", "transfer.canceled", "transfer.expired", "transfer.failed",
	}, subscriptions[0].Types)
}
