package drill

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/loadtest/rig"
)

// answering is a client of a server that answers so.
func answering(t *testing.T, answer http.HandlerFunc) *insistent {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return newInsistent(&traffic{
		client: newHTTPClient(), base: server.URL, tenant: rig.Tenant{Accounts: []uuid.UUID{uuid.New()}},
	}, time.Millisecond)
}

func TestAnInsistentClientAsksWithTheSameKeyUntilThereIsAnAnswerForGood(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	keys := make(chan string, 10)
	made := uuid.New()
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		keys <- r.Header.Get("Idempotency-Key")
		switch asked.Add(1) {
		case 1:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			panic(http.ErrAbortHandler)
		case 3:
			w.WriteHeader(http.StatusConflict)
			_, _ = fmt.Fprint(w, `{"code":"idempotency_in_progress"}`)
		default:
			w.WriteHeader(http.StatusAccepted)
			_, _ = fmt.Fprintf(w, `{"id":%q}`, made)
		}
	})
	a, err := c.insist(t.Context(), 7)
	require.NoError(t, err)
	require.Equal(t, made, a.id)
	require.EqualValues(t, 4, asked.Load())
	first := <-keys
	for range 3 {
		require.Equal(t, first, <-keys)
	}
	require.Empty(t, c.repeat(t.Context()))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.insist(ctx, 8)
	require.ErrorContains(t, err, "no answer for good")
	require.Empty(t, c.repeat(t.Context()), "who got nothing gets an answer in the end")
	require.Len(t, c.answers, 2)
}

func TestAnAnswerSaysWhenToComeAgain(t *testing.T) {
	t.Parallel()
	require.Equal(t, 2*time.Second, seconds("2"))
	require.Zero(t, seconds(""))
	require.Zero(t, seconds("-1"))
	require.Zero(t, seconds("soon"))
}

func TestAnotherAnswerUnderAKeyIsFound(t *testing.T) {
	t.Parallel()
	c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprintf(w, `{"id":%q}`, uuid.New())
	})
	_, err := c.insist(t.Context(), 1)
	require.NoError(t, err)
	require.Len(t, c.repeat(t.Context()), 1)
}

func TestAProcessIsFoundAmongTheChildrenOfItsParent(t *testing.T) {
	t.Parallel()
	if why := cannotFreeze(); why != "" {
		t.Skip(why)
	}
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	found, err := children(os.Getpid())
	require.NoError(t, err)
	require.Contains(t, found, cmd.Process.Pid)
	require.NotContains(t, found, syscall.Getppid())
}
