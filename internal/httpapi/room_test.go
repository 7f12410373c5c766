package httpapi

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/problem"
)

// hang sends requests that stay in flight until the fake is unblocked, and waits until all are.
func (b bundle) hang(t *testing.T, requests ...*http.Request) func() []int {
	t.Helper()
	statuses := make(chan int, len(requests))
	for _, r := range requests {
		entered := make(chan struct{})
		r.Body = &signalingBody{Reader: r.Body, first: entered}
		go func() {
			w := httptest.NewRecorder()
			b.handler.ServeHTTP(w, r)
			statuses <- w.Code
		}()
		<-entered
	}
	return func() []int {
		all := make([]int, 0, len(requests))
		for range requests {
			all = append(all, <-statuses)
		}
		return all
	}
}

func TestATenantHasAtMostAQuarterOfWhatMayBeInFlight(t *testing.T) {
	t.Parallel()
	metrics := &fakeMetrics{}
	b := setup(t, func(c *Config) { c.InFlightMax, c.Metrics = 8, metrics })
	b.fake.block = make(chan struct{})
	wait := b.hang(t, creating(goodTransfer).request(), creating(goodTransfer).request())

	mine := exchange{method: get, path: "/v1/transfers", key: "reader"}
	a := b.do(t, mine)
	require.Equal(t, string(problem.Overloaded), a.problem(t).Code, "another key of the tenant does not help")
	require.Contains(t, []string{"1", "2"}, a.Header().Get("Retry-After"))
	require.Equal(t, []string{"tenant_in_flight"}, metrics.shed)
	theirs := creating(goodTransfer)
	theirs.key = "globex"
	waitForTheirs := b.hang(t, theirs.request())
	require.Equal(t, http.StatusOK, b.do(t, exchange{method: get, path: "/livez", key: "-"}).Code)

	close(b.fake.block)
	require.Equal(t, []int{http.StatusAccepted, http.StatusAccepted}, wait())
	require.Equal(t, []int{http.StatusAccepted}, waitForTheirs())
	require.Equal(t, http.StatusOK, b.do(t, mine).Code)
	require.Empty(t, b.handler.(*front).room.taken)
}

func TestThoseWhoDidNotSignInShareTheRoomOfOneTenant(t *testing.T) {
	t.Parallel()
	b := setup(t, withRail, func(c *Config) { c.InFlightMax = 4 })
	b.fake.block = make(chan struct{})
	wait := b.hang(t, callback(t, railSecret, goodCallback, wallTime()).request())
	forged := callback(t, railSecret, "{}", wallTime().Add(-1))
	b.requireProblem(t, forged, problem.Overloaded)
	require.Equal(t, http.StatusOK, b.do(t, exchange{method: get, path: "/problems", key: "-"}).Code)
	close(b.fake.block)
	require.Equal(t, []int{http.StatusNoContent}, wait())
	require.Empty(t, b.handler.(*front).room.taken, "the place goes back to whom it was taken from")
}

func TestARoomForgetsWhoHasNothingInFlight(t *testing.T) {
	t.Parallel()
	r := newRoom(DefaultInFlightMax, tenantParts)
	require.Equal(t, 512, r.most)
	for range 100 {
		tenant := uuid.New()
		require.True(t, r.enter(tenant))
		require.True(t, r.enter(tenant))
		r.leave(tenant)
		require.Len(t, r.taken, 1)
		r.leave(tenant)
		require.Empty(t, r.taken)
	}
	require.Equal(t, 1, newRoom(1, tenantParts).most, "a tenant may always send one")
}

func TestARequestThatPanicsLeavesTheRoom(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.panic = "secret"
	b.requireProblem(t, creating(goodTransfer), problem.Internal)
	require.Empty(t, b.handler.(*front).room.taken)
}
