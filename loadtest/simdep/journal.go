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
// call under one of them counts as a new key, and Doubled no longer proves anything.
type Journal struct {
	Calls       uint64 `json:"calls"`        // requests for an effect, duplicates of knobs included
	Keys        uint64 `json:"keys"`         // distinct effect keys among them
	Effects     uint64 `json:"effects"`      // effects done
	Doubled     uint64 `json:"doubled"`      // effects beyond the first under a key
	Duplicates  uint64 `json:"duplicates"`   // calls answered with the reply of an earlier effect
	Conflicts   uint64 `json:"conflicts"`    // calls refused: their key was used for another request
	Errors      uint64 `json:"errors"`       // calls failed by knob
	Hangs       uint64 `json:"hangs"`        // calls hung by knob
	Resets      uint64 `json:"resets"`       // connections reset by knob
	RepliesLost uint64 `json:"replies_lost"` // effects whose reply was lost by knob
	Lookups     uint64 `json:"lookups"`      // questions by effect key

	Concurrent    int `json:"concurrent"`
	MaxConcurrent int `json:"max_concurrent"`

	KeyLimit    int    `json:"key_limit"`
	KeysDropped uint64 `json:"keys_dropped"`

	ByKey []Entry `json:"by_key,omitempty"` // the newest first, if asked for
}

// Entry is what happened under one effect key.
type Entry struct {
	Key     string         `json:"effect_key"`
	Kind    string         `json:"kind,omitempty"`
	Calls   int            `json:"calls"`
	Effects int            `json:"effects"`
	Reply   jsontext.Value `json:"reply,omitempty"` // absent without an effect
}

// record is one remembered key; the reply is kept as sent, so that it stays the same.
type record struct {
	Entry

	bodyHash uint64
	reply    reply
}

type journal struct {
	hashSeed maphash.Seed

	mu      sync.Mutex
	counts  Journal
	records map[string]*record
	ring    []*record // the oldest is at next once the ring is full
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
	bodyHash := maphash.Bytes(j.hashSeed, body)
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.remember(key)
	if r.Effects > 0 && !ignoreKeys {
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
