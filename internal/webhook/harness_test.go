package webhook_test

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/webhook"
)

// message is what the tests' messages say.
type message struct {
	Tenant    uuid.UUID `json:"tenant"`
	Aggregate uuid.UUID `json:"aggregate"`
	Seq       int32     `json:"seq"`
	Type      string    `json:"type"`
}

func encode(_ context.Context, events []outbox.Logged) ([]cloudevent.Message, error) {
	messages := make([]cloudevent.Message, len(events))
	for i, e := range events {
		body, err := json.Marshal(message{e.TenantID, e.AggregateID, e.Seq, e.Type})
		if err != nil {
			return nil, err
		}
		messages[i] = cloudevent.Message{
			ID: cloudevent.ID(e.AggregateID, e.Seq), Type: e.Type, TenantID: e.TenantID,
			AggregateID: e.AggregateID, Seq: e.Seq, Place: e.Place, At: e.At, Body: body,
		}
	}
	return messages, nil
}

// got is a request that arrived.
type got struct {
	message

	id     string
	header http.Header
	body   []byte
	status int
}

// receiver is a server that remembers what it got.
type receiver struct {
	url string

	mu     sync.Mutex
	all    []got
	flying int
	most   int // at a time
	reply  func(g got) int
}

// receive starts a receiver, which replies what reply says, outside of all locks.
func receive(t *testing.T, reply func(got) int) *receiver {
	t.Helper()
	r := &receiver{reply: reply}
	server := httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(server.Close)
	r.url = server.URL + "/hook?for=me"
	return r
}

func (r *receiver) serve(w http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	g := got{id: request.Header.Get("webhook-id"), header: request.Header, body: body}
	_ = json.Unmarshal(body, &g.message) // a ping says other things
	r.mu.Lock()
	r.flying++
	r.most = max(r.most, r.flying)
	reply := r.reply
	r.mu.Unlock()
	g.status = reply(g)
	r.mu.Lock()
	r.flying--
	r.all = append(r.all, g)
	r.mu.Unlock()
	w.WriteHeader(g.status)
}

// replies makes the receiver reply otherwise from now on.
func (r *receiver) replies(reply func(got) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reply = reply
}

func (r *receiver) requests() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// delivered are the messages that were taken.
func (r *receiver) delivered() []got {
	return slices.DeleteFunc(r.requests(), func(g got) bool { return g.status/100 != 2 })
}

// requireAll waits until the receiver has taken the events, and requires that it took each aggregate's for
// the first time in their order.
func (r *receiver) requireAll(t *testing.T, events []outbox.Event) []got {
	t.Helper()
	var taken []got
	require.Eventually(t, func() bool {
		taken = r.delivered()
		ids := map[string]bool{}
		for _, g := range taken {
			ids[g.id] = true
		}
		for _, e := range events {
			if !ids[cloudevent.ID(e.AggregateID, e.Seq)] {
				return false
			}
		}
		return true
	}, patience, time.Millisecond)
	last := map[uuid.UUID]int32{}
	for _, g := range taken {
		if g.Seq > last[g.Aggregate] {
			require.Equal(t, last[g.Aggregate]+1, g.Seq, "of %s", g.Aggregate)
			last[g.Aggregate] = g.Seq
		}
	}
	return taken
}

// requireOnce is requireAll, and nothing came twice or besides.
func (r *receiver) requireOnce(t *testing.T, events []outbox.Event) {
	t.Helper()
	require.Len(t, r.requireAll(t, events), len(events))
}

func always(status int) func(got) int { return func(got) int { return status } }

// deliverer makes a Deliverer of the bundle's database; change may alter it.
func (b bundle) deliverer(t *testing.T, change func(*webhook.Deliverer)) *webhook.Deliverer {
	t.Helper()
	bell := &outbox.Bell{Pool: b.pool, Log: discard()}
	bell.Start(t.Context())
	t.Cleanup(bell.Stop)
	d := &webhook.Deliverer{
		Pool: b.pool, Bell: bell, Log: discard(), Now: now, Random: rand.Float64, Holder: uuid.NewString(),
		Key: []byte(master), Development: true, Encode: encode,
		EncodePing: (&cloudevent.Encoder{}).EncodePing,
	}
	d.LookEvery(20 * time.Millisecond)
	if change != nil {
		change(d)
	}
	return d
}

// deliver starts a Deliverer that ends with the test, and checks then what always holds.
func (b bundle) deliver(t *testing.T, change func(*webhook.Deliverer)) {
	t.Helper()
	d := b.deliverer(t, change)
	require.NoError(t, d.Start(t.Context()))
	t.Cleanup(func() {
		d.Stop()
		b.requireInvariants(t)
	})
}

func (b bundle) requireInvariants(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, i := range webhook.Invariants() {
		rows, err := b.pool.Query(ctx, i.SQL)
		require.NoError(t, err, i.Name)
		for rows.Next() {
			var what string
			require.NoError(t, rows.Scan(&what))
			t.Errorf("%s: %s", i.Name, what)
		}
		require.NoError(t, rows.Err())
	}
}

// pass lets time go by for all that waits in the database.
func (b bundle) pass(t *testing.T, d time.Duration) {
	t.Helper()
	b.exec(t, `UPDATE webhook_endpoints
	              SET next_at = next_at - $1::interval, failing_since = failing_since - $1::interval,
	                  previous_until = previous_until - $1::interval`, d)
	b.exec(t, `UPDATE webhook_backlog SET due_at = due_at - $1::interval,
	           first_failed_at = first_failed_at - $1::interval`, d)
	b.exec(t, "UPDATE webhook_tasks SET due_at = due_at - $1::interval", d)
}

// hurry makes everything due now that waits in the database; nothing gets older.
func (b bundle) hurry(t *testing.T) {
	t.Helper()
	b.exec(t, "UPDATE webhook_endpoints SET next_at = now() WHERE next_at > now()")
	b.exec(t, "UPDATE webhook_backlog SET due_at = now() WHERE due_at > now()")
	b.exec(t, "UPDATE webhook_tasks SET due_at = now() WHERE due_at > now()")
}

// eventually waits for a condition of an endpoint.
func (b bundle) eventually(
	t *testing.T, id uuid.UUID, condition func(webhook.Endpoint) bool,
) webhook.Endpoint {
	t.Helper()
	var e webhook.Endpoint
	ctx, ref := context.WithoutCancel(t.Context()), webhook.Ref{TenantID: b.tenant, ID: id}
	require.Eventually(t, func() bool {
		var err error
		e, err = b.service.Endpoint(ctx, ref)
		return err == nil && condition(e)
	}, patience, time.Millisecond)
	return e
}

func (b bundle) attempts(t *testing.T, id uuid.UUID) []webhook.Attempt {
	t.Helper()
	attempts, err := b.service.Attempts(t.Context(), webhook.Ref{TenantID: b.tenant, ID: id}, 0, 200)
	require.NoError(t, err)
	return attempts
}

// requireSigned verifies a message as its receiver does.
func requireSigned(t *testing.T, secret string, g got) {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	require.NoError(t, verifier.Verify(g.body, g.header))
}
