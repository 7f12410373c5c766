package httpapi

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// bucketsMax bounds how many tenants a limiter remembers; one that it forgets begins with a full
// bucket.
const bucketsMax = 10_000

// limiter gives every tenant a bucket of tokens: one second's worth, filled evenly.
type limiter struct {
	perSecond int
	policy    string

	mu      sync.Mutex
	buckets map[uuid.UUID]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter(perSecond int) *limiter {
	return &limiter{
		perSecond: perSecond, policy: `"tenant";q=` + strconv.Itoa(perSecond) + `;w=1`,
		buckets: map[uuid.UUID]*bucket{},
	}
}

// take takes a token. It says how many are left, and how long until the next one when there is none.
func (l *limiter) take(tenant uuid.UUID, now time.Time) (int, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	full := float64(l.perSecond)
	b := l.buckets[tenant]
	if b == nil {
		if len(l.buckets) >= bucketsMax {
			l.forget(now)
		}
		b = &bucket{tokens: full, at: now}
		l.buckets[tenant] = b
	}
	if since := now.Sub(b.at); since > 0 {
		b.tokens, b.at = min(full, b.tokens+since.Seconds()*full), now
	}
	if b.tokens < 1 {
		return 0, time.Duration((1 - b.tokens) / full * float64(time.Second))
	}
	b.tokens--
	return int(b.tokens), 0
}

// forget drops the buckets that are full again, or all of them if there is none.
func (l *limiter) forget(now time.Time) {
	for tenant, b := range l.buckets {
		if now.Sub(b.at) >= time.Second {
			delete(l.buckets, tenant)
		}
	}
	if len(l.buckets) >= bucketsMax {
		clear(l.buckets)
	}
}

// tell writes the RateLimit headers.
func (l *limiter) tell(h http.Header, left int) {
	h.Set("RateLimit-Policy", l.policy)
	h.Set("RateLimit", `"tenant";r=`+strconv.Itoa(left)+`;t=1`)
}

// waiting counts waiters up to a bound.
type waiting struct{ n atomic.Int64 }

// enter says whether one more may wait; who may leaves later.
func (w *waiting) enter(most int) bool {
	if w.n.Add(1) > int64(most) {
		w.n.Add(-1)
		return false
	}
	return true
}

func (w *waiting) leave() { w.n.Add(-1) }
