// Package tenancy says who calls: API keys that belong to a tenant and have scopes and a traffic
// class, and the operators' keys of the admin listener, which have a role.
//
// It refuses to keep a secret: a key is shown once, when it is made, and only its id and the SHA-256
// of its secret are stored. A secret is 256 random bits, so a slow hash would add nothing.
//
// Invariants: a revoked key is refused at the latest after cacheTTL; an unknown id, a wrong secret
// and a text that is no key get the same answer; secrets are compared in constant time.
package tenancy

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy/internal/tenancydb"
)

const (
	// cacheTTL is how long a key that was found is taken for valid without asking again.
	cacheTTL = 5 * time.Second
	// absentTTL is how long an id that was not found is refused without asking again.
	absentTTL = time.Second
	// cacheMaxEntries bounds each of the caches.
	cacheMaxEntries = 10_000
)

// Scope is what an API key may do.
type Scope string

// The scopes.
const (
	TransfersRead  Scope = "transfers:read"
	TransfersWrite Scope = "transfers:write"
	AccountsRead   Scope = "accounts:read"
	AccountsWrite  Scope = "accounts:write"
	OrdersRead     Scope = "orders:read"
	OrdersWrite    Scope = "orders:write"
	InventoryRead  Scope = "inventory:read"
	InventoryWrite Scope = "inventory:write"
	EventsRead     Scope = "events:read"
	WebhooksRead   Scope = "webhooks:read"
	WebhooksWrite  Scope = "webhooks:write"
)

// Scopes lists every scope.
func Scopes() []Scope {
	return []Scope{
		TransfersRead, TransfersWrite, AccountsRead, AccountsWrite,
		OrdersRead, OrdersWrite, InventoryRead, InventoryWrite,
		EventsRead, WebhooksRead, WebhooksWrite,
	}
}

// Class is how important a key's traffic is when not all of it can be served.
type Class string

// The traffic classes, from the one that is served longest.
const (
	Critical  Class = "critical"
	Standard  Class = "standard"
	Sheddable Class = "sheddable"
)

// Role is what an operator may do; each role may do what the one before it may.
type Role string

// The roles.
const (
	Viewer   Role = "viewer"
	Operator Role = "operator"
	Approver Role = "approver"
)

func (r Role) rank() int { return slices.Index([]Role{Viewer, Operator, Approver}, r) }

// Principal is the holder of an API key.
type Principal struct {
	KeyID    string
	TenantID uuid.UUID
	Scopes   []Scope
	Class    Class
}

// May says whether the key has the scope.
func (p Principal) May(scope Scope) bool { return slices.Contains(p.Scopes, scope) }

// Admin is the holder of an admin key.
type Admin struct {
	KeyID string
	Name  string
	Role  Role
}

// May says whether the key's role is at least the given one.
func (a Admin) May(role Role) bool { return a.Role.rank() >= role.rank() && role.rank() >= 0 }

// Service finds the holders of keys, and makes and revokes keys.
type Service struct {
	pool *pgxpool.Pool
	q    *tenancydb.Queries
	now  func() time.Time
	// keys and admins remember what was found; absent remembers which ids were not.
	keys   *cache[found[Principal]]
	admins *cache[found[Admin]]
	absent *cache[struct{}]
}

// found is a stored key.
type found[T any] struct {
	holder T
	sha256 []byte
}

// NewService makes a service on a pool; now is the clock that its caches go by.
func NewService(pool *pgxpool.Pool, now func() time.Time) *Service {
	return &Service{
		pool: pool, q: tenancydb.New(), now: now,
		keys: newCache[found[Principal]](), admins: newCache[found[Admin]](), absent: newCache[struct{}](),
	}
}

// Authenticate finds the holder of an API key.
func (s *Service) Authenticate(ctx context.Context, plain string) (Principal, error) {
	return authenticate(ctx, s, s.keys, apiPrefix, plain, s.findKey)
}

// AuthenticateAdmin finds the holder of an admin key.
func (s *Service) AuthenticateAdmin(ctx context.Context, plain string) (Admin, error) {
	return authenticate(ctx, s, s.admins, adminPrefix, plain, s.findAdmin)
}

func authenticate[T any]( //nolint:revive // argument-limit: the two kinds of keys differ in all of these
	ctx context.Context, s *Service, known *cache[found[T]], prefix, plain string,
	find func(context.Context, string) (found[T], error),
) (T, error) {
	var none T
	id, secret, ok := parse(prefix, plain)
	if !ok {
		return none, refuse()
	}
	key, ok := known.get(id, s.now())
	if !ok {
		absentName := prefix + id
		if _, absent := s.absent.get(absentName, s.now()); absent {
			return none, refuse()
		}
		var err error
		key, err = find(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			s.absent.put(absentName, struct{}{}, s.now(), absentTTL)
			return none, refuse()
		}
		if err != nil {
			return none, fmt.Errorf("find key %s: %w", id, err)
		}
		known.put(id, key, s.now(), cacheTTL)
	}
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(sum[:], key.sha256) != 1 {
		return none, refuse()
	}
	return key.holder, nil
}

func refuse() error { return problem.New(problem.Unauthenticated, "The key is not valid.") }

func (s *Service) findKey(ctx context.Context, id string) (found[Principal], error) {
	row, err := s.q.SystemFindAPIKey(ctx, s.pool, id)
	if err != nil {
		return found[Principal]{}, err
	}
	p := Principal{KeyID: id, TenantID: row.TenantID, Class: Class(row.TrafficClass)}
	for _, scope := range row.Scopes {
		p.Scopes = append(p.Scopes, Scope(scope))
	}
	return found[Principal]{p, row.SecretSha256}, nil
}

func (s *Service) findAdmin(ctx context.Context, id string) (found[Admin], error) {
	row, err := s.q.SystemFindAdminKey(ctx, s.pool, id)
	if err != nil {
		return found[Admin]{}, err
	}
	return found[Admin]{Admin{KeyID: id, Name: row.Name, Role: Role(row.Role)}, row.SecretSha256}, nil
}
