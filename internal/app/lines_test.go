package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/app"
)

// book is a log that a test reads.
type book struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write adds lines.
func (b *book) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(text)
}

// outcomes are those of the jobs so far, added up by kind. Each has to name its rows.
func (b *book) outcomes(t *testing.T) map[string]map[string]int {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	found := map[string]map[string]int{}
	for text := range strings.Lines(b.text.String()) {
		var l struct {
			Message  string         `json:"msg"`
			Kind     string         `json:"kind"`
			Rows     int            `json:"rows"`
			Outcomes map[string]int `json:"outcomes"`
		}
		require.NoError(t, json.Unmarshal([]byte(text), &l), text)
		if l.Message != "job done" {
			continue
		}
		require.Positive(t, l.Rows, text)
		if found[l.Kind] == nil {
			found[l.Kind] = map[string]int{}
		}
		for outcome, n := range l.Outcomes {
			found[l.Kind][outcome] += n
		}
	}
	return found
}

func TestEveryJobOfAnOrderTellsInOneLineWhatBecameOfItsRows(t *testing.T) {
	t.Parallel()
	log := &book{}
	s := startWith(t, nil, func(env *app.Env) { env.Log = slog.New(slog.NewJSONHandler(log, nil)) })
	body := fmt.Sprintf(`{"customer_account":%q,"merchant_account":%q,"location":%q,
		"lines":[{"sku":%q,"quantity":1}]}`,
		s.demo.Accounts[0], s.demo.Accounts[1], s.demo.Location, s.demo.SKUs[0])
	status, text := s.call(t, http.MethodPost, "/v1/orders", body, "Idempotency-Key", "one")
	require.Equal(t, http.StatusAccepted, status, text)
	var got map[string]map[string]int
	done := func() bool {
		got = log.outcomes(t)
		return got["order_payment"]["confirmed"] == 1 && got["transfer_notify"]["told"] == 1
	}
	require.Eventually(t, done, placesWait, placesWait/1000)
	require.Equal(t, 1, got["order_reserve"]["reserved"])
	require.Equal(t, 1, got["order_pay"]["payment_asked"])
	require.Equal(t, 1, got["transfer_screen"]["settled"])
}
