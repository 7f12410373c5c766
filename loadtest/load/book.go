package load

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// recentMax is how many of the last entries repeats and reads choose from.
const recentMax = 1_000

// entry is a request that asks for a transfer or an order, with what is known of it.
type entry struct {
	arrival

	mu sync.Mutex
	// id and promise are those of the first answer that took it, sum is that of its status and body.
	id      uuid.UUID
	promise time.Time
	sum     [sha256.Size]byte
	known   bool // an answer that stays was given
	// unclear says that it is not known what became of it.
	unclear bool
}

// key is the request's Idempotency-Key within a run.
func (e *entry) key(run string) string { return fmt.Sprintf("%s-%d", run, e.n) }

// lasting says whether an answer is one that the same request has to get for ever: it was accepted, or
// refused for what the accounts were like.
func lasting(status int) bool { return status == 202 || status == 422 }

// first notes an answer to the entry's request. It says whether it is one that took it for the first time,
// and whether it is another one than before.
func (e *entry) first(a answer, id uuid.UUID, promise time.Time) (bool, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !lasting(a.status) {
		e.unclear = e.unclear || !e.known && a.unclear()
		return false, false
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", a.status, a.body))
	e.unclear = false
	if e.known {
		return false, sum != e.sum
	}
	e.known, e.sum = true, sum
	e.id, e.promise = id, promise
	return a.status == 202, false
}

// accepted is the id of what was made; false if nothing was.
func (e *entry) accepted() (uuid.UUID, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.id, e.id != uuid.Nil
}

func (e *entry) isUnclear() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.unclear
}

// book holds the entries of a tenant.
type book struct {
	mu      sync.Mutex
	entries []*entry
	// taken are those that were accepted, in the order of their answers.
	taken []*entry
	// transfers are the transfers among the entries.
	transfers []*entry
	// changed are keys that got two answers.
	changed []string
}

func newBook() *book { return &book{} }

func (b *book) add(e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, e)
	if e.kind == Transfer {
		b.transfers = append(b.transfers, e)
	}
}

func (b *book) take(e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken = append(b.taken, e)
}

func (b *book) change(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changed = append(b.changed, what)
}

// sent picks one of the last transfers that were sent, answered or not; nil if there is none.
func (b *book) sent(pick int) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return recent(b.transfers, pick)
}

// transfer picks one of the last transfers that were accepted; nil if there is none among them.
func (b *book) transfer(pick int) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := recent(b.taken, pick); e != nil && e.kind == Transfer {
		return e
	}
	return nil
}

func recent(entries []*entry, pick int) *entry {
	n := min(len(entries), recentMax)
	if n == 0 {
		return nil
	}
	return entries[len(entries)-1-pick%n]
}
