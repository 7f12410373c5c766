package drill

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/loadtest/rig"
)

// otherBody is a request of which a copy has another body.
const otherBody = otherBodyEvery / repeatsOfEach

// copying is a copier of two servers that both answer so. The answer gets the value that is moved.
func copying(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, value int64)) *copier {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body newTransfer
		if json.NewDecoder(r.Body).Decode(&body) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answer(w, r, body.Amount.Value)
	})
	one, other := httptest.NewServer(handler), httptest.NewServer(handler)
	t.Cleanup(one.Close)
	t.Cleanup(other.Close)
	c := newCopier(&traffic{
		client: newHTTPClient(), tenant: rig.Tenant{Accounts: []uuid.UUID{uuid.New()}},
	}, time.Millisecond)
	c.bases = []string{one.URL, other.URL}
	return c
}

func accept(w http.ResponseWriter, id uuid.UUID) {
	w.WriteHeader(http.StatusAccepted)
	_, _ = fmt.Fprintf(w, `{"id":%q}`, id)
}

func refuseCopy(w http.ResponseWriter, code string) {
	w.WriteHeader(http.StatusConflict)
	_, _ = fmt.Fprintf(w, `{"code":%q}`, code)
}

// TestCopiesUnderOneKeyHaveOneAnswer plays a server as the contract wants it: whichever body is first wins.
func TestCopiesUnderOneKeyHaveOneAnswer(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	first, ids := map[string]int64{}, map[string]uuid.UUID{}
	hosts := map[string]bool{}
	var began atomic.Int64
	c := copying(t, func(w http.ResponseWriter, r *http.Request, value int64) {
		if began.Add(1) == 1 {
			refuseCopy(w, "idempotency_in_progress")
			return
		}
		key := r.Header.Get("Idempotency-Key")
		mu.Lock()
		defer mu.Unlock()
		hosts[r.Host] = true
		if _, known := ids[key]; !known {
			first[key], ids[key] = value, uuid.New()
		}
		if first[key] != value {
			refuseCopy(w, "idempotency_key_reused")
			return
		}
		accept(w, ids[key])
	})
	for n := range otherBodyEvery {
		a, err := c.sendCopies(t.Context(), n)
		require.NoError(t, err)
		require.Equal(t, http.StatusAccepted, a.status)
	}
	require.Empty(t, c.wrong)
	require.Len(t, c.transfers, otherBodyEvery)
	require.EqualValues(t, otherBodyEvery, c.keys)
	require.Equal(t, c.other, c.refused)
	require.GreaterOrEqual(t, c.other, uint64(repeatsOfEach), "some copies have another body")
	require.Len(t, hosts, 2)
	require.EqualValues(t, 1, c.again)
}

func TestACopyThatIsDoneOnceMoreIsFound(t *testing.T) {
	t.Parallel()
	c := copying(t, func(w http.ResponseWriter, _ *http.Request, _ int64) { accept(w, uuid.New()) })
	_, err := c.sendCopies(t.Context(), 1)
	require.NoError(t, err)
	require.Len(t, c.wrong, repeatsOfEach)
}

func TestAnotherBodyThatIsTakenForTheSameIsFound(t *testing.T) {
	t.Parallel()
	made := uuid.New()
	c := copying(t, func(w http.ResponseWriter, _ *http.Request, _ int64) { accept(w, made) })
	for n := range otherBody + 1 {
		_, err := c.sendCopies(t.Context(), n)
		require.NoError(t, err)
	}
	require.Empty(t, c.wrong)
	require.NotZero(t, c.other)
	require.Zero(t, c.refused)
}

func TestCopiesThatAreAllRefusedCountAsThat(t *testing.T) {
	t.Parallel()
	c := copying(t, func(w http.ResponseWriter, _ *http.Request, _ int64) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = fmt.Fprint(w, `{"code":"insufficient_funds"}`)
	})
	a, err := c.sendCopies(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "insufficient_funds", a.code)
	require.Zero(t, c.keys)
}
