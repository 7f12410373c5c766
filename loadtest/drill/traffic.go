package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/loadtest/rig"
)

// The amounts, in minor units. The risk service reviews what is above reviewOver, if it is told to.
const (
	amountPlain  = 500
	reviewOver   = 1_000
	amountReview = 1_500
)

const (
	connsMax       = 1_024
	answerMaxBytes = 1 << 20
)

// The names of streams.
const (
	transfers = "transfers"
	orders    = "orders"
	cancels   = "cancels"
	payouts   = "payouts"
	reads     = "reads"
)

// traffic makes requests of one tenant, and remembers what was accepted.
type traffic struct {
	client    *http.Client
	base      string // of the public API
	admin     string // of the admin API
	adminKey  string
	tenant    rig.Tenant
	prefix    string // of the keys
	mu        sync.Mutex
	transfers []uuid.UUID // accepted
	orders    []uuid.UUID // accepted
	toCancel  reviews
	toApprove reviews
}

// newHTTPClient keeps a connection for each caller.
func newHTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConns: connsMax, MaxIdleConnsPerHost: connsMax}}
}

// reviews are transfers in review, prepared so that a stream can take one after the other.
type reviews struct {
	ids  []uuid.UUID
	next atomic.Int64
}

func (r *reviews) take() (uuid.UUID, bool) {
	n := int(r.next.Add(1)) - 1
	if n >= len(r.ids) {
		return uuid.Nil, false
	}
	return r.ids[n], true
}

// request is one call of the API.
type request struct {
	method, url, bearer, key string
	body                     any
}

// do sends a request, once, and reads the id of what it made.
func (t *traffic) do(ctx context.Context, r request) (answer, error) {
	var content io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return answer{}, err
		}
		content = bytes.NewReader(text)
	}
	out, err := http.NewRequestWithContext(ctx, r.method, r.url, content)
	if err != nil {
		return answer{}, err
	}
	out.Header.Set("Authorization", "Bearer "+r.bearer)
	if r.body != nil {
		out.Header.Set("Content-Type", "application/json")
	}
	if r.key != "" {
		// Without GetBody the transport cannot send it again by itself.
		out.GetBody = nil
		out.Header.Set("Idempotency-Key", r.key)
	}
	in, err := t.client.Do(out)
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(io.LimitReader(in.Body, answerMaxBytes))
	_ = in.Body.Close() // it has been read
	if err != nil {
		return answer{}, err
	}
	var made struct {
		ID   uuid.UUID `json:"id"`
		Code string    `json:"code"`
		// Of a secret.
		Current string `json:"current"`
		// Of a page of the feed.
		Events     []json.RawMessage `json:"events"`
		NextCursor string            `json:"next_cursor"`
	}
	if len(text) > 0 {
		err = json.Unmarshal(text, &made)
	}
	return answer{
		status: in.StatusCode, id: made.ID, code: made.Code, current: made.Current, events: made.Events,
		nextCursor: made.NextCursor, retryAfter: seconds(in.Header.Get("Retry-After")),
	}, err
}

// seconds reads a Retry-After; what is none is no time.
func seconds(text string) time.Duration {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(n) * time.Second
}

func (t *traffic) post(ctx context.Context, path, key string, body any) (answer, error) {
	return t.do(ctx, request{http.MethodPost, t.base + path, t.tenant.Key, t.prefix + key, body})
}

// account is the nth of the tenant's, round and round.
func (t *traffic) account(n int) uuid.UUID { return t.tenant.Accounts[n%len(t.tenant.Accounts)] }

// amount is what a transfer moves.
type amount struct {
	Value    int64  `json:"value"`
	Currency string `json:"currency"`
}

// newTransfer is the body of a transfer.
type newTransfer struct {
	From   uuid.UUID `json:"from_account"`
	To     uuid.UUID `json:"to_account"`
	Amount amount    `json:"amount"`
}

// transfer asks for a transfer to an account of ours, or to the world outside.
func (t *traffic) transfer(ctx context.Context, key string, n int, body newTransfer) (answer, error) {
	body.From, body.Amount.Currency = t.account(n), "EUR"
	a, err := t.post(ctx, "/v1/transfers", fmt.Sprintf("%s-%d", key, n), body)
	if err == nil && a.status == http.StatusAccepted {
		t.mu.Lock()
		t.transfers = append(t.transfers, a.id)
		t.mu.Unlock()
	}
	return a, err
}

// sendsTransfers is a stream of transfers between accounts.
func (t *traffic) sendsTransfers(rate float64) stream {
	return stream{name: transfers, rate: rate, send: func(ctx context.Context, n int) (answer, error) {
		return t.transfer(ctx, "transfer", n, newTransfer{
			To: t.account(n + 1), Amount: amount{Value: amountPlain},
		})
	}}
}

// sendsPayouts is a stream of transfers that leave by the rail.
func (t *traffic) sendsPayouts(rate float64) stream {
	return stream{name: payouts, rate: rate, send: func(ctx context.Context, n int) (answer, error) {
		return t.transfer(ctx, "payout", n, newTransfer{
			To: t.tenant.World, Amount: amount{Value: amountPlain},
		})
	}}
}

// orderLine and newOrder are the body of an order.
type orderLine struct {
	SKU      uuid.UUID `json:"sku"`
	Quantity int       `json:"quantity"`
}

type newOrder struct {
	Customer uuid.UUID   `json:"customer_account"`
	Merchant uuid.UUID   `json:"merchant_account"`
	Location string      `json:"location"`
	Lines    []orderLine `json:"lines"`
}

// placesOrders is a stream of orders of two lines.
func (t *traffic) placesOrders(rate float64) stream {
	return stream{name: orders, rate: rate, send: func(ctx context.Context, n int) (answer, error) {
		skus := t.tenant.SKUs
		a, err := t.post(ctx, "/v1/orders", fmt.Sprintf("order-%d", n), newOrder{
			Customer: t.account(n), Merchant: t.tenant.Merchant, Location: rig.Location,
			Lines: []orderLine{{skus[n%len(skus)], 1}, {skus[(n+1)%len(skus)], 1}},
		})
		if err == nil && a.status == http.StatusAccepted {
			t.mu.Lock()
			t.orders = append(t.orders, a.id)
			t.mu.Unlock()
		}
		return a, err
	}}
}

// cancelsReviews is a stream of cancels of transfers that were prepared in review.
func (t *traffic) cancelsReviews(rate float64) stream {
	return stream{name: cancels, rate: rate, send: func(ctx context.Context, _ int) (answer, error) {
		id, ok := t.toCancel.take()
		if !ok {
			return answer{}, nil
		}
		return t.cancel(ctx, id)
	}}
}

func (t *traffic) cancel(ctx context.Context, id uuid.UUID) (answer, error) {
	return t.post(ctx, "/v1/transfers/"+id.String()+"/cancel", "cancel-"+id.String(), struct{}{})
}

// approvesPayouts is a stream of approvals of payouts that were prepared in review: their risk is decided, so
// only the rail is left.
func (t *traffic) approvesPayouts(rate float64) stream {
	return stream{name: payouts, rate: rate, send: func(ctx context.Context, _ int) (answer, error) {
		id, ok := t.toApprove.take()
		if !ok {
			return answer{}, nil
		}
		url := t.admin + "/admin/v1/tenants/" + t.tenant.ID.String() + "/transfers/" + id.String() + "/review"
		return t.do(ctx, request{
			http.MethodPost, url, t.adminKey, t.prefix + "approve-" + id.String(),
			map[string]string{"decision": "approve", "reason": "drill"},
		})
	}}
}

// readsTransfers is a stream of reads of what was accepted lately.
func (t *traffic) readsTransfers(rate float64) stream {
	return stream{name: reads, rate: rate, send: func(ctx context.Context, n int) (answer, error) {
		t.mu.Lock()
		known := len(t.transfers)
		var id uuid.UUID
		if known > 0 {
			id = t.transfers[max(0, known-1-n%100)]
		}
		t.mu.Unlock()
		if id == uuid.Nil {
			return answer{}, nil
		}
		return t.do(ctx, request{
			http.MethodGet, t.base + "/v1/transfers/" + id.String(), t.tenant.Key, "", nil,
		})
	}}
}
