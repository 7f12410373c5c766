package app_test

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/config"
)

// An API whose accepted work waits for ever refuses all that is new, and still tells clients what it has told
// them before.
func TestWhatWasAnsweredBeforeIsAnsweredUnderOverload(t *testing.T) {
	t.Parallel()
	h := newHalves(t, func(c *config.Config) { c.QueueAgeMax = 10 * time.Millisecond }) // and no worker
	run(t, config.Drain{Max: 10 * time.Second}, h.api)
	body := func(amount int) string {
		return fmt.Sprintf(`{"from_account":%q,"to_account":%q,"amount":{"value":%d,"currency":"EUR"}}`,
			h.demo.Accounts[0], h.demo.Accounts[1], amount)
	}
	ask := func(key string, amount int) (int, string) {
		return h.call(t, http.MethodPost, "/v1/transfers", body(amount), "Idempotency-Key", key)
	}
	status, first := ask("first", 1)
	require.Equal(t, http.StatusAccepted, status, first)
	n := 0
	eventually(t, "new work is refused", func() bool {
		n++
		status, _ = ask("new-"+strconv.Itoa(n), 1)
		return status == http.StatusServiceUnavailable
	})
	accepted := h.count(t, "SELECT count(*) FROM transfers")
	// What is not found in time is refused: a busy machine may need a second try.
	eventually(t, "the first answer again", func() bool {
		status, again := ask("first", 1)
		return status == http.StatusAccepted && again == first
	})
	eventually(t, "another request under its key", func() bool {
		status, _ := ask("first", 2)
		return status == http.StatusConflict
	})
	status, text := ask("other", 1)
	require.Equal(t, http.StatusServiceUnavailable, status, text)
	require.Equal(t, accepted, h.count(t, "SELECT count(*) FROM transfers"))
}
