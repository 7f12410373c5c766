package httpapi

import (
	"context"
	"net/http"
	"sync"

	"github.com/google/uuid"

	"example.com/holdfast/internal/problem"
)

// tenantParts is how many tenants share what may be in flight at the least: each has at most one of so many
// parts. So a tenant whose requests all hang leaves room for the others.
const tenantParts = 4

// room counts the requests of each tenant that are in flight. It forgets a tenant with none, so it never
// knows more tenants than there are requests in flight.
type room struct {
	most int

	mu    sync.Mutex
	taken map[uuid.UUID]int
}

// newRoom divides what there is among so many tenants.
func newRoom(all, parts int) *room {
	return &room{most: max(1, all/parts), taken: map[uuid.UUID]int{}}
}

// enter says whether one more request of a tenant may be in flight; that one leaves later.
func (r *room) enter(tenant uuid.UUID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken[tenant] >= r.most {
		return false
	}
	r.taken[tenant]++
	return true
}

func (r *room) leave(tenant uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken[tenant]--; r.taken[tenant] == 0 {
		delete(r.taken, tenant)
	}
}

// makeRoom takes a place for a request of its tenant. Those that nobody has signed in for, since their body
// says who sends them, share the places of one.
func (s *shared) makeRoom(_ context.Context, c *call, _ http.ResponseWriter, _ *http.Request) error {
	tenant := c.tenantID
	if s.room.enter(tenant) {
		c.leave = func() { s.room.leave(tenant) }
		return nil
	}
	p := problem.New(problem.Overloaded, "More than %d requests of this tenant are in flight.", s.room.most)
	p.RetryAfter = soon()
	s.cfg.Metrics.Shed("tenant_in_flight")
	return p
}
