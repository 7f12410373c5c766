package bench

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"

	"github.com/google/uuid"

	"example.com/holdfast/loadtest/rig"
)

// The places of a request that change from one to the next have a fixed width, so that a request is
// written over its predecessor.
const (
	uuidChars   = 36
	keyDigits   = 12
	amountChars = 3
)

// traffic is what all callers of a run share: who asks, of which accounts, and the next key.
type traffic struct {
	addr     string
	apiKey   string
	accounts []string
	// prefix begins every key of a phase; next counts them.
	prefix string
	next   atomic.Uint64
	// skus and merchant are those of orders; places says that the callers order.
	skus     []string
	merchant string
	places   bool
}

// sender makes one request after the other in a buffer of its own.
type sender interface {
	fresh() []byte
}

func newTraffic(addr string, s rig.Tenant, phase int) *traffic {
	t := &traffic{
		addr: addr, apiKey: s.Key, prefix: fmt.Sprintf("bench-%04d-", phase),
		merchant: s.Merchant.String(),
	}
	for _, id := range s.Accounts {
		t.accounts = append(t.accounts, id.String())
	}
	for _, id := range s.SKUs {
		t.skus = append(t.skus, id.String())
	}
	return t
}

// newSender makes what a caller sends.
func (t *traffic) newSender(caller int) sender {
	if t.places {
		return t.newOrderRequest(caller)
	}
	return t.newRequest(caller)
}

// draws are the random choices of a caller.
func (t *traffic) draws(caller int) *rand.Rand {
	//nolint:gosec // callers are counted from 0
	return rand.New(rand.NewPCG(uint64(caller), uint64(len(t.accounts))))
}

// text is a request to a path with its key and its body in place.
func (t *traffic) text(path, content string) ([]byte, []byte, []byte) {
	head := "POST " + path + " HTTP/1.1\r\nHost: " + t.addr + "\r\nAuthorization: Bearer " + t.apiKey +
		"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(content)) +
		"\r\nIdempotency-Key: " + t.prefix
	text := []byte(head + fmt.Sprintf("%0*d", keyDigits, 0) + "\r\n\r\n" + content)
	return text, text[len(head) : len(head)+keyDigits], text[len(text)-len(content):]
}

// request is one caller's buffer with the places that change.
type request struct {
	traffic               *traffic
	text                  []byte
	key, from, to, amount []byte
	random                *rand.Rand
}

// newRequest makes the buffer of one caller; the pairs that it draws follow from its number.
func (t *traffic) newRequest(caller int) *request {
	const form = `{"from_account":"%s","to_account":"%s","amount":{"value":%d,"currency":"EUR"}}`
	id := uuid.Nil.String()
	content := fmt.Sprintf(form, id, id, amountMin)
	text, key, body := t.text("/v1/transfers", content)
	fromAt := len(`{"from_account":"`)
	toAt := fromAt + uuidChars + len(`","to_account":"`)
	amountAt := toAt + uuidChars + len(`","amount":{"value":`)
	return &request{
		traffic: t, text: text, key: key, from: body[fromAt : fromAt+uuidChars],
		to: body[toAt : toAt+uuidChars], amount: body[amountAt : amountAt+amountChars],
		random: t.draws(caller),
	}
}

// fresh makes it a request for another transfer: the next key, two accounts, an amount.
func (r *request) fresh() []byte {
	digits(r.key, r.traffic.next.Add(1))
	n := len(r.traffic.accounts)
	from := r.random.IntN(n)
	to := (from + 1 + r.random.IntN(n-1)) % n
	copy(r.from, r.traffic.accounts[from])
	copy(r.to, r.traffic.accounts[to])
	digits(r.amount, amountMin+r.random.Uint64N(amountMax-amountMin+1))
	return r.text
}

// digits writes a number into all of a place, with zeros in front.
func digits(place []byte, n uint64) {
	for i := len(place) - 1; i >= 0; i-- {
		place[i] = '0' + byte(n%10)
		n /= 10
	}
}
