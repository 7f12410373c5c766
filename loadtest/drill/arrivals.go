package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// arrivals are the events that one reader outside has got, as messages.
type arrivals struct {
	name string
	mu   sync.Mutex
	// first is in which order the events of each aggregate came for the first time.
	first map[uuid.UUID][]int32
	seen  map[string]int
	took  []time.Duration
	// wrong are messages that make no sense.
	wrong []string
}

func newArrivals(name string) *arrivals {
	return &arrivals{name: name, first: map[uuid.UUID][]int32{}, seen: map[string]int{}}
}

// message is what a reader looks at of a CloudEvent.
type message struct {
	ID      string    `json:"id"`
	Subject uuid.UUID `json:"subject"`
	Time    time.Time `json:"time"`
	Data    struct {
		Seq int32 `json:"seq"`
	} `json:"data"`
}

// take notes a message that came at a time by Postgres's clock.
func (a *arrivals) take(body []byte, at time.Time) {
	var m message
	err := json.Unmarshal(body, &m)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil || m.ID != fmt.Sprintf("%s-%d", m.Subject, m.Data.Seq) {
		a.wrong = append(a.wrong, fmt.Sprintf("%v: %.200s", err, body))
		return
	}
	if a.seen[m.ID]++; a.seen[m.ID] == 1 {
		a.first[m.Subject] = append(a.first[m.Subject], m.Data.Seq)
		a.took = append(a.took, at.Sub(m.Time))
	}
}

// refuse notes something that is no message.
func (a *arrivals) refuse(why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wrong = append(a.wrong, why)
}

func (a *arrivals) events() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

// since returns how long each event took that came after the first n, from when it happened.
func (a *arrivals) since(n int) []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]time.Duration{}, a.took[min(n, len(a.took)):]...)
}

// turned lists aggregates whose events came first in another order than they happened.
func (a *arrivals) turned() []string {
	var found []string
	for id, seqs := range a.first {
		for i, seq := range seqs {
			if i > 0 && seq < seqs[i-1] {
				found = append(found, fmt.Sprintf("%s: %v", id, seqs))
				break
			}
		}
	}
	return found
}

// gotAll claims that a reader got every event of some tenants, each aggregate's in the order of seq.
func (s *stage) gotAll(ctx context.Context, a *arrivals, tenants ...uuid.UUID) {
	happened := s.texts(ctx, `
		SELECT format('%s-%s', e.aggregate_id, e.seq) FROM events e WHERE e.tenant_id = ANY ($1)`, tenants)
	if s.err != nil {
		return
	}
	s.claim(a.claims(happened)...)
	s.figure(a.name+": repeats under the same id", "%d", a.repeats())
}

// claims are what a reader is held to: it got what happened, in order, and nothing else.
func (a *arrivals) claims(happened []string) []Claim {
	a.mu.Lock()
	defer a.mu.Unlock()
	var lost []string
	for _, id := range happened {
		if a.seen[id] == 0 {
			lost = append(lost, id)
		}
	}
	return []Claim{
		none(a.name+": events that are lost", lost),
		none(a.name+": aggregates whose order is turned round", a.turned()),
		none(a.name+": what makes no sense", a.wrong),
		equal(a.name+": events", uint64(len(a.seen)), uint64(len(happened))),
	}
}

// repeats counts what came again under an id that was known.
func (a *arrivals) repeats() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, times := range a.seen {
		n += times - 1
	}
	return n
}
