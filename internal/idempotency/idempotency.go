// Package idempotency makes a keyed request run once.
//
// A request's outcome is stored under (tenant, key) in the transaction that does the work, so a key
// exists if and only if its outcome does; a crash leaves neither. The package never looks into a
// response: it stores and returns bytes. It refuses to keep what says nothing about the request
// itself: validation errors, sign-in, limits and our own failures are not stored by its callers.
//
// Invariant: for one (tenant, key) every caller that gets an answer gets the same status and body.
package idempotency

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/idempotency/internal/idempotencydb"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

// Retention is how long a key is kept; after that the same key is a new request.
const Retention = 30 * 24 * time.Hour

// keyMaxBytes bounds a key.
const keyMaxBytes = 255

// deleteBatchRows is how many expired keys one statement removes.
const deleteBatchRows = 5_000

// Key is a caller's key with the hash of the request that it stands for.
type Key struct {
	TenantID uuid.UUID
	Key      string
	// Hash is the SHA-256 of the canonical request; see Hash.
	Hash [sha256.Size]byte
}

// Keyed is a keyed request with the way in which its refusals are put into a response.
type Keyed struct {
	Key
	Refuse func(*problem.Error) Response
}

// Response is what was answered first, and is answered again.
type Response struct {
	Status   int
	Location string
	Body     []byte
	// Replayed says that the response was stored by an earlier request.
	Replayed bool
}

// ParseKey reads the Idempotency-Key header: bare or as a quoted string of a structured field (the
// IETF draft asks for quotes, most clients send none; both name the same key), 1 to 255 bytes of
// visible ASCII.
func ParseKey(header string) (string, error) {
	if header == "" {
		return "", problem.New(problem.KeyMissing, "This route needs an Idempotency-Key header.")
	}
	key := header
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	if key == "" || len(key) > keyMaxBytes {
		return "", problem.New(problem.KeyInvalid,
			"The key has %d bytes; 1 to %d are allowed.", len(key), keyMaxBytes)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' || key[i] == '"' || key[i] == '\\' {
			return "", problem.New(problem.KeyInvalid, "Byte %d of the key is not visible ASCII.", i)
		}
	}
	return key, nil
}

// Hash is the fingerprint of a request: what the client asked for, without headers and without
// anything that the server makes.
func Hash(method, routePattern, apiVersion string, canonicalBody []byte) [sha256.Size]byte {
	h := sha256.New()
	for _, part := range []string{method, routePattern, apiVersion} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	h.Write(canonicalBody)
	return [sha256.Size]byte(h.Sum(nil))
}

type slot struct {
	tenantID uuid.UUID
	key      string
}

type stored struct {
	hash     [sha256.Size]byte
	response Response
}

// Ledger is the keys of one batch: what is stored already, and what the batch adds.
type Ledger struct {
	known map[slot]stored
	fresh []Key
}

// Open queues the look-up of all keys into read. The ledger is filled when the batch is sent.
func Open(read *pgx.Batch, keys []Key) *Ledger {
	l := &Ledger{known: make(map[slot]stored, len(keys))}
	tenants, names := make([]uuid.UUID, len(keys)), make([]string, len(keys))
	for i, k := range keys {
		tenants[i], names[i] = k.TenantID, k.Key
	}
	pgtx.Read(read, l.learn, idempotencydb.FindKeys, tenants, names)
	return l
}

func (l *Ledger) learn(row idempotencydb.FindKeysRow) {
	r := Response{
		Status: int(row.Status), Location: pgtx.OrZero(row.Location), Body: row.Body, Replayed: true,
	}
	l.known[slot{row.TenantID, row.Key}] = stored{[sha256.Size]byte(row.RequestSha256), r}
}

// Find answers the stored response of a key, false if there is none, or KeyReused if the key belongs
// to another request.
func (l *Ledger) Find(k Key) (Response, bool, error) {
	known, ok := l.known[slot{k.TenantID, k.Key}]
	if !ok {
		return Response{}, false, nil
	}
	if known.hash != k.Hash {
		return Response{}, false, problem.New(problem.KeyReused,
			"The key %q belongs to another request.", k.Key)
	}
	return known.response, true, nil
}

// Store keeps the response of a key that Find did not know. A later Find of the same batch sees it.
func (l *Ledger) Store(k Key, r Response) {
	r.Replayed = true
	l.known[slot{k.TenantID, k.Key}] = stored{k.Hash, r}
	l.fresh = append(l.fresh, k)
}

// Write queues the insert of what was stored.
func (l *Ledger) Write(ctx context.Context, write *pgx.Batch, now time.Time) error {
	n := len(l.fresh)
	if n == 0 {
		return nil
	}
	p := idempotencydb.InsertKeysParams{
		Now: now, Tenants: make([]uuid.UUID, n), Keys: make([]string, n), Hashes: make([][]byte, n),
		Statuses: make([]int16, n), Locations: make([]string, n), Bodies: make([][]byte, n),
	}
	for i, k := range l.fresh {
		r := l.known[slot{k.TenantID, k.Key}].response
		p.Tenants[i], p.Keys[i], p.Hashes[i] = k.TenantID, k.Key, k.Hash[:]
		p.Statuses[i] = int16(r.Status) //nolint:gosec // an HTTP status; the table refuses others
		p.Locations[i], p.Bodies[i] = r.Location, r.Body
		if r.Body == nil {
			p.Bodies[i] = []byte{} // no body is an answer too, and not NULL
		}
	}
	return idempotencydb.New().InsertKeys(ctx, pgtx.Into(write), p)
}

// DeleteExpired removes one batch of keys that are older than Retention and says how many went.
func DeleteExpired(ctx context.Context, tx pgx.Tx) (int64, error) {
	n, err := idempotencydb.New().SystemDeleteExpired(ctx, tx, idempotencydb.SystemDeleteExpiredParams{
		Retention: pgtx.Interval(Retention), BatchSize: deleteBatchRows,
	})
	if err != nil {
		return 0, fmt.Errorf("delete expired idempotency keys: %w", err)
	}
	return n, nil
}
