package simdep

import (
	"hash/maphash"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// DefaultJournalLimit is the number of effect keys that a journal remembers unless told otherwise.
const DefaultJournalLimit = 1 << 20

// maxListedKeys bounds the keys that one snapshot lists.
const maxListedKeys = 10_000

// Journal is what the dependency saw. Once KeysDropped is above 0 the oldest keys are forgotten: a
// call under one of them counts as a new key, its withdrawal is forgotten as well, and Doubled and
// TransfersPaidTwice no longer prove anything.
type Journal struct {
	Calls       uint64 `json:"calls"`        // requests for an effect, duplicates of knobs included
	Keys        uint64 `json:"keys"`         // distinct effect keys of calls and withdrawals
	Effects     uint64 `json:"effects"`      // effects done; that of a payout is its payment
	Doubled     uint64 `json:"doubled"`      // effects beyond the first under a key
	Duplicates  uint64 `json:"duplicates"`   // calls answered with the reply of an earlier effect
	Conflicts   uint64 `json:"conflicts"`    // calls refused: their key was used for another request
	Errors      uint64 `json:"errors"`       // calls failed by knob
	Hangs       uint64 `json:"hangs"`        // calls hung by knob
	Resets      uint64 `json:"resets"`       // connections reset by knob
	RepliesLost uint64 `json:"replies_lost"` // effects whose reply was lost by knob
	Lookups     uint64 `json:"lookups"`      // questions by effect key, or by payout reference

	Payments           uint64 `json:"payments"`             // payments made by the rail
	PaidReferences     uint64 `json:"paid_references"`      // distinct references paid
	PaidTransfers      uint64 `json:"paid_transfers"`       // distinct transfers paid
	TransfersPaidTwice uint64 `json:"transfers_paid_twice"` // transfers paid more than once, by any reference
	Withdrawn          uint64 `json:"withdrawn"`            // references withdrawn
	WithdrawalsTooLate uint64 `json:"withdrawals_too_late"` // withdrawals that stopped nothing
	Fenced             uint64 `json:"fenced"`               // submissions that came after their withdrawal
	Callbacks          uint64 `json:"callbacks"`            // callbacks sent, duplicates included
	CallbacksFailed    uint64 `json:"callbacks_failed"`     // those of them that no 2xx answered

	Concurrent    int `json:"concurrent"`     // callers inside, those in the queue included
	MaxConcurrent int `json:"max_concurrent"` // the most of them at once
	Queued        int `json:"queued"`         // callers who wait for a place of the capacity

	KeyLimit    int    `json:"key_limit"`
	KeysDropped uint64 `json:"keys_dropped"`

	ByKey []Entry `json:"by_key,omitempty"` // the newest first, if asked for
}

// Entry is what happened under one effect key.
type Entry struct {
	Key     string         `json:"effect_key"`
	Kind    string         `json:"kind,omitempty"`
	Calls   int            `json:"calls"`
	Effects int            `json:"effects"`         // of a payout: payments
	Reply   jsontext.Value `json:"reply,omitempty"` // absent without an effect; of a payout: its receipt

	// Of payouts only.
	TransferID string       `json:"transfer_id,omitempty"`
	Status     PayoutStatus `json:"status,omitempty"`
	Callbacks  int          `json:"callbacks,omitzero"`
}

// record is one remembered key; the reply is kept as sent, so that it stays the same.
type record struct {
	Entry

	bodyHash uint64
	reply    reply

	unstoppable bool // a pending payout that a withdrawal does not stop
	withdrawals int
}

type journal struct {
	hashSeed maphash.Seed

	mu      sync.Mutex
	counts  Journal
	records map[string]*record
	payees  map[string]*payee // by transfer
	ring    []*record         // the oldest is at next once the ring is full
	next    int
}

func newJournal(limit int) *journal {
	if limit == 0 {
		limit = DefaultJournalLimit
	}
	return &journal{
		hashSeed: maphash.MakeSeed(),
		counts:   Journal{KeyLimit: limit},
		records:  map[string]*record{},
		payees:   map[string]*payee{},
	}
}

func (j *journal) enter() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts.Concurrent++
	j.counts.MaxConcurrent = max(j.counts.MaxConcurrent, j.counts.Concurrent)
}

func (j *journal) leave() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts.Concurrent--
}

// called counts a call under the key and returns its number, from 1.
func (j *journal) called(key string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.remember(key)
	j.counts.Calls++
	r.Calls++
	return r.Calls
}

// lookedUp counts a question and returns its number, from 1.
func (j *journal) lookedUp() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts.Lookups++
	return int(j.counts.Lookups) //nolint:gosec // a count of calls of one run
}

// met counts a fate.
func (j *journal) met(f fate) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch f {
	case failed:
		j.counts.Errors++
	case hung:
		j.counts.Hangs++
	case wasReset:
		j.counts.Resets++
	case replyLost:
		j.counts.RepliesLost++
	case answered:
	}
}

// effect does the effect under the key, unless it is done already: then the first reply stands.
// The same key with another request is refused.
func (j *journal) effect(key, kind string, body []byte, result reply, ignoreKeys bool) reply {
	bodyHash := j.hash(body)
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.remember(key)
	if r.Kind == kindPayout || r.Effects > 0 && !ignoreKeys {
		if r.Kind != kind || r.bodyHash != bodyHash {
			j.counts.Conflicts++
			return conflict()
		}
		j.counts.Duplicates++
		return r.reply
	}
	if r.Effects > 0 {
		j.counts.Doubled++
	}
	j.counts.Effects++
	r.Effects++
	r.Kind, r.bodyHash, r.reply, r.Reply = kind, bodyHash, result, result.body
	return result
}

// remember returns the key's record, making room by forgetting the oldest; mu is held.
func (j *journal) remember(key string) *record {
	if r, ok := j.records[key]; ok {
		return r
	}
	r := &record{Entry: Entry{Key: key}}
	j.counts.Keys++
	j.records[key] = r
	if len(j.ring) < j.counts.KeyLimit {
		j.ring = append(j.ring, r)
		return r
	}
	delete(j.records, j.ring[j.next].Key)
	j.forgetPayee(j.ring[j.next])
	j.counts.KeysDropped++
	j.ring[j.next] = r
	j.next = (j.next + 1) % len(j.ring)
	return r
}

func (j *journal) entry(key string) (Entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, ok := j.records[key]
	if !ok {
		return Entry{}, false
	}
	return r.Entry, true
}

// snapshot returns the counts and the newest keys, as many as wanted and at most maxListedKeys.
func (j *journal) snapshot(wanted int) Journal {
	j.mu.Lock()
	defer j.mu.Unlock()
	counts := j.counts
	for i := range min(wanted, maxListedKeys, len(j.ring)) {
		newest := (j.next - 1 - i + 2*len(j.ring)) % len(j.ring)
		counts.ByKey = append(counts.ByKey, j.ring[newest].Entry)
	}
	return counts
}
